# SPDX-License-Identifier: Apache-2.0
"""How tasks look for new machines by asking: brokers, bids, promises, force.

All tasks of a step negotiate at once, in rounds. A broker names machines that
should fit by what it last heard of them; the machines look at their true state
and answer with a score or refuse; the task asks the best one to set room aside,
and a machine that several ask in one round agrees to one of them, so that stale
knowledge cannot make a crowd. Tasks that found nothing may push out a cheaper
task, which then negotiates in turn; nobody moves unless the whole chain found
room.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxttc.simulation.placement import cluster as cluster_lib
from jaxttc.simulation.placement import scores


class Rules(NamedTuple):
  """How agents behave.

  Attributes:
    brokers: broker agents, each with its own summaries.
    staleness: periods between two reports of a machine to a broker.
    named: machines that a broker looks at for one request.
    asked: of those, the machines that are sent a bid, at most.
    rounds: bids for which a task has the patience before it uses force.
    depth: how long a chain of tasks that push each other may get.
    trigger: a machine is overloaded, to its agent, above this share of use.
    headroom: share of a machine that must stay free when it takes a task.
    leaving: tasks that one machine lets go a step, at most.
    pool: tasks that negotiate in one step, at most.
  """

  brokers: int = 4
  staleness: int = 3
  named: int = 36
  asked: int = 12
  rounds: int = 3
  depth: int = 2
  trigger: float = 0.95
  headroom: float = 0.15
  leaving: int = 3
  pool: int = 512


class Talk(NamedTuple):
  """Tasks that negotiate.

  Attributes:
    slots: i32[M].
    active: bool[M], which rows hold a task.
    target: i32[M], the machine that agreed; -1 for none so far.
    messages: i32, sent so far.
  """

  slots: Int[Array, " M"]
  active: Bool[Array, " M"]
  target: Int[Array, " M"]
  messages: Int[Array, ""]


def check(rules: Rules) -> Rules:
  """Returns the rules.

  Raises:
    ValueError: if one of them is out of range; it is named.
  """
  for name in ("brokers", "staleness", "asked", "rounds", "leaving", "pool"):
    if getattr(rules, name) < 1:
      raise ValueError(f"{name} must be >= 1, got {getattr(rules, name)}")
  if rules.named < rules.asked:
    raise ValueError(f"named={rules.named} must be >= asked={rules.asked}")
  if rules.depth < 0:
    raise ValueError(f"depth must be >= 0, got {rules.depth}")
  for name in ("trigger", "headroom"):
    if not 0 <= getattr(rules, name) <= 1:
      raise ValueError(f"{name} must lie in [0, 1]: {getattr(rules, name)}")
  return rules


def leaving(
  cluster: cluster_lib.Cluster, cost: Float[Array, " S"], rules: Rules
) -> Talk:
  """Tasks that must go: of each overloaded machine the fewest, then cheapest.

  A task whose going ends the overload is preferred, the cheapest of those; if
  there is none the one that relieves most goes first, and so on.

  Args:
    cluster: the cell.
    cost: f32[S], what moving each task costs.
    rules: how agents behave.
  """
  nodes, slots = cluster.capacity.shape[0], cluster.live.shape[0]
  running = cluster.live & (cluster.node >= 0)
  away = jnp.where(running & (cluster.heading >= 0), cluster.node, nodes)
  stays = cluster.load.at[away].add(-cluster.usage, mode="drop")
  excess = jnp.maximum(stays - rules.trigger * cluster.capacity, 0.0)
  hot = (excess > 0).any(1) & cluster_lib.present(cluster)
  mine = running & (cluster.heading < 0) & hot[jnp.maximum(cluster.node, 0)]
  size = min(8 * rules.pool, slots)
  (places,) = jnp.nonzero(mine, size=size, fill_value=slots)
  listed = places < slots
  places = jnp.minimum(places, slots - 1).astype(jnp.int32)
  node, usage = cluster.node[places], cluster.usage[places]
  node = jnp.where(listed, node, nodes)
  cheap = 1.0 / (1.0 + cost[places])
  part = jnp.where(cluster.capacity > 0, 1.0 / cluster.capacity, 0.0)
  chosen = jnp.zeros((size,), bool)
  for _ in range(rules.leaving):
    over = excess.at[node].get(mode="fill", fill_value=0.0)
    relief = jnp.minimum(usage, over) * part.at[node].get(
      mode="fill", fill_value=0.0
    )
    relief = relief.sum(1)
    ends = (usage >= over).all(1)
    score = jnp.where(ends, usage.shape[1] + cheap, relief)
    score = jnp.where(listed & ~chosen & (relief > 0), score, -1.0)
    first = _first_best(score, node, nodes)
    chosen = chosen | first
    left = jnp.where(first, node, nodes)
    excess = excess.at[left].add(-usage, mode="drop")
    excess = jnp.maximum(excess, 0.0)
  (rows,) = jnp.nonzero(chosen, size=min(rules.pool, size), fill_value=size)
  active = rows < size
  found = places[jnp.minimum(rows, size - 1)]
  return Talk(
    jnp.where(active, found, 0),
    active,
    jnp.full(rows.shape, -1, jnp.int32),
    jnp.int32(0),
  )


def negotiate(
  cluster: cluster_lib.Cluster,
  summary: Float[Array, "B N R"],
  talk: Talk,
  key: PRNGKeyArray,
  rules: Rules,
) -> tuple[cluster_lib.Cluster, Talk]:
  """Rounds of bids, until all have a machine or their patience is over.

  Args:
    cluster: the cell; `heading` and `promised` tell who has agreed to what.
    summary: f32[B, N, R], loads as each broker last heard of them.
    talk: tasks that look for a machine.
    key: of what brokers sample.
    rules: how agents behave.

  Returns:
    The cell with the promises made, and the tasks with their targets.
  """

  def one_round(number, carry):
    cluster, talk = carry
    draws = jax.random.uniform(
      jax.random.fold_in(key, number), (talk.slots.shape[0], rules.named)
    )
    open_ = talk.active & (talk.target < 0)
    nodes, score, asked = _bids(cluster, summary, talk.slots, draws, rules)
    best = jnp.argmax(score, axis=1)
    rows = jnp.arange(best.shape[0])
    wants = open_ & (score[rows, best] > -jnp.inf)
    target = jnp.where(wants, nodes[rows, best], -1)
    agreed = _one_each(target, cluster.capacity.shape[0])
    # A word to the broker and back, a bid and an answer each, and a request.
    sent = 2 * open_.sum() + 2 * jnp.where(open_, asked, 0).sum()
    sent += 2 * wants.sum()
    cluster = _promise(cluster, talk.slots, target, agreed)
    return cluster, talk._replace(
      target=jnp.where(agreed, target, talk.target),
      messages=talk.messages + sent.astype(jnp.int32),
    )

  def going(state):
    number, (_, talk) = state
    return (number < rules.rounds) & (talk.active & (talk.target < 0)).any()

  def step(state):
    number, carry = state
    return number + 1, one_round(number, carry)

  state = (jnp.int32(0), (cluster, talk))
  return jax.lax.while_loop(going, step, state)[1]


def force(
  cluster: cluster_lib.Cluster,
  talk: Talk,
  taken: Bool[Array, " S"],
  cost: Float[Array, " S"],
  key: PRNGKeyArray,
  rules: Rules,
) -> tuple[cluster_lib.Cluster, Talk, Talk]:
  """Lets tasks without a machine push a cheaper task off another one.

  Args:
    cluster: the cell.
    talk: tasks, some without a target.
    taken: bool[S], tasks that negotiate already, which nobody may push out.
    cost: f32[S], what moving each task costs.
    key: of the machines asked.
    rules: how agents behave.

  Returns:
    The cell with room promised, the tasks with their targets, and the tasks
    that were pushed out: row i makes room for row i.
  """
  nodes, slots = cluster.capacity.shape[0], cluster.live.shape[0]
  size = talk.slots.shape[0]
  stuck = talk.active & (talk.target < 0)
  draws = jax.random.uniform(key, (size, rules.asked))
  asked, may = jax.vmap(
    lambda slot, row: cluster_lib.candidates(cluster, slot, row)
  )(talk.slots, draws)
  may &= asked != cluster.node[talk.slots][:, None]
  usage = cluster.usage[talk.slots]
  held = cluster.load + cluster.promised
  room = scores.left_over(
    cluster.capacity[asked],
    held[asked],
    jnp.broadcast_to(usage[:, None, :], (*asked.shape, usage.shape[1])),
  ).min(-1)
  best = jnp.argmax(jnp.where(may, room, -jnp.inf), axis=1)
  rows = jnp.arange(size)
  wants = stuck & may[rows, best]
  target = jnp.where(wants, asked[rows, best], -1)
  agreed = _one_each(target, nodes)
  owner = jnp.full((nodes,), -1, jnp.int32)
  owner = owner.at[jnp.where(agreed, target, nodes)].set(
    rows.astype(jnp.int32), mode="drop"
  )
  # Each task looks whether its machine is asked by one that may push it out.
  asker = jnp.where(
    cluster.live & (cluster.node >= 0) & (cluster.heading < 0) & ~taken,
    owner[jnp.maximum(cluster.node, 0)],
    -1,
  )
  who = jnp.maximum(asker, 0)
  on = jnp.maximum(cluster.node, 0)
  after = held[on] - cluster.usage + usage[who]
  limit = (1.0 - rules.headroom) * cluster.capacity[on]
  goes = (asker >= 0) & (after <= limit).all(1)
  goes &= cost < cost[talk.slots[who]]
  score = jnp.where(goes, 1.0 / (1.0 + cost), -1.0)
  pushed = _first_best(score, jnp.where(goes, asker, size), size)
  victim = jnp.full((size,), -1, jnp.int32)
  victim = victim.at[jnp.where(pushed, asker, size)].set(
    jnp.arange(slots, dtype=jnp.int32), mode="drop"
  )
  found = agreed & (victim >= 0)
  target = jnp.where(found, target, -1)
  sent = 2 * jnp.where(stuck, may.sum(1), 0).sum() + 2 * wants.sum()
  cluster = _promise(cluster, talk.slots, target, found)
  done = talk._replace(
    target=jnp.where(found, target, talk.target),
    messages=talk.messages + sent.astype(jnp.int32),
  )
  return (
    cluster,
    done,
    Talk(
      jnp.maximum(victim, 0),
      found,
      jnp.full((size,), -1, jnp.int32),
      jnp.int32(0),
    ),
  )


def _bids(
  cluster: cluster_lib.Cluster,
  summary: Float[Array, "B N R"],
  slots: Int[Array, " M"],
  draws: Float[Array, "M named"],
  rules: Rules,
) -> tuple[Int[Array, "M named"], Float[Array, "M named"], Int[Array, " M"]]:
  """Machines named, their answers (minus infinity: refused or not asked).

  Returns:
    Those, and how many machines were asked.
  """
  nodes, may = jax.vmap(
    lambda slot, row: cluster_lib.candidates(cluster, slot, row)
  )(slots, draws)
  may &= nodes != cluster.node[slots][:, None]
  usage = cluster.usage[slots][:, None, :]
  usage = jnp.broadcast_to(usage, (*nodes.shape, usage.shape[-1]))
  capacity = cluster.capacity[nodes]
  broker = slots % summary.shape[0]
  heard = summary[broker[:, None], nodes]
  likely = scores.left_over(capacity, heard, usage).min(-1) >= rules.headroom
  likely &= may
  asked = likely & (jnp.cumsum(likely, axis=1) <= rules.asked)
  true = (cluster.load + cluster.promised)[nodes]
  score = scores.sras(capacity, true, usage, rules.headroom)
  return nodes, jnp.where(asked, score, -jnp.inf), asked.sum(1)


def _promise(
  cluster: cluster_lib.Cluster,
  slots: Int[Array, " M"],
  target: Int[Array, " M"],
  agreed: Bool[Array, " M"],
) -> cluster_lib.Cluster:
  """Sets room aside at the targets."""
  nodes, count = cluster.capacity.shape[0], cluster.live.shape[0]
  rows = jnp.where(agreed, slots, count)
  ahead = jnp.where(agreed, target, nodes)
  usage = cluster.usage[slots]
  return dataclasses.replace(
    cluster,
    heading=cluster.heading.at[rows].set(target, mode="drop"),
    promised=cluster.promised.at[ahead].add(usage, mode="drop"),
  )


def _one_each(target: Int[Array, " M"], nodes: int) -> Bool[Array, " M"]:
  """The first row of each target; False for rows without one."""
  rows = jnp.arange(target.shape[0], dtype=jnp.int32)
  place = jnp.where(target >= 0, target, nodes)
  first = jnp.full((nodes,), target.shape[0], jnp.int32)
  first = first.at[place].min(rows, mode="drop")
  return (target >= 0) & (first[jnp.maximum(target, 0)] == rows)


def _first_best(
  score: Float[Array, " X"], group: Int[Array, " X"], groups: int
) -> Bool[Array, " X"]:
  """The first row of the largest score of each group; none below zero."""
  best = jnp.full((groups,), -1.0, score.dtype)
  best = best.at[group].max(score, mode="drop")
  top = (score >= 0) & (
    score == best.at[group].get(mode="fill", fill_value=jnp.inf)
  )
  return _one_each(jnp.where(top, group, -1), groups)
