# SPDX-License-Identifier: Apache-2.0
"""The decoding loop: rows of a batch sample their spans, a column at a time.

A row is one child being sampled. All rows of the batch write the same scratch
column at the same time, whenever each of them began, so that the write is one
slice and a row that is done can be handed new work between two calls of
`decode` (continuous batching): its new span simply begins at the present
column. When the columns run out, `compact` drops the ones that no row needs
any more, and `widen` adds some.

A row begins by feeding its parent's last token, whose keys and values nobody
has computed yet, and so owns as many columns as it samples tokens.

A row's tokens depend on its own key and its own prefix: token t is drawn with
`fold_in(key, t)`, whatever else is in the batch.

Shape letters as in `tree_cache`; B = G * R rows, flattened.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
import numpy as np

from jaxttc import mesh as mesh_lib
from jaxttc.inference import controllers, stop, tree_cache
from jaxttc.models import config as config_lib
from jaxttc.models import key_values, reward_model, sharding, transformer

STEP, END = 0, 1  # how far a row samples; `decoders.base.Until` says it too


@dataclasses.dataclass(frozen=True)
class StopRule:
  """Where steps and solutions end.

  Attributes:
    eos_id: the token that ends a solution.
    other_eos_ids: others that do, too.
    step_end: automaton of the token sequences that end a step.
    answer_marker_id: the token that opens the answer; the step that it is in
      is the solution's last. -1 if solutions end at `eos_id` only.
  """

  eos_id: int
  step_end: stop.Automaton
  answer_marker_id: int = -1
  other_eos_ids: tuple[int, ...] = ()


@flax.struct.dataclass
class Requests:
  """New work for rows; rows with `limit` 0 get none.

  Attributes:
    node: i32[G, R], the node to extend.
    token: i32[G, R], its last token.
    position: i32[G, R], that token's position.
    until: i32[G, R], `STEP` or `END`.
    limit: i32[G, R], most tokens to sample.
    key: key[G, R].
  """

  node: Int[Array, "G R"]
  token: Int[Array, "G R"]
  position: Int[Array, "G R"]
  until: Int[Array, "G R"]
  limit: Int[Array, "G R"]
  key: Key[Array, "G R"]


@flax.struct.dataclass
class Rows:
  """Spans being sampled.

  Attributes:
    scratch: a `KeyValues` a layer: keys [G, R, K, E, S].
    column: i32[], the next column to write.
    written: i32[G, R, S], the token sampled at each column.
    start: i32[G, R], the row's first column.
    length: i32[G, R], tokens sampled so far.
    path: bool[G, R, C], arena slots on the row's path.
    request: what the row was asked for; `token` and `position` move on.
    active: bool[G, R], still sampling.
    stopped: bool[G, R], reached the end it was asked for.
    finished: bool[G, R], reached the end of the solution.
    answering: bool[G, R], has written the answer marker.
    answer: i32[G, R], hash of the answer's tokens; 0 before the first.
    logprob: f32[G, R], log-probability of the span.
    logprobs: f32[G, R, S], of the token sampled at each column; None if nobody
      asked for them.
    matching: i32[G, R], state of the step-end automaton.
    control: the controller's state, of B rows.
  """

  scratch: tuple[key_values.KeyValues, ...]
  column: Int[Array, ""]
  written: Int[Array, "G R S"]
  start: Int[Array, "G R"]
  length: Int[Array, "G R"]
  path: Bool[Array, "G R C"]
  request: Requests
  active: Bool[Array, "G R"]
  stopped: Bool[Array, "G R"]
  finished: Bool[Array, "G R"]
  answering: Bool[Array, "G R"]
  answer: Int[Array, "G R"]
  logprob: Float[Array, "G R"]
  matching: Int[Array, "G R"]
  control: Any
  logprobs: Float[Array, "G R S"] | None = None

  @property
  def columns(self) -> int:
    """Scratch columns, S."""
    return self.written.shape[2]

  @property
  def first_position(self) -> Int[Array, "G R"]:
    """Position of the token that each row began by feeding."""
    return self.request.position - self.length

  @property
  def answer_class(self) -> Int[Array, "G R"]:
    """Class of a finished row's answer: equal tokens, equal class; or -1."""
    answered = self.finished & self.answering & (self.answer != 0)
    return jnp.where(answered, self.answer & 0x7FFFFFFF, -1)


