# SPDX-License-Identifier: Apache-2.0
"""The budget model's numbers, fitted to pilot runs.

A pilot decodes some questions of one kind at a few budgets and notes who was
wrong. The mean error at budget b is taken to be a + c / b^beta, by least
squares, with 0 <= a below the least error and beta in [0.05, 5]. For a given
beta the rest is linear, so the search is over beta alone: a grid, then
SciPy's bounded minimiser. Intervals are bootstrapped over questions, each
drawn with its errors at all budgets.
"""

from typing import NamedTuple

from jaxtyping import Float
import numpy as np
import numpy.typing as npt
import scipy.optimize

BETAS = (0.05, 5.0)
_GRID = np.geomspace(*BETAS, 60)
_TINY = 1e-12


class Range(NamedTuple):
  """An estimate between the ends of its interval."""

  value: float
  low: float
  high: float


class PilotFit(NamedTuple):
  """Parameters of `budget_model` for one kind of sub-question.

  Attributes:
    c: doubt that tokens dispel, at one token.
    beta: how fast they do.
    aleatoric: error that stays.
    residual: root of the mean squared error of the fit.
    draws: f64[R, 3], c, beta and aleatoric of each resample; what is to be
      robust takes its quantiles here.
  """

  c: Range
  beta: Range
  aleatoric: Range
  residual: float
  draws: np.ndarray

  def predict(self, tokens: npt.ArrayLike) -> Float[np.ndarray, "..."]:
    """Error at a number of tokens, in [0, 1]."""
    held = np.asarray(tokens, np.float64)
    fallen = self.c.value * held**-self.beta.value
    return np.clip(self.aleatoric.value + fallen, 0.0, 1.0)


def fit(
  tokens: npt.ArrayLike,
  errors: npt.ArrayLike,
  *,
  resamples: int = 200,
  level: float = 0.95,
  seed: int = 0,
) -> PilotFit:
  """Fits the model to one kind's pilot.

  Args:
    tokens: f[K], budgets of the pilot, positive and distinct, at least 3.
    errors: f[K, Q], share of wrong answers in [0, 1], a column a question.
    resamples: of questions, for the intervals.
    level: of the intervals, in (0, 1).
    seed: of the resamples.

  Returns:
    The parameters, their intervals and the draws behind them. Where all errors
    are nearly equal, c is near 0 and beta means nothing: its interval says so.

  Raises:
    ValueError: for fewer than 3 budgets, budgets that are not positive or
      come twice, or errors that do not fit them or leave [0, 1].
  """
  tokens, errors = _check(tokens, errors)
  if resamples < 1 or not 0 < level < 1:
    raise ValueError(
      f"resamples and level are {resamples} and {level}; expected at least 1, "
      "and between 0 and 1"
    )
  mean = errors.mean(1)
  best = _least_squares(tokens, mean)
  rng = np.random.default_rng(seed)
  questions = errors.shape[1]
  drawn = rng.multinomial(
    questions, np.full(questions, 1 / questions), resamples
  )
  draws = np.array(
    [_least_squares(tokens, row) for row in drawn @ errors.T / questions]
  )
  tail = (1 - level) / 2
  ends = np.quantile(draws, (tail, 1 - tail), axis=0)
  ranges = [
    Range(value, min(low, value), max(high, value))
    for value, low, high in zip(best.tolist(), *ends.tolist(), strict=True)
  ]
  c, beta, aleatoric = best
  off = aleatoric + c * tokens**-beta - mean
  return PilotFit(*ranges, float(np.sqrt(np.mean(off**2))), draws)


def _least_squares(tokens, mean):
  """c, beta and aleatoric of least squared error."""

  def loss(log_beta):
    return _linear(tokens ** -np.exp([[log_beta]]), mean)[0][0]

  grid = np.log(_GRID)
  losses = _linear(tokens ** -_GRID[:, None], mean)[0]
  at = int(np.argmin(losses))
  around = (grid[max(at - 1, 0)], grid[min(at + 1, grid.size - 1)])
  found = scipy.optimize.minimize_scalar(
    loss, bounds=around, method="bounded", options={"xatol": 1e-6}
  )
  beta = np.exp(found.x if found.fun <= losses[at] else grid[at])
  _, c, aleatoric = _linear(tokens ** -np.array([[beta]]), mean)
  return np.array([c[0], beta, aleatoric[0]])


def _linear(falls, mean):
  """The best c >= 0 and 0 <= a <= least error for mean = a + c falls.

  Args:
    falls: f64[G, K], tokens to the power of minus G betas.
    mean: f64[K].

  Returns:
    Squared error, c and a, f64[G] each.
  """
  top = mean.min()
  middle = falls.mean(1)
  centred = falls - middle[:, None]
  free = centred @ mean / np.maximum((centred**2).sum(1), _TINY)
  rest = mean.mean() - free * middle
  inside = (free >= 0) & (rest >= 0) & (rest <= top)
  # A square with linear bounds: its best is free, or on one of them.
  choices = [(np.where(inside, free, 0.0), np.where(inside, rest, top))]
  choices.append((np.zeros_like(free), np.full_like(free, top)))
  for edge in (0.0, top):
    on_edge = falls @ (mean - edge) / (falls**2).sum(1)
    choices.append((np.maximum(on_edge, 0), np.full_like(free, edge)))
  c, a = (np.stack(x) for x in zip(*choices, strict=True))
  off = a[..., None] + c[..., None] * falls[None] - mean
  losses = (off**2).sum(2)
  best, rows = losses.argmin(0), np.arange(free.size)
  return losses[best, rows], c[best, rows], a[best, rows]


def _check(tokens, errors):
  tokens = np.asarray(tokens, np.float64)
  errors = np.asarray(errors, np.float64)
  if tokens.ndim != 1 or tokens.size < 3:
    raise ValueError(
      f"a pilot needs at least 3 budgets, got shape {tokens.shape}"
    )
  if not (np.isfinite(tokens) & (tokens > 0)).all():
    bad = int(np.argmin(np.isfinite(tokens) & (tokens > 0)))
    raise ValueError(f"budget {bad} is {tokens[bad]} tokens; expected > 0")
  if np.unique(tokens).size < tokens.size:
    raise ValueError("a budget comes twice: put its questions into one row")
  if errors.ndim != 2 or len(errors) != tokens.size or not errors.shape[1]:
    raise ValueError(
      f"errors have shape {errors.shape}; expected a row for each of "
      f"{tokens.size} budgets and a column a question"
    )
  good = (errors >= 0) & (errors <= 1)
  if not good.all():
    row, column = np.argwhere(~good)[0]
    raise ValueError(
      f"error of question {column} at budget {tokens[row]:g} is "
      f"{errors[row, column]}; expected a share in [0, 1]"
    )
  return tokens, errors
