# SPDX-License-Identifier: Apache-2.0
"""Solves problems under a budget: from texts and keys to results.

    for result in search.solve(problems, policy, verifier, decoder, ...):
      print(result.answer, result.cost.generated_tokens)

Problems are searched side by side by the compiled form; one that is done makes
room for the next. A problem's search is a function of its own prompt, key and
budget, whatever else is searched beside it.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc import mesh as mesh_lib
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.decoders import base
from jaxttc.decoders import tree as tree_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, generation
from jaxttc.models import sharding
from jaxttc.runtime import compiled, funding
from jaxttc.runtime import settings as settings_lib


@dataclasses.dataclass(frozen=True)
class TreeRecord:
  """A search tree on the host; arrays of `used` nodes, root first.

  Attributes:
    parent: i32[n], -1 for the root.
    reward: f32[n], of the prefix ending here.
    status: i8[n], a `decoders.tree.Status`.
    answer: i32[n], class of a finished node's answer; -1 for none.
    expanded_at: i32[n], round of the first expansion; -1 if never.
    weight: f32[n], the node's weight in the answer.
    text: the span of each node; "" for the root.
    chosen: the node that stands for the answer; -1 if there is none.
  """

  parent: np.ndarray
  reward: np.ndarray
  status: np.ndarray
  answer: np.ndarray
  expanded_at: np.ndarray
  weight: np.ndarray
  text: list[str]
  chosen: int

  def path(self, node: int) -> list[int]:
    """Nodes from the first step to `node`; empty for the root or -1."""
    nodes = []
    while node > 0:
      nodes.append(node)
      node = int(self.parent[node])
    return nodes[::-1]

  def completion(self, node: int) -> str:
    """The text from the prompt to the end of `node`."""
    return "".join(self.text[n] for n in self.path(node))

  def finished(self) -> list[int]:
    """Ids of the whole solutions, in the order found."""
    done = self.status == tree_lib.Status.FINISHED
    return np.flatnonzero(done).tolist()


@dataclasses.dataclass(frozen=True)
class SearchResult:
  """What came of one problem.

  Attributes:
    problem: index into the problems given.
    completion: the chosen solution; None if there is no answer.
    cost: what was spent, exact on counted fields.
    stop: "done", or the field of the budget that ended the search, or
      "capacity" where the tree or the cache had no more room, or "cancelled",
      or "engine: " or "verifier: " and the error, for good, of a served model.
    rounds: expansions asked for.
    tree: the search tree.
    assumed: the part of `cost` that a served model did not confirm, an upper
      bound; zero for models in this process.
  """

  problem: int
  completion: str | None
  cost: costs.Cost
  stop: str
  rounds: int
  tree: TreeRecord
  assumed: costs.Cost = costs.Cost()


# What `SearchResult.stop` begins with where a served model failed for good.
FAILURES = ("engine: ", "verifier: ")


def problem_key(seed: int, name: str) -> jax.Array:
  """A problem's random key: of the seed and its id, not of its place."""
  return jax.random.fold_in(
    jax.random.key(seed), zlib.crc32(name.encode()) & 0x7FFFFFFF
  )


