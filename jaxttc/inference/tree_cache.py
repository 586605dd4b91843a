# SPDX-License-Identifier: Apache-2.0
"""The tree KV cache: one arena of slots a problem, each owned by a tree node.

A slot holds the keys and values of one token, in every layer, and the id of
the node that the token belongs to. A row of the batch attends to the slots
whose owners lie on its path to the root, and to no others. So

*  forking is free: two children of a node read the node's slots, no copy;
*  a shared prefix is computed once, stored once, and read once for all rows
   of its group (one matrix product, not one a row);
*  a pruned node returns its slots, and any free slot serves: keys carry
   their positions, so the order of slots does not matter.

Pages of one slot leave no fragments. What it costs: a row reads past the slots
of its siblings' branches, so work grows with the tree that is kept, not with
the path. In-flight tokens and finished leaves are never in the arena, which
keeps it small (see `generation`).

Shape letters: G groups (problems), R rows, C slots, K key-value heads, E head
size, N nodes, S columns.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxttc.models import config as config_lib
from jaxttc.models import key_values

FREE = -1  # owner of a slot that holds nothing


@flax.struct.dataclass
class TreeCache:
  """Keys and values of G search trees.

  Attributes:
    arena: a `KeyValues` a layer: keys [G, K, E, C], values [G, K, C, E].
    owner: i32[G, C], the node whose token a slot holds; `FREE` if none.
    position: i32[G, C], that token's position; None if no layer of the model
      is local, since then nobody asks.
  """

  arena: tuple[key_values.KeyValues, ...]
  owner: Int[Array, "G C"]
  position: Int[Array, "G C"] | None = None

  @property
  def capacity(self) -> int:
    """Slots a group, C."""
    return self.owner.shape[1]

  def used(self) -> Int[Array, " G"]:
    """Slots in use."""
    return (self.owner != FREE).sum(axis=1)


def init(
  config: config_lib.TransformerConfig,
  groups: int,
  capacity: int,
  dtype: jax.typing.DTypeLike = jnp.float32,
) -> TreeCache:
  """An empty cache for `groups` trees of `capacity` tokens each."""
  owner = jnp.full((groups, capacity), FREE, jnp.int32)
  return TreeCache(
    arena=key_values.empty_key_values(config, (groups,), capacity, dtype),
    owner=owner,
    position=jnp.zeros_like(owner) if config.window else None,
  )


def resize(cache: TreeCache, capacity: int) -> TreeCache:
  """The same trees with more slots, all the new ones free.

  Raises:
    ValueError: if `capacity` is less than what the cache has.
  """
  more = capacity - cache.capacity
  if more < 0:
    raise ValueError(
      f"a tree cache of {cache.capacity} slots cannot shrink to {capacity}"
    )
  wider = ((0, 0), (0, more))
  position = cache.position
  return TreeCache(
    arena=key_values.widen(cache.arena, more),
    owner=jnp.pad(cache.owner, wider, constant_values=FREE),
    position=None if position is None else jnp.pad(position, wider),
  )


def path_mask(
  owner: Int[Array, "G C"],
  parent: Int[Array, "G N"],
  node: Int[Array, "G R"],
) -> Bool[Array, "G R C"]:
  """Slots that a child of `node` attends to: the node's, and its ancestors'.

  Args:
    owner: owner of each slot.
    parent: parent of each node, -1 for the root.
    node: the node each row extends; -1 for a row that is not in use.
  """
  groups, nodes = parent.shape
  rows = node.shape[1]
  g = jnp.arange(groups)[:, None]
  r = jnp.arange(rows)[None, :]
  # One more node, for climbs past the root and slots that nobody owns.
  on_path = jnp.zeros((groups, rows, nodes + 1), bool)

  def climb(carry):
    marks, cursor = carry
    marks = marks.at[g, r, jnp.where(cursor < 0, nodes, cursor)].set(True)
    above = parent[g, jnp.maximum(cursor, 0)]
    return marks, jnp.where(cursor < 0, -1, above)

  on_path, _ = jax.lax.while_loop(
    lambda carry: (carry[1] >= 0).any(), climb, (on_path, node)
  )
  on_path = on_path.at[:, :, nodes].set(False)
  slot_node = jnp.where(owner == FREE, nodes, owner)
  return jnp.take_along_axis(
    on_path,
    jnp.broadcast_to(slot_node[:, None], (groups, rows, owner.shape[1])),
    2,
  )


def write_prompt(
  cache: TreeCache,
  keys_values: tuple[key_values.KeyValues, ...],
  length: Int[Array, " P"],
  group: Int[Array, " P"],
) -> TreeCache:
  """Starts trees: empties groups and files prompts under node 0.

  Args:
    cache: the cache.
    keys_values: of the prompts, as prefill returns them for P groups of one
      row, with T <= C.
    length: how many of the T tokens to keep of each prompt.
    group: the group each prompt goes to; G or more to drop it.

  Raises:
    ValueError: if the prompts are padded to more tokens than a group has
      slots.
  """
  width = keys_values[0].v.shape[3]
  if width > cache.capacity:
    raise ValueError(
      f"prompts of {width} tokens do not fit a tree cache of "
      f"{cache.capacity} slots; `resize` it first"
    )
  slots = jnp.arange(cache.capacity)
  owner = jnp.where(slots[None] < length[:, None], 0, FREE)

  def put(old, new):
    return key_values.KeyValues(
      old.k.at[group, :, :, :width].set(new.k[:, 0], mode="drop"),
      old.v.at[group, :, :width].set(new.v[:, 0], mode="drop"),
    )

  position = cache.position
  if position is not None:
    position = position.at[group].set(slots[None], mode="drop")
  return TreeCache(
    arena=tuple(map(put, cache.arena, keys_values)),
    owner=cache.owner.at[group].set(owner.astype(jnp.int32), mode="drop"),
    position=position,
  )


def commit(
  cache: TreeCache,
  keys_values: tuple[key_values.KeyValues, ...],
  node: Int[Array, "G R"],
  start: Int[Array, "G R"],
  length: Int[Array, "G R"],
  position: Int[Array, "G R"] | None = None,
) -> TreeCache:
  """Moves rows' private keys and values to free slots, owned by new nodes.

  Args:
    cache: the cache.
    keys_values: private parts, keys [G, R, K, E, S] a layer.
    node: id that each row's tokens are filed under; -1 to keep nothing.
    start: first column of the row's tokens.
    length: how many columns it has.
    position: of the row's first token; a model with local layers needs it.

  Returns:
    The cache. Tokens that find no free slot are lost: the caller reserves
    room beforehand (`used`).

  Raises:
    ValueError: if the cache keeps positions, and none are given.
  """
  if cache.position is not None and position is None:
    raise ValueError(
      "the tree cache of a model with local layers keeps positions; give the "
      "position of each row's first token"
    )
  groups, rows, _, columns, _ = keys_values[0].v.shape
  column = jnp.arange(columns)[None, None]
  wanted = (
    (node[..., None] >= 0)
    & (column >= start[..., None])
    & (column < (start + length)[..., None])
  ).reshape(groups, rows * columns)
  rank = jnp.cumsum(wanted, axis=1) - 1
  free_first = jnp.argsort(cache.owner != FREE, axis=1, stable=True)
  slot = jnp.take_along_axis(
    free_first, jnp.minimum(rank, cache.capacity - 1), axis=1
  )
  room = (cache.owner == FREE).sum(axis=1, keepdims=True)
  slot = jnp.where(wanted & (rank < room), slot, cache.capacity)
  g = jnp.arange(groups)[:, None]

  def put(old, new):
    # [G, R S, K, E]: a token's heads together, as the scatter takes them.
    k = new.k.transpose(0, 1, 4, 2, 3).reshape(
      groups, rows * columns, *_heads(old)
    )
    v = new.v.transpose(0, 1, 3, 2, 4).reshape(k.shape)
    return key_values.KeyValues(
      old.k.at[g, :, :, slot].set(k, mode="drop"),
      old.v.at[g, :, slot].set(v, mode="drop"),
    )

  def file(cache):
    owner = jnp.repeat(node, columns, axis=1)
    where = cache.position
    if where is not None:
      at = position[..., None] + column - start[..., None]
      at = at.reshape(groups, rows * columns)
      where = where.at[g, slot].set(at, mode="drop")
    return TreeCache(
      arena=tuple(map(put, cache.arena, keys_values)),
      owner=cache.owner.at[g, slot].set(owner, mode="drop"),
      position=where,
    )

  # A scatter walks what it drops, too: skipped where nothing is to be kept.
  return jax.lax.cond(wanted.any(), file, lambda cache: cache, cache)


def _heads(arena: key_values.KeyValues) -> tuple[int, int]:
  return arena.k.shape[1], arena.k.shape[2]


def release(cache: TreeCache, keep: Bool[Array, "G N"]) -> TreeCache:
  """Frees the slots of all nodes that are not to be kept."""
  held = jnp.take_along_axis(keep, jnp.maximum(cache.owner, 0), axis=1)
  owner = jnp.where(held, cache.owner, FREE)
  return cache.replace(owner=owner)
