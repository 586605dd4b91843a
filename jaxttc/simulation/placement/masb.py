# SPDX-License-Identifier: Apache-2.0
"""MASB: machines that balance themselves, each by what it knows and asks.

The decentralised multi-agent balancer after Sliwko and Getov (2018), "A
scalable service allocation negotiation for cloud computing". Its protocol is
theirs as far as abstracts tell: node agents, broker agents with slightly stale
summaries, scores for first placements (SIAS) and re-allocations (SRAS), live
migration in two phases, forced migration as the last resort. Numbers and
details are ours.
"""

import functools

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxttc.simulation.placement import cluster as cluster_lib
from jaxttc.simulation.placement import migration, negotiation, policies

_GIB = 2.0**30
_RULES, _LINK = negotiation.Rules(), migration.Link()


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
  rules: negotiation.Rules = _RULES,
  link: migration.Link = _LINK,
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

  def level(carry, number):
    tentative, talk, taken = carry
    taken = taken.at[jnp.where(talk.active, talk.slots, slots)].set(
      True, mode="drop"
    )
    level_key = jax.random.fold_in(key, number)
    tentative, talk = negotiation.negotiate(
      tentative, brokers.summary, talk, level_key, rules
    )
    free = talk.target >= 0
    tentative, talk, pushed = _force_if_needed(
      tentative,
      talk,
      taken,
      cost,
      jax.random.fold_in(level_key, 1),
      rules,
      number < rules.depth,
    )
    return (tentative, pushed, taken), (talk, free)

  start = (cluster, talk, jnp.zeros((slots,), bool))
  _, (talks, free) = jax.lax.scan(level, start, jnp.arange(rules.depth + 1))
  cluster, moves = _commit(cluster, talks, free, link)
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
  taken: Bool[Array, " S"],
  cost: Float[Array, " S"],
  key: PRNGKeyArray,
  rules: negotiation.Rules,
  may: Bool[Array, ""],
) -> tuple[cluster_lib.Cluster, negotiation.Talk, negotiation.Talk]:
  """Force costs a look at all tasks: only if somebody is stuck, and may."""
  nobody = negotiation.Talk(
    jnp.zeros_like(talk.slots),
    jnp.zeros_like(talk.active),
    jnp.full_like(talk.target, -1),
    jnp.int32(0),
  )
  return jax.lax.cond(
    may & (talk.active & (talk.target < 0)).any(),
    lambda: negotiation.force(cluster, talk, taken, cost, key, rules),
    lambda: (cluster, talk, nobody),
  )


def _commit(
  cluster: cluster_lib.Cluster,
  talks: negotiation.Talk,
  free: Bool[Array, "D M"],
  link: migration.Link,
) -> tuple[cluster_lib.Cluster, cluster_lib.Moves]:
  """Starts the migrations of all chains that found room to their end.

  Row i of a level was agreed to freely, or pushed row i of the next one out and
  starts when that is gone.
  """
  slots, nodes = talks.slots.reshape(-1), talks.target.reshape(-1)
  trip = cluster_lib.transfers(cluster, slots, link)

  def back(carry, given):
    goes_below, time_below = carry
    target, own, seconds = given
    goes = (target >= 0) & (own | goes_below)
    time = seconds + jnp.where(own, 0.0, time_below)
    return (goes, time), (goes, time)

  none = jnp.zeros_like(free[0])
  seconds = trip.seconds.reshape(free.shape)
  _, (goes, times) = jax.lax.scan(
    back,
    (none, jnp.zeros_like(seconds[0])),
    (talks.target, free, seconds),
    reverse=True,
  )
  forced = goes[1:].sum() + (goes[0] & ~free[0]).sum()
  really = goes.reshape(-1)
  timed = trip._replace(seconds=times.reshape(-1))
  moved = cluster_lib.depart(cluster, slots, nodes, really, timed)
  return moved, cluster_lib.Moves(
    started=really.sum().astype(jnp.int32),
    forced=forced.astype(jnp.int32),
    failed=(talks.active[0] & ~goes[0]).sum().astype(jnp.int32),
    bytes=jnp.where(really, trip.bytes, 0.0).sum(),
    messages=talks.messages.sum().astype(jnp.int32),
    decisions=jnp.int32(0),
  )
