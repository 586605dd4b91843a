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
    ways: the way of each kind: what a line's first token tells of it.
  """

  lengths: tuple[int, ...] = (
    digit_sums.CONCISE_TOKENS,
    *digit_sums.VERBOSE_TOKENS,
  )
  shares: tuple[float, ...] = (0.2,) * 5
  right: tuple[float, ...] = (0.97, 1.0, 1.0, 1.0, 1.0)
  ways: tuple[int, ...] = (0, 1, 1, 1, 1)

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


class Guided(NamedTuple):
  """What becomes of n lines under b tokens, cut there; each f64[n + 1, b + 1].

  Attributes:
    accuracy: chance that all lines fit and are right.
    over: chance that they would overspend; 0 where no n lines fit.
    spent: mean tokens.
  """

  accuracy: Float[np.ndarray, "lines1 most1"]
  over: Float[np.ndarray, "lines1 most1"]
  spent: Float[np.ndarray, "lines1 most1"]


def guided(
  law: LineLaw,
  lines: int,
  most: int,
  *,
  every_token: bool = True,
  strength: float = 1.0,
) -> Guided:
  """What `guidance.guide` makes of each n and b, with exact chances.

  Args:
    law: the kinds of lines.
    lines: largest n.
    most: largest b.
    every_token: bends the choice of a line's kind; else that of its way alone,
      as guidance at line starts does, and its length is left to chance.
    strength: power of the chance.
  """
  fits = fitting(law, lines, most)
  left = np.arange(most + 1)
  accuracy, over = np.zeros_like(fits), np.zeros_like(fits)
  spent = np.broadcast_to(np.float64(left), fits.shape).copy()
  accuracy[0], spent[0] = 1.0, 0.0
  for n in range(1, lines + 1):
    chosen = _chosen(law, fits[n - 1], every_token, strength)
    possible = fits[n] > 0
    mean = np.zeros(most + 1)
    for kind, length in enumerate(law.lengths):
      stays = left >= length
      after = np.maximum(left - length, 0)
      share = np.where(possible, chosen[:, kind], 0.0)
      accuracy[n] += np.where(
        stays, share * law.right[kind] * accuracy[n - 1, after], 0.0
      )
      over[n] += share * np.where(stays, over[n - 1, after], 1.0)
      mean += share * np.where(stays, length + spent[n - 1, after], left)
    spent[n] = np.where(possible, mean, spent[n])
  return Guided(accuracy, over, spent)


def _chosen(law, fits_after, every_token, strength):
  """Probability of each kind of line at each b, f64[b + 1, kinds]."""
  most, shares = len(fits_after) - 1, np.array(law.shares)
  chance = np.zeros((most + 1, len(law.lengths)))
  for kind, length in enumerate(law.lengths):
    if length <= most:
      chance[length:, kind] = fits_after[: most + 1 - length]
  if not every_token:
    for way in set(law.ways):
      kinds = np.array(law.ways) == way
      mean = chance[:, kinds] @ shares[kinds] / shares[kinds].sum()
      chance[:, kinds] = mean[:, None]
  with np.errstate(divide="ignore"):
    log_chance = np.log(chance)
  with jax.enable_x64(True):
    logits = jnp.log(jnp.asarray(shares, jnp.float64))
    bent = guidance.guide(
      jnp.broadcast_to(logits, log_chance.shape),
      jnp.asarray(log_chance),
      strength=strength,
    )
    return np.asarray(jax.nn.softmax(bent, axis=-1))


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
  accuracy, over, _ = guided(law, lines, most)
  possible = fits > 0
  exact = np.divide(right, fits, out=np.zeros_like(fits), where=possible)
  error = np.abs(accuracy - exact)[possible].max() + over.max()
  for budget in range(lines * min(law.lengths), most + 1, 6):
    _, listed = by_enumeration(law, lines, budget)
    error = max(error, abs(accuracy[lines, budget] - listed))
  return float(error)