def solve(
  prompts: Sequence[str],
  names: Sequence[str],
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle | None,
  decoder: base.Decoder,
  *,
  budget: budget_lib.Budget | Sequence[budget_lib.Budget],
  settings: settings_lib.SearchSettings,
  seed: int = 0,
  batch: int = 32,
  controller: controllers.Controller | None = None,
  mesh: jax.sharding.Mesh | None = None,
) -> Iterator[SearchResult]:
  """Searches for the answers to problems, `batch` of them at a time.

  Args:
    prompts: what the policy continues.
    names: a unique id a problem; with the seed it determines the keys.
    policy: the language model.
    verifier: the reward model, where the decoder needs one.
    decoder: the strategy.
    budget: of each problem; one for all, or one a problem.
    settings: sampling and sizes.
    seed: of all sampling.
    batch: problems searched at once.
    controller: bends the logits after the sampler's own controllers.
    mesh: devices to spread the search over. A batch is split over its "data"
      axis, of which `batch` must be a multiple; models over its "tensor" axis
      (`inference.shard`, which is done here for those that are not). If it
      spans processes, all must make this call, and all are given all results.

  Yields:
    A result a problem, in order.

  Raises:
    ValueError: for no prompts or empty ones, prompts that leave the model no
      room, names that are not one a prompt and unique, budgets on measured
      fields (seconds: use the host-driven form), models that do not fit each
      other or the mesh, or a batch that is no multiple of its data axis.
  """
  if batch < 1:
    raise ValueError(f"batch must be at least 1, got {batch}")
  if mesh is not None and batch % mesh.shape[mesh_lib.DATA]:
    raise ValueError(
      f"batch={batch} cannot be split over data={mesh.shape[mesh_lib.DATA]} "
      "devices; expected a multiple"
    )
  _check_names(prompts, names)
  budgets = _budgets(budget, len(prompts))
  tokens = encode(policy, prompts, settings)
  used = verifier if decoder.needs_reward else None
  program = _program(policy, verifier, decoder, settings, controller, mesh)
  params = tuple(_params(bundle, mesh) for bundle in (policy, used))
  slots = _Slots(program, params, batch, mesh)
  longest = settings.prompt_tokens or max(map(len, tokens))
  width = generation.bucket(longest)
  prices = settings_lib.prices(policy, used, settings)
  done: dict[int, SearchResult] = {}
  begun = told = 0
  while told < len(prompts):
    while begun < len(prompts) and slots.free:
      end = min(begun + min(slots.refill, slots.free), len(prompts))
      part = slice(begun, end)
      slots.begin(
        range(begun, end),
        *_padded(tokens[part], width, slots.refill),
        _keys(seed, names[part], slots.refill),
        _meters(budgets[part], slots.refill),
      )
      begun = end
    for i, state, answer in slots.advance(waiting=begun < len(prompts)):
      done[i] = _result(
        i, state, answer, len(tokens[i]), prices, policy, decoder
      )
    while told in done:
      yield done.pop(told)
      told += 1


def encode(
  policy: bundle_lib.Bundle,
  prompts: Sequence[str],
  settings: settings_lib.SearchSettings,
) -> list[list[int]]:
  """Token ids of prompts, each after the beginning-of-sequence token.

  Raises:
    ValueError: naming the first prompt that is empty, that is longer than
      `prompt_tokens`, or that leaves fewer than `step_tokens` of the model's
      `max_length`.
  """
  room = policy.config.max_length - settings.step_tokens
  encoded = []
  for i, prompt in enumerate(prompts):
    if not prompt.strip():
      raise ValueError(f"problem {i}: the prompt is empty")
    ids = policy.tokenizer.encode_prompt(prompt)
    if len(ids) > room:
      raise ValueError(
        f"problem {i}: its prompt has {len(ids)} tokens; the model takes "
        f"{policy.config.max_length}, of which a step needs "
        f"{settings.step_tokens}"
      )
    if settings.prompt_tokens is not None and len(ids) > settings.prompt_tokens:
      raise ValueError(
        f"problem {i}: its prompt has {len(ids)} tokens; "
        f"settings.prompt_tokens leaves room for {settings.prompt_tokens}"
      )
    encoded.append(ids)
  return encoded


def _check_names(prompts: Sequence[str], names: Sequence[str]) -> None:
  if not prompts:
    raise ValueError("there are no prompts; expected at least one")
  if len(names) != len(prompts):
    raise ValueError(
      f"{len(names)} names for {len(prompts)} prompts; expected one a prompt"
    )
  name, times = collections.Counter(names).most_common(1)[0]
  if times > 1:
    raise ValueError(
      f"the name {name!r} occurs {times} times; names decide the random "
      "keys, and must be unique"
    )


def _budgets(
  budget: budget_lib.Budget | Sequence[budget_lib.Budget], problems: int
) -> list[budget_lib.Budget]:
  """One budget a problem, each of a kind that a compiled search can keep."""
  if isinstance(budget, budget_lib.Budget):
    budget = [budget] * problems
  if len(budget) != problems:
    raise ValueError(
      f"{len(budget)} budgets for {problems} problems; expected one for all, "
      "or one a problem"
    )
  for one in budget:
    one.validate()
    if one.seconds is not None:
      raise ValueError(
        "a compiled search cannot watch the clock; drop budget.seconds or "
        "use the host-driven form"
      )
  return list(budget)


class _Program(NamedTuple):
  """The compiled functions of a search; `compiled` says what they do."""

  read: Callable[..., compiled.Prompts]
  start: Callable[..., compiled.Search]
  advance: Callable[..., tuple[compiled.Search, Any, base.Answer]]
  blank: Callable[[compiled.Search, int], compiled.Search]
  grow: Callable[[compiled.Search], compiled.Search]
  put: Callable[..., compiled.Search]


