# SPDX-License-Identifier: Apache-2.0
"""What an answer is worth once it is there, and what another try would add.

A search shows how its answer is scored, how many of its solutions agree, and
how much it took. Three small models, fitted on calibration questions whose
answers are known, read that:

*  trust: the chance that the answer is right, logistic in the forecast of the
   arm (its chance before anything was seen) and in what is shown. No answer is
   never right.
*  rescue: the chance that a further arm is right where all answers so far are
   wrong, logistic in that arm's forecast and in what the failures showed. A
   failure says that a question is harder than was thought.
*  cost: the share of its cap that a further arm takes, linear.

Of several answers the most trusted is returned. So another try is worth

    (1 - trust) * rescue - trust * spoil

where spoil is how often a right answer lost to a wrong one.

Reference: Chen et al. (2023), FrugalGPT, arXiv:2305.05176 (a learned scorer of
answers in a cascade; there with thresholds, here with gains and prices).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Float
import numpy as np
from scipy import optimize, special

_EPS = 1e-3
_REWARD = 1e-4  # float32 rewards near 1 are all alike
_L2 = 1e-3


class Look(NamedTuple):
  """What is seen of one search.

  Attributes:
    reward: of the solution that stands for the answer, in [0, 1]; 0 if there is
      none, or nothing scored it.
    share: of the whole solutions, those with that answer; 0 without one.
    solutions: whole solutions.
    answered: 1 if there is an answer, else 0.
  """

  reward: float
  share: float
  solutions: float
  answered: float


FIELDS = Look._fields


class Tries(NamedTuple):
  """Tries at the same questions: R rows, what was seen in each.

  Attributes:
    forecast: f64[R], the arm's chance before it was asked.
    seen: f64[R, 4], fields of `Look`.
    share: f64[R], of its cap that it took.
  """

  forecast: Float[np.ndarray, " R"]
  seen: Float[np.ndarray, "R 4"]
  share: Float[np.ndarray, " R"]


class Trust(NamedTuple):
  """The fitted models.

  Attributes:
    right: f64[5], weights of trust.
    rescue: f64[7], weights of rescue.
    cost: f64[4], weights of the share of a cap.
    spoil: f64[], how often a right answer loses to a wrong one.
  """

  right: Float[np.ndarray, " 5"]
  rescue: Float[np.ndarray, " 7"]
  cost: Float[np.ndarray, " 4"]
  spoil: Float[np.ndarray, ""]


def trust(model: Trust, tries: Tries) -> Float[np.ndarray, " R"]:
  """The chance that each try's answer is right; 0 where there is none."""
  chance = special.expit(_shown(tries) @ model.right)
  return np.where(tries.seen[:, 3] > 0, chance, 0.0)


class Failed(NamedTuple):
  """What is known of a question after some tries; R rows.

  Attributes:
    trust: f64[R], of the most trusted answer; 0 if there is none.
    surprise: f64[R], mean log odds of the arms that were tried: high where a
      failure was not expected.
    tries: f64[R], how many there were.
    share: f64[R], of its cap that the last try took.
    answered: f64[R], 1 if there is any answer.
  """

  trust: Float[np.ndarray, " R"]
  surprise: Float[np.ndarray, " R"]
  tries: Float[np.ndarray, " R"]
  share: Float[np.ndarray, " R"]
  answered: Float[np.ndarray, " R"]


def after(model: Trust, tries: Sequence[Tries]) -> Failed:
  """What is known after tries at the same R questions, in their order."""
  trusts = np.stack([trust(model, one) for one in tries])
  return Failed(
    trust=trusts.max(0),
    surprise=np.mean([_odds(one.forecast) for one in tries], axis=0),
    tries=np.full(trusts.shape[1], float(len(tries))),
    share=tries[-1].share,
    answered=np.stack([one.seen[:, 3] for one in tries]).max(0),
  )


