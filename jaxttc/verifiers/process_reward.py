# SPDX-License-Identifier: Apache-2.0
"""Process rewards: how right a partial solution looks, step by step.

The reward model reads each span once, in one parallel pass over the arena of
its own tree cache. It says a reward at the end of every step; the reward of a
prefix is an aggregate of its steps' rewards, which a node needs four numbers
for, whatever the length of its path.
"""

import enum
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.inference import stop, tree_cache
from jaxttc.models import key_values, reward_model

# Rewards are whole multiples of 1 / 2^17. Two children with the same text tie,
# then, instead of being ranked by the last bits of sums that come out in
# another order in another batch.
_GRAIN = 2.0**17


class Aggregate(enum.StrEnum):
  """How the rewards of a prefix's steps become one."""

  LAST = "last"
  MIN = "min"
  PRODUCT = "product"
  MEAN = "mean"


@flax.struct.dataclass
class StepRewards:
  """Running aggregates of the step rewards on a path; any batch shape.

  Attributes:
    last: f32[...], the last step's reward; 1 before the first step.
    least: f32[...], the smallest; 1 before the first step.
    product: f32[...], 1 before the first step.
    total: f32[...], the sum; 0 before the first step.
    steps: i32[...], how many.
  """

  last: Float[Array, "..."]
  least: Float[Array, "..."]
  product: Float[Array, "..."]
  total: Float[Array, "..."]
  steps: Int[Array, "..."]

  @classmethod
  def none(cls, shape: tuple[int, ...]) -> "StepRewards":
    """No steps yet."""
    one = jnp.ones(shape, jnp.float32)
    return cls(
      last=one,
      least=one,
      product=one,
      total=jnp.zeros(shape, jnp.float32),
      steps=jnp.zeros(shape, jnp.int32),
    )

  def extended(
    self, reward: Float[Array, "... W"], at: Bool[Array, "... W"]
  ) -> "StepRewards":
    """Adds the rewards of the positions in `at`, in order."""
    count = at.sum(-1)
    # The last True: the first from behind.
    index = at.shape[-1] - 1 - jnp.argmax(at[..., ::-1], axis=-1)
    last = jnp.take_along_axis(reward, index[..., None], axis=-1)[..., 0]
    return StepRewards(
      last=jnp.where(count > 0, last, self.last),
      least=jnp.minimum(self.least, jnp.where(at, reward, 1.0).min(-1)),
      product=self.product * jnp.where(at, reward, 1.0).prod(-1),
      total=self.total + jnp.where(at, reward, 0.0).sum(-1),
      steps=self.steps + count,
    )

  def aggregate(self, how: Aggregate) -> Float[Array, "..."]:
    """The prefix's reward, in [0, 1]; 1 for a prefix without steps."""
    if how is Aggregate.LAST:
      return self.last
    if how is Aggregate.MIN:
      return self.least
    if how is Aggregate.PRODUCT:
      return self.product
    mean = self.total / jnp.maximum(self.steps, 1)
    return jnp.where(self.steps > 0, mean, 1.0)


@flax.struct.dataclass
class Prefixes:
  """What is kept of prefixes that were read, beside keys and values.

  Attributes:
    rewards: aggregates of their steps' rewards; any batch shape.
    hidden: [..., D], `Judgement.hidden` at their last tokens.
  """

  rewards: StepRewards
  hidden: Float[Array, "... D"]


def prompts(
  judged: reward_model.Judgement, length: Int[Array, " P"]
) -> Prefixes:
  """Bare prompts, as a prefill judged them: [P, T] and [P, T, D]."""
  rows = jnp.arange(length.shape[0])
  return Prefixes(
    rewards=StepRewards.none(length.shape),
    hidden=judged.hidden[rows, length - 1],
  )


def rewards(logits: Float[Array, "..."]) -> Float[Array, "..."]:
  """Rewards in [0, 1] of reward logits, rounded so that equal texts tie."""
  return jnp.round(jax.nn.sigmoid(logits) * _GRAIN) / _GRAIN


def score(
  model: reward_model.ProcessRewardModel,
  params: Any,
  cache: tree_cache.TreeCache,
  path: Bool[Array, "G R C"],
  position: Int[Array, "G R"],
  tokens: Int[Array, "G R W"],
  before: Float[Array, "G R D"],
) -> tuple[
  Float[Array, "G R W"],
  Float[Array, "G R D"],
  tuple[key_values.KeyValues, ...],
]:
  """Reads spans that follow what is in the cache.

  Args:
    model: the reward model.
    params: its parameters.
    cache: its tree cache, which holds all that comes before the spans.
    path: `tree_cache.path_mask` of each span's parent.
    position: of each span's first token.
    tokens: the spans, -1 beyond their length.
    before: `Prefixes.hidden` of the parents.

  Returns:
    The reward f32[G, R, W] of every prefix that ends in the span, in [0, 1];
    `Prefixes.hidden` of the spans; and their keys and values, [G, R, K, W, E]
    a layer, for `commit`.
  """
  width = tokens.shape[-1]
  causal = jnp.tril(jnp.ones((1, 1, width, width), bool))
  own = causal & (tokens >= 0)[..., None, :]
  judged, keys_values = model.apply(
    {"params": params},
    jnp.maximum(tokens, 0),
    position[..., None] + jnp.arange(width)[None, None],
    own,
    key_values.Context(
      arena=cache.arena, arena_mask=path, arena_position=cache.position
    ),
    before,
  )
  last = jnp.maximum((tokens >= 0).sum(-1) - 1, 0)[..., None, None]
  hidden = jnp.take_along_axis(judged.hidden, last, axis=2)[:, :, 0]
  return rewards(judged.logits), hidden, keys_values


def step_ends(
  tokens: Int[Array, "G R W"],
  finished: Bool[Array, "G R"],
  step_end: stop.Automaton,
) -> Bool[Array, "G R W"]:
  """Where rewards are read: step ends, and the end of a finished solution."""
  shape = tokens.shape
  flat = tokens.reshape(-1, shape[-1]).T

  def read(state, token):
    state = stop.advance(step_end, state, token, token >= 0)
    return state, stop.matched(step_end, state) & (token >= 0)

  _, ends = jax.lax.scan(read, stop.start(flat.shape[1]), flat)
  ends = ends.T.reshape(shape)
  length = (tokens >= 0).sum(-1)
  last = jnp.arange(shape[-1])[None, None] == (length - 1)[..., None]
  return ends | (last & finished[..., None])