@functools.lru_cache(maxsize=32)
def _reader(policy, verifier, mesh):
  """Reads prompts, compiled once for all decoders of a shape of batch."""
  read = functools.partial(compiled.read_prompts, policy, verifier)
  if mesh is None:
    return jax.jit(read)
  read = lambda *args: sharding.pin(  # noqa: E731
    compiled.read_prompts(policy, verifier, *args)
  )
  return mesh_lib.data_parallel(read, mesh, replicated_argnums=(0, 1))


@functools.lru_cache(maxsize=32)
def _program(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle | None,
  decoder: base.Decoder,
  settings: settings_lib.SearchSettings,
  controller: controllers.Controller | None,
  mesh: jax.sharding.Mesh | None,
) -> _Program:
  """Kept, so that solving again with the same objects compiles nothing."""
  search = compiled.compiled_search(
    policy, verifier, decoder, settings, controller
  )
  used = verifier if decoder.needs_reward else None
  most = np.int32(np.iinfo(np.int32).max)

  def advance(policy_params, verifier_params, state, idle):
    state = search.advance(policy_params, verifier_params, state, most, idle)
    return sharding.pin(state), search.crowded(state), search.answer(state)

  def settled(state):
    """Keeps the state on its devices, where rows move between them."""
    if mesh is None:
      return state
    return jax.lax.with_sharding_constraint(
      state, sharding.state_shardings(state, mesh)
    )

  def blank(fresh, rows):
    """A batch of nobody's problems, in the shapes of `fresh`."""
    first = jnp.zeros((rows,), jnp.int32)
    state = jax.tree.map(lambda x: x[first], fresh)
    return settled(state.replace(running=jnp.zeros((rows,), bool)))

  def put(state, fresh, at):
    return settled(
      jax.tree.map(
        lambda old, new: old.at[at].set(new, mode="drop"), state, fresh
      )
    )

  if mesh is None:
    start, advance = jax.jit(search.start), jax.jit(advance, donate_argnums=2)
  else:
    start = mesh_lib.data_parallel(
      lambda *args: sharding.pin(search.start(*args)), mesh
    )
    advance = mesh_lib.data_parallel(
      advance, mesh, replicated_argnums=(0, 1, 3), donate_argnums=(2,)
    )
  return _Program(
    read=_reader(policy.model, None if used is None else used.model, mesh),
    start=start,
    advance=advance,
    blank=jax.jit(blank, static_argnums=1),
    grow=jax.jit(lambda state: settled(search.grow(state))),
    put=jax.jit(put, donate_argnums=0),
  )


def _params(bundle: bundle_lib.Bundle | None, mesh: jax.sharding.Mesh | None):
  """A model's parameters, on the mesh if there is one."""
  if bundle is None or mesh is None:
    return bundle and bundle.params
  return sharding.place(bundle.config, bundle.params, mesh)


