# SPDX-License-Identifier: Apache-2.0
"""What a sampler says of its tokens is what a trainer says of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import controllers, rollouts
from jaxttc.tasks import prompt_sets
from jaxttc.testing import tiny_models
from jaxttc.training import rollout_reading

_COLUMNS = 12


@pytest.fixture(scope="module")
def policy():
  return tiny_models.tiny_bundles(layers=2)[0]


@pytest.fixture(scope="module")
def prompts(policy):
  task = prompt_sets.ModularTask(primes=(11, 13), max_steps=3)
  found = prompt_sets.prompt_set(
    task.problems(4, "train", 0), policy.tokenizer, width=24
  )
  return rollouts.Prompts(jnp.asarray(found.tokens), jnp.asarray(found.length))


@pytest.mark.parametrize(
  "cuts",
  [
    {},
    {"top_k": 3},
    {"temperature": 0.8, "top_p": 0.7},
    {"temperature": 1.5, "top_k": 9, "top_p": 0.9, "min_p": 0.3},
  ],
)
def test_both_say_the_same_of_a_cut_law(policy, prompts, cuts):
  sampler = controllers.Sampler(**cuts)
  task = jnp.repeat(jnp.arange(4), 8)

  @jax.jit
  def both(params):
    drawn = rollouts.sample(
      policy.model,
      params,
      prompts,
      task,
      jax.random.split(jax.random.key(0), 32),
      policy.stop_rule,
      sampler,
      columns=_COLUMNS,
    )
    rows = rollouts.sequences(prompts, drawn)
    said = [
      rollout_reading.read_all(
        policy.model, params, rows, columns=_COLUMNS, sampler=law, chunk=8
      )
      for law in (sampler, controllers.Sampler(temperature=sampler.temperature))
    ]
    return drawn, *said

  drawn, said, uncut = both(policy.params)
  assert int(drawn.length.sum()) > 64
  assert np.abs(np.asarray(said - drawn.logprobs)).max() < 1e-4
  # The uncut law says less of every token that was drawn, often much less.
  if cuts:
    assert np.asarray(said - uncut).min() > -1e-4
    assert np.asarray(said - uncut).max() > 0.1
