# SPDX-License-Identifier: Apache-2.0
"""A running cell as arrays, and what may happen to it: pure transitions.

Slots hold tasks; a slot is free, waiting (no node), running, or running while
it moves to another node. A moving task counts where it came from until it has
arrived, so that loads always add up to usages; what its target set aside for it
is held in `promised`. Admission looks at both.
"""

import dataclasses
from typing import NamedTuple

from flax import struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.simulation.placement import migration

NOWHERE = -1


@struct.dataclass
class Cluster:
  """The state of a cell.

  Attributes:
    capacity: f32[N, R]; 0 while a machine is gone.
    eligible: bool[G, N], machines that a kind of task may run on.
    targets: i32[G, N], the eligible machines of each kind first.
    target_counts: i32[G], how many there are.
    load: f32[N, R], what running tasks use.
    reserved: f32[N, R], what they asked for.
    promised: f32[N, R], set aside for tasks on their way.
    live: bool[S], slots that hold a task.
    node: i32[S], where it runs; -1 while it waits.
    heading: i32[S], where it moves to; -1 if it does not.
    arrival: f32[S], when it will be there, in seconds.
    usage: f32[S, R]; request: f32[S, R].
    kind: i32[S], row of `eligible`.
    job: i32[S], row of `roster`; -1 without a rule against sharing machines.
    roster: i32[J, M], slots of each such job; -1 for none.
    order: i32[S], tasks that came earlier have lower numbers.
    memory_bytes: f32, bytes of a task that uses 1 of the last resource.
    time: f32, seconds.
  """

  capacity: Float[Array, "N R"]
  eligible: Bool[Array, "G N"]
  targets: Int[Array, "G N"]
  target_counts: Int[Array, " G"]
  load: Float[Array, "N R"]
  reserved: Float[Array, "N R"]
  promised: Float[Array, "N R"]
  live: Bool[Array, " S"]
  node: Int[Array, " S"]
  heading: Int[Array, " S"]
  arrival: Float[Array, " S"]
  usage: Float[Array, "S R"]
  request: Float[Array, "S R"]
  kind: Int[Array, " S"]
  job: Int[Array, " S"]
  roster: Int[Array, "J M"]
  order: Int[Array, " S"]
  memory_bytes: Float[Array, ""]
  time: Float[Array, ""]


class Moves(NamedTuple):
  """What a balancer did in one step; all i32 but `bytes`, f32.

  Attributes:
    started: live migrations that began.
    forced: of those, the ones that pushed another task out or were pushed.
    failed: tasks that should have moved and found no place.
    bytes: what the migrations send.
    messages: messages of the negotiation.
    decisions: tasks for which a new place was sought.
  """

  started: Int[Array, ""]
  forced: Int[Array, ""]
  failed: Int[Array, ""]
  bytes: Float[Array, ""]
  messages: Int[Array, ""]
  decisions: Int[Array, ""]


def no_moves() -> Moves:
  """Nothing done."""
  zero = jnp.int32(0)
  return Moves(zero, zero, zero, jnp.float32(0.0), zero, zero)


def empty(
  *, nodes: int, slots: int, resources: int, kinds: int, jobs: int, peers: int
) -> Cluster:
  """A cell of machines that are all gone, with free slots."""
  return Cluster(
    capacity=jnp.zeros((nodes, resources)),
    eligible=jnp.zeros((kinds, nodes), bool),
    targets=jnp.broadcast_to(
      jnp.arange(nodes, dtype=jnp.int32)[None], (kinds, nodes)
    ),
    target_counts=jnp.zeros((kinds,), jnp.int32),
    load=jnp.zeros((nodes, resources)),
    reserved=jnp.zeros((nodes, resources)),
    promised=jnp.zeros((nodes, resources)),
    live=jnp.zeros((slots,), bool),
    node=jnp.full((slots,), NOWHERE, jnp.int32),
    heading=jnp.full((slots,), NOWHERE, jnp.int32),
    arrival=jnp.zeros((slots,)),
    usage=jnp.zeros((slots, resources)),
    request=jnp.zeros((slots, resources)),
    kind=jnp.zeros((slots,), jnp.int32),
    job=jnp.full((slots,), NOWHERE, jnp.int32),
    roster=jnp.full((jobs, peers), NOWHERE, jnp.int32),
    order=jnp.zeros((slots,), jnp.int32),
    memory_bytes=jnp.float32(1.0),
    time=jnp.float32(0.0),
  )


def present(cluster: Cluster) -> Bool[Array, " N"]:
  """Which machines are there."""
  return (cluster.capacity > 0).any(1)


def overloaded(cluster: Cluster) -> Bool[Array, " N"]:
  """Which machines are asked for more than they have of some resource."""
  return (cluster.load > cluster.capacity).any(1) & present(cluster)


def waiting(cluster: Cluster) -> Bool[Array, " S"]:
  """Which slots hold a task that runs nowhere."""
  return cluster.live & (cluster.node < 0)