def idle_rows(
  config: config_lib.TransformerConfig,
  groups: int,
  rows: int,
  columns: int,
  slots: int,
  controller: controllers.Controller,
  dtype: jax.typing.DTypeLike = jnp.float32,
  *,
  keep_logprobs: bool = False,
) -> Rows:
  """Rows with nothing to do.

  Args:
    config: the model's sizes.
    groups: G.
    rows: R.
    columns: S.
    slots: C, the capacity of the tree cache they will read.
    controller: the controller they will run under.
    dtype: of keys and values.
    keep_logprobs: whether the log-probability of every token is kept, for
      `span_logprobs`.
  """
  zeros = jnp.zeros((groups, rows), jnp.int32)
  logprobs = None
  if keep_logprobs:
    logprobs = jnp.zeros((groups, rows, columns), jnp.float32)
  no = jnp.zeros((groups, rows), bool)
  return Rows(
    scratch=key_values.empty_key_values(config, (groups, rows), columns, dtype),
    column=jnp.int32(0),
    written=jnp.zeros((groups, rows, columns), jnp.int32),
    start=zeros,
    length=zeros,
    path=jnp.zeros((groups, rows, slots), bool),
    request=Requests(
      node=zeros - 1,
      token=zeros,
      position=zeros,
      until=zeros,
      limit=zeros,
      key=jax.random.split(jax.random.key(0), (groups, rows)),
    ),
    active=no,
    stopped=no,
    finished=no,
    answering=no,
    answer=zeros,
    logprob=jnp.zeros((groups, rows), jnp.float32),
    matching=zeros,
    control=controller.init(groups * rows),
    logprobs=logprobs,
  )


def assign(
  rows: Rows,
  requests: Requests,
  path: Bool[Array, "G R C"],
  controller: controllers.Controller,
  prefix: Int[Array, "B T"] | None = None,
) -> Rows:
  """Hands new work to the rows that `requests` has work for.

  Args:
    rows: the batch; rows given work lose what they held.
    requests: the work.
    path: `tree_cache.path_mask` of the requests' nodes.
    controller: the controller, whose state starts afresh in those rows.
    prefix: tokens before each row's span, padded with -1, for controllers
      that look back.
  """
  take = requests.limit > 0

  def pick(new, old):
    wide = take.reshape(take.shape + (1,) * (new.ndim - 2))
    return jnp.where(wide, new, old)

  zeros = jnp.zeros_like(rows.length)
  no = jnp.zeros_like(rows.active)
  return rows.replace(
    start=pick(jnp.broadcast_to(rows.column, zeros.shape), rows.start),
    length=pick(zeros, rows.length),
    path=pick(path, rows.path),
    request=jax.tree.map(pick, requests, rows.request),
    active=rows.active | take,
    stopped=pick(no, rows.stopped),
    finished=pick(no, rows.finished),
    answering=pick(no, rows.answering),
    answer=pick(zeros, rows.answer),
    logprob=pick(jnp.zeros_like(rows.logprob), rows.logprob),
    matching=pick(zeros, rows.matching),
    control=controllers.reset(
      controller, rows.control, take.reshape(-1), prefix
    ),
  )


def compact(rows: Rows) -> Rows:
  """Drops the columns before the first that an active row needs.

  Spans of rows that are done lose what lay there: take them before.
  """
  needed = jnp.where(rows.active, rows.start, rows.column)
  shift = needed.min()
  return rows.replace(
    scratch=key_values.shift(rows.scratch, shift),
    written=jnp.roll(rows.written, -shift, axis=-1),
    logprobs=jax.tree.map(
      lambda x: jnp.roll(x, -shift, axis=-1), rows.logprobs
    ),
    start=jnp.maximum(rows.start - shift, 0),
    column=rows.column - shift,
  )


