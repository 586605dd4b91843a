# SPDX-License-Identifier: Apache-2.0
"""The methods that the planted study compares, each with one dial to tune.

A method is one compiled program for all horizons, data sizes, seeds and
settings: all of them are arrays, over which it is mapped.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax
from jaxtyping import Array, Float, Int, Key

from jaxttc.tasks import planted, planted_oracles
from jaxttc.training import cloning, trace_batches, verified

# (instance, key, traces, horizon, setting, bounds) -> what it earns.
Measure = Callable[..., planted_oracles.Value]


@dataclasses.dataclass(frozen=True)
class Method:
  """A way to spend n traces.

  Attributes:
    label: in pictures.
    verifies: whether it sees rewards of failed traces, too.
    dial: what its settings are.
    measure: trains and values.
  """

  label: str
  verifies: bool
  dial: str
  measure: Measure


def methods(expert_kappa: float) -> Mapping[str, Method]:
  """All methods by name.

  Args:
    expert_kappa: radius of the ball whose best expert is cloned.
  """
  solved = functools.partial(_exact, cloning.clone_solved)
  return {
    "clone_solved": Method(
      "clone n solved traces",
      False,
      "strength",
      functools.partial(solved, expert_is_free=True),
    ),
    "clone_solved_charged": Method(
      "clone the solved of n sampled traces",
      False,
      "strength",
      functools.partial(solved, expert_is_free=False),
    ),
    "clone_expert": Method(
      "clone n traces of the ball's best expert",
      False,
      "strength",
      functools.partial(_exact, cloning.clone_expert, kappa=expert_kappa),
    ),
    "policy_gradient": Method(
      "policy gradient on n checked traces",
      True,
      "rate",
      functools.partial(_exact, verified.policy_gradient),
    ),
    "reweight": Method(
      "reweight n checked traces",
      True,
      "kappa",
      functools.partial(_exact, verified.reweight),
    ),
  }


def _exact(
  train: Callable[..., trace_batches.Trained],
  instance: planted.Instance,
  key: Key[Array, ""],
  traces: Int[Array, ""],
  horizon: Int[Array, ""],
  setting: Float[Array, ""],
  bounds: trace_batches.Bounds,
  **options: Any,
) -> planted_oracles.Value:
  trained = train(instance, key, traces, horizon, setting, bounds, **options)
  return planted_oracles.value(instance, trained.policy, horizon)


@functools.cache
def compiled(measure: Measure) -> Callable[..., planted_oracles.Value]:
  """A method over lanes: every argument but the bounds has one more axis."""
  lanes = jax.vmap(measure, in_axes=(0, 0, 0, 0, 0, None))
  return jax.jit(lanes)
