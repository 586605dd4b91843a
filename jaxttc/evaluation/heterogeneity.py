# SPDX-License-Identifier: Apache-2.0
"""Whether a base model is one that a verifier pays for.

Read off a table of rewards, a row a problem and a column a sample: any pass@k
dump will do. Two properties decide, after Setlur et al. (2025),
arXiv:2502.12118: how differently the samples of one problem are rewarded
(heterogeneity), and whether samples well above the mean are seen at all
(anti-concentration).
"""

from typing import NamedTuple

import jax
from jaxtyping import Bool, Float
import numpy as np

from jaxttc.evaluation import statistics
from jaxttc.training import chi2_ball

_ROUNDING = 1e-6  # relative; differences below it are none

_tilt = jax.jit(chi2_ball.chi2_tilt)


class Diagnosis(NamedTuple):
  """What a table of rewards says about its base model.

  Attributes:
    mean: mean reward.
    sigma: heterogeneity, in the unit of rewards.
    concentration: chance c of a sample at mean + sqrt(kappa) sigma or above.
    headroom: mean reward of the best policy in the chi-square ball.
    recommendation: "verify" or "distil".
  """

  mean: statistics.Interval
  sigma: statistics.Interval
  concentration: statistics.Interval
  headroom: float
  recommendation: str


def heterogeneity(
  rewards: Float[np.ndarray, "X S"],
  mask: Bool[np.ndarray, "_ _"] | None = None,
  *,
  rng: np.random.Generator,
  resamples: int = 2000,
  level: float = 0.95,
) -> statistics.Interval:
  """Root of the problem-averaged variance of the reward.

  A problem's variance is divided by one less than its samples, so its mean is
  right however few these are; the deviation of a few samples is not.

  Args:
    rewards: f64[X, S], a row a problem.
    mask: which entries are samples; all if None.
    rng: source of randomness; it is advanced.
    resamples: of problems, for the interval.
    level: confidence level, in (0, 1).

  Raises:
    ValueError: if a problem has fewer than two samples, or a reward is not
      finite.
  """
  rewards, mask = _checked("heterogeneity", rewards, mask, least=2)
  count = mask.sum(1)
  mean = (rewards * mask).sum(1) / count
  variance = (((rewards - mean[:, None]) * mask) ** 2).sum(1) / (count - 1)
  return statistics.bootstrap(
    variance,
    lambda rows: float(np.sqrt(rows.mean())),
    resamples=resamples,
    level=level,
    rng=rng,
  )


def anti_concentration(
  rewards: Float[np.ndarray, "X S"],
  kappa: float,
  mask: Bool[np.ndarray, "_ _"] | None = None,
  *,
  rng: np.random.Generator,
  resamples: int = 2000,
  level: float = 0.95,
) -> statistics.Interval:
  """Chance that a sample reaches mean + sqrt(kappa) sigma of its problem.

  Mean and sigma are taken over the *other* samples of the problem: a sample
  that helps to set its own threshold is found above it too rarely. Where they
  are all alike, only a sample above them counts. What one problem says is a
  multiple of one over its samples; a c far below needs more.

  Args:
    rewards: f64[X, S], a row a problem.
    kappa: radius of the chi-square ball, not negative.
    mask: which entries are samples; all if None.
    rng: source of randomness; it is advanced.
    resamples: of problems, for the interval.
    level: confidence level, in (0, 1).

  Raises:
    ValueError: if a problem has fewer than three samples, kappa is negative, or
      a reward is not finite.
  """
  _check_kappa(kappa)
  rewards, mask = _checked("anti_concentration", rewards, mask, least=3)
  others = mask.sum(1, keepdims=True) - 1
  held = rewards * mask
  mean = (held.sum(1, keepdims=True) - held) / others
  square = ((held**2).sum(1, keepdims=True) - held**2) / others
  spread = np.sqrt(np.maximum(square - mean**2, 0) * others / (others - 1))
  bar = mean + np.sqrt(kappa) * spread
  slack = _ROUNDING * (1 + np.abs(bar))
  # Where the others are all alike, a sample like them is no tail.
  differs = (spread > slack) | (rewards > mean + slack)
  above = (rewards >= bar - slack) & differs & mask
  return statistics.bootstrap(
    above.sum(1) / mask.sum(1), resamples=resamples, level=level, rng=rng
  )


def headroom(
  rewards: Float[np.ndarray, "X S"],
  kappa: float,
  mask: Bool[np.ndarray, "_ _"] | None = None,
) -> float:
  """Mean reward of the best reweighting in the chi-square ball, a problem each.

  Raises:
    ValueError: as `anti_concentration`, except that one sample is enough.
  """
  _check_kappa(kappa)
  rewards, mask = _checked("headroom", rewards, mask, least=1)
  chances = mask / mask.sum(1, keepdims=True)
  found = [
    float(_tilt(row, np.float32(kappa), share).value)
    for row, share in zip(
      rewards.astype(np.float32), chances.astype(np.float32), strict=True
    )
  ]
  return float(np.mean(found))


def diagnose(
  rewards: Float[np.ndarray, "X S"],
  kappa: float = 1.0,
  mask: Bool[np.ndarray, "_ _"] | None = None,
  *,
  rng: np.random.Generator,
) -> Diagnosis:
  """Says whether to distil or to verify.

  Verify where the ball offers at least a tenth more than the mean, and a
  problem's samples hold at least one above the threshold on average; else the
  good tail is not worth finding, or cannot be found. The rule is ours.

  Args:
    rewards: f64[X, S], a row a problem; not negative.
    kappa: radius of the chi-square ball.
    mask: which entries are samples; all if None.
    rng: source of randomness; it is advanced.

  Raises:
    ValueError: as `anti_concentration`.
  """
  concentration = anti_concentration(rewards, kappa, mask, rng=rng)
  sigma = heterogeneity(rewards, mask, rng=rng)
  rewards, mask = _checked("diagnose", rewards, mask, least=3)
  count = mask.sum(1)
  mean = statistics.bootstrap((rewards * mask).sum(1) / count, rng=rng)
  best = headroom(rewards, kappa, mask)
  worth = best >= 1.1 * mean.value and best > 0
  seen = concentration.value * float(count.mean()) >= 1
  return Diagnosis(
    mean,
    sigma,
    concentration,
    best,
    "verify" if worth and seen else "distil",
  )


def _checked(where, rewards, mask, least):
  """Rewards f64 (0 where there is no sample) and mask."""
  rewards = np.asarray(rewards, np.float64)
  if rewards.ndim != 2 or not rewards.size:
    raise ValueError(
      f"{where}: expected rewards[problem, sample], got shape {rewards.shape}"
    )
  mask = np.ones(rewards.shape, bool) if mask is None else np.asarray(mask)
  if mask.shape != rewards.shape:
    raise ValueError(
      f"{where}: mask has shape {mask.shape}, rewards {rewards.shape}"
    )
  few = np.flatnonzero(mask.sum(1) < least)
  if few.size:
    raise ValueError(
      f"{where}: problem {few[0]} has {mask[few[0]].sum()} samples, expected "
      f"at least {least}"
    )
  bad = np.argwhere(mask & ~np.isfinite(rewards))
  if bad.size:
    raise ValueError(
      f"{where}: reward of problem {bad[0, 0]}, sample {bad[0, 1]} is not "
      "finite"
    )
  return np.where(mask, rewards, 0.0), mask


def _check_kappa(kappa: float) -> None:
  if not 0 <= kappa < np.inf:
    raise ValueError(f"kappa must be finite and not negative, got {kappa}")
