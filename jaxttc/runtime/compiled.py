# SPDX-License-Identifier: Apache-2.0
"""Whole searches on the device: one XLA program for a batch of problems.

Where policy and verifier are both local, nothing of a search needs the host:
a `lax.while_loop` turns ask -> pay -> sample -> score -> tell until every
problem has stopped. Problems advance in step, a round each a turn; one that is
done idles. The host-driven form (`driver`) makes the same decisions from the
same keys.

Keys: round r of a problem uses `fold_in(key, r)`; child i of the round (row by
row) samples with `fold_in(that, i)`, and its token t with `fold_in(that, t)`.

Shape letters: G problems, T prompt tokens, N nodes, A asks, K children, R = A K
rows, W tokens a span, C arena slots.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import wide_count
from jaxttc.decoders import base
from jaxttc.decoders import tree as tree_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, generation, tree_cache
from jaxttc.models import key_values
from jaxttc.runtime import funding
from jaxttc.runtime import settings as settings_lib
from jaxttc.verifiers import process_reward

_ONE_WIDTH = 128  # solutions so short are decoded in one loop


@flax.struct.dataclass
class Text:
  """The tokens behind the nodes.

  Attributes:
    tokens: i32[G, N, W], each node's span, -1 beyond its length.
    last: i32[G, N], each node's last token.
    end: i32[G, N], tokens on the path up to and with the node.
  """

  tokens: Int[Array, "G N W"]
  last: Int[Array, "G N"]
  end: Int[Array, "G N"]


@flax.struct.dataclass
class Usage:
  """What was spent, in exact counts that every price is linear in.

  Attributes:
    generated: i32[G], tokens sampled.
    attended: positions that they attended to, [G].
    scored: i32[G], tokens that the verifier read after the prompt.
    scored_attended: positions that they attended to, [G].
    calls: i32[G], prefixes scored.
  """

  generated: Int[Array, " G"]
  attended: wide_count.WideCount
  scored: Int[Array, " G"]
  scored_attended: wide_count.WideCount
  calls: Int[Array, " G"]

  @classmethod
  def nothing(cls, groups: int) -> "Usage":
    """Of searches that have not begun."""
    zeros = jnp.zeros((groups,), jnp.int32)
    wide = wide_count.WideCount.zeros((groups,))
    return cls(zeros, wide, zeros, wide, zeros)


@flax.struct.dataclass
class Search:
  """G searches in progress: all that it takes to go on with them.

  Attributes:
    decoder: the decoder's states, leading axis G.
    policy: the policy's tree cache.
    verifier: the verifier's; None without one.
    text: tokens of the nodes.
    read: what the verifier keeps of the nodes, [G, N]; None without one.
    meter: budgets and what was spent, arrays [G].
    usage: exact counts behind the meter.
    key: key[G].
    rounds: i32[G], rounds asked so far.
    running: bool[G].
    paid: bool[G], whether the budget covered the prompt.
  """

  decoder: Any
  policy: tree_cache.TreeCache
  verifier: tree_cache.TreeCache | None
  text: Text
  read: process_reward.Prefixes | None
  meter: budget_lib.Meter
  usage: Usage
  key: Key[Array, " G"]
  rounds: Int[Array, " G"]
  running: Bool[Array, " G"]
  paid: Bool[Array, " G"]

  @property
  def tree(self) -> tree_lib.Tree:
    """The search trees, leading axis G."""
    return self.decoder.tree


class Prompts(NamedTuple):
  """Prompts as both models have read them.

  Attributes:
    policy: keys and values of all but the last token, [G, 1, K, E, T].
    verifier: keys and values of all tokens; None without a verifier.
    read: what the verifier keeps of the prompts, [G]; None without one.
  """

  policy: tuple[key_values.KeyValues, ...]
  verifier: tuple[key_values.KeyValues, ...] | None
  read: process_reward.Prefixes | None


def read_prompts(
  policy: nn.Module,
  verifier: nn.Module | None,
  policy_params: Any,
  verifier_params: Any,
  tokens: Int[Array, "G T"],
  length: Int[Array, " G"],
) -> Prompts:
  """Reads prompts. The same program serves all decoders."""
  ours, _ = generation.prefill(policy, policy_params, tokens, length - 1)
  if verifier is None:
    return Prompts(ours, None, None)
  theirs, judged = generation.prefill(verifier, verifier_params, tokens, length)
  return Prompts(ours, theirs, process_reward.prompts(judged, length))


class CompiledSearch(NamedTuple):
  """A search as jit-able functions.

  Attributes:
    read: (policy params, verifier params, tokens i32[G, T], length i32[G])
      -> Prompts; the same function, whatever the decoder.
    start: (Prompts, tokens i32[G, T], length i32[G], key[G], Meter of arrays
      [G]) -> Search, prompts paid for as far as budgets allow.
    advance: (policy params, verifier params, Search, rounds i32[], idle i32[]
      or None) -> Search, at most so many rounds on, no further than some tree
      cache has room for, and only while no more than `idle` searches have
      stopped (None: until all have). Calling it twice for half the rounds
      gives the same state.
    crowded: Search -> bool[G], searches that wait for more room.
    grow: Search -> Search with twice the slots.
    answer: Search -> `base.Answer`, leading axis G.
  """

  read: Callable[..., Prompts]
  start: Callable[..., Search]
  advance: Callable[..., Search]
  crowded: Callable[[Search], Bool[Array, " G"]]
  grow: Callable[[Search], Search]
  answer: Callable[[Search], base.Answer]


def compiled_search(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle | None,
  decoder: base.Decoder,
  settings: settings_lib.SearchSettings,
  controller: controllers.Controller | None = None,
) -> CompiledSearch:
  """Builds the functions of a search.

  Args:
    policy: the language model.
    verifier: the reward model; only used if the decoder needs rewards.
    decoder: the strategy.
    settings: sampling and sizes.
    controller: bends the logits after the sampler's own controllers.

  Returns:
    Pure functions of arrays. Parameters are arguments, so a sharded or
    updated copy needs no new compilation.

  Raises:
    ValueError: if the models do not fit each other or the decoder, or the
      settings cannot be.
  """
  settings.validate()
  if not decoder.needs_reward:
    verifier = None
  elif verifier is None:
    raise ValueError(
      "the decoder needs rewards; give a verifier, or choose a decoder that "
      "needs none (greedy, sample, self_consistency)"
    )
  bundle_lib.check_pair(policy, verifier)
  why = why_host_driven(policy, verifier, decoder)
  if why:
    raise ValueError(why)
  parts = _Parts(policy, verifier, decoder, settings, controller)
  return CompiledSearch(
    read=functools.partial(
      read_prompts, policy.model, None if verifier is None else verifier.model
    ),
    start=parts.start,
    advance=parts.advance,
    crowded=parts.crowded,
    grow=parts.grow,
    answer=lambda search: jax.vmap(decoder.answer)(search.decoder),
  )


def why_host_driven(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle | None,
  decoder: base.Decoder,
) -> str:
  """Why a search cannot be compiled; "" if it can.

  That is where answers are to be told apart, or steps to be shown, that only
  their text says, which must be read between rounds.

  Args:
    policy: the language model.
    verifier: the reward model; None if the decoder needs no rewards.
    decoder: the strategy.
  """
  if decoder.votes and policy.stop_rule.answer_marker_id < 0:
    return (
      "the decoder votes, and a compiled search cannot tell which answers of "
      "a published model are the same; use the host-driven form "
      "(runtime.driver.drive), or a decoder that does not vote (best_of_n, "
      "select='best')"
    )
  if verifier is not None and verifier.writes_verdicts:
    return (
      "a generative verifier writes before it judges, which a compiled search "
      "cannot wait for; use the host-driven form (runtime.driver.drive)"
    )
  if verifier is not None and verifier.step_format is not None:
    return (
      "the reward model is shown steps as text, with separators, which a "
      "compiled search cannot; use the host-driven form (runtime.driver.drive)"
    )
  return ""


class _Parts:
  """The functions of one compiled search, over what they have in common."""

  def __init__(self, policy, verifier, decoder, settings, controller):
    self.policy, self.verifier = policy, verifier
    self.decoder, self.settings = decoder, settings
    own = settings.sampler.controller(policy.config.vocab_size)
    self.controller = (
      own if controller is None else controllers.chain(own, controller)
    )
    self.prices = settings_lib.prices(policy, verifier, settings)
    self.rule = policy.stop_rule
    self.widths = _widths(decoder.until, settings)
    self.extends = base.Until.STEP in decoder.until

  def start(self, prompts, tokens, length, key, meter):
    """Puts prompts into caches, and pays for them as far as budgets allow."""
    groups, width = tokens.shape
    shape = self.decoder.shape
    capacity = width
    if self.extends:  # whole solutions are never extended: no room for them
      capacity += self.settings.arena_slots(shape)
    order = jnp.arange(groups)
    cost = self.prices.root(length)
    paid = meter.affords(cost)
    spent = jax.tree.map(lambda x: jnp.where(paid, x, 0 * x), cost)
    cache = tree_cache.init(
      self.policy.config, groups, capacity, self.policy.dtype
    )
    cache = tree_cache.write_prompt(cache, prompts.policy, length - 1, order)
    theirs, read = None, None
    if self.verifier is not None:
      theirs = tree_cache.init(
        self.verifier.config, groups, capacity, self.verifier.dtype
      )
      theirs = tree_cache.write_prompt(theirs, prompts.verifier, length, order)
      read = jax.tree.map(
        lambda x: jnp.repeat(x[:, None], shape.nodes, axis=1), prompts.read
      )
    root = base.Root(
      prompt_length=length, reward=jnp.ones((groups,), jnp.float32)
    )
    zeros = jnp.zeros((groups,), jnp.int32)
    nodes = jnp.zeros((groups, shape.nodes), jnp.int32)
    last = jnp.take_along_axis(tokens, length[:, None] - 1, axis=1)[:, 0]
    return Search(
      decoder=jax.vmap(self.decoder.init)(root, meter.budget),
      policy=cache,
      verifier=theirs,
      text=Text(
        tokens=jnp.full((groups, shape.nodes, self.widths[-1]), -1, jnp.int32),
        last=nodes.at[:, 0].set(last),
        end=nodes.at[:, 0].set(length),
      ),
      read=read,
      meter=meter.charge(spent),
      usage=Usage.nothing(groups),
      key=key,
      rounds=zeros,
      running=paid,
      paid=paid,
    )

  def advance(self, policy_params, verifier_params, search, rounds, idle=None):
    """Turns rounds until all searches have stopped, or `rounds` are done."""
    if idle is None:
      idle = search.running.size

    def turn(carry):
      done, search = carry
      return done + 1, self._round(policy_params, verifier_params, search)

    def going(carry):
      done, search = carry
      busy = search.running.any() & ~self.crowded(search).any()
      return (done < rounds) & busy & ((~search.running).sum() <= idle)

    return jax.lax.while_loop(going, turn, (jnp.int32(0), search))[1]

  def crowded(self, search):
    """Running searches whose next round might not fit the tree cache."""
    if self.settings.slots is not None or not self.extends:
      return jnp.zeros_like(search.running)
    needed = self.settings.round_slots(self.decoder.shape)
    return search.running & (_free_slots(search) < needed)

  def grow(self, search):
    """The same searches with twice the slots in every tree cache."""
    more = 2 * search.policy.capacity
    return search.replace(
      policy=tree_cache.resize(search.policy, more),
      verifier=search.verifier and tree_cache.resize(search.verifier, more),
    )

  def _round(self, policy_params, verifier_params, search: Search) -> Search:
    groups, capacity = search.policy.owner.shape
    keys = jax.vmap(jax.random.fold_in)(search.key, search.rounds)
    expansion = jax.vmap(self.decoder.ask)(search.decoder, keys)
    rows, context, wanted = self._rows(search, expansion)
    limit = jax.vmap(funding.fund, in_axes=(0, None, 0, 0, 0))(
      search.meter, self.prices, wanted, context, rows.limit
    )
    child = jnp.arange(limit.shape[1])
    rows = rows.replace(
      limit=limit,
      key=jax.vmap(
        lambda k: jax.vmap(lambda i: jax.random.fold_in(k, i))(child)
      )(keys),
    )
    tree = search.tree
    path = tree_cache.path_mask(search.policy.owner, tree.parent, rows.node)
    idle = generation.idle_rows(
      self.policy.config,
      groups,
      limit.shape[1],
      self.widths[0],
      capacity,
      self.controller,
      self.policy.dtype,
    )
    begun = generation.assign(idle, rows, path, self.controller)
    sampled = self._decode(policy_params, search.policy, begun)
    spans = self._spans(policy_params, search.policy, sampled)
    valid = spans.stopped & (limit > 0)
    reward, read, theirs_kv = self._score(
      verifier_params, search, rows, context, spans, valid
    )
    shape = expansion.node.shape + (self.decoder.shape.children,)
    outcome = base.Outcome(
      valid=valid.reshape(shape),
      finished=(spans.finished & valid).reshape(shape),
      length=spans.length.reshape(shape),
      reward=reward.reshape(shape),
      logprob=spans.logprob.reshape(shape),
      answer=jnp.where(valid, spans.answer, -1).reshape(shape),
    )
    running = search.running & (limit > 0).any(axis=1)
    told = jax.vmap(self.decoder.tell)(search.decoder, expansion, outcome)
    decoder = _where(running, told, search.decoder)
    ids = jax.vmap(tree_lib.child_ids)(tree.used, outcome.valid)
    ids = ids.reshape(limit.shape)
    deeper = jnp.where(valid & ~spans.finished, ids, -1)
    policy, verifier = search.policy, search.verifier
    if self.extends:
      policy = tree_cache.commit(
        policy,
        sampled.scratch,
        deeper,
        sampled.start,
        spans.length,
        sampled.first_position,
      )
    if self.extends and verifier is not None:
      verifier = tree_cache.commit(
        verifier,
        theirs_kv,
        deeper,
        jnp.zeros_like(deeper),
        spans.length,
        context,
      )
    read = search.read and jax.tree.map(
      lambda old, new: _file(old, ids, new), search.read, read
    )
    if self.extends and not self.decoder.revisits:
      keep = _reachable(decoder.tree)
      policy = tree_cache.release(policy, keep)
      verifier = verifier and tree_cache.release(verifier, keep)
    return search.replace(
      decoder=decoder,
      policy=policy,
      verifier=verifier,
      text=self._filed(search.text, ids, spans, context),
      read=read,
      meter=self._charged(search.meter, spans.length, context, valid),
      usage=self._used(search.usage, spans.length, context, valid),
      rounds=search.rounds + search.running,
      running=running,
    )

  def _rows(self, search, expansion):
    """The expansion as generation requests, before they are paid for."""
    children = self.decoder.shape.children
    flat = lambda x: jnp.repeat(x, children, axis=1)  # noqa: E731
    number = jnp.tile(jnp.arange(children), (1, self.decoder.shape.asks))
    node, until = flat(expansion.node), flat(expansion.until)
    gather = lambda x: jnp.take_along_axis(x, node, axis=1)  # noqa: E731
    context = gather(search.text.end)
    solution = context - search.text.end[:, :1]
    cap = jnp.where(
      until == generation.STEP,
      self.settings.step_tokens,
      self.settings.end_tokens(self.decoder.until),
    )
    cap = jnp.minimum(cap, self.settings.max_tokens - solution)
    cap = jnp.minimum(cap, self.policy.config.max_length - context)
    wanted = (number < flat(expansion.children)) & (cap > 0)
    wanted &= search.running[:, None]
    # Children that may be extended later need room in the arena.
    needs = jnp.where(wanted & (until == generation.STEP), cap, 0)
    wanted &= jnp.cumsum(needs, axis=1) <= _free_slots(search)[:, None]
    return (
      generation.Requests(
        node=jnp.where(wanted, node, -1),
        token=gather(search.text.last),
        position=context - 1,
        until=until,
        limit=cap,
        key=jnp.broadcast_to(search.key[:, None], node.shape),
      ),
      context,
      wanted,
    )

  def _decode(self, params, cache, rows):
    return generation.decode(
      self.policy.model,
      params,
      cache,
      rows,
      self.rule,
      self.controller,
      self.settings.sampler.draw,
      rows.columns,
    )

  def _spans(self, params, cache, rows) -> "_Spans":
    """What was sampled; goes on in wider scratch while any row is active."""

    def packed(rows):
      return _Spans(
        tokens=generation.span_tokens(rows, self.widths[-1]),
        length=rows.length,
        stopped=rows.stopped,
        finished=rows.finished,
        logprob=rows.logprob,
        answer=rows.answer_class,
      )

    def wider(width):
      if width is None:
        return packed

      def go_on(rows):
        rows = self._decode(params, cache, generation.widen(rows, width))
        return branch(rows, width)

      return go_on

    def branch(rows, width):
      following = next((w for w in self.widths if w > width), None)
      if following is None:
        return packed(rows)
      return jax.lax.cond(rows.active.any(), wider(following), packed, rows)

    return branch(rows, self.widths[0])

  def _score(self, params, search, rows, context, spans, valid):
    """Rewards of the children, what is kept of them, and KV."""
    if self.verifier is None:
      return jnp.ones(valid.shape, jnp.float32), None, None
    owner = search.verifier.owner
    path = tree_cache.path_mask(owner, search.tree.parent, rows.node)
    full, short = self.widths[-1], self.widths[0]
    group = jnp.arange(valid.shape[0])[:, None]
    parents = jax.tree.map(
      lambda x: x[group, jnp.maximum(rows.node, 0)], search.read
    )

    def read(width):
      def run(tokens):
        reward, hidden, keys_values = process_reward.score(
          self.verifier.model,
          params,
          search.verifier,
          path,
          context,
          tokens[..., :width],
          parents.hidden,
        )
        reward = jnp.pad(reward, ((0, 0), (0, 0), (0, full - width)))
        return reward, hidden, key_values.narrow(keys_values, short)

      return run

    tokens = jnp.where(valid[..., None], spans.tokens, -1)
    if not self.extends or full == short:
      reward, hidden, keys_values = read(full)(tokens)
    else:
      long = jnp.where(valid, spans.length, 0).max() > short
      reward, hidden, keys_values = jax.lax.cond(
        long, read(full), read(short), tokens
      )
    ends = process_reward.step_ends(tokens, spans.finished, self.rule.step_end)
    stepped = parents.rewards.extended(reward, ends)
    children = process_reward.Prefixes(rewards=stepped, hidden=hidden)
    return stepped.aggregate(self.settings.aggregate), children, keys_values

  def _filed(self, text, ids, spans, context) -> Text:
    index = jnp.maximum(spans.length - 1, 0)[..., None]
    last = jnp.take_along_axis(spans.tokens, index, axis=2)[..., 0]
    return Text(
      tokens=_file(text.tokens, ids, spans.tokens),
      last=_file(text.last, ids, last),
      end=_file(text.end, ids, context + spans.length),
    )

  def _charged(self, meter, length, context, valid):
    """The meter after sampling all spans and scoring the valid ones."""
    cost = self.prices.policy.price(length, context - 1)
    if self.prices.verifier is not None:
      read = self.prices.verifier.price(length, context)
      cost = cost + jax.tree.map(lambda x: jnp.where(valid, x, 0 * x), read)
    sampled = length > 0
    cost = jax.tree.map(
      lambda x: jnp.where(sampled, x, 0 * x).sum(axis=1), _full(cost, length)
    )
    return meter.charge(cost)

  def _used(self, usage, length, context, valid) -> Usage:
    # The first of n tokens attends to `context` positions when sampled (it
    # is drawn by feeding the one before it), to one more when read.
    n, before = length.astype(jnp.uint32), context.astype(jnp.uint32)
    # Of two neighbours one is even, and 0 * (0 - 1) stays 0.
    positions = n * before + n * (n - 1) // 2
    read = jnp.where(valid, length, 0)
    read_positions = jnp.where(valid, positions + n, 0)
    return Usage(
      generated=usage.generated + length.sum(axis=1),
      attended=usage.attended.add(positions),
      scored=usage.scored + read.sum(axis=1),
      scored_attended=usage.scored_attended.add(read_positions),
      calls=usage.calls + valid.sum(axis=1),
    )


class _Spans(NamedTuple):
  tokens: jax.Array  # i32[G, R, W]
  length: jax.Array  # i32[G, R]
  stopped: jax.Array  # bool[G, R]
  finished: jax.Array  # bool[G, R]
  logprob: jax.Array  # f32[G, R]
  answer: jax.Array  # i32[G, R]


def _widths(
  until: tuple[base.Until, ...], settings: settings_lib.SearchSettings
) -> tuple[int, ...]:
  """Scratch widths: what most spans need, then what the longest may.

  Every step pays for the whole width, and every width is compiled.
  """
  longest = settings.longest_span(until)
  if base.Until.STEP in until:
    first = settings.step_tokens
  else:  # whole solutions
    first = longest if longest <= _ONE_WIDTH else longest // 2
  return (first, longest) if first < longest else (longest,)


def _free_slots(search: Search) -> Int[Array, " G"]:
  """Slots that both tree caches have left."""
  free = search.policy.capacity - search.policy.used()
  if search.verifier is not None:
    theirs = search.verifier.capacity - search.verifier.used()
    free = jnp.minimum(free, theirs)
  return free


def _file(array, ids, values):
  """Writes rows' values [G, R, ..] at their nodes; id -1 is not written."""
  group = jnp.arange(array.shape[0])[:, None]
  slot = jnp.where(ids < 0, array.shape[1], ids)
  return array.at[group, slot].set(values.astype(array.dtype), mode="drop")


def _where(condition, new, old):
  """Takes `new` for the problems where `condition` bool[G] holds."""

  def pick(a, b):
    return jnp.where(condition.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

  return jax.tree.map(pick, new, old)


def _full(cost, like):
  return jax.tree.map(lambda x: jnp.broadcast_to(x, like.shape), cost)


def _reachable(tree: tree_lib.Tree) -> Bool[Array, "G N"]:
  """Nodes that a later round may extend, and all above them."""
  keep = tree_lib.on_path_to(tree.parent, tree.open)
  return keep.at[:, 0].set(True)
