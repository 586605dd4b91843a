# SPDX-License-Identifier: Apache-2.0
"""The engine in this process: continuous batching over a tree cache.

G groups of R rows share one batch. A step is one segment of the decoding loop
for all of them: rows that are done are handed waiting requests before the next
one begins, wherever in its span any other row is, so no row waits for another
and one search may be rounds ahead of the next. A segment also files, renames
and frees cache slots, and is one compiled program.

Its shapes are the capacities below. They grow, by doubling, when a request
does not fit, and never shrink; `compilations` counts the programs traced.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import (
  controllers,
  generation,
  local_prices,
  node_table,
  prompt_batch,
  row_sampling,
  tree_cache,
)
from jaxttc.inference import engine as engine_lib

_PLAIN = controllers.Sampler()
_IDLE_SHARE = 4  # a segment ends early when one row in so many is idle


class _Work(NamedTuple):
  """What the host tells a segment; NumPy arrays."""

  node: Any  # i32[G, R], -1 for rows without new work
  token: Any  # i32[G, R]
  position: Any  # i32[G, R]
  until: Any  # i32[G, R]
  limit: Any  # i32[G, R], 0 for rows without new work
  seed: Any  # u32[G, R, words]
  ticket: Any  # i32[G, R], of the span that the row holds
  halt: Any  # bool[G, R], rows to stop
  min_active: Any  # i32[]


class _Report(NamedTuple):
  """What a segment tells the host."""

  column: Int[Array, ""]
  done: Bool[Array, "G R"]
  tokens: Int[Array, "G R S"]
  length: Int[Array, "G R"]
  stopped: Bool[Array, "G R"]
  finished: Bool[Array, "G R"]
  logprob: Float[Array, "G R"]
  answer: Int[Array, "G R"]


@dataclasses.dataclass
class _Search:
  """What the host knows of one group's search.

  Attributes:
    prompt: its token ids.
    span: parent and tokens of each node but the root.
    waiting: requests without a row.
    open: tickets that are waiting or running.
    loose: parent and tokens of the spans that may still be filed.
    classify: class of a whole solution's answer; None if the device says.
  """

  prompt: tuple[int, ...]
  span: dict[int, tuple[int, tuple[int, ...]]]
  waiting: collections.deque[engine_lib.Request]
  open: set[int]
  loose: dict[int, tuple[int, tuple[int, ...]]]
  classify: Callable[[str], int] | None

  def prefix(self, node: int) -> list[int]:
    """Tokens from the start of the prompt to the end of a node."""
    spans = []
    while node:
      node, tokens = self.span[node]
      spans.append(tokens)
    return [*self.prompt, *(t for span in reversed(spans) for t in span)]


class LocalEngine:
  """A language model behind the `Engine` protocol.

  Attributes:
    policy: the model.
    groups: G, searches served at once.
    rows: R, spans of one search sampled at once; more wait their turn.
    max_length: of the model.
    prompt_tariff: what reading prompts costs.
    tariff: what sampling costs.
    metered: all fields; joules and dollars only on known hardware.
    compilations: programs traced so far.
  """

  def __init__(
    self,
    policy: bundle_lib.Bundle,
    *,
    sampler: controllers.Sampler = _PLAIN,
    controller: controllers.Controller | None = None,
    row_samplers: bool = False,
    classify: Callable[[], Callable[[str], int]] | None = None,
    hardware: str | None = None,
    groups: int = 8,
    rows: int = 16,
    steps: int = 16,
    nodes: int = 64,
    columns: int = 64,
    slots: int = 256,
  ):
    """An engine without open searches.

    Args:
      policy: the model.
      sampler: how tokens are drawn.
      controller: bends the logits after the sampler's own controllers. Its
        `init` is told the tokens before the span.
      row_samplers: whether requests may bring samplers of their own, which
        are then data of their rows; `sampler` is for those that bring none.
      classify: makes, for each problem, a function of a whole solution that
        returns the class of its answer, -1 for none. Only asked about models
        without a token that marks the answer; None leaves them without
        classes.
      hardware: a name of the hardware table, to price joules and dollars.
      groups: G.
      rows: R.
      steps: most tokens a row samples in a segment.
      nodes: nodes a search to make room for at first.
      columns: tokens of the longest span to make room for at first.
      slots: cached tokens a search to make room for at first.

    Raises:
      ValueError: if the bundle is no language model or is spread over
        devices, a size is below 1, or the sampler or the hardware cannot be.
    """
    bundle_lib.check_pair(policy, None)
    bundle_lib.check_one_device(policy)
    sizes = {"groups": groups, "rows": rows, "steps": steps}
    sizes |= {"nodes": nodes, "columns": columns, "slots": slots}
    for name, size in sizes.items():
      if size < 1:
        raise ValueError(f"LocalEngine {name} must be at least 1, got {size}")
    self.policy, self.groups, self.rows = policy, groups, rows
    self.max_length = policy.config.max_length
    self.prompt_tariff, self.metered = local_prices.local_tariff(
      policy, hardware, "prompt"
    )
    self.tariff, _ = local_prices.local_tariff(policy, hardware, "policy")
    self.compilations = 0
    marked = policy.stop_rule.answer_marker_id >= 0
    self._classify = None if marked else classify
    self._sampler, self._row_samplers, self._steps = (
      sampler,
      row_samplers,
      steps,
    )
    if row_samplers:
      row_sampling.check(sampler)
      own, self._draw = row_sampling.controller(), controllers.sample
    else:
      own = sampler.controller(policy.config.vocab_size)
      self._draw = sampler.draw
    self._more = controllers.identity() if controller is None else controller
    self._controller = controllers.chain(own, self._more)
    self._searches: dict[int, _Search] = {}
    self._running: dict[tuple[int, int], engine_lib.Request] = {}
    # Of the last segment: tokens of the rows, and how many of each.
    self._written = np.zeros((groups, rows, 0), np.int32)
    self._got = np.zeros((groups, rows), np.int32)
    self._halt = np.zeros((groups, rows), bool)
    self._column = 0
    self._table = node_table.NodeTable(groups, nodes, rows)
    capacity = generation.bucket(slots)
    self._cache = tree_cache.init(policy.config, groups, capacity, policy.dtype)
    idle = generation.idle_rows(
      policy.config,
      groups,
      rows,
      _columns(columns + steps),
      capacity,
      self._controller,
      policy.dtype,
    )
    # Fields that share a buffer could not all be donated.
    self._rows = jax.tree.map(jnp.copy, idle)
    self._prefill = jax.jit(self._traced_prefill, donate_argnums=1)
    self._segment = jax.jit(self._traced_segment, donate_argnums=(1, 2))
    self._begin = jax.jit(self._traced_begin)
    self._compact = jax.jit(self._traced_compact, donate_argnums=0)
    self._grow = jax.jit(
      self._traced_grow, static_argnames=("slots", "columns")
    )

  def encode(self, text: str) -> tuple[int, ...]:
    """Token ids of a prompt, after the one that begins a text."""
    return tuple(self.policy.tokenizer.encode_prompt(text))

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    """Starts searches, their prompts read in one batch.

    Raises:
      ValueError: for a group out of range or already open, or an empty
        prompt.
    """
    if not prompts:
      return
    for group, prompt in prompts.items():
      prompt_batch.check_open(group, self.groups, self._searches, prompt)
    ids, length, group = prompt_batch.padded_prompts(prompts, self.groups)
    self._fit(slots=ids.shape[1])
    self._cache = self._prefill(
      self.policy.params, self._cache, ids, length - 1, group
    )
    for g, prompt in prompts.items():
      self._table.open(g, len(prompt.tokens) - 1)
      self._searches[g] = _Search(
        prompt.tokens,
        {},
        collections.deque(),
        set(),
        {},
        self._classify and self._classify(),
      )

  def submit(self, requests: Sequence[engine_lib.Request]) -> None:
    """Takes requests; see `Engine.submit`.

    Raises:
      ValueError: for a group that is not open, a node that it does not have,
        a ticket that is taken, a limit below 1, or a sampler that it cannot
        use. Requests before the bad one have been taken.
    """
    for request in requests:
      search = self._search(request.group)
      if request.node != 0 and request.node not in search.span:
        raise ValueError(
          f"group {request.group} has no node {request.node}; file a span "
          "under it first"
        )
      if request.ticket in search.open or request.ticket in search.loose:
        raise ValueError(
          f"ticket {request.ticket} of group {request.group} is taken; file "
          "the round before asking again"
        )
      if request.limit < 1:
        raise ValueError(f"limit must be at least 1, got {request.limit}")
      if request.sampler is not None:
        self._check_sampler(request.sampler)
      search.open.add(request.ticket)
      search.waiting.append(request)
      self._table.reserve(request.ticket)

  def step(self) -> list[engine_lib.Completion]:
    """Hands waiting requests to free rows and runs one segment."""
    work = self._assign()
    if not self._running:
      return []
    longest = max(request.limit for request in self._running.values())
    self._fit(columns=longest + self._steps, slots=self._needed())
    if self._column + self._steps > self._rows.columns:
      self._rows = self._compact(self._rows, self._halt)
    names = self._table.take()
    self._cache, self._rows, report = self._segment(
      self.policy.params, self._cache, self._rows, names, work
    )
    report = jax.device_get(report)
    self._halt = np.zeros_like(self._halt)
    self._column = int(report.column)
    self._written, self._got = report.tokens, np.array(report.length)
    rows = [row for row in self._running if report.done[row]]
    return [self._completed(row, report) for row in rows]

  def so_far(self, group: int) -> dict[int, tuple[int, ...]]:
    """Tokens that the group's running requests have sampled, by ticket.

    Raises:
      ValueError: if the group is not open.
    """
    self._search(group)
    return {
      request.ticket: tuple(self._written[row][: self._got[row]].tolist())
      for row, request in self._running.items()
      if row[0] == group
    }

  def cancel(self, group: int) -> list[engine_lib.Completion]:
    """Stops all that the group waits for; see `Engine.cancel`.

    Raises:
      ValueError: if the group is not open.
    """
    search = self._search(group)
    rows = [row for row in self._running if row[0] == group]
    got = [(self._running.pop(row), int(self._got[row])) for row in rows]
    for row in rows:
      self._halt[row] = True
    got += [(request, 0) for request in search.waiting]
    search.waiting.clear()
    search.open.clear()
    return [
      engine_lib.Completion(
        group=group,
        ticket=request.ticket,
        text="",
        tokens=(),
        length=length,
        stopped=False,
        finished=False,
        logprob=0.0,
        answer=-1,
      )
      for request, length in got
    ]

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Makes spans nodes, by ticket; the group's other spans are forgotten.

    Raises:
      ValueError: if the group is not open, or a ticket is not that of a span
        which can be extended: one that stopped, and did not finish.
    """
    search = self._search(group)
    for ticket, node in nodes.items():
      if ticket not in search.loose:
        raise ValueError(
          f"ticket {ticket} of group {group} is no span that can be extended"
        )
      search.span[node] = search.loose[ticket]
    search.loose.clear()
    self._table.file(group, nodes)

  def release(self, group: int, keep: np.ndarray) -> None:
    """Forgets the nodes n with not `keep[n]`.

    Raises:
      ValueError: if the group is not open.
    """
    search = self._search(group)
    self._table.release(group, keep)
    search.span = {n: s for n, s in search.span.items() if keep[n]}

  def close(self, group: int) -> None:
    """Ends a search; twice does no harm."""
    if group in self._searches:
      self.cancel(group)
      del self._searches[group]
      self._table.close(group)

  def _check_sampler(self, sampler: controllers.Sampler) -> None:
    if not self._row_samplers:
      raise ValueError(
        "the engine draws all requests alike; make it with row_samplers=True"
      )
    row_sampling.check(sampler)

  def _search(self, group: int) -> _Search:
    if group not in self._searches:
      raise ValueError(f"group {group} is not open")
    return self._searches[group]

  def _assign(self) -> _Work:
    """Gives waiting requests rows."""
    shape = (self.groups, self.rows)
    words = jax.random.key_data(self._rows.request.key).shape[-1]
    zeros = lambda: np.zeros(shape, np.int32)  # noqa: E731
    work = _Work(
      node=np.full(shape, -1, np.int32),
      token=zeros(),
      position=zeros(),
      until=zeros(),
      limit=zeros(),
      seed=np.zeros((*shape, words), np.uint32),
      ticket=zeros(),
      halt=self._halt.copy(),
      min_active=None,
    )
    prefixes: dict[tuple[int, int], list[int]] = {}
    for g, search in self._searches.items():
      free = (r for r in range(self.rows) if (g, r) not in self._running)
      while search.waiting and (r := next(free, None)) is not None:
        request = search.waiting.popleft()
        prefix = search.prefix(request.node)
        work.node[g, r], work.token[g, r] = request.node, prefix[-1]
        work.position[g, r] = len(prefix) - 1
        work.until[g, r], work.limit[g, r] = request.until, request.limit
        work.seed[g, r] = request.seed
        self._running[g, r], self._got[g, r] = request, 0
        prefixes[g, r] = prefix
    for row, request in self._running.items():
      work.ticket[row] = request.ticket
    self._begin_rows(prefixes)
    busy = len(self._running)
    queued = any(search.waiting for search in self._searches.values())
    least = busy - busy // _IDLE_SHARE if queued else 1
    return work._replace(min_active=np.int32(max(least, 1)))

  def _begin_rows(self, prefixes) -> None:
    """Starts the controller's state in the rows with new work."""
    if not prefixes or not jax.tree.leaves(self._rows.control):
      return
    width = generation.bucket(max(map(len, prefixes.values())))
    prefix = np.full((self.groups * self.rows, width), -1, np.int32)
    samplers = [self._sampler] * len(prefix)
    for (g, r), tokens in prefixes.items():
      row = g * self.rows + r
      prefix[row, : len(tokens)] = tokens
      samplers[row] = self._running[g, r].sampler or self._sampler
    sampling = row_sampling.of(samplers) if self._row_samplers else None
    control = self._begin(self._rows.control, prefix, sampling)
    self._rows = self._rows.replace(control=control)

  def _completed(self, row, report) -> engine_lib.Completion:
    """The completion of a row that is done, which is free from now on."""
    request = self._running.pop(row)
    search = self._searches[request.group]
    search.open.discard(request.ticket)
    length = int(report.length[row])
    tokens = tuple(report.tokens[row][:length].tolist())
    stopped, finished = bool(report.stopped[row]), bool(report.finished[row])
    answer = int(report.answer[row])
    if finished and search.classify is not None:
      whole = [*search.prefix(request.node)[len(search.prompt) :], *tokens]
      answer = search.classify(self.policy.tokenizer.decode(whole))
    if stopped and not finished:
      search.loose[request.ticket] = (request.node, tokens)
      self._table.add(request.group, request.ticket, request.node, length)
    return engine_lib.Completion(
      group=request.group,
      ticket=request.ticket,
      text=self.policy.tokenizer.decode(tokens),
      tokens=tokens,
      length=length,
      stopped=stopped,
      finished=finished,
      logprob=float(report.logprob[row]),
      answer=answer,
    )

  def _needed(self) -> int:
    """Slots of the fullest tree, when all that is running has been kept."""
    needed = [self._table.used(g) for g in range(self.groups)]
    for (g, _), request in self._running.items():
      if request.until == engine_lib.STEP:
        needed[g] += request.limit
    return max(needed)

  def _fit(self, *, slots: int = 0, columns: int = 0) -> None:
    """Grows the cache and the scratch to hold so much."""
    slots = max(generation.bucket(slots), self._cache.capacity)
    columns = max(_columns(columns), self._rows.columns)
    if (slots, columns) != (self._cache.capacity, self._rows.columns):
      self._cache, self._rows = self._grow(
        self._cache, self._rows, slots=slots, columns=columns
      )

  def _traced_prefill(self, params, cache, ids, length, group):
    self.compilations += 1
    keys_values, _ = generation.prefill(self.policy.model, params, ids, length)
    return tree_cache.write_prompt(cache, keys_values, length, group)

  def _traced_begin(self, control, prefix, sampling):
    self.compilations += 1
    fresh = (prefix >= 0).any(axis=1)
    begins = self._controller
    if sampling is not None:
      own = row_sampling.controller(sampling)
      begins = controllers.chain(own, self._more)
    return controllers.reset(begins, control, fresh, prefix)

  def _traced_compact(self, rows, halt):
    self.compilations += 1
    return generation.compact(rows.replace(active=rows.active & ~halt))

  def _traced_grow(self, cache, rows, *, slots, columns):
    self.compilations += 1
    more = slots - cache.capacity
    path = jnp.pad(rows.path, ((0, 0), (0, 0), (0, more)))
    rows = generation.widen(rows, columns).replace(path=path)
    return tree_cache.resize(cache, slots), rows

  def _traced_segment(self, params, cache, rows, names, work):
    self.compilations += 1
    cache, shown = node_table.rename(cache, names)
    active = rows.active & ~work.halt
    column = jnp.where(active.any(), rows.column, 0)
    path = tree_cache.path_mask(shown, names.parent, work.node)
    rows = generation.assign(
      rows.replace(active=active, column=column),
      generation.Requests(
        node=work.node,
        token=work.token,
        position=work.position,
        until=work.until,
        limit=work.limit,
        key=jax.random.wrap_key_data(work.seed),
      ),
      path,
      self._controller,
    ).replace(control=rows.control)  # begun by `_begin_rows`
    began = rows.active
    rows = generation.decode(
      self.policy.model,
      params,
      cache,
      rows,
      self.policy.stop_rule,
      self._controller,
      self._draw,
      self._steps,
      work.min_active,
    )
    done = began & ~rows.active
    kept = done & rows.stopped & ~rows.finished
    cache = tree_cache.commit(
      cache,
      rows.scratch,
      jnp.where(kept, node_table.loose(work.ticket), -1),
      rows.start,
      rows.length,
      rows.first_position,
    )
    return (
      cache,
      rows,
      _Report(
        column=rows.column,
        done=done,
        tokens=generation.span_tokens(rows, rows.columns),
        length=rows.length,
        stopped=rows.stopped,
        finished=rows.finished,
        logprob=rows.logprob,
        answer=rows.answer_class,
      ),
    )


def _columns(size: int) -> int:
  """The least of 16, 24, 32, 48, 64, .. that holds `size`."""
  whole = generation.bucket(size)
  return whole * 3 // 4 if 16 < whole and size <= whole * 3 // 4 else whole
