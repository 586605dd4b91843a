# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from jaxttc import decoders
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import compiled, driver, whole_solutions
from jaxttc.runtime import settings as settings_lib
from jaxttc.testing import tiny_models


@pytest.fixture(scope="module", name="pair")
def _pair():
  policy, reader = tiny_models.tiny_bundles()
  return policy, reader, bundle_lib.as_verifier(policy)


@pytest.mark.parametrize(
  ("name", "arguments", "served"),
  [
    ("best_of_n", {"n": 2}, True),
    ("weighted_best_of_n", {"n": 2}, True),
    ("self_consistency", {"n": 2}, True),  # asks for no rewards
    ("likelihood_beam", {}, True),
    ("astar", {"children": 2}, False),
    ("prm_beam", {}, False),
    ("dvts", {}, False),
    ("rebase", {}, False),
    ("particle_filter", {}, False),
    ("puct", {"simulations": 4}, False),
  ],
)
def test_decoders_of_whole_solutions_are_served(pair, name, arguments, served):
  policy, reader, judge = pair
  decoder = decoders.make(name, arguments)
  why = whole_solutions.why_not(decoder, judge)
  assert (why == "") == served
  assert not whole_solutions.why_not(decoder, reader)
  assert not whole_solutions.why_not(decoder, None)
  if not served:
    with pytest.raises(ValueError, match="judges whole ones"):
      driver.local_engines(
        policy, judge, decoder, settings_lib.SearchSettings()
      )


def test_it_is_driven_by_the_host_and_any_other_model_is_refused(pair):
  policy, _, judge = pair
  decoder = decoders.make("best_of_n", {"n": 2})
  bundle_lib.check_pair(policy, judge)
  assert "writes before it judges" in compiled.why_host_driven(
    policy, judge, decoder
  )
  plain = dataclasses.replace(policy)
  with pytest.raises(ValueError, match="expected process_reward, or a gener"):
    bundle_lib.check_pair(policy, plain)
  with pytest.raises(ValueError, match="a process_reward writes no verdicts"):
    bundle_lib.as_verifier(pair[1])