def widen(rows: Rows, columns: int) -> Rows:
  """The same rows with more columns.

  Raises:
    ValueError: if `columns` is less than what the rows have.
  """
  more = columns - rows.columns
  if more < 0:
    raise ValueError(
      f"rows of {rows.columns} columns cannot shrink to {columns}"
    )
  wider = lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, more)))  # noqa: E731
  return rows.replace(
    scratch=key_values.widen(rows.scratch, more),
    written=wider(rows.written),
    logprobs=jax.tree.map(wider, rows.logprobs),
  )


def decode(
  model: transformer.Transformer,
  params: Any,
  cache: tree_cache.TreeCache,
  rows: Rows,
  rule: StopRule,
  controller: controllers.Controller,
  draw: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
  steps: Int[Array, ""] | int,
  min_active: Int[Array, ""] | int = 1,
) -> Rows:
  """Samples until no row is active, columns run out, or `steps` are done.

  Args:
    model: the language model.
    params: its parameters.
    cache: the arena that the rows' paths point into; only read.
    rows: the batch.
    rule: where steps and solutions end.
    controller: bends the logits.
    draw: (keys [B], logits f32[B, V]) -> (token i32[B], logprob f32[B]); a
      token of -1 says that nothing could be drawn, and ends the row.
    steps: most columns to write in this call.
    min_active: stop when fewer rows than this are active.

  Returns:
    The rows. Those that reached their end have `stopped`; those that ran into
    their limit, or could not go on, are neither active nor stopped.
  """
  last = jnp.minimum(rows.column + steps, rows.columns)

  def body(rows: Rows) -> Rows:
    return _step(model, params, cache, rows, rule, controller, draw)

  def going(rows: Rows):
    busy = rows.active.sum() >= jnp.maximum(min_active, 1)
    return busy & (rows.column < last)

  carried = sharding.pin(rows)
  if mesh_lib.tensor_parts() == 1:  # split key-value heads cannot be merged
    carried = rows.replace(scratch=key_values.flattened(rows.scratch))
  done = jax.lax.while_loop(going, body, carried)
  shaped = jax.tree.map(
    lambda new, old: new.reshape(old.shape), done.scratch, rows.scratch
  )
  return done.replace(scratch=shaped)


def _step(model, params, cache, rows, rule, controller, draw) -> Rows:
  """Feeds each row's last token, and samples the next."""
  request = rows.request
  columns = jnp.arange(rows.columns)[None, None]
  own = (columns >= rows.start[..., None]) & (columns <= rows.column)
  context = key_values.Context(
    arena=cache.arena,
    arena_mask=rows.path,
    scratch=rows.scratch,
    column=rows.column,
    arena_position=cache.position,
  )
  inputs = (
    request.token[..., None],
    request.position[..., None],
    own[..., None, :],
    context,
  )
  seen = controllers.Context()
  if controller.reads_hidden:
    hidden, scratch, stack = model.apply(
      {"params": params}, *inputs, method="stacked"
    )
    seen = controllers.Context(stack.reshape(-1, *stack.shape[-2:]))
  else:
    hidden, scratch = model.apply({"params": params}, *inputs)
  logits = model.apply({"params": params}, hidden[:, :, 0], method="logits")
  # Whole on every device, so that all draw the same token.
  logits = mesh_lib.constrain(logits, mesh_lib.REPLICATED)
  shape = rows.active.shape
  flat = lambda x: x.reshape(-1)  # noqa: E731
  keys = jax.vmap(jax.random.fold_in)(
    request.key.reshape(-1), flat(rows.length)
  )
  logits = controller.apply(
    rows.control, logits.reshape(-1, logits.shape[-1]), seen
  )
  token, logprob = draw(keys, logits)
  token, control = controller.commit(rows.control, token, flat(rows.active))
  matching = stop.advance(
    rule.step_end, flat(rows.matching), token, flat(rows.active)
  )
  step_done = stop.matched(rule.step_end, matching).reshape(shape)
  token, logprob = token.reshape(shape), logprob.reshape(shape)
  return _record(rows, rule, token, logprob, step_done).replace(
    scratch=scratch,
    control=control,
    matching=matching.reshape(shape),
    column=rows.column + 1,
  )