def gains(
  model: Trust, known: Failed, forecast: Float[np.ndarray, "R K"]
) -> Float[np.ndarray, "R K"]:
  """Chance of a right answer that each of K arms would add, f64[R, K].

  Args:
    model: the models.
    known: what the tries so far showed.
    forecast: f64[R, K], chances of the arms before anything was seen.
  """
  rescue = special.expit(
    _features(known, forecast).reshape(-1, 7) @ model.rescue
  ).reshape(forecast.shape)
  p = known.trust[:, None]
  return (1 - p) * rescue - p * model.spoil


def shares(
  model: Trust, known: Failed, share: Float[np.ndarray, "R K"]
) -> Float[np.ndarray, "R K"]:
  """Expected share of their caps that arms take after failures, in (0, 1]."""
  found = _cost_features(known, share).reshape(-1, 4) @ model.cost
  return np.clip(found.reshape(share.shape), 0.01, 1.0)


def fit(
  right: Float[np.ndarray, "S N K"],
  taken: Float[np.ndarray, "S N K"],
  seen: Float[np.ndarray, "S N K 4"],
  forecast: Float[np.ndarray, "N K"],
  share: Float[np.ndarray, "N K"],
  *,
  seed: int = 0,
) -> Trust:
  """Fits the models to what K arms did on N questions with S seeds.

  A further try has another seed, as it will have in use; so tries are paired
  across seeds.

  Args:
    right: 1 where the answer was right.
    taken: share of the cap that was taken.
    seen: fields of `Look`.
    forecast: chances by a forecast that never saw the question's answers.
    share: forecast shares of the caps, likewise.
    seed: of the draws of pairs and triples.

  Raises:
    ValueError: for fewer than two seeds, or if all answers are right, or all
      are wrong.
  """
  if len(right) < 2:
    raise ValueError(
      f"answer_trust: expected at least 2 seeds to pair, got {len(right)}"
    )
  answered = seen[..., 3] > 0
  if right.min() == right.max() or not answered.any():
    raise ValueError(
      "answer_trust: expected right and wrong answers to learn from"
    )
  flat = _tries(right, taken, seen, forecast)
  rows = answered.ravel()
  weights = _logistic(_shown(flat)[rows], right.ravel()[rows])
  model = Trust(weights, np.zeros(7), np.zeros(4), np.zeros(()))
  known, last, first_right, wrong = _sequences(
    model, right, taken, seen, forecast, seed
  )
  arm, scored, took, trusts = last
  question = np.arange(len(arm)) % forecast.shape[0]
  forecasts = forecast[question, arm][:, None]
  expected = share[question, arm][:, None]
  features = _features(known, forecasts)[:, 0]
  rescue = _logistic(features[wrong], scored[wrong])
  costs = np.linalg.lstsq(
    _cost_features(known, expected)[wrong, 0], took[wrong], rcond=None
  )[0]
  lost = first_right & (scored < 1) & (trusts > known.trust)
  spoil = lost.sum() / max(first_right.sum(), 1)
  return Trust(weights, rescue, costs, np.asarray(spoil, np.float64))


def pack(model: Trust) -> dict[str, np.ndarray]:
  """Arrays by name, for a file."""
  return {name: np.asarray(part) for name, part in model._asdict().items()}


def unpack(arrays: Mapping[str, np.ndarray]) -> Trust:
  """Inverse of `pack`.

  Raises:
    KeyError: if one is missing.
  """
  return Trust(**{name: arrays[name] for name in Trust._fields})


def _tries(right, taken, seen, forecast) -> Tries:
  wide = np.broadcast_to(forecast, right.shape)
  return Tries(wide.ravel(), seen.reshape(-1, 4), taken.ravel())


