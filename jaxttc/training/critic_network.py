# SPDX-License-Identifier: Apache-2.0
"""A critic of a policy: a trunk of its own, and a value before every token.

It begins as the policy's trunk with a head of zeros: at first every value is 0,
and an advantage is what was earned. The trunk is a copy, so what the critic
learns does not move the policy, at the price of a second model in memory and of
a second pass over each rollout.

Reference: Schulman et al. (2017), PPO, arXiv:1707.06347.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxttc.inference import rollouts
from jaxttc.models import key_values, transformer
from jaxttc.training import critic, group_advantages, rollout_reading


@dataclasses.dataclass(kw_only=True)
class CriticConfig:
  """How a critic learns and what its values do. Mutable, for flags to override.

  Attributes:
    learning_rate: peak of its own schedule; the policy's if None.
    discount: gamma, of `critic.generalised_advantages`.
    trace: lambda; at 1 an advantage is what was earned less the value, and a
      critic that is wrong makes it noisier but not biased.
    clip: how far a value may move from that of the collection before its error
      stops to count; None for no bound.
  """

  learning_rate: float | None = None
  discount: float = 1.0
  trace: float = 0.95
  clip: float | None = 0.2

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be."""
    for name in ("discount", "trace"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(
          f"critic.{name} must be in [0, 1], got {getattr(self, name)}"
        )
    for name in ("learning_rate", "clip"):
      value = getattr(self, name)
      if value is not None and not value > 0:
        raise ValueError(f"critic.{name} must be positive, got {value}")


class Judged(NamedTuple):
  """What a critic makes of a collection.

  Attributes:
    advantages: f32[B, S], whitened over the collection; 0 where the mask is.
    returns: f32[B, S], what the values should have been.
    explained: f32[], share of the variance of returns that the values explain;
      below 0 where a constant would be better, and 0 of equal returns.
  """

  advantages: Float[Array, "b s"]
  returns: Float[Array, "b s"]
  explained: Float[Array, ""]


def init(params: dict[str, Any], width: int) -> dict[str, Any]:
  """A critic's parameters: `trunk`, copied, and `head`, zeros.

  Args:
    params: the policy's; its language head is left out.
    width: of its hidden states.
  """
  trunk = {name: part for name, part in params.items() if name != "head"}
  return {
    "trunk": jax.tree.map(jnp.array, trunk),
    "head": {"kernel": jnp.zeros(width), "bias": jnp.zeros(())},
  }


def values(
  model: transformer.Transformer,
  params: dict[str, Any],
  rows: rollouts.Sequences,
  found: rollout_reading.Responses,
) -> Float[Array, "b s"]:
  """The value before each sampled token, f32[B, S]; anything elsewhere.

  Args:
    model: the policy's model.
    params: the critic's.
    rows: prompts with their rollouts.
    found: `rollout_reading.responses` of the rows.
  """
  hidden, _ = model.apply(
    {"params": params["trunk"]},
    rows.tokens[:, None],
    rows.positions[:, None],
    key_values.causal_mask(rows.segments),
  )
  hidden = jnp.take_along_axis(hidden[:, 0], found.place[..., None], axis=1)
  head = params["head"]
  return hidden.astype(jnp.float32) @ head["kernel"] + head["bias"]


def all_values(
  model: transformer.Transformer,
  params: dict[str, Any],
  rows: rollouts.Sequences,
  *,
  columns: int,
  chunk: int,
) -> Float[Array, "b s"]:
  """`values` of all rows, some at a time; 0 where no token was sampled.

  Args:
    model: the policy's model.
    params: the critic's; they get no gradient.
    rows: prompts with their rollouts.
    columns: most tokens of a rollout, S.
    chunk: rows read at once.
  """

  def one(row):
    row = jax.tree.map(lambda x: x[None], row)
    found = rollout_reading.responses(row, columns)
    return jnp.where(found.mask, values(model, params, row, found), 0.0)[0]

  return jax.lax.map(one, rows, batch_size=chunk)


def judge(
  config: CriticConfig,
  earned: Float[Array, " b"],
  said: Float[Array, "b s"],
  mask: Bool[Array, "b s"],
) -> Judged:
  """Advantages of tokens, of rewards that stand at the last one.

  Args:
    config: gamma and lambda.
    earned: of each rollout; read only where a row has tokens.
    said: values, by the critic that the collection was drawn with.
    mask: tokens that count, from the row's first column on.
  """
  last = mask & (jnp.arange(mask.shape[1])[None] == mask.sum(1)[:, None] - 1)
  found = critic.generalised_advantages(
    jnp.where(last, earned[:, None], 0.0),
    said,
    mask,
    discount=config.discount,
    trace=config.trace,
  )

  def variance(x):
    count = jnp.maximum(mask.sum(), 1)
    centred = jnp.where(mask, x - jnp.where(mask, x, 0.0).sum() / count, 0.0)
    return jnp.square(centred).sum()

  spread = variance(found.returns)
  left = variance(found.returns - said) / jnp.maximum(spread, 1e-12)
  return Judged(
    group_advantages.whiten(found.advantages, mask),
    found.returns,
    jnp.where(spread > 1e-6, 1 - left, 0.0),
  )
