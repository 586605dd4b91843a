# SPDX-License-Identifier: Apache-2.0
"""Forced answers: stops by hand, and what the model says by a plain read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import controllers, forced_answers, rollouts
from jaxttc.models import transformer
from jaxttc.testing import tiny_models


@pytest.fixture(scope="module")
def policy():
  return tiny_models.tiny_bundles()[0]


def _rollouts(policy, texts, columns=13):
  ids = [policy.tokenizer.encode(text) for text in texts]
  tokens = np.full((len(ids), columns), -1, np.int32)
  for row, found in enumerate(ids):
    tokens[row, : len(found)] = found
  return rollouts.Rollouts(
    tokens=jnp.asarray(tokens),
    length=jnp.array([len(found) for found in ids], jnp.int32),
    logprobs=jnp.zeros(tokens.shape),
    finished=jnp.ones(len(ids), bool),
    task=jnp.zeros(len(ids), jnp.int32),
  )


def test_stops_by_hand(policy):
  sampled = _rollouts(
    policy,
    ["1 2\n3\n4\n#### 5\n", "#### 5\n", "1 2 3", "", "1\n2\n3\n4\n5\n#### 6\n"],
  )
  found = forced_answers.find_stops(sampled, policy.stop_rule, 3)
  there = np.asarray(found.there)
  places = [
    np.asarray(found.place)[row][kept].tolist()
    for row, kept in enumerate(there)
  ]
  # "1 2\n" has three tokens; steps beyond the third are left in the last.
  assert places == [[0, 3, 5, 7], [0], [0], [0], [0, 2, 4, 10]]
  episodes = np.asarray(found.episode)
  assert episodes[0].tolist() == [0] * 3 + [1] * 2 + [2] * 2 + [-1] * 6
  assert (episodes[1:4] == -1).all()
  assert episodes[4].tolist() == [0, 0, 1, 1] + [2] * 6 + [-1] * 3
  with pytest.raises(ValueError, match="most is 0"):
    forced_answers.find_stops(sampled, policy.stop_rule, 0)


def test_answers_are_what_the_model_says_after_the_prefix(policy):
  """Greedy answers against a decode by whole forward passes."""
  sampled = _rollouts(policy, ["1 2\n3\n#### 5\n", "4\n5\n6\n"])
  prompts = rollouts.Prompts(
    jnp.array([[1, 280, 281, 282, 0]], jnp.int32), jnp.array([4], jnp.int32)
  )
  stops = forced_answers.find_stops(sampled, policy.stop_rule, 3)
  ids = policy.tokenizer.encode("= ####")
  keys = jax.random.split(jax.random.key(0), 2)
  found = forced_answers.force(
    policy.model,
    policy.params,
    prompts,
    sampled,
    stops,
    keys,
    policy.stop_rule,
    controllers.Sampler(temperature=0.0),
    opening=ids,
    branches=2,
    columns=4,
  )
  for row in range(2):
    written = np.asarray(sampled.tokens)[row]
    for k, there in enumerate(np.asarray(stops.there)[row]):
      if not there:
        assert (np.asarray(found.length)[row, k] == 0).all()
        continue
      prefix = [1, 280, 281, 282, *written[: int(stops.place[row, k])], *ids]
      wanted = []
      while len(wanted) < 4 and policy.tokenizer.newline_id not in wanted:
        whole = jnp.array([[*prefix, *wanted]], jnp.int32)
        logits = transformer.forward(
          policy.model,
          policy.params,
          whole,
          jnp.ones_like(whole),
          jnp.arange(whole.shape[1])[None],
        )
        wanted.append(int(logits[0, -1].argmax()))
      for branch in np.asarray(found.tokens)[row, k]:
        assert branch[branch >= 0].tolist() == wanted


def test_branches_differ_and_bad_numbers_are_named(policy):
  sampled = _rollouts(policy, ["1 2\n3\n"] * 4)
  prompts = rollouts.Prompts(jnp.array([[1, 280]]), jnp.array([2]))
  stops = forced_answers.find_stops(sampled, policy.stop_rule, 2)

  def force(**changes):
    return forced_answers.force(
      policy.model,
      policy.params,
      prompts,
      sampled,
      stops,
      jax.random.split(jax.random.key(0), 4),
      policy.stop_rule,
      **({"opening": [472], "branches": 4, "columns": 4} | changes),
    )

  tokens = np.asarray(force().tokens).reshape(-1, 4)
  assert len(np.unique(tokens, axis=0)) > 8
  for changes in ({"opening": []}, {"branches": 0}, {"columns": 0}):
    with pytest.raises(ValueError, match="expected at least 1 of each"):
      force(**changes)


def test_chances_are_those_of_a_plain_read(policy):
  sampled = _rollouts(policy, ["1 2\n3\n#### 5\n", "4\n5\n6\n"])
  prompts = rollouts.Prompts(
    jnp.array([[1, 280, 281, 282, 0]], jnp.int32), jnp.array([4], jnp.int32)
  )
  stops = forced_answers.find_stops(sampled, policy.stop_rule, 3)
  opening, answer = policy.tokenizer.encode("= ####"), [273, 274, -1]
  found = forced_answers.chances(
    policy.model,
    policy.params,
    prompts,
    sampled,
    stops,
    jnp.array([answer]),
    opening=opening,
    temperature=0.7,
  )
  for row in range(2):
    written = np.asarray(sampled.tokens)[row]
    for k, there in enumerate(np.asarray(stops.there)[row]):
      if not there:
        assert found[row, k] == 0
        continue
      prefix = [1, 280, 281, 282, *written[: int(stops.place[row, k])]]
      whole = jnp.array([[*prefix, *opening, 273]], jnp.int32)
      logits = transformer.forward(
        policy.model,
        policy.params,
        whole,
        jnp.ones_like(whole),
        jnp.arange(whole.shape[1])[None],
      )
      said = jax.nn.softmax(logits[0, -2:] / 0.7)
      wanted = said[0, 273] * said[1, 274]
      assert found[row, k] == pytest.approx(float(wanted), rel=1e-3)
