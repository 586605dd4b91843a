# SPDX-License-Identifier: Apache-2.0
"""MASB: machines that balance themselves, each by what it knows and asks.

The decentralised multi-agent balancer after Sliwko and Getov (2018), "A scalable
service allocation negotiation for cloud computing". Its protocol is theirs as
far as abstracts tell: node agents, broker agents with slightly stale summaries,
scores for first placements (SIAS) and re-allocations (SRAS), live migration in
two phases, forced migration as the last resort. Numbers and details are ours.
"""

import functools

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxttc.simulation.placement import cluster as cluster_lib
from jaxttc.simulation.placement import migration, negotiation, policies

_GIB = 2.0**30


@struct.dataclass
class Brokers:
  """What the brokers know.

  Attributes:
    summary: f32[B, N, R], loads as each broker last heard of them.
    period: i32, periods since the start.
  """

  summary: Float[Array, "B N R"]
  period: Int[Array, ""]


@struct.dataclass
class MasbState:
  """A cell and its brokers."""

  cluster: cluster_lib.Cluster
  brokers: Brokers


def init(
  cluster: cluster_lib.Cluster, rules: negotiation.Rules | None = None
) -> Brokers:
  """Brokers that have heard of no machine: they take all for full."""
  rules = negotiation.check(rules or negotiation.Rules())
  shape = (rules.brokers, *cluster.capacity.shape)
  return Brokers(jnp.full(shape, jnp.inf), jnp.int32(0))


@functools.partial(jax.jit, static_argnames=("rules", "link"))
def masb_step(
  state: MasbState,
  key: PRNGKeyArray,
  rules: negotiation.Rules = negotiation.Rules(),
  link: migration.Link = migration.Link(),
) -> tuple[MasbState, cluster_lib.Moves]:
  """One period: reports, negotiations, and the migrations agreed on.

  Args:
    state: the cell, whose loads are up to date, and its brokers.
    key: of what is sampled.
    rules: how agents behave.
    link: how migrations travel.

  Returns:
    The state, with migrations on their way, and what was done.
  """
  cluster = state.cluster
  brokers, reports = _report(state.brokers, cluster, rules)
  slots = cluster.live.shape[0]
  everybody = jnp.arange(slots, dtype=jnp.int32)
  cost = cluster_lib.transfers(cluster, everybody, link).bytes / _GIB
  talk = negotiation.leaving(cluster, cost, rules)
  decisions = talk.active.sum()
  taken = jnp.zeros((slots,), bool)
  talks, agreed, tentative = [], [], cluster
  for level in range(rules.depth + 1):
    taken = taken.at[jnp.where(talk.active, talk.slots, slots)].set(
      True, mode="drop"
    )
    level_key = jax.random.fold_in(key, level)
    tentative, talk = negotiation.negotiate(
      tentative, brokers.summary, talk, level_key, rules
    )
    agreed.append(talk.target >= 0)
    if level < rules.depth:
      tentative, talk, pushed = _force_if_needed(
        tentative, talk, taken, cost, jax.random.fold_in(level_key, 1), rules
      )
      talks.append(talk)
      talk = pushed
    else:
      talks.append(talk)
  cluster, moves = _commit(cluster, talks, agreed, link)
  moves = moves._replace(
    decisions=decisions.astype(jnp.int32),
    messages=moves.messages + reports,
  )
  return MasbState(cluster, brokers), moves


def masb(
  rules: negotiation.Rules | None = None,
  link: migration.Link | None = None,
) -> policies.Policy:
  """The agent-based balancer as a policy.

  New tasks ask `asked` machines for their SIAS, and others if all refuse.

  Args:
    rules: how agents behave.
    link: how migrations travel.

  Raises:
    ValueError: if a rule or the link is out of range.
  """
  used = negotiation.check(rules or negotiation.Rules())
  travel = migration.check_link(link or migration.Link())

  def place(brokers, cluster, slot, where, key):
    del where
    node, messages = jnp.int32(-1), jnp.int32(0)
    for number in range(used.rounds):
      # The first try leaves as much room as moves do, the last takes what fits.
      headroom = used.headroom if number < used.rounds - 1 else 0.0
      found, _ = policies.ask_some(
        cluster,
        slot,
        jax.random.fold_in(key, number),
        used.asked,
        headroom,
      )
      # A bid and an answer each, then a request and its answer.
      sent = jnp.where(node < 0, 2 * used.asked, 0)
      sent += jnp.where((node < 0) & (found >= 0), 2, 0)
      messages = messages + sent.astype(jnp.int32)
      node = jnp.where(node >= 0, node, found)
    return policies.Choice(brokers, node, messages)

  def balance(brokers, cluster, key):
    state, moves = masb_step(MasbState(cluster, brokers), key, used, travel)
    return state.brokers, state.cluster, moves

  return policies.Policy(
    "masb", functools.partial(init, rules=used), place, balance
  )


