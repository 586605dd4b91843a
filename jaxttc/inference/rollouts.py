# SPDX-License-Identifier: Apache-2.0
"""Rollouts for training: one batch, sampled whole by the decoding loop.

    sampled = rollouts.sample(
      model, params, prompts, groups.task, keys, rule, sampler, columns=64
    )

The batch has as many rows as it has rollouts, whichever prompt each belongs to,
so that one compiled program serves whatever counts an allocator comes to. A
prompt is read once; its keys and values are handed to its rows. Parameters are
an argument: a trainer passes its own, and nothing is copied or synchronised.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxttc.inference import controllers, generation, tree_cache
from jaxttc.models import transformer

_PLAIN = controllers.Sampler()


class Prompts(NamedTuple):
  """Prompts of a step.

  Attributes:
    tokens: i32[M, T], padded at the end.
    length: i32[M], tokens of each; at least 1.
  """

  tokens: Int[Array, "m t"]
  length: Int[Array, " m"]


class Rollouts(NamedTuple):
  """What was sampled, a row a rollout.

  Attributes:
    tokens: i32[B, S], sampled tokens, -1 beyond the row's length.
    length: i32[B], sampled tokens, the one that ended the row included; 0 for
      rows of padding.
    logprobs: f32[B, S], of each token under the distribution that it was drawn
      from (temperature and filters applied); 0 beyond the length.
    finished: bool[B], whether the row ended by itself; others were cut.
    task: i32[B], whose prompt; M for padding.
  """

  tokens: Int[Array, "b s"]
  length: Int[Array, " b"]
  logprobs: Float[Array, "b s"]
  finished: Bool[Array, " b"]
  task: Int[Array, " b"]


class Sequences(NamedTuple):
  """Rollouts behind their prompts, as a trainer reads them; W = T + S.

  Attributes:
    tokens: i32[B, W], prompt, then rollout; 0 beyond.
    segments: i32[B, W], 1 for a token, 0 beyond.
    positions: i32[B, W].
    targets: i32[B, W], the token that follows; 0 where none was sampled.
    mask: bool[B, W], where `targets` was sampled.
    logprobs: f32[B, W], of the targets, as the sampler saw them; 0 elsewhere.
  """

  tokens: Int[Array, "b w"]
  segments: Int[Array, "b w"]
  positions: Int[Array, "b w"]
  targets: Int[Array, "b w"]
  mask: Bool[Array, "b w"]
  logprobs: Float[Array, "b w"]


def row_keys(
  key: Key[Array, ""], name: Int[Array, " b"], rank: Int[Array, " b"]
) -> Key[Array, " b"]:
  """A key a row, by its task's name and its rank alone.

  So a task's first rollouts are the same however many it or others have.
  """
  one = lambda n, r: jax.random.fold_in(jax.random.fold_in(key, n), r)  # noqa: E731
  return jax.vmap(one)(name, rank)


def sample(
  model: transformer.Transformer,
  params: Any,
  prompts: Prompts,
  task: Int[Array, " b"],
  keys: Key[Array, " b"],
  rule: generation.StopRule,
  sampler: controllers.Sampler = _PLAIN,
  *,
  columns: int,
) -> Rollouts:
  """Samples one solution a row; traceable.

  Args:
    model: the language model.
    params: its parameters.
    prompts: M prompts.
    task: whose prompt each of B rows continues; M for rows of padding.
    keys: a key a row.
    rule: where a solution ends.
    sampler: how tokens are drawn.
    columns: most tokens of a rollout, S; static.

  Returns:
    The rollouts. Token t of a row is drawn with `fold_in(its key, t)`.
  """
  own = jnp.minimum(task, prompts.length.shape[0] - 1)
  kept = prompts.length - 1  # the last token is fed by the loop
  keys_values, _ = generation.prefill(model, params, prompts.tokens, kept)
  arena = jax.tree.map(lambda x: x[own, 0], keys_values)
  slots = jnp.arange(prompts.tokens.shape[1])
  held = slots[None] < kept[own][:, None]
  rows, config = task.shape[0], model.config
  cache = tree_cache.TreeCache(
    arena=arena,
    owner=jnp.where(held, 0, tree_cache.FREE),
    position=jnp.broadcast_to(slots, held.shape) if config.window else None,
  )
  controller = sampler.controller(config.vocab_size)
  last = jnp.take_along_axis(prompts.tokens, kept[:, None], axis=1)[:, 0]
  batch = generation.idle_rows(
    config,
    rows,
    1,
    columns,
    slots.size,
    controller,
    model.dtype,
    keep_logprobs=True,
  )
  real = task < prompts.length.shape[0]
  nobody = jnp.zeros((rows, 1), jnp.int32)
  batch = generation.assign(
    batch,
    generation.Requests(
      node=nobody,
      token=last[own][:, None],
      position=kept[own][:, None],
      until=nobody + generation.END,
      limit=jnp.where(real, columns, 0)[:, None],
      key=keys[:, None],
    ),
    held[:, None],
    controller,
    jnp.where(slots[None] <= kept[own][:, None], prompts.tokens[own], -1),
  )
  done = generation.decode(
    model, params, cache, batch, rule, controller, sampler.draw, columns
  )
  return Rollouts(
    tokens=generation.span_tokens(done, columns)[:, 0],
    length=done.length[:, 0],
    logprobs=generation.span_logprobs(done, columns)[:, 0],
    finished=done.finished[:, 0],
    task=task,
  )


def sequences(prompts: Prompts, sampled: Rollouts) -> Sequences:
  """Rollouts behind their prompts; rows of padding are empty."""
  tasks, width = prompts.tokens.shape
  rows, columns = sampled.tokens.shape
  own = jnp.minimum(sampled.task, tasks - 1)
  real = sampled.task < tasks
  start = jnp.where(real, prompts.length[own], 0)
  place = jnp.arange(width + columns)[None]
  behind = place - start[:, None]  # place in the rollout
  drawn = (behind >= 0) & (behind < sampled.length[:, None])

  def of_rollout(values, index):
    index = jnp.clip(index, 0, columns - 1)
    return jnp.take_along_axis(values, index, axis=1)

  read = jnp.pad(prompts.tokens[own], ((0, 0), (0, columns)))
  tokens = jnp.where(drawn, of_rollout(sampled.tokens, behind), read)
  held = drawn | (place < start[:, None])
  mask = (behind >= -1) & (behind + 1 < sampled.length[:, None]) & real[:, None]
  return Sequences(
    tokens=jnp.where(held, tokens, 0),
    segments=held.astype(jnp.int32),
    positions=jnp.broadcast_to(place, held.shape),
    targets=jnp.where(mask, of_rollout(sampled.tokens, behind + 1), 0),
    mask=mask,
    logprobs=jnp.where(mask, of_rollout(sampled.logprobs, behind + 1), 0.0),
  )
