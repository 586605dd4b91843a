# SPDX-License-Identifier: Apache-2.0
"""A learned verifier of whole solutions, from right-or-wrong labels alone.

It reads how a language model expected a solution's tokens: a wrong number is
mostly one that was not expected, so a few dozen labels suffice to learn which
surprises matter. Linear in these features, it has one best fit, and no step
size: by squares, or by the 0/1 label's cross-entropy. Members are fitted to
resamples of the labels; what they disagree on is taken off a reward that is to
be pessimistic.

References:
  Cobbe et al. (2021), Training verifiers to solve math word problems,
    arXiv:2110.14168 (verifiers of outcomes).
  Setlur et al. (2025), arXiv:2502.12118: verifiers fitted by least squares or
    to the 0/1 label, and the worst of those that fit is what is maximised.
"""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jaxttc.inference import rollouts
from jaxttc.models import transformer

LOSSES = ("logistic", "squares")
FEATURES = (
  "least log-probability",
  "second least",
  "sum of log-probabilities",
  "largest entropy",
  "sum of entropies",
  "largest distance to the likeliest token",
  "log-probability of the last line",
  "entropy of the last line",
  "length",
)
_NEWTON = 25
_LAST = 3  # tokens of the answer line that ends a solution
_LEAST = -16.0  # nats; surprise has an end
_ROUNDING = 1e-5  # relative; what varies less does not vary


@flax.struct.dataclass
class Verifier:
  """Members fitted to labels.

  Attributes:
    centre: f32[F], mean of each feature.
    scale: f32[F], its deviation; 1 where it has none.
    weights: f32[M, F + 1] of the members, the constant last.
    kind: one of `LOSSES`.
  """

  centre: jax.Array
  scale: jax.Array
  weights: jax.Array
  kind: str = flax.struct.field(pytree_node=False)


class Calibration(NamedTuple):
  """How a verifier's probabilities stand to what is right.

  Attributes:
    auc: chance that a right solution is given more than a wrong one; ties
      count half. 1/2 if all are right, or all wrong.
    brier: mean squared error.
    error: expected calibration error over ten bins of equal width.
  """

  auc: Float[Array, ""]
  brier: Float[Array, ""]
  error: Float[Array, ""]


def features(
  model: transformer.Transformer,
  params: dict[str, Any],
  rows: rollouts.Sequences,
) -> Float[Array, "b f"]:
  """`FEATURES` of solutions, as a language model expected them.

  Args:
    model: the language model.
    params: its parameters.
    rows: solutions behind their prompts; without a sampled token, all is 0.
  """
  logits = transformer.forward(
    model, params, rows.tokens, rows.segments, rows.positions
  )
  told = jax.nn.log_softmax(logits)
  own = jnp.take_along_axis(told, rows.targets[..., None], axis=-1)[..., 0]
  own = jnp.maximum(own, _LEAST)
  entropy = -(jnp.exp(told) * told).sum(-1)
  return summary(own, told.max(-1) - own, entropy, rows.mask)


def summary(
  own: Float[Array, "b w"],
  short: Float[Array, "b w"],
  entropy: Float[Array, "b w"],
  mask: Bool[Array, "b w"],
) -> Float[Array, "b f"]:
  """`FEATURES` of solutions.

  Args:
    own: log-probability of each token.
    short: how far it is below that of the likeliest token.
    entropy: of the distribution that it was expected by.
    mask: which tokens belong to the solution.
  """
  own, short, entropy = (jnp.where(mask, x, 0.0) for x in (own, short, entropy))
  least = jnp.sort(own, axis=1)[:, :2]
  behind = jnp.flip(jnp.cumsum(jnp.flip(mask, 1), axis=1), 1)
  last = mask & (behind <= _LAST)
  length = mask.sum(1).astype(jnp.float32)
  return jnp.stack(
    [
      least[:, 0],
      least[:, 1],
      own.sum(1),
      entropy.max(1),
      entropy.sum(1),
      short.max(1),
      (own * last).sum(1),
      (entropy * last).sum(1),
      length,
    ],
    axis=1,
  )


