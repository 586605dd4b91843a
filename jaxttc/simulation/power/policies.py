# SPDX-License-Identifier: Apache-2.0
"""Policies: from what the row draws to a level of its frequency plan.

A policy is a state and a pure function

    decide(time_s, reading, state) -> (Decision(level, brake), state)

called at every telemetry reading. Thresholds live in the state, so policies
that differ only in them share one compiled program. A decision is a command:
it takes effect after the actuator's latency, and commands keep their order.

The brake is the last resort of every policy: asked for when a reading is over
budget, as a row without it would trip its breaker.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from jaxttc.simulation.power import model as model_lib
from jaxttc.simulation.power import plans as plans_lib


class Reading(NamedTuple):
  """What a policy sees.

  Attributes:
    share: f[], row power over budget.
    level: i32[], the level in effect, which lags what was commanded.
    braking: bool[], whether a brake is pending or held.
    forced: f[levels], what the share would be at each level with the phases
      of this instant; only an oracle may look.
  """

  share: Float[Array, ""]
  level: Int[Array, ""]
  braking: Bool[Array, ""]
  forced: Float[Array, " levels"]


class Decision(NamedTuple):
  """What a policy wants: a level (i32[]) and whether to brake (bool[])."""

  level: Any
  brake: Any


Decide = Callable[[Any, Reading, Any], tuple[Decision, Any]]


class Policy(NamedTuple):
  """A policy and the plan whose levels it commands.

  Attributes:
    name: how it is shown.
    plan: what its levels do.
    decide: the pure function above.
    state: its first state, a pytree of scalars.
    instant: whether it decides at every step and its commands take effect at
      once; real ones do neither.
  """

  name: str
  plan: plans_lib.FrequencyPlan
  decide: Decide
  state: Any
  instant: bool = False


class _Thresholds(NamedTuple):
  first: Any
  second: Any
  hysteresis: Any
  requested: Any


class _Controller(NamedTuple):
  target: Any
  gain: Any
  integral_gain: Any
  top: Any
  integral: Any


class _Limit(NamedTuple):
  limit: Any
  top: Any


def no_cap() -> Policy:
  """Does nothing but brake."""
  return Policy("no cap", plans_lib.FREE, _decide_nothing, ())


def single_threshold(
  target: str = "all",
  threshold: float = 0.89,
  hysteresis: float = 0.05,
  plan: plans_lib.FrequencyPlan | None = None,
) -> Policy:
  """Locks all servers, or those of low priority, above one threshold.

  Args:
    target: "all" or "low": which plan to use unless `plan` is given.
    threshold: share of the budget above which level 1 is commanded.
    hysteresis: how far below the threshold it is taken back.
    plan: two levels; their first is free.

  Raises:
    ValueError: if the target is unknown, the plan has not two levels, or
      0 < hysteresis < threshold <= 1 does not hold.
  """
  by_target = {"all": plans_lib.ALL, "low": plans_lib.LOW_ONLY}
  if target not in by_target:
    raise ValueError(f"target is {target!r}; expected 'all' or 'low'")
  plan = plan or by_target[target]
  _check_levels(plan, 2)
  _check_thresholds(threshold, threshold, hysteresis)
  state = _Thresholds(
    np.float64(threshold), np.float64(1), np.float64(hysteresis), np.int32(0)
  )
  return Policy(f"one threshold, {target}", plan, _decide_single, state)


def dual_threshold(
  first: float = 0.80,
  second: float = 0.89,
  hysteresis: float = 0.05,
  plan: plans_lib.FrequencyPlan = plans_lib.POLCA,
) -> Policy:
  """POLCA: low priority gives way first; high priority little, and last.

  Above `first` low priority is locked mildly (level 1). Above `second` it is
  locked hard (level 2) and, once that is in effect and was not enough, high
  priority too (level 3). Levels 2 and 3 fall back to 1 below `second` less
  the hysteresis, and level 1 to 0 below `first` less the hysteresis. It waits
  for a command to take effect before it escalates, since the actuator is slow.

  Raises:
    ValueError: if the thresholds are not ordered in (0, 1], the hysteresis is
      not in (0, first), or the plan has not four levels.
  """
  _check_levels(plan, 4)
  _check_thresholds(first, second, hysteresis)
  if first >= second:
    raise ValueError(
      f"thresholds {first:g} and {second:g}; expected the first below the "
      "second"
    )
  state = _Thresholds(
    np.float64(first), np.float64(second), np.float64(hysteresis), np.int32(0)
  )
  return Policy("dual threshold", plan, _decide_dual, state)


def proportional(
  target: float = 0.85,
  gain: float = 20.0,
  integral_gain: float = 0.1,
  plan: plans_lib.FrequencyPlan | None = None,
) -> Policy:
  """A PI controller over a plan of many small levels.

  level = gain * error + integral, with error = share - target, rounded; the
  integral grows by integral_gain * error * levels at each reading and is held
  within the plan's levels, so that it does not wind up.

  Args:
    target: share of the budget to hold.
    gain: levels a unit of error.
    integral_gain: share of all levels a unit of error adds at each reading.
    plan: levels from free to tight; a ladder of twelve by default.

  Raises:
    ValueError: if the target is not in (0, 1] or a gain is negative.
  """
  plan = plan or plans_lib.ladder(
    (1365.0, 1320.0, 1275.0, 1230.0, 1185.0, 1140.0, 1110.0),
    (1380.0, 1350.0, 1320.0, 1305.0),
  )
  _check_thresholds(target, target, target / 2)
  for name, value in (("gain", gain), ("integral_gain", integral_gain)):
    if not (np.isfinite(value) and value >= 0):
      raise ValueError(f"{name} is {value}; expected >= 0")
  values = (target, gain, integral_gain, len(plan.levels) - 1, 0)
  state = _Controller(*(np.float64(value) for value in values))
  return Policy("proportional", plan, _decide_proportional, state)


def hold_through_brakes(policy: Policy) -> Policy:
  """A policy that does not loosen its grip while a brake is pending or held.

  A braked row draws little, which says nothing about the row without a brake.
  A policy that is not told so frees its servers, just when each has a queue
  to work off.
  """
  state = (policy.state, np.int32(0))
  return policy._replace(
    name=f"{policy.name}, held through brakes",
    decide=_holding(policy.decide),
    state=state,
  )


@functools.cache  # One function a policy, so that programs are kept.
def _holding(decide: Decide) -> Decide:
  def held(time_s: Any, reading: Reading, state: Any) -> tuple[Decision, Any]:
    before, level = state
    decision, after = decide(time_s, reading, before)
    loosened = reading.braking & (decision.level < level)
    after = jax.tree.map(
      lambda old, new: jnp.where(loosened, old, new), before, after
    )
    level = jnp.where(loosened, level, decision.level)
    return Decision(level, decision.brake), (after, level)

  return held


def oracle(
  limit: float = 0.98, plan: plans_lib.FrequencyPlan = plans_lib.POLCA
) -> Policy:
  """What no operator has: instant control that knows what each level draws.

  Takes at every step the least level whose power, with the phases of this
  instant, is within the limit; the last level if none is. A bound on what any
  policy could reach with the same plan and no foresight of arrivals.

  Raises:
    ValueError: if the limit is not in (0, 1].
  """
  _check_thresholds(limit, limit, limit / 2)
  state = _Limit(np.float64(limit), np.int32(len(plan.levels) - 1))
  return Policy("oracle", plan, _decide_oracle, state, instant=True)


def _decide_nothing(
  time_s: Any, reading: Reading, state: Any
) -> tuple[Decision, Any]:
  del time_s
  return Decision(jnp.int32(0), reading.share > 1), state


def _decide_single(
  time_s: Any, reading: Reading, state: _Thresholds
) -> tuple[Decision, _Thresholds]:
  del time_s
  share = reading.share
  low = share < state.first - state.hysteresis
  level = jnp.where(low, 0, state.requested)
  level = jnp.where(share > state.first, 1, level)
  return Decision(level, share > 1), state._replace(requested=level)


def _decide_dual(
  time_s: Any, reading: Reading, state: _Thresholds
) -> tuple[Decision, _Thresholds]:
  del time_s
  share, level = reading.share, state.requested
  settled = reading.level == level
  escalated = jnp.where((level >= 2) & settled, 3, jnp.maximum(level, 2))
  wanted = jnp.where(share > state.first, jnp.maximum(level, 1), level)
  below = share < state.second - state.hysteresis
  wanted = jnp.where((level >= 2) & below, 1, wanted)
  wanted = jnp.where(share > state.second, escalated, wanted)
  wanted = jnp.where(share < state.first - state.hysteresis, 0, wanted)
  return Decision(wanted, share > 1), state._replace(requested=wanted)


def _decide_proportional(
  time_s: Any, reading: Reading, state: _Controller
) -> tuple[Decision, _Controller]:
  del time_s
  error = reading.share - state.target
  integral = state.integral + state.integral_gain * error * state.top
  integral = jnp.clip(integral, 0, state.top)
  level = jnp.clip(state.gain * error + integral, 0, state.top)
  decision = Decision(jnp.round(level).astype(jnp.int32), reading.share > 1)
  return decision, state._replace(integral=integral)


def _decide_oracle(
  time_s: Any, reading: Reading, state: _Limit
) -> tuple[Decision, _Limit]:
  del time_s
  within = reading.forced <= state.limit
  # Rows of one program may have more levels than this plan; they are alike.
  level = jnp.minimum(jnp.argmax(within), state.top).astype(jnp.int32)
  level = jnp.where(within.any(), level, state.top)
  return Decision(level, reading.share > 1), state


def _check_levels(plan: plans_lib.FrequencyPlan, count: int) -> None:
  if len(plan.levels) != count:
    raise ValueError(
      f"a plan of {len(plan.levels)} levels; this policy commands {count}"
    )


def _check_thresholds(first: float, second: float, hysteresis: float) -> None:
  for value in (first, second):
    if not 0 < value <= 1:
      raise ValueError(
        f"a threshold of {value:g}; expected a share of the budget in (0, 1]"
      )
  if not 0 < hysteresis < first:
    raise ValueError(
      f"a hysteresis of {hysteresis:g}; expected above 0 and below the first "
      f"threshold, {first:g}"
    )


def replay(
  policy: Policy, shares: Float[np.ndarray, " readings"]
) -> Int[np.ndarray, " readings"]:
  """The levels a policy commands for a sequence of readings.

  The level in effect is taken to be the last one commanded: an actuator
  without latency.

  Args:
    policy: any but an oracle.
    shares: f[readings], row power over budget.

  Raises:
    ValueError: if the policy looks at what a simulator alone knows, or a
      share is not finite.
  """
  if policy.instant:
    raise ValueError(f"{policy.name!r} cannot be replayed from readings alone")
  bad = ~np.isfinite(shares)
  if bad.any():
    at = int(np.argmax(bad))
    raise ValueError(f"reading {at} is {shares[at]}; expected a finite share")
  forced = jnp.zeros(len(policy.plan.levels))
  model_lib.positive("the number of readings", len(shares))

  def step(carry: Any, share: Any) -> tuple[Any, Any]:
    state, level = carry
    reading = Reading(share, level, jnp.bool_(False), forced)
    decision, state = policy.decide(jnp.float32(0), reading, state)
    return (state, decision.level), decision.level

  first = jax.tree.map(jnp.asarray, policy.state)
  _, levels = jax.lax.scan(step, (first, jnp.int32(0)), jnp.asarray(shares))
  return np.asarray(levels)
