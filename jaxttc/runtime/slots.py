# SPDX-License-Identifier: Apache-2.0
"""The array side of the host-driven form: decoders and meters of G slots.

A slot holds one problem's decoder state and meter. The three transitions

    open    a problem moves in, if its budget covers the prompt
    plan    the decoder asks, the meter cuts: requests for the engine
    tell    the decoder is told, the meter charged, the children numbered

are compiled once for all slots and take a mask of the slots that they are
for, since problems are not in step. They decide as `compiled` does: same keys,
same cuts, same ids.

Shape letters as in `compiled`: G slots, N nodes, A asks, K children, M = A K.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.decoders import base
from jaxttc.decoders import tree as tree_lib
from jaxttc.runtime import funding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """Static sizes of the searches.

  Attributes:
    step_tokens: most tokens of a step.
    end_tokens: most tokens of a span that is sampled to the end.
    longest_span: most tokens of any span (`SearchSettings.longest_span`).
    max_tokens: most tokens of a solution.
    max_length: most tokens of a prompt and its solution.
  """

  step_tokens: int
  end_tokens: int
  longest_span: int
  max_tokens: int
  max_length: int


@flax.struct.dataclass
class Slots:
  """G problems between, or in, their rounds.

  Attributes:
    decoder: the decoder's states, leading axis G.
    meter: budgets and what was spent, arrays [G].
    key: key[G].
    rounds: i32[G], rounds asked so far.
    end: i32[G, N], tokens on the path up to and with each node.
    held: i32[G, N], tokens of each node that the engine must keep cached.
    expansion: what was asked for last, leading axis G.
  """

  decoder: Any
  meter: budget_lib.Meter
  key: Key[Array, " G"]
  rounds: Int[Array, " G"]
  end: Int[Array, "G N"]
  held: Int[Array, "G N"]
  expansion: base.Expansion


class Opened(NamedTuple):
  """Which problems can pay for their prompts.

  Attributes:
    paid: bool[G].
    short: i32[G], index into `costs.FIELDS` of the first field that cannot;
      -1 where all can.
  """

  paid: Bool[Array, " G"]
  short: Int[Array, " G"]


class Plan(NamedTuple):
  """A round's requests, and why there are none where there are none.

  Attributes:
    node: i32[G, M], what each child extends.
    until: i32[G, M].
    limit: i32[G, M], tokens that are paid for; 0 for no request.
    seed: u32[G, M, words], key data of each child.
    asked: bool[G], whether the decoder asked for anything.
    full: bool[G], whether its tree is full, and has nodes left to extend.
    short: i32[G], index into `costs.FIELDS` of the first field that cannot
      pay for one token of the first child asked for; -1 where all can.
  """

  node: Int[Array, "G M"]
  until: Int[Array, "G M"]
  limit: Int[Array, "G M"]
  seed: Array
  asked: Bool[Array, " G"]
  full: Bool[Array, " G"]
  short: Int[Array, " G"]


class Children(NamedTuple):
  """What came back for a plan, [G, M]; the first fields as in `base.Outcome`.

  Attributes:
    end: i32, tokens on the path up to and with each child.
    sampled: bool, whether the child pays what the policy's tariff says.
    scored: bool, whether it pays what the verifier's tariff says.
  """

  valid: Bool[Array, "G M"]
  finished: Bool[Array, "G M"]
  length: Int[Array, "G M"]
  reward: Float[Array, "G M"]
  logprob: Float[Array, "G M"]
  answer: Int[Array, "G M"]
  end: Int[Array, "G M"]
  sampled: Bool[Array, "G M"]
  scored: Bool[Array, "G M"]


class Filed(NamedTuple):
  """What the engine is to do with the children.

  Attributes:
    ids: i32[G, M], the node that each valid child is; -1 for the others.
    keep: bool[G, N], nodes that a later round may extend, and all above.
  """

  ids: Int[Array, "G M"]
  keep: Bool[Array, "G N"]


class Transitions(NamedTuple):
  """The compiled functions; `mask` bool[G] says which slots move.

  Attributes:
    empty: number of slots -> Slots that hold nobody's problems.
    open: (slots, mask, length i32[G], key[G], meter) -> Slots, Opened.
    plan: (slots, mask, arena i32[], seconds f32[G]) -> Slots, Plan. `arena`
      is the number of tokens that a problem may keep cached, `seconds` what
      each slot has taken since it was last charged.
    tell: (slots, mask, Children, bills) -> Slots, Filed. `bills` is a Cost of
      arrays [G]: what the round cost beside what the tariffs say.
    answer: (slots, slot i32[]) -> Tree and Answer of one slot.
  """

  empty: Callable[..., Slots]
  open: Callable[..., tuple[Slots, Opened]]
  plan: Callable[..., tuple[Slots, Plan]]
  tell: Callable[..., tuple[Slots, Filed]]
  answer: Callable[..., tuple[tree_lib.Tree, base.Answer]]


@functools.lru_cache(maxsize=64)
def transitions(
  decoder: base.Decoder, prices: funding.Prices, limits: Limits
) -> Transitions:
  """The transitions of a search, compiled on first use.

  Args:
    decoder: the strategy.
    prices: what engine and verifier cost.
    limits: sizes.
  """
  parts = _Parts(decoder, prices, limits)
  return Transitions(
    empty=parts.empty,
    open=jax.jit(parts.open),
    plan=jax.jit(parts.plan),
    tell=jax.jit(parts.tell),
    answer=jax.jit(parts.answer),
  )


class _Parts:
  """The transitions, over what they have in common."""

  def __init__(self, decoder, prices, limits):
    self.decoder, self.prices, self.limits = decoder, prices, limits
    self.children = decoder.shape.children

  def empty(self, groups):
    """Zeros in the shapes that `open` gives."""
    meter = budget_lib.Meter.start(budget_lib.Budget()).to_arrays()
    meter = jax.tree.map(lambda x: jnp.stack([x] * groups), meter)
    zeros = jnp.zeros((groups,), jnp.int32)
    nodes = jnp.zeros((groups, self.decoder.shape.nodes), jnp.int32)
    rows = jnp.zeros((groups, self.decoder.shape.asks), jnp.int32)
    shapes = jax.eval_shape(self._fresh, zeros, meter.budget)
    return Slots(
      decoder=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes),
      meter=meter,
      key=jax.random.split(jax.random.key(0), groups),
      rounds=zeros,
      end=nodes,
      held=nodes,
      expansion=base.Expansion(node=rows, children=rows, until=rows),
    )

  def _fresh(self, length, budget):
    ones = jnp.ones(length.shape, jnp.float32)
    root = base.Root(prompt_length=length, reward=ones)
    return jax.vmap(self.decoder.init)(root, budget)

  def open(self, slots, mask, length, key, meter):
    cost = self.prices.root(length)
    paid = meter.affords(cost)
    spent = jax.tree.map(lambda x: jnp.where(paid, x, 0 * x), cost)
    zeros = jnp.zeros_like(slots.end)
    fresh = Slots(
      decoder=self._fresh(length, meter.budget),
      meter=meter.charge(spent),
      key=key,
      rounds=jnp.zeros_like(slots.rounds),
      end=zeros.at[:, 0].set(length),
      held=zeros,
      expansion=slots.expansion,
    )
    short = jnp.broadcast_to(meter.exhausted_index(cost), paid.shape)
    return where(mask, fresh, slots), Opened(paid, short)

  def plan(self, slots, mask, arena, seconds):
    meter = slots.meter.charge(costs.Cost(seconds=seconds))
    keys = jax.vmap(jax.random.fold_in)(slots.key, slots.rounds)
    expansion = jax.vmap(self.decoder.ask)(slots.decoder, keys)
    node, until, context, cap, wanted = self._rows(slots, expansion, arena)
    wanted &= mask[:, None]
    limit = jax.vmap(funding.fund, in_axes=(0, None, 0, 0, 0))(
      meter, self.prices, wanted, context, cap
    )
    # As compiled: no span is longer than what the decoder says it asks for.
    limit = jnp.minimum(limit, self.limits.longest_span)
    child = jnp.arange(limit.shape[1])
    each = lambda k: jax.vmap(lambda i: jax.random.fold_in(k, i))(child)  # noqa: E731
    tree = slots.decoder.tree
    asks = expansion.children > 0
    first = jnp.take_along_axis(
      expansion.node, jnp.argmax(asks, axis=1)[:, None], axis=1
    )
    ahead = jnp.take_along_axis(slots.end, first, axis=1)[:, 0]
    short = meter.exhausted_index(self.prices.child(1, ahead))
    plan = Plan(
      node=node,
      until=until,
      limit=limit,
      seed=jax.random.key_data(jax.vmap(each)(keys)),
      asked=asks.any(axis=1),
      full=(tree.used == tree.parent.shape[1]) & tree.open.any(axis=1),
      short=jnp.broadcast_to(short, mask.shape),
    )
    return slots.replace(
      meter=meter,
      rounds=slots.rounds + mask,
      expansion=where(mask, expansion, slots.expansion),
    ), plan

  def _rows(self, slots, expansion, arena):
    """The expansion child by child, before it is paid for."""
    flat = lambda x: jnp.repeat(x, self.children, axis=1)  # noqa: E731
    number = jnp.tile(jnp.arange(self.children), (1, self.decoder.shape.asks))
    node, until = flat(expansion.node), flat(expansion.until)
    context = jnp.take_along_axis(slots.end, node, axis=1)
    prompt = slots.end[:, :1]
    step = until == base.Until.STEP
    cap = jnp.where(step, self.limits.step_tokens, self.limits.end_tokens)
    cap = jnp.minimum(cap, self.limits.max_tokens - (context - prompt))
    cap = jnp.minimum(cap, self.limits.max_length - context)
    wanted = (number < flat(expansion.children)) & (cap > 0)
    # Children that may be extended later need room in the caches. The policy
    # keeps all tokens of a prompt but the last, the verifier the last too.
    needs = jnp.where(wanted & step, cap, 0)
    keeps = prompt - (self.prices.verifier is None)
    free = arena - keeps - slots.held.sum(axis=1, keepdims=True)
    wanted &= jnp.cumsum(needs, axis=1) <= free
    return node, until, context, cap, wanted

  def tell(self, slots, mask, children, bills):
    expansion, tree = slots.expansion, slots.decoder.tree
    shape = expansion.node.shape + (self.children,)
    outcome = base.Outcome(
      **{
        field.name: getattr(children, field.name).reshape(shape)
        for field in dataclasses.fields(base.Outcome)
      }
    )
    told = jax.vmap(self.decoder.tell)(slots.decoder, expansion, outcome)
    decoder = where(mask, told, slots.decoder)
    ids = jax.vmap(tree_lib.child_ids)(tree.used, outcome.valid)
    ids = jnp.where(mask[:, None], ids.reshape(children.valid.shape), -1)
    node = jnp.repeat(expansion.node, self.children, axis=1)
    context = jnp.take_along_axis(slots.end, node, axis=1)
    end = _file(slots.end, ids, children.end)
    deeper = jnp.where(children.finished, -1, ids)
    held = _file(slots.held, deeper, children.length)
    keep = jnp.ones(held.shape, bool)
    if not self.decoder.revisits:
      grown = decoder.tree
      keep = tree_lib.on_path_to(grown.parent, grown.open).at[:, 0].set(True)
    cost = self._cost(children, context)
    cost, bills = jax.tree.map(
      lambda x: jnp.where(mask, x, 0 * x), (cost, bills)
    )
    return slots.replace(
      decoder=decoder,
      meter=slots.meter.charge(cost).charge(bills),
      end=end,
      held=jnp.where(keep, held, 0),
    ), Filed(ids, keep)

  def _cost(self, children, context):
    """What the tariffs say of children that nobody billed."""
    length = children.length
    cost = _where(children.sampled, self.prices.sampled(length, context))
    if self.prices.verifier is not None:
      read = self.prices.verifier.price(length, context)
      cost = cost + _where(children.scored, read)
    return jax.tree.map(lambda x: x.sum(axis=1), cost)

  def answer(self, slots, slot):
    state = jax.tree.map(lambda x: x[slot], slots.decoder)
    return state.tree, self.decoder.answer(state)


def where(mask: Bool[Array, " G"], new: Any, old: Any) -> Any:
  """`new` in the slots where `mask` holds, `old` in the others; any pytree."""

  def pick(a, b):
    return jnp.where(mask.reshape((-1,) + (1,) * (a.ndim - 1)), a, b)

  return jax.tree.map(pick, new, old)


def _where(mask, cost):
  def pick(x):
    x = jnp.broadcast_to(x, mask.shape)
    return jnp.where(mask, x, 0 * x)

  return jax.tree.map(pick, cost)


def _file(array, ids, values):
  group = jnp.arange(array.shape[0])[:, None]
  slot = jnp.where(ids < 0, array.shape[1], ids)
  return array.at[group, slot].set(values.astype(array.dtype), mode="drop")