def _report(
  brokers: Brokers, cluster: cluster_lib.Cluster, rules: negotiation.Rules
) -> tuple[Brokers, Int[Array, ""]]:
  """Each machine tells each broker now and then what it carries."""
  count, nodes = brokers.summary.shape[:2]
  turn = jnp.arange(nodes)[None] + jnp.arange(count)[:, None] + brokers.period
  due = (turn % rules.staleness == 0) & cluster_lib.present(cluster)[None]
  carried = (cluster.load + cluster.promised)[None]
  summary = jnp.where(due[:, :, None], carried, brokers.summary)
  return Brokers(summary, brokers.period + 1), due.sum().astype(jnp.int32)


def _force_if_needed(
  cluster: cluster_lib.Cluster,
  talk: negotiation.Talk,
  taken: Array,
  cost: Float[Array, " S"],
  key: PRNGKeyArray,
  rules: negotiation.Rules,
) -> tuple[cluster_lib.Cluster, negotiation.Talk, negotiation.Talk]:
  """Forced migrations cost a look at all tasks: only if somebody is stuck."""
  nobody = negotiation.Talk(
    jnp.zeros_like(talk.slots),
    jnp.zeros_like(talk.active),
    jnp.full_like(talk.target, -1),
    jnp.int32(0),
  )
  return jax.lax.cond(
    (talk.active & (talk.target < 0)).any(),
    lambda: negotiation.force(cluster, talk, taken, cost, key, rules),
    lambda: (cluster, talk, nobody),
  )


def _commit(
  cluster: cluster_lib.Cluster,
  talks: list[negotiation.Talk],
  agreed: list[Array],
  link: migration.Link,
) -> tuple[cluster_lib.Cluster, cluster_lib.Moves]:
  """Starts the migrations of all chains that found room to their end.

  Who pushes another out starts when that one is gone.
  """
  goes = [talks[-1].target >= 0]
  for talk, free in zip(talks[-2::-1], agreed[-2::-1], strict=True):
    # Row i was agreed to freely, or its victim, row i below, goes.
    goes.insert(0, talk.active & (free | ((talk.target >= 0) & goes[0])))
  trips = [cluster_lib.transfers(cluster, t.slots, link) for t in talks]
  wait = jnp.zeros_like(trips[-1].seconds)
  waits = [wait]
  for level in range(len(talks) - 2, -1, -1):
    behind = goes[level + 1]
    wait = jnp.where(behind, trips[level + 1].seconds + wait, 0.0)
    waits.insert(0, wait)
  pushes = [
    going & ((talk.target >= 0) & ~free)
    for talk, free, going in zip(talks, agreed, goes, strict=True)
  ]
  forced = sum(going.sum() for going in goes[1:]) + sum(
    pushing.sum() for pushing in pushes[:1]
  )
  slots = jnp.concatenate([talk.slots for talk in talks])
  nodes = jnp.concatenate([talk.target for talk in talks])
  really = jnp.concatenate(goes)
  trip = jax.tree.map(lambda *parts: jnp.concatenate(parts), *trips)
  timed = trip._replace(seconds=trip.seconds + jnp.concatenate(waits))
  moved = cluster_lib.depart(cluster, slots, nodes, really, timed)
  return moved, cluster_lib.Moves(
    started=really.sum().astype(jnp.int32),
    forced=jnp.asarray(forced, jnp.int32),
    failed=(talks[0].active & ~goes[0]).sum().astype(jnp.int32),
    bytes=jnp.where(really, trip.bytes, 0.0).sum(),
    messages=sum((talk.messages for talk in talks), jnp.int32(0)),
    decisions=jnp.int32(0),
  )
