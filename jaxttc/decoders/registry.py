# SPDX-License-Identifier: Apache-2.0
"""Decoders by name, for flags and config files.

registry.make("astar", {"children": 4, "f_tolerance": 0.05})
"""

from collections.abc import Callable, Mapping
import difflib
import importlib
import inspect
from typing import Any

from jaxttc.decoders import base as base_lib

# Name -> module and function. Modules are imported when they are asked for.
_FACTORIES = {
  "adaptive_sc": "voting:adaptive_sc",
  "astar": "astar:astar",
  "best_of_n": "sampling:best_of_n",
  "beta_sc": "voting:beta_sc",
  "budget_forcing": "sampling:sample",  # the engine's controller does the rest
  "dvts": "beam:dvts",
  "greedy": "sampling:greedy",
  "gumbel_mcts": "mcts:gumbel",
  "likelihood_beam": "beam:likelihood_beam",
  "particle_filter": "particle:particle_filter",
  "particle_gibbs": "gibbs:particle_gibbs",
  "prm_beam": "beam:prm_beam",
  "puct": "mcts:puct",
  "rebase": "rebase:rebase",
  "sample": "sampling:sample",
  "self_consistency": "voting:self_consistency",
  "weighted_best_of_n": "sampling:weighted_best_of_n",
}


def names() -> tuple[str, ...]:
  """The names that `factory` knows, sorted."""
  return tuple(sorted(_FACTORIES))


def factory(name: str) -> Callable[..., base_lib.Decoder]:
  """The function that makes the decoders of a name.

  Args:
    name: one of `names()`.

  Returns:
    A function of keyword arguments that returns a `Decoder`.

  Raises:
    ValueError: if there is no such decoder; names the nearest one.
  """
  if name not in _FACTORIES:
    raise ValueError(
      f"unknown decoder {name!r}{_nearest(name, names())}; "
      f"there are {', '.join(names())}"
    )
  module, function = _FACTORIES[name].split(":")
  return getattr(importlib.import_module(f"jaxttc.decoders.{module}"), function)


def make(
  name: str, config: Mapping[str, Any] | None = None
) -> base_lib.Decoder:
  """Makes a decoder from its name and its factory's arguments.

  Args:
    name: one of `names()`.
    config: arguments of the factory; its defaults if None.

  Returns:
    The decoder.

  Raises:
    ValueError: if the name or an argument is unknown, an argument is missing,
      or the factory refuses a value.
  """
  build, config = factory(name), dict(config or {})
  parameters = inspect.signature(build).parameters
  for key in config:
    if key not in parameters:
      raise ValueError(
        f"decoder {name!r} has no argument {key!r}"
        f"{_nearest(key, tuple(parameters))}"
      )
  for key, parameter in parameters.items():
    if parameter.default is inspect.Parameter.empty and key not in config:
      raise ValueError(f"decoder {name!r} needs the argument {key!r}")
  return build(**config)


def _nearest(name: str, known: tuple[str, ...]) -> str:
  near = difflib.get_close_matches(name, known, n=1)
  return f"; did you mean {near[0]!r}?" if near else ""
