# SPDX-License-Identifier: Apache-2.0
"""Thinking whose law is known: what guidance must do, exactly.

A trace has n lines; each is of some length, drawn afresh, and right with a
chance that its length has. Everything about it is a sum over lengths, so the
law of unguided traces given that they fit a budget is known, and guidance with
exact chances must reproduce it (Doob's transform): accuracy Pr(right | L <= b),
and no overspending. Budgets here count the lines' tokens only.
"""

from collections.abc import Sequence
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from jaxttc.inference import guidance
from jaxttc.tasks import digit_sums


class LineLaw(NamedTuple):
  """Kinds of lines.

  Attributes:
    lengths: tokens of each kind.
    shares: probability of each kind.
    right: chance that a line of the kind is right.
  """

  lengths: tuple[int, ...] = (
    digit_sums.CONCISE_TOKENS,
    *digit_sums.VERBOSE_TOKENS,
  )
  shares: tuple[float, ...] = (0.2,) * 5
  right: tuple[float, ...] = (0.97, 1.0, 1.0, 1.0, 1.0)

  @property
  def mean(self) -> float:
    """Mean tokens of a line."""
    return float(np.dot(self.lengths, self.shares))


def fitting(
  law: LineLaw, lines: int, most: int, weights: Sequence[float] | None = None
) -> Float[np.ndarray, "lines1 most1"]:
  """Chance that n lines take at most b tokens, for all n and b.

  Args:
    law: the kinds of lines.
    lines: largest n.
    most: largest b.
    weights: of each kind; with `law.right`, the chance that the lines fit and
      all are right.
  """
  weights = [1.0] * len(law.lengths) if weights is None else weights
  table = np.zeros((lines + 1, most + 1))
  table[0] = 1.0
  for n in range(1, lines + 1):
    for length, share, weight in zip(
      law.lengths, law.shares, weights, strict=True
    ):
      if length <= most:
        table[n, length:] += share * weight * table[n - 1, : most + 1 - length]
  return table


def guided(
  law: LineLaw, lines: int, most: int
) -> tuple[
  Float[np.ndarray, "lines1 most1"], Float[np.ndarray, "lines1 most1"]
]:
  """What `guidance.guide` makes of each n and b, with exact chances.

  Returns:
    The chance that all lines are right, and the chance that they overspend;
    both 0 where no n lines fit.
  """
  fits = fitting(law, lines, most)
  accuracy, over = np.zeros_like(fits), np.zeros_like(fits)
  accuracy[0] = 1.0
  with jax.enable_x64(True):
    for n in range(1, lines + 1):
      chance = np.zeros((most + 1, len(law.lengths)))
      for kind, length in enumerate(law.lengths):
        if length <= most:
          chance[length:, kind] = fits[n - 1, : most + 1 - length]
      possible = fits[n] > 0
      with np.errstate(divide="ignore"):
        log_chance = np.log(chance)
      logits = jnp.broadcast_to(
        jnp.log(jnp.asarray(law.shares, jnp.float64)), log_chance.shape
      )
      bent = guidance.guide(logits, jnp.asarray(log_chance))
      chosen = np.asarray(jax.nn.softmax(bent, axis=-1))
      for kind, length in enumerate(law.lengths):
        stays = np.arange(most + 1) >= length
        left = np.maximum(np.arange(most + 1) - length, 0)
        share = np.where(possible, chosen[:, kind], 0.0)
        accuracy[n] += np.where(
          stays, share * law.right[kind] * accuracy[n - 1, left], 0.0
        )
        over[n] += share * np.where(stays, over[n - 1, left], 1.0)
  return accuracy, over


def hard_cap(
  law: LineLaw, lines: int, most: int, chance: float
) -> Float[np.ndarray, "lines1 most1"]:
  """Accuracy where traces are cut at b tokens, and then right by chance."""
  fits = fitting(law, lines, most)
  return fitting(law, lines, most, law.right) + (1 - fits) * chance


def by_enumeration(
  law: LineLaw, lines: int, budget: int
) -> tuple[float, float]:
  """Pr(L <= b), and Pr(right | L <= b), over all traces; nan if none fits."""
  kinds = range(len(law.lengths))
  traces = np.array(list(itertools.product(kinds, repeat=lines)))
  fit = np.array(law.lengths)[traces].sum(axis=1) <= budget
  weight = np.where(fit, np.array(law.shares)[traces].prod(axis=1), 0.0)
  right = weight @ np.array(law.right)[traces].prod(axis=1)
  fits = weight.sum()
  return float(fits), float(right / fits) if fits else float("nan")


def exact_law_error(law: LineLaw, lines: int) -> float:
  """Largest distance of guided accuracy from the conditional one.

  Over all numbers of lines up to `lines` and all budgets that some trace fits;
  overspending counts as distance. The longest case is enumerated as well.
  """
  most = lines * max(law.lengths)
  fits = fitting(law, lines, most)
  right = fitting(law, lines, most, law.right)
  accuracy, over = guided(law, lines, most)
  possible = fits > 0
  exact = np.divide(right, fits, out=np.zeros_like(fits), where=possible)
  error = np.abs(accuracy - exact)[possible].max() + over.max()
  for budget in range(lines * min(law.lengths), most + 1, 6):
    _, listed = by_enumeration(law, lines, budget)
    error = max(error, abs(accuracy[lines, budget] - listed))
  return float(error)
