# SPDX-License-Identifier: Apache-2.0
"""What a model says of the tokens that rollouts sampled.

A trainer reads prompt and rollout in one pass, and only the rollout's columns
become logits: S of them, whatever the prompt's length.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.inference import controllers, rollouts
from jaxttc.models import key_values, transformer
from jaxttc.training import log_probs


class Responses(NamedTuple):
  """The sampled part of each row, S columns.

  Attributes:
    place: i32[B, S], column of the row that predicts the token.
    targets: i32[B, S], the sampled tokens; where the mask is 0 anything.
    mask: bool[B, S], where there is one.
    logprobs: f32[B, S], as the sampler saw them.
  """

  place: Int[Array, "b s"]
  targets: Int[Array, "b s"]
  mask: Bool[Array, "b s"]
  logprobs: Float[Array, "b s"]


def responses(rows: rollouts.Sequences, columns: int) -> Responses:
  """The sampled part of rows.

  Args:
    rows: prompts with their rollouts.
    columns: most tokens of a rollout, S.
  """
  first = jnp.argmax(rows.mask, axis=1)[:, None]
  place = first + jnp.arange(columns)[None]
  inside = place < rows.mask.shape[1]
  place = jnp.minimum(place, rows.mask.shape[1] - 1)
  pick = lambda x: jnp.take_along_axis(x, place, axis=1)  # noqa: E731
  return Responses(
    place, pick(rows.targets), pick(rows.mask) & inside, pick(rows.logprobs)
  )


def read(
  model: transformer.Transformer,
  params: Any,
  rows: rollouts.Sequences,
  found: Responses,
  sampler: controllers.Sampler,
) -> log_probs.TokenLogProbs:
  """Log-probabilities and entropies f32[B, S] at the sampled tokens.

  Args:
    model: the language model.
    params: its parameters.
    rows: prompts with their rollouts.
    found: `responses` of the rows.
    sampler: the law they are of: temperature, and which tokens are cut.
  """
  hidden, _ = model.apply(
    {"params": params},
    rows.tokens[:, None],
    rows.positions[:, None],
    key_values.causal_mask(rows.segments),
  )
  hidden = jnp.take_along_axis(hidden[:, 0], found.place[..., None], axis=1)
  logits = model.apply({"params": params}, hidden, method="logits")
  return log_probs.of_sampler(logits, found.targets, sampler)


def read_all(
  model: transformer.Transformer,
  params: Any,
  rows: rollouts.Sequences,
  *,
  columns: int,
  sampler: controllers.Sampler,
  chunk: int,
) -> Float[Array, "b s"]:
  """Log-probabilities of all rows' sampled tokens, some rows at a time.

  Args:
    model: the language model.
    params: its parameters; they get no gradient.
    rows: prompts with their rollouts.
    columns: most tokens of a rollout, S.
    sampler: as in `read`.
    chunk: rows read at once.

  Returns:
    f32[B, S]; 0 where no token was sampled.
  """

  def one(row):
    row = jax.tree.map(lambda x: x[None], row)
    found = responses(row, columns)
    said = read(model, params, row, found, sampler).log_probs
    return jnp.where(found.mask, said, 0.0)[0]

  return jax.lax.map(one, rows, batch_size=chunk)