def fit(
  key: Key[Array, ""],
  found: Float[Array, "n f"],
  right: Float[Array, " n"],
  *,
  ridge: float | Float[Array, ""] = 1.0,
  members: int = 4,
  kind: str = "logistic",
) -> Verifier:
  """Fits members, each to a resample of the labelled solutions.

  Args:
    key: of the resamples; consumed.
    found: features.
    right: 1 for right, 0 for wrong.
    ridge: penalty on squared weights of standardised features, in labels.
    members: how many, M.
    kind: one of `LOSSES`.

  Raises:
    ValueError: for an unknown kind, or no member.
  """
  if kind not in LOSSES:
    raise ValueError(f"kind {kind!r} is not one of {', '.join(LOSSES)}")
  if members < 1:
    raise ValueError(f"members={members}: expected at least 1")
  count, width = found.shape
  centre, scale = found.mean(0), found.std(0)
  varies = scale > _ROUNDING * (1 + jnp.abs(centre))
  scale = jnp.where(varies, scale, 1.0)
  x = _standardised(found, centre, scale)
  # The constant is hardly held back: base rates are learnt first.
  penalty = jnp.diag(jnp.append(jnp.full(width, ridge), 1e-3))

  def member(key):
    drawn = jax.random.randint(key, (count,), 0, count)
    times = jnp.zeros(count).at[drawn].add(1.0)

    def newton(_, weights):
      chance = jax.nn.sigmoid(x @ weights)
      slope = x.T @ (times * (chance - right)) + penalty @ weights
      curve = (x.T * (times * chance * (1 - chance))[None]) @ x + penalty
      return weights - jnp.linalg.solve(curve, slope)

    if kind == "squares":
      return jnp.linalg.solve(
        (x.T * times[None]) @ x + penalty, x.T @ (times * right)
      )
    return jax.lax.fori_loop(0, _NEWTON, newton, jnp.zeros(width + 1))

  weights = jax.vmap(member)(jax.random.split(key, members))
  return Verifier(centre, scale, weights, kind)


def chances(
  verifier: Verifier, found: Float[Array, "b f"], pessimism: float = 0.0
) -> Float[Array, " b"]:
  """Probability of being right: the members' mean, less their disagreement.

  Args:
    verifier: the members.
    found: features of solutions.
    pessimism: how many standard deviations between members are taken off.
  """
  x = _standardised(found, verifier.centre, verifier.scale)
  said = verifier.weights @ x.T
  if verifier.kind == "logistic":
    said = jax.nn.sigmoid(said)
  return jnp.clip(said.mean(0) - pessimism * said.std(0), 0.0, 1.0)


def calibration(
  chance: Float[Array, " b"], right: Float[Array, " b"]
) -> Calibration:
  """Compares probabilities with labels.

  Args:
    chance: that a solution is right, in [0, 1].
    right: 1 for right, 0 for wrong.
  """
  more = (chance[:, None] > chance[None]).astype(jnp.float32)
  tied = (chance[:, None] == chance[None]).astype(jnp.float32)
  pairs = right[:, None] * (1 - right[None])
  wins = ((more + tied / 2) * pairs).sum()
  auc = jnp.where(pairs.sum() > 0, wins / jnp.maximum(pairs.sum(), 1), 0.5)
  bins = jnp.clip((10 * chance).astype(jnp.int32), 0, 9)
  gaps = jax.ops.segment_sum(chance - right, bins, 10)
  error = jnp.abs(gaps).sum() / len(chance)
  return Calibration(auc, ((chance - right) ** 2).mean(), error)


def _standardised(found, centre, scale):
  """Features of mean 0 and deviation 1, and a constant."""
  x = (found - centre[None]) / scale[None]
  return jnp.concatenate([x, jnp.ones((len(x), 1))], axis=1)
