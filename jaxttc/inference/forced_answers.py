# SPDX-License-Identifier: Apache-2.0
"""Answers forced at every stop of a rollout: what it would say if cut there.

A rollout is a run of episodes, the steps before its answer (`Bundle.stop_rule`:
a line of this library's models, a paragraph of published ones). It may be
stopped before the first of them and after each; the words that open an answer
are appended, and the model answers, several times.

Prompt and rollout are read once. Each forced answer is a row that sees as much
of these keys and values as lies before its stop, so nothing is copied and all
stops of all rollouts are one batch.

Reference:
  Qu et al. (2025), Optimizing Test-Time Compute via Meta Reinforcement
  Fine-Tuning, arXiv:2503.07572 (the meta-prover).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxttc.inference import (
  controllers,
  generation,
  rollouts,
  stop,
  tree_cache,
)
from jaxttc.models import key_values, transformer

_PLAIN = controllers.Sampler()


class Stops(NamedTuple):
  """Where rollouts may be stopped: before the first episode and after each.

  Attributes:
    place: i32[B, K + 1], sampled tokens before each stop; 0 for the first.
    there: bool[B, K + 1], whether the rollout has the stop.
    episode: i32[B, S], of each sampled token, from 0; -1 for tokens that lie
      behind the last stop (the answer, a step that was cut) and padding.
  """

  place: Int[Array, "b k"]
  there: Bool[Array, "b k"]
  episode: Int[Array, "b s"]


def find_stops(
  sampled: rollouts.Rollouts, rule: generation.StopRule, most: int
) -> Stops:
  """The stops of rollouts.

  Args:
    sampled: B rollouts of at most S tokens.
    rule: where steps end, and which token opens the answer.
    most: episodes, K; further steps are left in the last one. Static.

  Raises:
    ValueError: if `most` is below 1.
  """
  if most < 1:
    raise ValueError(f"most is {most}; expected at least 1 episode")
  tokens = sampled.tokens
  columns = tokens.shape[1]
  inside = jnp.arange(columns)[None] < sampled.length[:, None]

  def read(state, column):
    token, active = column
    state = stop.advance(rule.step_end, state, token, active)
    return state, stop.matched(rule.step_end, state)

  _, ended = jax.lax.scan(
    read, stop.start(tokens.shape[0]), (tokens.T, inside.T)
  )
  answering = jnp.cumsum(tokens == rule.answer_marker_id, axis=1) > 0
  ended = ended.T & inside & ~answering
  done = jnp.cumsum(ended, axis=1)  # steps that a token is the end of, or after
  count = done[:, -1:]
  wanted = jnp.minimum(jnp.arange(most + 1)[None], count)
  wanted = jnp.where(jnp.arange(most + 1)[None] == most, count, wanted)
  reached = (done[:, None, :] >= wanted[..., None]).argmax(axis=2) + 1
  before = done - ended
  episode = jnp.minimum(before, most - 1)
  return Stops(
    place=jnp.where(wanted > 0, reached, 0).astype(jnp.int32),
    there=jnp.arange(most + 1)[None] <= count,
    episode=jnp.where(inside & (before < count), episode, -1),
  )


class Answers(NamedTuple):
  """Answers forced at stops.

  Attributes:
    tokens: i32[B, K + 1, N, L], what was sampled after the opening words; -1
      beyond, and where there is no stop.
    length: i32[B, K + 1, N], sampled tokens.
    finished: bool[B, K + 1, N], whether the answer ended by itself.
  """

  tokens: Int[Array, "b k n l"]
  length: Int[Array, "b k n"]
  finished: Bool[Array, "b k n"]


def force(
  model: transformer.Transformer,
  params: Any,
  prompts: rollouts.Prompts,
  sampled: rollouts.Rollouts,
  stops: Stops,
  keys: Key[Array, " b"],
  rule: generation.StopRule,
  sampler: controllers.Sampler = _PLAIN,
  *,
  opening: Sequence[int],
  branches: int,
  columns: int,
) -> Answers:
  """Makes each rollout answer at each of its stops; traceable.

  Args:
    model: the language model.
    params: its parameters.
    prompts: M prompts.
    sampled: B rollouts.
    stops: `find_stops` of them.
    keys: a key a rollout.
    rule: an answer ends where a step does.
    sampler: how tokens are drawn.
    opening: tokens that open an answer, such as those of "####"; not sampled.
    branches: answers a stop, N; static.
    columns: most tokens of an answer behind the opening, L; static.

  Raises:
    ValueError: if there is no opening, or a number is below 1.
  """
  if not opening or branches < 1 or columns < 1:
    raise ValueError(
      f"{len(opening)} opening tokens, branches={branches}, columns={columns};"
      " expected at least 1 of each"
    )
  rows = rollouts.sequences(prompts, sampled)
  size, kinds = stops.place.shape
  held = rows.segments.sum(axis=1)
  keys_values, _ = generation.prefill(model, params, rows.tokens, held)
  slots = jnp.arange(rows.tokens.shape[1])
  known = slots[None] < held[:, None]
  cache = tree_cache.TreeCache(
    arena=jax.tree.map(lambda x: x[:, 0], keys_values),
    owner=jnp.where(known, 0, tree_cache.FREE),
    position=(
      jnp.broadcast_to(slots, known.shape) if model.config.window else None
    ),
  )
  # The first token of the opening is fed, the others are put in its wake.
  controller = controllers.chain(
    sampler.controller(model.config.vocab_size), _writing(opening[1:])
  )
  longest = columns + len(opening) - 1
  flat = lambda x: jnp.repeat(x, branches, axis=1)  # noqa: E731 - [B, K' * N]
  own = jnp.minimum(sampled.task, prompts.length.shape[0] - 1)
  place = prompts.length[own][:, None] + flat(stops.place)
  there = flat(stops.there) & (held > 0)[:, None]
  number = jnp.arange(kinds * branches)
  batch = generation.idle_rows(
    model.config,
    size,
    kinds * branches,
    longest,
    slots.size,
    controller,
    model.dtype,
  )
  batch = generation.assign(
    batch,
    generation.Requests(
      node=jnp.zeros_like(place),
      token=jnp.full_like(place, opening[0]),
      position=place,
      until=jnp.full_like(place, generation.STEP),
      limit=jnp.where(there, longest, 0),
      key=jax.vmap(
        lambda key: jax.vmap(jax.random.fold_in, (None, 0))(key, number)
      )(keys),
    ),
    slots[None, None] < place[..., None],
    controller,
    jnp.full((size * kinds * branches, 1), -1),
  )
  done = generation.decode(
    model, params, cache, batch, rule, controller, sampler.draw, longest
  )
  shape = (size, kinds, branches)
  tokens = generation.span_tokens(done, longest)[..., len(opening) - 1 :]
  return Answers(
    tokens=tokens.reshape(*shape, columns),
    length=jnp.maximum(done.length - (len(opening) - 1), 0).reshape(shape),
    finished=done.stopped.reshape(shape),
  )


def chances(
  model: transformer.Transformer,
  params: Any,
  prompts: rollouts.Prompts,
  sampled: rollouts.Rollouts,
  stops: Stops,
  answers: Int[Array, "m a"],
  *,
  opening: Sequence[int],
  temperature: float,
) -> Float[Array, "b k"]:
  """Chance of one answer, word for word, at each stop; nothing is sampled.

  What `force` estimates from samples, where an answer has one spelling. Behind
  each rollout come the opening and the answer once for every stop, each of them
  blind for what lies behind its stop: one pass reads all.

  Args:
    model: the language model.
    params: its parameters.
    prompts: M prompts.
    sampled: B rollouts.
    stops: `find_stops` of them.
    answers: of each prompt, the tokens behind the opening, the answer's end
      among them; padded with -1.
    opening: tokens that open an answer.
    temperature: that logits are divided by.

  Returns:
    f32[B, K + 1]; 0 where there is no stop.

  Raises:
    ValueError: if there is no opening.
  """
  if not opening:
    raise ValueError("0 opening tokens; expected at least 1")
  rows = rollouts.sequences(prompts, sampled)
  size, width = rows.tokens.shape
  kinds, head = stops.place.shape[1], len(opening)
  own = jnp.minimum(sampled.task, prompts.length.shape[0] - 1)
  wanted = answers[own]
  # What is read at each stop: the opening, and the answer but for its last.
  tail = jnp.concatenate(
    [
      jnp.broadcast_to(jnp.asarray(opening), (size, head)),
      jnp.maximum(wanted[:, :-1], 0),
    ],
    axis=1,
  )
  long = tail.shape[1]
  place = prompts.length[own][:, None] + stops.place
  step = jnp.arange(long)
  tokens = jnp.concatenate([rows.tokens, jnp.tile(tail, (1, kinds))], axis=1)
  positions = jnp.concatenate(
    [rows.positions, (place[..., None] + step[None, None]).reshape(size, -1)],
    axis=1,
  )
  before = jnp.arange(width)[None, None] < place[..., None]  # [B, K', W]
  same = jnp.kron(jnp.eye(kinds), jnp.tril(jnp.ones((long, long)))) > 0
  branches = jnp.concatenate(
    [
      jnp.repeat(before, long, axis=1),
      jnp.broadcast_to(same, (size, *same.shape)),
    ],
    axis=2,
  )
  causal = key_values.causal_mask(rows.segments)[:, 0]
  trunk = jnp.pad(causal, ((0, 0), (0, 0), (0, kinds * long)))
  mask = jnp.concatenate([trunk, branches], axis=1)[:, None]
  hidden, _ = model.apply(
    {"params": params}, tokens[:, None], positions[:, None], mask
  )
  hidden = hidden[:, 0, width:].reshape(size, kinds, long, -1)
  logits = model.apply(
    {"params": params}, hidden[:, :, head - 1 :], method="logits"
  )
  said = jax.nn.log_softmax(logits / temperature)
  target = jnp.broadcast_to(wanted[:, None], said.shape[:-1])
  found = jnp.take_along_axis(said, jnp.maximum(target, 0)[..., None], axis=-1)
  total = jnp.where(target >= 0, found[..., 0], 0.0).sum(-1)
  real = stops.there & (sampled.task < prompts.length.shape[0])[:, None]
  return jnp.where(real, jnp.exp(total), 0.0)


def _writing(ids: Sequence[int]) -> controllers.Controller:
  """Writes tokens, whatever was drawn, and then lets go."""
  if not ids:
    return controllers.identity()
  forced = jnp.asarray(ids, jnp.int32)

  def init(batch, prompt=None):
    del prompt
    return jnp.zeros(batch, jnp.int32)

  def apply(state, logits, context=None):
    del state, context
    return logits

  def commit(state, token, active):
    put = active & (state < len(ids))
    token = jnp.where(put, forced[jnp.minimum(state, len(ids) - 1)], token)
    return token, state + active

  return controllers.Controller(init, apply, commit)
