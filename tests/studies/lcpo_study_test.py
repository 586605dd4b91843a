# SPDX-License-Identifier: Apache-2.0
"""The study of lengths that prompts name, small; and what it is made of."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from configs import lcpo
from jaxttc.inference import bundle
from jaxttc.studies import lcpo_study
from jaxttc.tasks import digit_sums, length_prompts, prompt_sets, tokenizer
from jaxttc.training import length_rewards, rollout_rewards, thinking


def _small() -> lcpo_study.LcpoRecipe:
  """The shipped study, made small: it starts from the embedded thinker."""
  recipe = lcpo.get_config("study")
  arm = recipe.arm
  short = dict(
    steps=2,
    decay_steps=2,
    batch_size=8,
    evaluate_every=2,
    checkpoint_every=2,
    log_every=1,
  )
  return dataclasses.replace(
    recipe,
    seeds=(0,),
    questions=2,
    arm=dataclasses.replace(
      arm,
      start="thinking_lm",
      base=None,
      task=dataclasses.replace(arm.task, targets=(16, 20), unseen=(18, 19)),
      problems=8,
      held_out=2,
      rollouts=dataclasses.replace(
        arm.rollouts, tasks=2, group=4, max_tokens=24, updates=1, minibatches=1
      ),
      train=dataclasses.replace(arm.train, length=48, **short),
    ),
  )


def test_study_trains_and_tells_unseen_targets_apart(tmp_path):
  recipe = _small()
  rows = lcpo_study.run(recipe, tmp_path)
  assert len(rows) == 2 * 2 * 5  # models, questions, targets
  assert {r["target"] for r in rows if r["unseen"]} == {18, 19}
  before = bundle.load(str(tmp_path / "start.safetensors")).params
  lines = (tmp_path / "seed_0" / "metrics.jsonl").read_text().splitlines()
  assert json.loads(lines[0])["step"] == 1
  study = lcpo_study.report(recipe, rows)
  bars = {c.name: c.bar for c in study.claims if c.bar is not None}
  assert bars["deviation_fell_unseen"] == 3.0 and bars["slope_trained"] == 0.8
  claims = {c.name: c.value for c in study.claims}
  mine = [r for r in rows if r["seed"] == 0 and not r["unseen"]]
  off = np.mean([abs(r["tokens"] - r["target"]) / r["target"] for r in mine])
  np.testing.assert_allclose(claims["deviation_trained"], off)
  study.draw(tmp_path / "lcpo.png")
  assert (tmp_path / "lcpo.png").stat().st_size > 5000
  assert before["embed"]["embedding"].shape[0] == 704


def test_slopes_tell_steps_from_lines():
  targets = np.arange(10, 30)
  assert lcpo_study.slope_within_tens(targets, 2 * targets) == pytest.approx(2)
  steps = targets // 10 * 10
  assert lcpo_study.slope_within_tens(targets, steps) == 0
  assert lcpo_study.slope(targets, steps) > 0.7


def test_prompts_name_their_targets_and_never_unseen_ones():
  policy = bundle.load("thinking_lm")
  task = length_prompts.TargetedSums(targets=(9, 12), unseen=(10,))
  task.validate()
  found = task.prompt_set("train", 20, 0, policy, width=24, check_steps=False)
  assert set(found.target.tolist()) == {9, 11, 12}
  for problem, target, row, length in zip(
    found.problems, found.target, found.tokens, found.length, strict=True
  ):
    text = policy.tokenizer.decode(row[:length], specials=True)
    assert text.endswith(
      f"Use {target - target % 10} + {target % 10} tokens.\n<think>"
    )
    # What has been asked is still what the family grades.
    lines = [digit_sums.concise_line(0)]
    solved = digit_sums.completion(problem, lines)
    ids = policy.tokenizer.encode(solved, specials=True)
    which = np.array([found.problems.index(problem), len(found.problems)])
    tokens = np.array([ids, ids])
    np.testing.assert_array_equal(found.grade(which, tokens), [1, 0])
    np.testing.assert_array_equal(found.answered(which, tokens), [1, 0])
    # Tens, plus and ones are a token each; so is all else of the line.
    line = policy.tokenizer.encode(problem.text.split("\n")[1])
    assert len(line) == 6 and min(line) >= tokenizer.NUMBER_OFFSET


def test_texts_that_keep_their_length_are_as_long_as_asked():
  policy = bundle.load("thinking_lm")
  task = length_prompts.TargetedSums(targets=(20, 30))
  mix = thinking.DigitSumMix(
    least_digits=3, asked=0.0, at_once=0.0, targets=(20, 30), kept=0.5
  )
  mix.validate()
  off = []
  for problem in task.problems(20, "train", 0):
    lines = digit_sums.kept_lines(problem)
    text = digit_sums.completion(problem, lines)
    tokens = len(policy.tokenizer.encode(text, specials=True))
    assert tokens == digit_sums.response_tokens(lines)
    assert digit_sums.is_correct(problem, text)
    off.append(abs(tokens - problem.meta["target"]))
  assert np.mean(off) < 2
  prompt, _ = mix.example(0, 0)
  assert "\nUse " in prompt and mix.example(0, 0) == mix.example(0, 0)
  with pytest.raises(ValueError, match="mix.kept=0.5 would be ignored"):
    dataclasses.replace(mix, targets=()).validate()


def test_rewards_of_length_are_those_of_the_paper():
  config = rollout_rewards.RewardConfig(
    parts=("lcpo_exact", "lcpo_max"), weights=(1.0, 1.0), alpha=0.1
  )
  config.validate("grpo", 10)
  right = np.float32([1, 0, np.nan, 1])
  lengths, aims = np.array([5, 7, 3, 9]), np.array([7, 7, 3, 9])
  found = rollout_rewards.length_parts(config, right, lengths, aims)
  np.testing.assert_allclose(found["lcpo_exact"], [0.8, 0, np.nan, 1])
  np.testing.assert_allclose(found["lcpo_max"], [0.7, 0, np.nan, 0.5])
  plain = dataclasses.replace(config, alpha=None)
  near = rollout_rewards.length_parts(plain, right, lengths, aims)
  np.testing.assert_allclose(
    near["lcpo_exact"][0], 1 - 2 * length_rewards.ALPHA
  )
  earned = rollout_rewards.earned(
    config,
    {name: jnp.asarray(x, jnp.float32) for name, x in found.items()},
    jnp.asarray(lengths),
    None,
    10,
    jnp.ones(4, bool),
  )
  np.testing.assert_allclose(earned.sum(1), [1.5, 0, np.nan, 1.5], atol=1e-6)


def test_what_cannot_be_is_named(tmp_path):
  recipe = _small()
  arm = recipe.arm
  for changes, message in (
    ({"seeds": ()}, "seeds"),
    ({"questions": 0}, "questions is 0"),
    (
      {"arm": dataclasses.replace(arm, task=prompt_sets.ModularTask())},
      "the prompts of task name no length",
    ),
    (
      {"arm": dataclasses.replace(arm, check_steps=True)},
      "check_steps=True",
    ),
    (
      {
        "arm": dataclasses.replace(
          arm, task=length_prompts.TargetedSums(targets=(5, 4))
        )
      },
      "task.targets is",
    ),
    (
      {
        "arm": dataclasses.replace(
          arm, rewards=rollout_rewards.RewardConfig(alpha=0.1)
        )
      },
      "rewards.alpha=0.1 would be ignored",
    ),
  ):
    with pytest.raises(ValueError, match=message):
      lcpo_study.run(dataclasses.replace(recipe, **changes), tmp_path)
  with pytest.raises(ValueError, match="target 100, expected 1..99"):
    digit_sums.asked(digit_sums.problem([1, 2]), 100)