class _Slots:
  """G searches at once; one that has stopped makes room for the next problem.

  Without that, all would wait for the hardest problem of their batch. Problems
  come in `refill` at a time, so that all shapes are static.
  """

  def __init__(self, program, params, size, mesh):
    self.program, self.params, self.size = program, params, size
    self.mesh = mesh
    self.devices = 1 if mesh is None else mesh.shape[mesh_lib.DATA]
    self.refill = self.devices * -(-size // (4 * self.devices))
    self.problem = np.full((size,), -1)
    self.state: Any = None

  @property
  def free(self) -> int:
    """Slots without a problem."""
    return int((self.problem < 0).sum())

  def begin(self, problems, tokens, length, keys, meters) -> None:
    """Moves problems into free slots; the arrays have `refill` rows."""
    at = np.flatnonzero(self.problem < 0)[: len(problems)]
    self.problem[at] = problems
    rows = np.full((self.refill,), self.size, np.int32)
    rows[: len(at)] = at
    work = (tokens, length, keys, meters)
    if self.mesh is not None:
      work = mesh_lib.shard_batch(work, self.mesh)
    prompts = self.program.read(*self.params, *work[:2])
    fresh = self.program.start(prompts, *work)
    if self.state is None:
      self.state = self.program.blank(fresh, self.size)
    while fresh.policy.capacity < self.state.policy.capacity:
      fresh = self.program.grow(fresh)
    self.state = self.program.put(self.state, fresh, rows)

  def advance(self, waiting: bool) -> Iterator[tuple[int, Any, Any]]:
    """Searches until problems have stopped; yields them, and frees slots.

    Args:
      waiting: whether others wait for slots: then it comes back as soon as
        `refill` slots are free, else when all problems have stopped.
    """
    idle = self.size
    if waiting:
      idle = self.refill // self.devices - 1
    while True:
      self.state, crowded, answer = self.program.advance(
        *self.params, self.state, np.int32(idle)
      )
      if not mesh_lib.fetch(crowded).any():
        break
      self.state = self.program.grow(self.state)
    state, answer = mesh_lib.fetch((_without_caches(self.state), answer))
    stopped = (self.problem >= 0) & ~state.running
    for slot in np.flatnonzero(stopped):
      one = jax.tree.map(lambda x, slot=slot: x[slot], (state, answer))
      yield int(self.problem[slot]), *one
    self.problem[stopped] = -1


def _padded(tokens, width, batch):
  ids = np.zeros((batch, width), np.int32)
  length = np.ones((batch,), np.int32)
  for i, row in enumerate(tokens):
    ids[i, : len(row)] = row
    length[i] = len(row)
  return jnp.asarray(ids), jnp.asarray(length)


def _keys(seed: int, names: Sequence[str], batch: int) -> jax.Array:
  padded = list(names) + [""] * (batch - len(names))
  return jnp.stack([problem_key(seed, name) for name in padded])


def _meters(
  budgets: Sequence[budget_lib.Budget], batch: int
) -> budget_lib.Meter:
  """Meters as arrays [batch]; rows of padding may spend nothing."""
  nothing = budget_lib.Budget(prompt_tokens=0)
  rows = list(budgets) + [nothing] * (batch - len(budgets))
  meters = [budget_lib.Meter.start(row).to_arrays() for row in rows]
  return jax.tree.map(lambda *xs: jnp.stack(xs), *meters)


def _without_caches(state: compiled.Search) -> compiled.Search:
  return state.replace(policy=None, verifier=None, read=None, key=None)


def exact_cost(
  prices: funding.Prices, prompt_length: int, usage: Any, paid: bool
) -> costs.Cost:
  """The cost of a search, from its exact counts."""
  if not paid:
    return costs.Cost()
  counts = {k: int(v) for k, v in vars(usage).items()}
  total = prices.root(prompt_length) + prices.policy.total(
    tokens=counts["generated"], attended=counts["attended"]
  )
  if prices.verifier is not None:
    total = total + prices.verifier.total(
      tokens=counts["scored"],
      attended=counts["scored_attended"],
      calls=counts["calls"],
    )
  return total


def _result(index, state, answer, prompt_length, prices, policy, decoder):
  paid = bool(state.paid)
  record = tree_record(
    state.decoder.tree, answer, state.text.tokens, policy.tokenizer.decode
  )
  chosen = record.chosen
  return SearchResult(
    problem=index,
    completion=record.completion(chosen) if chosen > 0 else None,
    cost=exact_cost(prices, prompt_length, state.usage, paid),
    stop=_stop(state, prompt_length, prices, decoder),
    rounds=int(state.rounds),
    tree=record,
  )


def tree_record(
  tree: tree_lib.Tree,
  answer: base.Answer,
  tokens: np.ndarray,
  decode: Callable[[list[int]], str],
) -> TreeRecord:
  """A tree of device arrays, and its nodes' tokens, as a host record."""
  used = int(tree.used)
  spans = [tokens[n][tokens[n] >= 0].tolist() for n in range(used)]
  take = lambda x: np.asarray(x[:used])  # noqa: E731
  return TreeRecord(
    parent=take(tree.parent),
    reward=take(tree.reward),
    status=take(tree.status),
    answer=take(tree.answer),
    expanded_at=take(tree.expanded_at),
    weight=take(answer.weight),
    text=[""] + [decode(span) for span in spans[1:]],
    chosen=int(answer.node),
  )


def _stop(state, prompt_length, prices, decoder) -> str:
  """Why the search ended; by what the decoder would have asked for next."""
  meter = state.meter
  if not bool(state.paid):
    return meter.exhausted_by(prices.root(prompt_length).to_arrays())
  tree = state.decoder.tree
  node, children = jax.device_get(_asks(decoder)(state.decoder))
  if not children.any():
    full = int(tree.used) == decoder.shape.nodes
    waiting = np.any(tree.status == tree_lib.Status.OPEN)
    return "capacity" if full and waiting else "done"
  context = int(state.text.end[node[np.argmax(children > 0)]])
  bound = prices.child(1, context).to_arrays()
  return meter.exhausted_by(bound) or "capacity"


@functools.lru_cache(maxsize=64)
def _asks(decoder):
  def ask(state):
    expansion = decoder.ask(state, jax.random.key(0))
    return expansion.node, expansion.children

  return jax.jit(ask)
