# SPDX-License-Identifier: Apache-2.0
"""Models as players: ratings from who beats whom, overall or near a question.

Two models meet on each question that both have a score of; the higher score
wins, and a tie is one win and one loss. Ratings r follow Bradley and Terry:
P(i beats j) = sigmoid(r_i - r_j), found by Newton's method. *Elo* rates all
questions alike. *Similarity-weighted ranking* rates anew for each question,
with battles weighed 10 * 10^(cos / max cos). A model's quality is its mean
chance to win against the others.

References:
  Bradley and Terry (1952), Rank analysis of incomplete block designs.
  Ong et al. (2024), RouteLLM, arXiv:2406.18665 (similarity-weighted ranking).
"""

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from jaxttc.predictors.routing import neighbours

_STEPS = 12  # Newton's; quadratic convergence needs no more
_ELO = 400 / np.log(10)  # points of chess in a logit


def bradley_terry(
  wins: Float[Array, "*B K K"], prior: float = 1e-3
) -> Float[Array, "*B K"]:
  """Ratings of greatest likelihood, in logits, with mean 0.

  Args:
    wins: how often the row beat the column; weights need not be whole.
    prior: a squared penalty on ratings, relative to the battles of a player;
      it keeps the ratings of players finite who never lose.

  Returns:
    f32[..., K]. Times 400 / ln 10 they are Elo points.
  """
  players = wins.shape[-1]
  games = wins + jnp.swapaxes(wins, -1, -2)
  won = wins.sum(-1)
  scale = jnp.maximum(won.sum(-1, keepdims=True) / players, 1e-12)
  eye = jnp.broadcast_to(jnp.eye(players), wins.shape)

  def step(_, ratings):
    chance = jax.nn.sigmoid(ratings[..., :, None] - ratings[..., None, :])
    expected = (games * chance).sum(-1)
    curve = games * chance * (1 - chance)
    slope = won - expected - prior * scale * ratings
    hessian = curve.sum(-1)[..., None] * eye - curve
    hessian = hessian + (prior * scale[..., None] + 1e-6) * eye
    move = jnp.linalg.solve(hessian, slope[..., None])[..., 0]
    # Far from the optimum a full step overshoots.
    return ratings + jnp.clip(move, -2.0, 2.0)

  ratings = jax.lax.fori_loop(0, _STEPS, step, jnp.zeros(wins.shape[:-1]))
  return ratings - ratings.mean(-1, keepdims=True)


def elo_points(ratings: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
  """Ratings in logits as Elo points around 1000."""
  return 1000 + _ELO * ratings


def win_chance(ratings: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
  """Each player's mean chance to beat another one."""
  chance = jax.nn.sigmoid(ratings[..., :, None] - ratings[..., None, :])
  return (chance.sum(-1) - 0.5) / (ratings.shape[-1] - 1)


def battles(scores: Float[np.ndarray, "N K"]) -> Float[np.ndarray, "N K K"]:
  """How often the row beat the column on each question: 0, 0.5 (tie) or 1.

  Args:
    scores: f64[N, K]; a model without a score meets nobody.
  """
  above = scores[:, :, None] - scores[:, None, :]
  met = ~np.isnan(above) & ~np.eye(scores.shape[1], dtype=bool)
  return np.where(met, 0.5 * (1 + np.sign(np.nan_to_num(above))), 0.0)


@struct.dataclass
class SimilarityWeighted:
  """Ratings from battles near the question.

  Attributes:
    unit: f32[N, D], the training questions, of length one.
    wins: f32[N, K * K], battles on each.
    sharpness: 1; with 0 all questions weigh the same, which is Elo.
  """

  unit: Float[Array, "N D"]
  wins: Float[Array, "N J"]
  sharpness: Float[Array, ""]

  def ratings(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """Ratings in logits near each question, f32[n, K]."""
    near = neighbours.unit_rows(x) @ self.unit.T
    relative = near / jnp.maximum(near.max(1, keepdims=True), 1e-6)
    weights = 10 * 10 ** (self.sharpness * relative)
    players = round(self.wins.shape[1] ** 0.5)
    wins = (weights @ self.wins).reshape(-1, players, players)
    return bradley_terry(wins / weights.sum(1)[:, None, None])

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K], mean chances to win."""
    return win_chance(self.ratings(x))


def fit_similarity_weighted(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  *,
  sharpness: float = 1.0,
) -> SimilarityWeighted:
  """Keeps the battles of the training questions.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where unknown.
    sharpness: power of the weights; 1 is the paper's.

  Raises:
    ValueError: if it is negative.
  """
  if sharpness < 0:
    raise ValueError(f"expected sharpness >= 0, got {sharpness}")
  return SimilarityWeighted(
    unit=neighbours.unit_rows(jnp.asarray(x, jnp.float32)),
    wins=jnp.asarray(battles(scores).reshape(len(x), -1), jnp.float32),
    sharpness=jnp.asarray(sharpness, jnp.float32),
  )


def tiers(
  ratings: Float[np.ndarray, " K"], count: int
) -> Int[np.ndarray, " K"]:
  """Groups players of similar rating, so that few battles rate many players.

  Args:
    ratings: f64[K].
    count: tiers, at most K.

  Returns:
    i64[K], the tier of each player, 0 the lowest; the sum of squared distances
    to the tiers' means is the least possible (dynamic programme over the
    sorted ratings).

  Raises:
    ValueError: if there are more tiers than players, or none.
  """
  players = len(ratings)
  if not 1 <= count <= players:
    raise ValueError(f"tiers: expected 1 to {players} tiers, got {count}")
  order = np.argsort(ratings, kind="stable")
  sums = np.concatenate([[0], np.cumsum(np.asarray(ratings)[order])])
  squares = np.concatenate([[0], np.cumsum(np.square(ratings)[order])])

  def within(start: int, stop: int) -> float:
    total = sums[stop] - sums[start]
    return squares[stop] - squares[start] - total**2 / (stop - start)

  least = np.full((count + 1, players + 1), np.inf)
  cut = np.zeros((count + 1, players + 1), np.int64)
  least[0, 0] = 0
  for tier in range(1, count + 1):
    for stop in range(tier, players + 1):
      options = [
        least[tier - 1, start] + within(start, stop)
        for start in range(tier - 1, stop)
      ]
      cut[tier, stop] = tier - 1 + int(np.argmin(options))
      least[tier, stop] = min(options)
  found = np.zeros(players, np.int64)
  stop = players
  for tier in range(count, 0, -1):
    start = cut[tier, stop]
    found[order[start:stop]] = tier - 1
    stop = start
  return found