def recount(cluster: Cluster) -> Cluster:
  """Adds loads, reservations and promises up afresh."""
  nodes = cluster.capacity.shape[0]

  def add(where, values):
    there = jnp.where(cluster.live & (where >= 0), where, nodes)
    total = jnp.zeros((nodes, values.shape[1]), values.dtype)
    return total.at[there].add(values, mode="drop")

  both = jnp.concatenate([cluster.usage, cluster.request], axis=1)
  summed = add(cluster.node, both)
  resources = cluster.usage.shape[1]
  return dataclasses.replace(
    cluster,
    load=summed[:, :resources],
    reserved=summed[:, resources:],
    promised=add(cluster.heading, cluster.usage),
  )


def place(
  cluster: Cluster, slot: Int[Array, ""], node: Int[Array, ""]
) -> Cluster:
  """Starts the task of a slot on a node; on none if `node` is -1.

  A task uses what it asked for until its first sample of use.
  """
  nodes = cluster.capacity.shape[0]
  row = jnp.where(node >= 0, node, nodes)
  return dataclasses.replace(
    cluster,
    node=cluster.node.at[slot].set(node, mode="drop"),
    load=cluster.load.at[row].add(cluster.usage[slot], mode="drop"),
    reserved=cluster.reserved.at[row].add(cluster.request[slot], mode="drop"),
  )


def land(cluster: Cluster) -> Cluster:
  """Lets the tasks arrive whose migration is over; then recounts."""
  there = (cluster.heading >= 0) & (cluster.arrival <= cluster.time)
  return recount(
    dataclasses.replace(
      cluster,
      node=jnp.where(there, cluster.heading, cluster.node),
      heading=jnp.where(there, NOWHERE, cluster.heading),
    )
  )


def set_machines(
  cluster: Cluster,
  capacity: Float[Array, "N R"],
  eligible: Bool[Array, "G N"],
) -> Cluster:
  """Gives machines new capacities; tasks of those that are gone must wait.

  A migration to a machine that is gone is called off.
  """
  there = (capacity > 0).any(1)
  here = eligible & there[None]
  node = jnp.where(there[jnp.maximum(cluster.node, 0)], cluster.node, NOWHERE)
  ahead = there[jnp.maximum(cluster.heading, 0)] & (node >= 0)
  return recount(
    dataclasses.replace(
      cluster,
      capacity=capacity,
      eligible=here,
      targets=jnp.argsort(~here, axis=1, stable=True).astype(jnp.int32),
      target_counts=here.sum(1).astype(jnp.int32),
      node=node,
      heading=jnp.where(ahead, cluster.heading, NOWHERE),
    )
  )


def transfers(
  cluster: Cluster, slots: Int[Array, " M"], link: migration.Link
) -> migration.Transfer:
  """What moving each of some tasks now would take."""
  memory = cluster.usage[slots, -1] * cluster.memory_bytes
  return migration.over(link, memory)


def depart(
  cluster: Cluster,
  slots: Int[Array, " M"],
  nodes: Int[Array, " M"],
  really: Bool[Array, " M"],
  transfer: migration.Transfer,
) -> Cluster:
  """Starts live migrations of some tasks, where `really`; then recounts."""
  rows = jnp.where(really, slots, cluster.live.shape[0])
  arrival = cluster.time + transfer.seconds
  return recount(
    dataclasses.replace(
      cluster,
      heading=cluster.heading.at[rows].set(nodes, mode="drop"),
      arrival=cluster.arrival.at[rows].set(arrival, mode="drop"),
    )
  )


def peers(
  cluster: Cluster, slot: Int[Array, ""]
) -> tuple[Int[Array, " M"], Int[Array, " M"]]:
  """Nodes that tasks of the same job, which must be apart, use or move to."""
  job = cluster.job[slot]
  others = cluster.roster[jnp.maximum(job, 0)]
  counted = (others >= 0) & (others != slot) & (job >= 0)
  others = jnp.maximum(others, 0)
  on = jnp.where(counted, cluster.node[others], NOWHERE)
  to = jnp.where(on >= 0, cluster.heading[others], NOWHERE)
  return on, to


def apart(
  cluster: Cluster, slot: Int[Array, ""], nodes: Int[Array, " K"]
) -> Bool[Array, " K"]:
  """Which of some nodes hold no task that the slot's task must keep from."""
  on, to = peers(cluster, slot)
  wanted = nodes[:, None]
  return ~((wanted == on[None]) | (wanted == to[None])).any(1)


def candidates(
  cluster: Cluster,
  slot: Int[Array, ""],
  draws: Float[Array, " K"],
) -> tuple[Int[Array, " K"], Bool[Array, " K"]]:
  """Machines that a task may run on, one a uniform draw, and which count.

  None counts where the task may run nowhere; machines that hold a task that it
  must keep from do not count.
  """
  kind = cluster.kind[slot]
  count = cluster.target_counts[kind]
  place = jnp.clip((draws * count).astype(jnp.int32), 0, count - 1)
  nodes = cluster.targets[kind, jnp.maximum(place, 0)]
  return nodes, apart(cluster, slot, nodes) & (count > 0)
