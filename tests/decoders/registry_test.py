# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxttc.decoders import base as base_lib
from jaxttc.decoders import registry

# Factories that need an argument.
NEEDED = {
  "adaptive_sc": {"n": 4},
  "best_of_n": {"n": 4},
  "beta_sc": {"n": 4},
  "gumbel_mcts": {"simulations": 4},
  "puct": {"simulations": 4},
  "self_consistency": {"n": 4},
  "weighted_best_of_n": {"n": 4},
}


@pytest.mark.parametrize("name", registry.names())
def test_every_name_makes_a_decoder(name):
  decoder = registry.make(name, NEEDED.get(name))
  assert isinstance(decoder, base_lib.Decoder)
  assert decoder.shape.nodes > decoder.shape.children >= 1


def test_names_are_sorted_and_known():
  assert list(registry.names()) == sorted(registry.names())
  assert {"astar", "puct", "gumbel_mcts"} < set(registry.names())


def test_unknown_name_names_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'astar'"):
    registry.factory("astr")


def test_unknown_argument_names_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'particles'"):
    registry.make("particle_filter", {"particle": 3})


def test_missing_argument():
  with pytest.raises(ValueError, match="needs the argument 'n'"):
    registry.make("best_of_n")
