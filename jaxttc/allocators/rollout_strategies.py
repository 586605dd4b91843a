# SPDX-License-Identifier: Apache-2.0
"""The knapsack and its rivals, by one flag.

A strategy says how many rollouts each task of a step gets, by what multiple of
the step's total, and whether groups that are not mixed are thrown away and
other tasks drawn in their place.

    strategy = rollout_strategies.make("knapsack")
    counts = strategy.counts(p, valid, strategy.scale * total, key)

*  knapsack: `rollout_allocation.split`,
*  posterior: the same by what a Beta posterior expects of each task
   (`rollout_allocation.split_posterior`), so that one which failed a few times
   is not given up,
*  knapsack_tokens: the same where the total is in tokens and a rollout costs
   as many as it is expected to have (`priced_rollouts.split`); a batch has up
   to twice the rows, for tasks that are short,
*  uniform, and uniform_2x, which has twice the rollouts,
*  proportional: in proportion to 1 - p,
*  skip_uninformative: uniform over tasks, but a task whose groups are known
   not to be mixed is left out with probability 1 - explore (after GRESO,
   arXiv:2506.02177),
*  dynamic_sampling: uniform groups, drawn until as many as wanted are mixed
   (DAPO, arXiv:2503.14476); what was thrown away was paid for all the same,
   and `kept_groups` counts it.
"""

from collections.abc import Callable
import dataclasses
import difflib
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxttc.allocators import (
  priced_rollouts,
  rollout_allocation,
  rollout_rules,
  unit_filling,
)

NAMES = (
  "knapsack",
  "posterior",
  "knapsack_tokens",
  "uniform",
  "uniform_2x",
  "proportional",
  "skip_uninformative",
  "dynamic_sampling",
)

# (p f[M], valid bool[M], total, key) -> i32[M]
Counts = Callable[..., Array]
_ROWS = 2  # of "knapsack_tokens", for each rollout of uniform groups


class RolloutStrategy(NamedTuple):
  """How a step's rollouts are given out.

  Attributes:
    counts: (p f[M], valid bool[M], total, key) -> i32[M]; traceable.
    scale: rollouts of a step are this many times its total.
    redraw: whether groups that are not mixed are dropped and redrawn.
    posterior: whether `counts` reads a Beta posterior, alpha f[M] and beta
      f[M], in place of p and valid.
    priced: whether the total is in tokens; `counts` then takes what a rollout
      of each task is expected to cost, i32[M], after p and valid.
  """

  counts: Counts
  scale: int = 1
  redraw: bool = False
  posterior: bool = False
  priced: bool = False


def make(
  name: str,
  rules: rollout_rules.RolloutRules = rollout_rules.RolloutRules(),  # noqa: B008
  *,
  explore: float = 0.1,
) -> RolloutStrategy:
  """The strategy of a name.

  Args:
    name: one of `NAMES`.
    rules: floors and ceilings; the knapsack's solver.
    explore: how often "skip_uninformative" draws a task all the same.

  Raises:
    ValueError: for an unknown name (the nearest is named) or an `explore`
      outside [0, 1].
  """
  if name not in NAMES:
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
      f"strategy {name!r} is not one of {', '.join(NAMES)}{hint}"
    )
  if not 0 <= explore <= 1:
    raise ValueError(f"explore is {explore}; expected a share in [0, 1]")
  if name == "skip_uninformative":
    return RolloutStrategy(_skipping(rules, explore))
  if name == "posterior":
    return RolloutStrategy(_by_posterior(rules), posterior=True)
  if name == "knapsack_tokens":
    return RolloutStrategy(_by_tokens(rules), scale=_ROWS, priced=True)
  if name in ("uniform_2x", "dynamic_sampling"):
    rules = dataclasses.replace(rules, solver="uniform")
  elif name != "knapsack":
    rules = dataclasses.replace(rules, solver=name)

  def counts(p, valid, total, key):
    del key
    return rollout_allocation.split(p, valid, total, rules)[0]

  return RolloutStrategy(
    counts, 2 if name == "uniform_2x" else 1, name == "dynamic_sampling"
  )


def kept_groups(
  mixed: Bool[Array, " g"], size: int, wanted: int | Int[Array, ""]
) -> tuple[Bool[Array, " g"], Int[Array, ""]]:
  """Books of dynamic sampling over groups of one size, in order of drawing.

  Args:
    mixed: which groups hold a success and a failure.
    size: rollouts a group.
    wanted: mixed groups that end the drawing.

  Returns:
    Which groups are kept: the first `wanted` mixed ones; and how many
    rollouts were paid for, those of dropped groups and all.
  """
  kept = mixed & (jnp.cumsum(mixed) <= wanted)
  place = jnp.arange(1, mixed.shape[0] + 1)
  last = jnp.where(
    kept.sum() < wanted, mixed.shape[0], jnp.where(kept, place, 0).max()
  )
  return kept, (size * last).astype(jnp.int32)


def _by_tokens(rules):
  def counts(p, valid, unit_cost, total, key):
    del key
    rows = _ROWS * p.shape[0] * rules.n_default
    return priced_rollouts.split(
      p, valid, unit_cost, total, rules, rows=rows
    ).counts

  return counts


def _by_posterior(rules):
  def counts(alpha, beta, total, key):
    del key
    return rollout_allocation.split_posterior(
      alpha, beta, total, n_min=rules.n_min, n_max=rules.n_max
    ).units

  return counts


def _skipping(rules, explore):
  def counts(p, valid, total, key):
    drawn = jax.random.uniform(key, p.shape) < explore
    known = rollout_rules.Classes(p, valid)
    kept = known.mixed | known.unseen | drawn
    kept = kept | ~kept.any()
    ceiling = jnp.full(p.shape, rules.n_max, jnp.int32)
    none = jnp.zeros_like(ceiling)
    given = unit_filling.level(
      none, jnp.where(kept, ceiling, 0), jnp.asarray(total, jnp.int32)
    )
    rest = jnp.asarray(total, jnp.int32) - given.sum()
    return given + unit_filling.level(none, ceiling - given, rest)

  return counts
