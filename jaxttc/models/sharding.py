# SPDX-License-Identifier: Apache-2.0
"""How a transformer's arrays lie on a mesh: one table, by parameter name.

A parameter that the table names is split over the mesh's "tensor" axis, any
other is whole on every device. Attention is split by key-value heads and the
MLP by its hidden units, so a layer's devices meet twice, to add up what their
parts gave to the residual stream (Shoeybi et al. 2019, "Megatron-LM"). Caches
of keys and values are split by key-value heads as well. Nothing here is split
over "data": parameters are whole along it, and the rows of a batch are what
`mesh.data_parallel` splits.
"""

from collections.abc import Callable
import re
from typing import Any

import jax

from jaxttc import mesh as mesh_lib
from jaxttc.models import config as config_lib
from jaxttc.models import key_values

# Path of a parameter, and what its axes are split over. The first row that
# matches and whose axis divides is taken: a vocabulary that does not divide
# leaves the width. Scales of an int8 matrix go with its outputs; of one that is
# split by its inputs, they are whole.
_RULES = (
  (r"attention_\d+/qkv$", jax.P(None, mesh_lib.TENSOR)),
  (r"attention_\d+/qkv_(bias|scale)$", jax.P(mesh_lib.TENSOR)),
  (r"attention_\d+/out$", jax.P(mesh_lib.TENSOR)),
  (r"mlp_\d+/gate_up$", jax.P(None, None, mesh_lib.TENSOR)),
  (r"mlp_\d+/gate_up_scale$", jax.P(None, mesh_lib.TENSOR)),
  (r"mlp_\d+/down$", jax.P(mesh_lib.TENSOR)),
  (r"embed/embedding(_scale)?$", jax.P(mesh_lib.TENSOR)),
  (r"embed/embedding$", jax.P(None, mesh_lib.TENSOR)),
  (r"head/kernel$", jax.P(None, mesh_lib.TENSOR)),
  (r"head/kernel$", jax.P(mesh_lib.TENSOR)),
  (r"head/kernel_scale$", jax.P(mesh_lib.TENSOR)),
)
# (names of a parameter's path, shape) -> where it lies.
Placement = Callable[[tuple[str, ...], tuple[int, ...]], jax.sharding.Sharding]
# What must divide: parameter, field, axis. Query heads then do, being a
# multiple of key-value heads.
_DIVIDED = {"qkv": ("kv_heads", 1), "gate_up": ("mlp_width", 2)}


def check(config: config_lib.TransformerConfig, parts: int) -> None:
  """Refuses a model that cannot be split over `parts` tensor devices.

  Raises:
    ValueError: naming the field, and the numbers of devices that divide it.
  """
  for name, _ in _DIVIDED.values():
    _check_divides(name, getattr(config, name), parts)


def _check_divides(name: str, size: int, parts: int) -> None:
  if size % parts:
    fits = [n for n in range(1, size + 1) if not size % n]
    shown = ", ".join(map(str, fits[:8])) + (", .." if fits[8:] else "")
    raise ValueError(
      f"model.{name}={size} cannot be split over tensor={parts} devices; "
      f"expected one of {shown}"
    )


def spec(
  path: str, shape: tuple[int, ...], parts: int
) -> jax.sharding.PartitionSpec:
  """What the axes of one parameter are split over.

  Args:
    path: its names, joined with slashes.
    shape: its shape.
    parts: devices along "tensor".

  Returns:
    The first rule that matches and divides; the empty spec if none does.
  """
  for pattern, rule in _RULES:
    if re.search(rf"(^|/){pattern}", path) and len(rule) <= len(shape):
      if not shape[len(rule) - 1] % parts:
        return rule
  return mesh_lib.REPLICATED


def shardings(
  config: config_lib.TransformerConfig, params: Any, mesh: jax.sharding.Mesh
) -> Any:
  """A sharding a parameter.

  Args:
    config: the model's sizes.
    params: nested dict of arrays, or of anything with a `shape`.
    mesh: a mesh of `mesh.make_mesh`.

  Returns:
    A tree like `params`, of `NamedSharding`.

  Raises:
    ValueError: as `check`.
  """
  parts = mesh.shape[mesh_lib.TENSOR]
  check(config, parts)

  def of(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return jax.NamedSharding(mesh, spec(name, leaf.shape, parts))

  return jax.tree_util.tree_map_with_path(of, params)


def placement(mesh: jax.sharding.Mesh) -> Placement:
  """`shardings` for who reads one parameter at a time.

  Returns:
    (names of the path, shape) -> the parameter's sharding. It raises as
    `check`, on a parameter that does not divide.
  """
  parts = mesh.shape[mesh_lib.TENSOR]

  def of(path, shape):
    if path[-1] in _DIVIDED:
      field, axis = _DIVIDED[path[-1]]
      _check_divides(field, shape[axis], parts)
    return jax.NamedSharding(mesh, spec("/".join(path), shape, parts))

  return of


def place(
  config: config_lib.TransformerConfig, params: Any, mesh: jax.sharding.Mesh
) -> Any:
  """Puts parameters where `shardings` says; those there are not copied.

  Raises:
    ValueError: as `check`.
  """
  return mesh_lib.place(params, shardings(config, params, mesh))


def state_specs(tree: Any, *leading: str | None) -> Any:
  """How the arrays of a search lie on a mesh.

  Keys and values are split by key-value heads. All else is whole on the
  devices that share a row: decisions are made on each, from the same numbers.

  Args:
    tree: any pytree; keys and values in it are `key_values.KeyValues`, whose
      key-value heads are the third axis from the end.
    *leading: axes of the mesh that the first axes of every leaf are split
      over.

  Returns:
    A tree like `tree`, of `PartitionSpec`.
  """

  def of(leaf):
    if not isinstance(leaf, key_values.KeyValues):
      return jax.P(*leading)
    between = [None] * (leaf.k.ndim - 3 - len(leading))
    heads = jax.P(*leading, *between, mesh_lib.TENSOR)
    return key_values.KeyValues(heads, heads)

  return jax.tree.map(
    of, tree, is_leaf=lambda x: isinstance(x, key_values.KeyValues)
  )


def pin(tree: Any) -> Any:
  """Fixes `state_specs` of what a function within `data_parallel` holds."""
  return jax.tree.map(mesh_lib.constrain, tree, state_specs(tree))


def state_shardings(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """`state_specs` of a batch of searches, split over "data", as shardings."""
  return jax.tree.map(
    lambda spec: jax.NamedSharding(mesh, spec),
    state_specs(tree, mesh_lib.DATA),
  )
