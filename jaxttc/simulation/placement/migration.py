# SPDX-License-Identifier: Apache-2.0
r"""What a live migration moves: pre-copy in rounds, then a pause.

Memory of M bytes is sent while the guest goes on writing D bytes a second; what
it wrote is sent again, and so on. Over a link of B bytes a second a round
leaves `l = D / B` times what it sent, never more than the writable working set
W. Copying ends when the remainder is at most V or after n_max rounds; then the
guest is paused and the remainder sent. With W unbounded and n rounds,

    n = ceil(ln(V / M) / ln l), at most n_max
    traffic = M (1 + l + ... + l^n) = M (1 - l^(n+1)) / (1 - l)
    seconds = traffic / B + t_switch,  downtime = M l^n / B + t_switch.

l = 0 sends exactly M, l = 1 sends M every round, and l > 1 grows geometrically:
the exponential regime of Sliwko and Getov (2017), "Transfer cost of virtual
machine live migration in cloud systems", whose constants are not public. The
model is that of Clark et al. (2005), "Live migration of virtual machines",
NSDI.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

MAX_ROUNDS = 30


class Link(NamedTuple):
  """How a cell migrates, and how memory is written, where nobody measured it.

  Attributes:
    bandwidth: bytes a second that one migration gets.
    stop_bytes: remainder at which the guest is paused.
    max_rounds: rounds of copying, at most.
    switch_s: seconds that the network takes to follow.
    dirty_share: share of its memory that a service writes a second.
    working_set_share: share of its memory that it writes at all.
  """

  bandwidth: float = 1.25e9
  stop_bytes: float = 5e7
  max_rounds: int = MAX_ROUNDS
  switch_s: float = 0.1
  dirty_share: float = 0.01
  working_set_share: float = 0.2


class Transfer(NamedTuple):
  """One live migration, or an array of them.

  Attributes:
    bytes: bytes over the link.
    seconds: from the first byte to the switch-over.
    downtime: seconds during which the service stands still.
    rounds: rounds of copying before the pause.
    converged: whether the remainder fell to `stop_bytes`.
  """

  bytes: Float[Array, "*B"]
  seconds: Float[Array, "*B"]
  downtime: Float[Array, "*B"]
  rounds: Int[Array, "*B"]
  converged: Bool[Array, "*B"]


def migration_traffic(
  memory: Float[Array, "*B"],
  dirty_rate: Float[Array, "*B"],
  bandwidth: Float[Array, "*B"] | float,
  *,
  stop_bytes: float,
  max_rounds: int = MAX_ROUNDS,
  working_set: Float[Array, "*B"] | float = jnp.inf,
  switch_s: float = 0.0,
  disk_bytes: Float[Array, "*B"] | float = 0.0,
  give_up: bool = False,
) -> Transfer:
  """Bytes, seconds and downtime of live migrations, elementwise.

  Args:
    memory: M, bytes.
    dirty_rate: D, bytes a second.
    bandwidth: B, bytes a second.
    stop_bytes: V, bytes.
    max_rounds: n_max >= 0.
    working_set: W, bytes.
    switch_s: t_switch, seconds.
    disk_bytes: sent before the memory, where storage is not shared.
    give_up: pauses as soon as a round leaves no less than it sent. This saves
      traffic, but makes it fall where D rises past B.
  """
  memory = jnp.asarray(memory)
  ratio = jnp.broadcast_to(dirty_rate / bandwidth, memory.shape)

  def copy(_, state):
    left, sent, rounds, going = state
    after = jnp.minimum(ratio * left, working_set)
    going = going & (left > stop_bytes)
    sent = sent + jnp.where(going, left, 0.0)
    still = going & (after < left) if give_up else going
    return jnp.where(going, after, left), sent, rounds + going, still

  left, sent, rounds, _ = jax.lax.fori_loop(
    0,
    max_rounds,
    copy,
    (
      memory,
      jnp.zeros_like(memory),
      jnp.zeros(memory.shape, jnp.int32),
      jnp.ones(memory.shape, bool),
    ),
  )
  total = sent + left + disk_bytes
  return Transfer(
    bytes=total,
    seconds=total / bandwidth + switch_s,
    downtime=left / bandwidth + switch_s,
    rounds=rounds,
    converged=left <= stop_bytes,
  )


def over(link: Link, memory: Float[Array, "*B"]) -> Transfer:
  """Migrations of services of so many bytes over a cell's links."""
  return migration_traffic(
    memory,
    memory * link.dirty_share,
    link.bandwidth,
    stop_bytes=link.stop_bytes,
    max_rounds=link.max_rounds,
    working_set=memory * link.working_set_share,
    switch_s=link.switch_s,
  )


def check(
  memory: float | np.ndarray,
  dirty_rate: float | np.ndarray,
  bandwidth: float | np.ndarray,
) -> None:
  """Refuses what no link or guest can be.

  Raises:
    ValueError: if the bandwidth is not > 0, or memory or dirty rate is < 0.
  """
  if not np.all(np.asarray(bandwidth) > 0):
    raise ValueError(f"bandwidth must be > 0 bytes a second, got {bandwidth}")
  if not np.all(np.asarray(dirty_rate) >= 0):
    raise ValueError(f"dirty_rate must be >= 0 bytes a second: {dirty_rate}")
  if not np.all(np.asarray(memory) >= 0):
    raise ValueError(f"memory must be >= 0 bytes, got {memory}")


def check_link(link: Link) -> Link:
  """Returns the link.

  Raises:
    ValueError: if one of its settings is out of range; it is named.
  """
  check(0.0, link.dirty_share, link.bandwidth)
  for name in ("stop_bytes", "max_rounds", "switch_s", "working_set_share"):
    if not getattr(link, name) >= 0:
      raise ValueError(f"{name} must be >= 0, got {getattr(link, name)}")
  return link
