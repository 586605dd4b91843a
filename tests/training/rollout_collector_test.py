# SPDX-License-Identifier: Apache-2.0
"""Collecting rollouts: who gets them, what is counted, what is kept."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from jaxttc.tasks import prompt_sets
from jaxttc.testing import tiny_models
from jaxttc.training import (
  policy_losses,
  rollout_collector,
  rollout_config,
  rollout_plans,
  rollout_rewards,
)

TASK = prompt_sets.ModularTask(primes=(11, 13), max_steps=3)
CONFIG = rollout_config.RolloutConfig(
  tasks=4, group=4, n_max=8, max_tokens=8, window=4
)


@pytest.fixture(scope="module")
def policy():
  return tiny_models.tiny_bundles()[0]


@dataclasses.dataclass(frozen=True, eq=False)
class _Graded(prompt_sets.PromptSet):
  """A random policy is never right, so its rollouts' sizes decide.

  Of its eight problems, 0 is always solved and 1 never.
  """

  def grade(self, which, tokens):
    odd = (tokens >= 0).sum(axis=1) % 2 > 0
    return np.where(which == 0, 1.0, np.where(which == 1, 0.0, odd)).astype(
      np.float32
    ) * (which < len(self.problems))


def _collector(
  policy, ids=None, loss=None, reference=None, rewards=None, **changes
):
  made = prompt_sets.prompt_set(
    TASK.problems(8, "train", 0), policy.tokenizer, width=24
  )
  prompts = _Graded(made.problems, made.tokenizer, made.tokens, made.length)
  config = dataclasses.replace(CONFIG, **changes)
  # Rows that were cut fail whatever the grader says; here all ends count.
  rule = dataclasses.replace(
    policy.stop_rule, other_eos_ids=tuple(range(272, 300))
  )
  tasks = rollout_plans.batches(8, config, 3)
  if ids is not None:
    tasks = lambda draw: np.array(ids, np.int32)  # noqa: E731
  return rollout_collector.collector(
    prompts,
    policy.model,
    rule,
    config,
    5,
    tasks=tasks,
    loss=loss or policy_losses.PolicyLossConfig(),
    rewards=rewards or rollout_rewards.RewardConfig(),
    reference=reference,
  )


def _steps(policy, count, ids=None, **changes):
  made = _collector(policy, ids, **changes)
  held, out = made.init(), []
  for step in range(count):
    batch, held, figures = made.collect(policy.params, held, None, step)
    out.append((batch, held, jax.tree.map(np.asarray, figures)))
  return out


def test_every_epoch_has_each_task_once():
  tasks = rollout_plans.batches(8, CONFIG, 3)
  for epoch in range(3):
    drawn = np.concatenate([tasks(2 * epoch), tasks(2 * epoch + 1)])
    assert sorted(drawn) == list(range(8))
  assert (tasks(5) == rollout_plans.batches(8, CONFIG, 3)(5)).all()
  with pytest.raises(ValueError, match="of 3 problems"):
    rollout_plans.batches(3, CONFIG, 0)


def test_the_knapsack_leaves_settled_tasks_at_their_floor(policy):
  steps = _steps(policy, 4, ids=(0, 1, 2, 3), fallback=False)
  seen = [np.asarray(held.tracker.seen) for _, held, _ in steps]
  first, last = seen[0], seen[3] - seen[2]
  assert first.tolist() == [4, 4, 4, 4, 0, 0, 0, 0]  # nothing known: evenly
  assert last[:2].tolist() == [2, 2]
  assert last[2:4].min() > 4
  for number, (batch, held, figures) in enumerate(steps, 1):
    assert batch.advantages.shape == (16,)
    assert figures["rollouts"] == 16 * number
    assert figures["allocation_max"] <= 8
    assert int(held.tokens) == figures["sampled_tokens"]
  assert steps[3][2]["dual_price"] > 0
  # Sixteen rollouts, two for each: the mixed two need less than the other 8.
  need, surplus = (
    int(steps[3][2][f"allocation_{name}"]) for name in ("need", "surplus")
  )
  assert need > 0 and surplus == max(8 - need, 0)
  ratios = [figures["effective_gradient_ratio"] for *_, figures in steps]
  assert ratios[3] > ratios[0]


def test_tokens_are_given_out_by_the_lengths_that_were_seen(policy):
  steps = _steps(
    policy, 4, ids=(0, 1, 2, 3), strategy="knapsack_tokens", fallback=False
  )
  first, last = steps[0][2], steps[3][2]
  # Nothing is known: uniform groups of the longest.
  assert int(first["planned_rollouts"]) == 16
  assert int(first["token_budget"]) == 16 * 8
  for before, after in itertools.pairwise(steps):
    batch, held, figures = after
    assert batch.advantages.shape == (32,)
    assert figures["planned_tokens"] <= figures["token_budget"] <= 16 * 8
    drawn = int(held.rollouts) - int(before[1].rollouts)
    assert drawn == figures["planned_rollouts"] <= 32
  lengths = steps[3][1].lengths
  assert (np.asarray(lengths.rollouts[:4]) > 0).all()
  assert not np.asarray(lengths.rollouts[4:]).any()
  mean = float(lengths.tokens.sum() / lengths.rollouts.sum())
  assert 1 <= mean < 8
  assert last["token_budget"] < first["token_budget"]
  assert last["allocation_min"] == 2 and last["token_price"] > 0


def test_a_total_of_tokens_may_be_given(policy):
  steps = _steps(
    policy, 3, ids=(0, 1, 2, 3), strategy="knapsack_tokens", tokens=100
  )
  for *_, figures in steps:
    assert figures["token_budget"] == 100 >= figures["planned_tokens"]


def test_twice_uniform_has_twice_the_rows(policy):
  (batch, _, figures) = _steps(policy, 1, strategy="uniform_2x")[0]
  assert batch.advantages.shape == (32,)
  assert (figures["allocation_min"], figures["allocation_max"]) == (8, 8)
  assert "dual_price" not in figures


def test_dynamic_sampling_waits_for_a_full_batch_and_counts_what_it_drops(
  policy,
):
  steps = _steps(policy, 4, ids=(0, 1, 2, 3), strategy="dynamic_sampling")
  held_rows, handed = 0, 0
  for number, (batch, held, figures) in enumerate(steps, 1):
    assert figures["rollouts"] == 16 * number
    groups = 4 * figures["effective_prompt_ratio"]
    held_rows = min(held_rows + 4 * groups, 16)
    live = np.asarray(batch.advantages != 0)
    if held_rows == 16:
      handed += 1
      held_rows = 0
      # Every row is of a group with successes and failures.
      assert live.all()
      assert batch.rows.mask.any(axis=1).all()
    else:
      assert not live.any()
    assert int(held.filling.filled) == held_rows
  assert handed >= 1  # two of four tasks are mixed: a batch in two steps


def test_what_the_grader_cannot_tell_teaches_nothing(policy, monkeypatch):
  plain = _Graded.grade
  known = _steps(policy, 1, ids=(2, 3, 4, 5), strategy="uniform")[0]

  def doubting(self, which, tokens):
    right = plain(self, which, tokens)
    right[[0, 5, 6, 7]] = np.nan
    return right

  monkeypatch.setattr(_Graded, "grade", doubting)
  steps = _steps(policy, 1, ids=(2, 3, 4, 5), strategy="uniform")
  batch, held, figures = steps[0]
  finished = np.asarray(known[0].rows.targets).any(axis=1)
  assert finished.all()  # each has tokens; some may have been cut
  told = 16 - round(16 * float(figures["undecided"]))
  assert 12 <= told < 16  # a row that was cut is wrong, and so told
  assert int(held.tracker.seen.sum()) == told
  assert int(held.rollouts) == 16
  assert not np.asarray(batch.advantages)[5:8].any()
  assert np.isfinite([float(x) for x in figures.values()]).all()
  assert np.isfinite(np.asarray(batch.advantages)).all()


def test_length_teaches_nothing_where_nothing_was_right(policy):
  """Else short failures would be taught as firmly as right answers."""
  made = {
    overlong: _steps(
      policy,
      1,
      ids=(0, 1, 2, 3),
      strategy="uniform",
      rewards=rollout_rewards.RewardConfig(overlong=overlong),
    )[0][0]
    for overlong in (0, 8)
  }
  size = np.asarray(made[8].rows.mask.sum(1)).reshape(4, 4)
  assert (np.ptp(size, axis=1)[:2] > 0).all()
  plain, shaped = (
    np.asarray(batch.advantages).reshape(4, 4) for batch in made.values()
  )
  assert not plain[:2].any()  # all right, and all wrong
  assert shaped[0].any() and not shaped[1].any()
  longest = np.argmax(size[0])
  assert shaped[0, longest] == shaped[0].min() < 0


def test_a_batch_serves_its_steps_in_parts_then_is_replaced(policy):
  steps = _steps(policy, 9, updates=4, minibatches=2, strategy="uniform")
  whole = _steps(policy, 3, strategy="uniform")
  for number, (batch, held, figures) in enumerate(steps):
    drawn, update = divmod(number, 4)
    assert int(held.draws) == drawn + 1
    assert int(held.left) == 3 - update
    part = slice(update % 2, None, 2)
    wanted = jax.tree.map(lambda x, part=part: x[part], whole[drawn][0])
    jax.tree.map(np.testing.assert_array_equal, batch, wanted)
    jax.tree.map(np.testing.assert_array_equal, figures, whole[drawn][2])


def test_a_full_batch_of_several_draws_serves_all_its_steps(policy):
  steps = _steps(
    policy, 8, ids=(0, 1, 2, 3), updates=2, strategy="dynamic_sampling"
  )
  live = [bool((batch.advantages != 0).any()) for batch, _, _ in steps]
  left = [int(held.left) for _, held, _ in steps]
  draws = [int(held.draws) for _, held, _ in steps]
  assert sum(live) >= 2
  for number, some in enumerate(live):
    before = left[number - 1] if number else 0
    assert draws[number] - (draws[number - 1] if number else 0) == (not before)
    if not before:  # drawn now: full, and served once, or not yet full
      assert left[number] == some
    else:
      assert some and left[number] == 0


@pytest.mark.parametrize("given", [True, False])
def test_a_reference_is_for_a_divergence_and_nothing_else(policy, given):
  loss = policy_losses.PolicyLossConfig()
  if not given:
    loss = policy_losses.PolicyLossConfig(kl="k2", kl_weight=0.1)
  with pytest.raises(ValueError, match="ignored" if given else "missing"):
    _collector(policy, loss=loss, reference=policy.params if given else None)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"strategy": "knapsak"}, "did you mean 'knapsack'"),
    ({"n_min": 1}, "n_min=1"),
    ({"group": 9}, "group=9"),
    ({"temperature": 0.0}, "temperature"),
    ({"advantage": "gae"}, "'gae' is not one of grpo"),
    ({"tasks": 0}, "tasks must be at least 1"),
    ({"updates": 3, "minibatches": 2}, "minibatches=2 must divide"),
    ({"updates": 3, "minibatches": 3}, "and the 16 rollouts"),
    ({"estimator": "mean"}, "estimator 'mean'"),
    ({"tokens": 128}, "ignored by strategy 'knapsack'"),
    ({"tokens": 63, "strategy": "knapsack_tokens"}, "tokens=63: expected 64"),
    (
      {"max_tokens": 1 << 28, "strategy": "knapsack_tokens"},
      r"expected less than 2\^31",
    ),
    ({"top_k": 0}, "rollouts.top_k is 0"),
    ({"top_p": 0.0}, "rollouts.top_p is 0.0"),
    ({"min_p": 2.0}, "rollouts.min_p is 2.0"),
  ],
)
def test_settings_that_cannot_be_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(CONFIG, **changes).validate()
