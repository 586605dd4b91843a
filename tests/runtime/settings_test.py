# SPDX-License-Identifier: Apache-2.0
"""Tests of search settings and the prices that follow from them."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxttc.cost import hardware as hardware_lib
from jaxttc.decoders import base
from jaxttc.inference import controllers
from jaxttc.runtime import settings as settings_lib
from jaxttc.testing import tiny_models


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"step_tokens": 0}, "step_tokens must be >= 1"),
    ({"step_tokens": 20, "max_tokens": 10}, "max_tokens=10"),
    ({"step_tokens": 20, "slots": 10}, "slots=10"),
    ({"last_tokens": 0}, "last_tokens must be >= 1"),
    ({"prompt_tokens": 0}, "prompt_tokens must be >= 1"),
    ({"sampler": controllers.Sampler(top_p=0.0)}, "top_p"),
  ],
)
def test_refuses_values_that_cannot_be(fields, message):
  with pytest.raises(ValueError, match=message):
    settings_lib.SearchSettings(**fields).validate()


def test_arena_slots_hold_a_round_of_full_steps():
  shape = base.SearchShape(nodes=9, asks=2, children=2)
  settings = settings_lib.SearchSettings(step_tokens=10, max_tokens=40)
  assert settings.round_slots(shape) == 4 * 10
  assert settings.arena_slots(shape) >= settings.round_slots(shape)
  assert dataclasses.replace(settings, slots=77).arena_slots(shape) == 77


def test_prices_follow_the_hardware():
  policy, verifier = tiny_models.tiny_bundles(0)
  free = settings_lib.prices(policy, None, settings_lib.SearchSettings())
  assert free.verifier is None
  assert free.policy.token.joules == 0 == free.policy.token.dollars
  name = next(
    name
    for name in hardware_lib.names()
    if hardware_lib.lookup(name).dollars(3600.0) > 0
  )
  priced = settings_lib.prices(
    policy, verifier, settings_lib.SearchSettings(hardware=name)
  )
  assert priced.policy.token.joules > 0 and priced.policy.token.dollars > 0
  # The verifier is the policy's shape with a layer more that reads.
  assert priced.verifier.token.flops > priced.policy.token.flops
  assert priced.policy.token.flops == free.policy.token.flops


def test_half_as_many_bytes_in_half_precision():
  policy, _ = tiny_models.tiny_bundles(0)
  half = dataclasses.replace(
    policy,
    params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), policy.params),
  )
  settings = settings_lib.SearchSettings()
  full_price, half_price = (
    settings_lib.prices(bundle, None, settings).policy.token
    for bundle in (policy, half)
  )
  assert half_price.bytes == full_price.bytes / 2
  assert half_price.flops == full_price.flops


def test_refuses_unknown_hardware():
  policy, verifier = tiny_models.tiny_bundles(0)
  settings = settings_lib.SearchSettings(hardware="abacus")
  with pytest.raises(ValueError, match="abacus"):
    settings_lib.prices(policy, verifier, settings)
