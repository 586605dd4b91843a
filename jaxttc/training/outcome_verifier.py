# SPDX-License-Identifier: Apache-2.0
"""A learned verifier of whole solutions, from right-or-wrong labels alone.

Its trunk is the policy itself, frozen: what it knows beyond the policy is what
the labels told it. Reading layers above the trunk see how the policy expected
each token (`transformer.ProcessRewardModel`), and the head speaks once, at the
solution's last token. Several members that differ by their initial parameters
share the trunk; their disagreement gives a pessimistic reward.

References:
  Cobbe et al. (2021), Training verifiers to solve math word problems,
    arXiv:2110.14168.
  Setlur et al. (2025), arXiv:2502.12118: verifiers fitted by least squares or
    to the 0/1 label, and the worst of those that fit is what is maximised.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import optax

from jaxttc.inference import rollouts
from jaxttc.models import attention_backend, transformer
from jaxttc.models import config as config_lib

LOSSES = ("logistic", "squares")


class Labelled(NamedTuple):
  """Solutions and what the checker said of them.

  Attributes:
    rows: `rollouts.Sequences`, W tokens a row.
    right: f32[B], 1 for right, 0 for wrong.
  """

  rows: rollouts.Sequences
  right: Float[Array, " b"]


def model(
  policy: config_lib.TransformerConfig, reading_layers: int = 1
) -> transformer.ProcessRewardModel:
  """The verifier's module above a policy of these sizes.

  Raises:
    ValueError: if there is no reading layer: a head alone could not read how
      tokens were expected.
  """
  if reading_layers < 1:
    raise ValueError(f"reading_layers={reading_layers}: expected at least 1")
  return transformer.ProcessRewardModel(
    dataclasses.replace(
      policy,
      layers=policy.layers + reading_layers,
      reading_layers=reading_layers,
    ),
    backend=attention_backend.training(),
  )


def init(
  verifier: transformer.ProcessRewardModel, key: jax.Array, members: int
) -> dict[str, Any]:
  """Fresh parameters of the members, stacked; without the trunk's."""

  def one(key):
    made = transformer.init(key, verifier)
    return {name: made[name] for name in made if name != "trunk"}

  return jax.vmap(one)(jax.random.split(key, members))


def logits(
  verifier: transformer.ProcessRewardModel,
  trunk: dict[str, Any],
  heads: dict[str, Any],
  rows: rollouts.Sequences,
) -> Float[Array, "m b"]:
  """What each member says of each solution, at its last token.

  Args:
    verifier: the module.
    trunk: parameters of the policy.
    heads: of the members, `init`'s.
    rows: solutions behind their prompts.
  """

  def one(head):
    return transformer.forward(
      verifier, head | {"trunk": trunk}, rows.tokens, rows.segments,
      rows.positions,
    )  # fmt: skip

  last = jnp.maximum(rows.segments.sum(1) - 1, 0)
  found = jax.vmap(one)(heads)
  return jnp.take_along_axis(found, last[None, :, None], axis=2)[..., 0]


def chances(
  said: Float[Array, "m b"], pessimism: float = 0.0
) -> Float[Array, " b"]:
  """Probability of being right: the members' mean, less their disagreement.

  Args:
    said: logits of the members.
    pessimism: how many standard deviations between members are taken off.
  """
  each = jax.nn.sigmoid(said)
  return jnp.clip(each.mean(0) - pessimism * each.std(0), 0.0, 1.0)


def objective(
  verifier: transformer.ProcessRewardModel,
  trunk: dict[str, Any],
  kind: str = "logistic",
) -> Callable:
  """Fits all members to labels.

  Args:
    verifier: the module.
    trunk: parameters of the policy, which are not trained.
    kind: one of `LOSSES`: cross-entropy, or squared error of the probability.

  Returns:
    loss(heads, `Labelled`, key) -> (f32[], metrics): the sum over members of
    the mean over rows; `accuracy` is the share of rows on the right side.

  Raises:
    ValueError: for an unknown kind.
  """
  if kind not in LOSSES:
    raise ValueError(f"loss {kind!r} is not one of {', '.join(LOSSES)}")

  def loss(heads, batch: Labelled, key: jax.Array):
    del key
    said = logits(verifier, trunk, heads, batch.rows)
    right = jnp.broadcast_to(batch.right, said.shape)
    if kind == "logistic":
      each = optax.sigmoid_binary_cross_entropy(said, right)
    else:
      each = (jax.nn.sigmoid(said) - right) ** 2
    agrees = (said > 0) == (right > 0.5)
    return each.mean(1).sum(), {"accuracy": agrees.mean()}

  return loss


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
  bins: Int[Array, " b"] = jnp.clip((10 * chance).astype(jnp.int32), 0, 9)
  gaps = jax.ops.segment_sum(chance - right, bins, 10)
  return Calibration(
    auc, ((chance - right) ** 2).mean(), jnp.abs(gaps).sum() / len(chance)
  )
