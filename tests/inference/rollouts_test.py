# SPDX-License-Identifier: Apache-2.0
"""Rollouts: what is sampled, under which probability, in which shape."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import controllers, generation, rollouts
from jaxttc.models import transformer
from jaxttc.testing import tiny_models

_COLUMNS = 24
_TEXTS = ("Solve 3 + 4 .\n", "Solve 7 .\n", "Modulo 11 : start at 5 .\n")


@pytest.fixture(scope="module")
def policy():
  return tiny_models.tiny_bundles(layers=2)[0]


def _prompts(policy, texts=_TEXTS, width=16):
  ids = [policy.tokenizer.encode_prompt(text) for text in texts]
  tokens = np.zeros((len(ids), width), np.int32)
  for row, found in enumerate(ids):
    tokens[row, : len(found)] = found
  return rollouts.Prompts(
    jnp.asarray(tokens), jnp.asarray([len(found) for found in ids])
  )


def _sampler(policy, sampler=controllers.Sampler()):  # noqa: B008
  @jax.jit
  def draw(params, prompts, task, rank):
    return rollouts.sample(
      policy.model,
      params,
      prompts,
      task,
      rollouts.row_keys(jax.random.key(3), task, rank),
      policy.stop_rule,
      sampler,
      columns=_COLUMNS,
    )

  return draw


@pytest.fixture(scope="module")
def drawn(policy):
  task = jnp.array([0, 0, 0, 1, 2, 2, 3, 3])
  rank = jnp.array([0, 1, 2, 0, 0, 1, 0, 1])
  prompts = _prompts(policy)
  return prompts, _sampler(policy)(policy.params, prompts, task, rank)


def test_rows_end_where_the_rule_says(policy, drawn):
  _, sampled = drawn
  for row in range(6):
    length = int(sampled.length[row])
    tokens = np.asarray(sampled.tokens[row])
    assert length >= 1
    assert (tokens[:length] >= 0).all()
    assert (tokens[length:] == -1).all()
    text = policy.tokenizer.decode(tokens[:length])
    ended = tokens[length - 1] == policy.tokenizer.eos_id or (
      "####" in text and text.endswith("\n")
    )
    assert bool(sampled.finished[row]) == ended
    assert ended or length == _COLUMNS
  assert (np.asarray(sampled.length[6:]) == 0).all()


@pytest.mark.parametrize("tau", [1.0, 0.7])
def test_logprobs_are_those_of_a_full_forward(policy, tau):
  prompts = _prompts(policy)
  task = jnp.array([0, 0, 1, 2, 2, 3])
  rank = jnp.array([0, 1, 0, 0, 1, 0])
  draw = _sampler(policy, controllers.Sampler(temperature=tau))
  sampled = draw(policy.params, prompts, task, rank)
  rows = rollouts.sequences(prompts, sampled)
  logits = transformer.forward(
    policy.model, policy.params, rows.tokens, rows.segments, rows.positions
  )
  found = jnp.take_along_axis(
    jax.nn.log_softmax(logits / tau), rows.targets[..., None], axis=-1
  )[..., 0]
  gap = jnp.where(rows.mask, found - rows.logprobs, 0.0)
  assert float(jnp.abs(gap).max()) < 1e-4
  assert int(rows.mask.sum()) == int(sampled.length.sum())
  assert not rows.logprobs[~rows.mask].any()


def test_sequences_spell_prompt_and_rollout(policy, drawn):
  prompts, sampled = drawn
  rows = rollouts.sequences(prompts, sampled)
  for row in range(6):
    task, length = int(sampled.task[row]), int(sampled.length[row])
    head = np.asarray(prompts.tokens[task, : int(prompts.length[task])])
    tail = np.asarray(sampled.tokens[row, :length])
    whole = np.concatenate([head, tail])
    assert (np.asarray(rows.tokens[row, : whole.size]) == whole).all()
    assert not rows.tokens[row, whole.size :].any()
    assert int(rows.segments[row].sum()) == whole.size
    targets = np.asarray(rows.targets[row])[np.asarray(rows.mask[row])]
    assert (targets == tail).all()
  assert not rows.segments[6:].any()


def test_a_rollout_depends_on_its_task_and_rank_alone(policy, drawn):
  prompts, sampled = drawn
  again = _sampler(policy)(
    policy.params,
    prompts,
    jnp.array([0, 1, 1, 1, 2, 2, 2, 2]),
    jnp.array([0, 0, 1, 2, 0, 1, 2, 3]),
  )
  for old, new in ((0, 0), (3, 1), (4, 4), (5, 5)):
    assert (sampled.tokens[old] == again.tokens[new]).all()


def test_counts_compile_nothing_anew(policy):
  prompts, traced = _prompts(policy), []

  @functools.partial(jax.jit)
  def draw(params, task, rank):
    traced.append(1)
    return rollouts.sample(
      policy.model,
      params,
      prompts,
      task,
      rollouts.row_keys(jax.random.key(0), task, rank),
      policy.stop_rule,
      columns=8,
    ).length

  for counts in ([6, 1, 1], [2, 3, 3], [0, 8, 0], [1, 1, 1]):
    task = np.repeat(np.arange(3), counts)
    task = np.pad(task, (0, 8 - task.size), constant_values=3)
    rank = np.concatenate([np.arange(n) for n in counts])
    rank = np.pad(rank, (0, 8 - rank.size))
    lengths = np.asarray(draw(policy.params, task, rank))
    assert (lengths > 0).sum() == sum(counts)
  assert len(traced) == 1


def test_rows_that_keep_no_logprobs_say_so(policy):
  rows = generation.idle_rows(policy.config, 1, 1, 4, 4, controllers.identity())
  with pytest.raises(ValueError, match="keep no logprobs"):
    generation.span_logprobs(rows, 4)