def _sequences(model, right, taken, seen, forecast, seed):
  """Random pairs and triples of tries at the same question.

  Returns:
    What was known before the last try; that try's arm, score, share and trust;
    whether the most trusted answer before was right; whether all were wrong.
  """
  seeds, rows, arms = right.shape
  rng = np.random.default_rng(seed)
  questions = np.arange(rows)
  parts = []
  # Each question meets about so many pairs of arms and seeds as there are.
  for draw in range(min(seeds * arms * arms, 200)):
    length = 3 if draw % 3 == 2 and seeds > 2 else 2
    order = rng.permuted(np.tile(np.arange(seeds), (rows, 1)), axis=1)[
      :, :length
    ]
    chosen = rng.integers(0, arms, (rows, length))
    at = [(order[:, i], questions, chosen[:, i]) for i in range(length)]
    tries = [
      Tries(forecast[questions, chosen[:, i]], seen[place], taken[place])
      for i, place in enumerate(at)
    ]
    known = after(model, tries[:-1])
    best = np.stack([trust(model, one) for one in tries[:-1]]).argmax(0)
    scores = np.stack([right[place] for place in at])
    parts.append(
      (
        known,
        (chosen[:, -1], scores[-1], taken[at[-1]], trust(model, tries[-1])),
        scores[best, questions] > 0,
        scores[:-1].max(0) == 0,
      )
    )
  known = Failed(*map(np.concatenate, zip(*(p[0] for p in parts), strict=True)))
  last = tuple(map(np.concatenate, zip(*(p[1] for p in parts), strict=True)))
  return (
    known,
    last,
    np.concatenate([p[2] for p in parts]),
    np.concatenate([p[3] for p in parts]),
  )


def _odds(chance: np.ndarray) -> np.ndarray:
  return special.logit(np.clip(chance, _EPS, 1 - _EPS))


def _shown(tries: Tries) -> np.ndarray:
  """Features of trust, f64[R, 5]."""
  reward = special.logit(np.clip(tries.seen[:, 0], _REWARD, 1 - _REWARD))
  return np.stack(
    [
      np.ones(len(reward)),
      _odds(tries.forecast),
      reward,
      tries.seen[:, 1],
      np.log1p(tries.seen[:, 2]),
    ],
    1,
  )


def _features(known: Failed, forecast: np.ndarray) -> np.ndarray:
  """Features of rescue, f64[R, K, 7]."""
  ours = _odds(forecast)
  wide = [
    np.broadcast_to(part[:, None], ours.shape)
    for part in (
      known.surprise,
      known.answered,
      special.logit(np.clip(known.trust, _EPS, 1 - _EPS)) * known.answered,
      known.tries,
      known.share,
    )
  ]
  return np.stack([np.ones(ours.shape), ours, *wide], -1)


def _cost_features(known: Failed, share: np.ndarray) -> np.ndarray:
  """Features of the share of a cap, f64[R, K, 4]."""
  wide = [
    np.broadcast_to(part[:, None], share.shape)
    for part in (known.share, known.answered)
  ]
  return np.stack([np.ones(share.shape), share, *wide], -1)


def _logistic(
  x: Float[np.ndarray, "R D"], y: Float[np.ndarray, " R"]
) -> Float[np.ndarray, " D"]:
  """Weights of a logistic regression with a small ridge; the first is free.

  A feature that is always the same says nothing, and gets no weight.
  """
  centre, spread = x.mean(0), x.std(0)
  used = spread > 1e-9
  used[0] = False
  z = np.concatenate(
    [np.ones((len(x), 1)), (x[:, used] - centre[used]) / spread[used]], 1
  )

  def loss(w):
    margin = z @ w
    ridge = _L2 * (w[1:] ** 2).sum()
    value = np.mean(np.logaddexp(0, margin) - y * margin) + ridge
    slope = z.T @ (special.expit(margin) - y) / len(y)
    slope[1:] += 2 * _L2 * w[1:]
    return value, slope

  found = optimize.minimize(
    loss, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B"
  ).x
  weights = np.zeros(x.shape[1])
  weights[used] = found[1:] / spread[used]
  weights[0] = found[0] - weights[used] @ centre[used]
  return weights
