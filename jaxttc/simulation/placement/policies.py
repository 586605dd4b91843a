# SPDX-License-Identifier: Apache-2.0
"""Where a new task goes: a policy is a triple of pure functions.

`init(cluster)` makes what the policy remembers, `place` picks a machine for one
waiting task, `balance` may start live migrations once a period. The rules of
this module never migrate. Those on requests take a machine only if the sum of
requests fits, `power_of_k` looks at use.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxttc.simulation.placement import cluster as cluster_lib
from jaxttc.simulation.placement import scores, taxonomy

Memory = Any  # a pytree of arrays, each policy's own


class Choice(NamedTuple):
  """What placing one task came to.

  Attributes:
    memory: what the policy remembers from now on.
    node: i32, the machine; -1 if none was found.
    messages: i32, messages between machines and brokers.
  """

  memory: Memory
  node: Int[Array, ""]
  messages: Int[Array, ""]


Place = Callable[
  [
    Memory,
    cluster_lib.Cluster,
    Int[Array, ""],
    Int[Array, ""],
    PRNGKeyArray,
  ],
  Choice,
]
Balance = Callable[
  [Memory, cluster_lib.Cluster, PRNGKeyArray],
  tuple[Memory, cluster_lib.Cluster, cluster_lib.Moves],
]


class Policy(NamedTuple):
  """A scheduler.

  Attributes:
    name: a name of `taxonomy.OURS`, which holds its class.
    init: cluster -> memory.
    place: (memory, cluster, slot, where the trace put it or -1, key) -> Choice.
    balance: (memory, cluster, key) -> memory, cluster, moves. Not traced, so
      that it may run programs of its own.
    recorded: whether tasks go where, and when, the trace says.
  """

  name: str
  init: Callable[[cluster_lib.Cluster], Memory]
  place: Place
  balance: Balance
  recorded: bool = False

  @property
  def taxon(self) -> taxonomy.Taxon:
    """The class of the policy."""
    return taxonomy.taxon(self.name)


def random() -> Policy:
  """Any machine that fits, each equally likely."""

  def pick(fits, left, cursor, key):
    del left, cursor
    rank = jnp.cumsum(fits)
    wanted = 1 + jax.random.randint(key, (), 0, jnp.maximum(rank[-1], 1))
    return jnp.argmax((rank == wanted) & fits)

  return _on_requests("random", pick)


def round_robin() -> Policy:
  """The next machine that fits, after the one that was taken last."""

  def pick(fits, left, cursor, key):
    del left, key
    nodes = fits.shape[0]
    distance = (jnp.arange(nodes) - cursor - 1) % nodes
    return jnp.argmin(jnp.where(fits, distance, nodes))

  return _on_requests("round_robin", pick)


def first_fit() -> Policy:
  """The first machine that fits."""
  return _on_requests("first_fit", lambda fits, *_: jnp.argmax(fits))


def best_fit() -> Policy:
  """The machine with the least left over."""

  def pick(fits, left, cursor, key):
    del cursor, key
    return jnp.argmin(jnp.where(fits, left, jnp.inf))

  return _on_requests("best_fit", pick)


def worst_fit() -> Policy:
  """The machine with the most left over."""

  def pick(fits, left, cursor, key):
    del cursor, key
    return jnp.argmax(jnp.where(fits, left, -jnp.inf))

  return _on_requests("worst_fit", pick)


def power_of_k(k: int = 12, headroom: float = 0.0) -> Policy:
  """The roomiest of k sampled machines, by what is in use (SIAS).

  Args:
    k: machines asked.
    headroom: share of a machine that placing must leave free.

  Raises:
    ValueError: if k < 1.
  """
  if k < 1:
    raise ValueError(f"power_of_k: expected k >= 1, got {k}")

  def place(memory, cluster, slot, where, key):
    del where
    node, _ = ask_some(cluster, slot, key, k, headroom)
    return Choice(memory, node, jnp.int32(2 * k))

  return Policy("power_of_k", _nothing, place, stay)


def recorded() -> Policy:
  """The machine that the trace recorded."""

  def place(memory, cluster, slot, where, key):
    del slot, key
    there = cluster_lib.present(cluster)[jnp.maximum(where, 0)] & (where >= 0)
    return Choice(memory, jnp.where(there, where, -1), jnp.int32(0))

  return Policy("recorded", _nothing, place, stay, recorded=True)


def stay(
  memory: Memory, cluster: cluster_lib.Cluster, key: PRNGKeyArray
) -> tuple[Memory, cluster_lib.Cluster, cluster_lib.Moves]:
  """Balances nothing."""
  del key
  return memory, cluster, cluster_lib.no_moves()


def ask_some(
  cluster: cluster_lib.Cluster,
  slot: Int[Array, ""],
  key: PRNGKeyArray,
  k: int,
  headroom: float,
) -> tuple[Int[Array, ""], Bool[Array, ""]]:
  """The node of best SIAS among k sampled ones; -1, and False, if none fits."""
  draws = jax.random.uniform(key, (k,))
  nodes, counts = cluster_lib.candidates(cluster, slot, draws)
  score = scores.sias(
    cluster.capacity[nodes],
    cluster.load[nodes] + cluster.promised[nodes],
    jnp.broadcast_to(cluster.usage[slot][None], (k, cluster.usage.shape[1])),
    headroom,
  )
  score = jnp.where(counts, score, -jnp.inf)
  best = jnp.argmax(score)
  found = score[best] > -jnp.inf
  return jnp.where(found, nodes[best], -1), found


def fits_requests(
  cluster: cluster_lib.Cluster, slot: Int[Array, ""]
) -> tuple[Bool[Array, " N"], Float[Array, " N"]]:
  """Which machines the task may run on and its request fits.

  Returns:
    That, and the shares of each machine that would be left, summed.
  """
  taken = cluster.reserved + cluster.promised + cluster.request[slot][None]
  fits = (taken <= cluster.capacity).all(1)
  fits &= cluster.eligible[cluster.kind[slot]]
  on, to = cluster_lib.peers(cluster, slot)
  shared = jnp.concatenate([on, to])
  shared = jnp.where(shared >= 0, shared, fits.shape[0])
  fits = fits.at[shared].set(False, mode="drop")
  safe = jnp.where(cluster.capacity > 0, cluster.capacity, 1.0)
  return fits, ((cluster.capacity - taken) / safe).sum(1)


def _nothing(cluster: cluster_lib.Cluster) -> Memory:
  del cluster
  return ()


def _on_requests(name: str, pick: Callable[..., Int[Array, ""]]) -> Policy:
  """A policy from (fits, left over, last node, key) -> node."""

  def place(cursor, cluster, slot, where, key):
    del where
    fits, left = fits_requests(cluster, slot)
    node = pick(fits, left, cursor, key).astype(jnp.int32)
    found = fits.any()
    return Choice(
      jnp.where(found, node, cursor),
      jnp.where(found, node, -1),
      jnp.int32(0),
    )

  return Policy(name, lambda cluster: jnp.int32(-1), place, stay)