def _record(rows, rule, token, logprob, step_done) -> Rows:
  """Notes the tokens just sampled, and which rows they end."""
  active, request = rows.active, rows.request
  drawn = active & (token >= 0)
  ends = token == rule.eos_id
  for other in rule.other_eos_ids:
    ends |= token == other
  answering = rows.answering | (drawn & (token == rule.answer_marker_id))
  # Equal answers hash equally: a polynomial in the tokens after the marker.
  spells = drawn & rows.answering & ~ends & ~step_done
  answer = jnp.where(spells, rows.answer * 1000003 + token + 1, rows.answer)
  finished = drawn & (ends | (step_done & answering))
  stopped = finished | (drawn & step_done & (request.until == STEP))
  length = rows.length + drawn
  going = drawn & ~stopped & (length < request.limit)
  logprob = jnp.where(drawn, logprob, 0.0)
  put = lambda held, new: jax.lax.dynamic_update_slice(  # noqa: E731
    held, new[..., None], (0, 0, rows.column)
  )
  return rows.replace(
    written=put(rows.written, jnp.where(drawn, token, -1)),
    logprobs=jax.tree.map(lambda held: put(held, logprob), rows.logprobs),
    length=length,
    request=request.replace(
      token=jnp.where(drawn, token, request.token),
      position=request.position + drawn,
    ),
    active=going,
    stopped=jnp.where(active, stopped, rows.stopped),
    finished=jnp.where(active, finished, rows.finished),
    answering=answering,
    answer=answer,
    logprob=rows.logprob + logprob,
  )


def span_tokens(rows: Rows, width: int) -> Int[Array, "G R W"]:
  """The tokens of each row's span, from its start, -1 beyond its length."""
  return _span(rows, rows.written, width, -1)


def span_logprobs(rows: Rows, width: int) -> Float[Array, "G R W"]:
  """Log-probabilities of `span_tokens`, 0 beyond each length.

  Raises:
    ValueError: if the rows were not told to keep them.
  """
  if rows.logprobs is None:
    raise ValueError("the rows keep no logprobs; see idle_rows(keep_logprobs=)")
  return _span(rows, rows.logprobs, width, 0.0)


def _span(rows, held, width, beyond):
  offset = jnp.arange(width)[None, None]
  index = rows.start[..., None] + offset
  values = jnp.take_along_axis(
    held, jnp.minimum(index, rows.columns - 1), axis=2
  )
  return jnp.where(offset < rows.length[..., None], values, beyond)


def prefill(
  model: transformer.Transformer | reward_model.ProcessRewardModel,
  params: Any,
  tokens: Int[Array, "P T"],
  length: Int[Array, " P"],
) -> tuple[tuple[key_values.KeyValues, ...], Any]:
  """Runs prompts through the trunk.

  Args:
    model: language or reward model.
    params: its parameters.
    tokens: prompts, padded at the end.
    length: tokens of each prompt.

  Returns:
    Keys [P, 1, K, E, T] and values [P, 1, K, T, E] a layer, and the model's
    first output at every position, [P, T, ..] (hidden states, or a
    `reward_model.Judgement`).
  """
  steps = tokens.shape[1]
  index = jnp.arange(steps)
  real = index[None] < length[:, None]
  causal = jnp.tril(jnp.ones((1, steps, steps), bool)) & real[:, None, :]
  out, keys_values = model.apply(
    {"params": params},
    tokens[:, None],
    jnp.broadcast_to(index, tokens.shape)[:, None],
    causal[:, None],
    key_values.Context(length=length[:, None]),
  )
  return keys_values, jax.tree.map(lambda x: x[:, 0], out)


def bucket(size: int, least: int = 16) -> int:
  """The power of two that holds `size`, and is at least `least`."""
  return max(least, 1 << int(np.ceil(np.log2(max(size, 1)))))
