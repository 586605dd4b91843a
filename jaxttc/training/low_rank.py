# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters (LoRA) as pure functions on parameter trees.

Each matrix W of a model gets two thin factors, and stands for

    W + (alpha / rank) A B

with A random and B zero at first, so that training starts from the model as it
is. Only the factors are trained: give the train loop `init` as what makes its
parameters, and `objective` around the model's own. Adding the product up costs
one matrix a matrix and step; in return every kind of layer, decoder and engine
works as it is, and `merge` makes an ordinary model.

Reference: Hu et al. (2021), LoRA, arXiv:2106.09685.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxttc.models import transformer

Axes = Callable[[Any], Any]
_JOIN = "/"


@dataclasses.dataclass(kw_only=True)
class LowRankConfig:
  """The adapters' size.

  Attributes:
    rank: columns of A.
    alpha: the product is scaled by alpha / rank.
    matrices: names of the matrices that get one, such as "qkv"; () for all.
  """

  rank: int = 8
  alpha: float = 16.0
  matrices: tuple[str, ...] = ()

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    if self.rank < 1:
      raise ValueError(f"rank must be at least 1, got {self.rank}")
    if not self.alpha > 0:
      raise ValueError(f"alpha must be positive, got {self.alpha}")


def init(
  key: jax.Array,
  params: Any,
  config: LowRankConfig,
  matrix_axes: Axes = transformer.matrix_axes,
) -> dict[str, dict[str, jax.Array]]:
  """Fresh adapters of a model.

  Args:
    key: random key; consumed.
    params: the model's parameters; not changed.
    config: rank, and which matrices.
    matrix_axes: params -> tree of (input axes, output axes) a matrix, None for
      what is no matrix; input axes come first.

  Returns:
    By path ("layer/name"): `a` of the matrix's input axes and the rank, normal
    with deviation 1 over the root of the inputs; `b` of the rank and its output
    axes, zero. float32.

  Raises:
    ValueError: if the config cannot be, or names a matrix that is not there.
  """
  config.validate()
  found = _matrices(params, matrix_axes)
  names = {path.split(_JOIN)[-1] for path in found}
  unknown = sorted(set(config.matrices) - names)
  if unknown or not found:
    raise ValueError(
      f"no matrix is named {', '.join(unknown)}; there are "
      f"{', '.join(sorted(names)) or 'none'}"
    )
  adapters = {}
  for i, (path, (leaf, inputs)) in enumerate(sorted(found.items())):
    if config.matrices and path.split(_JOIN)[-1] not in config.matrices:
      continue
    into, out = leaf.shape[:inputs], leaf.shape[inputs:]
    noise = jax.random.normal(jax.random.fold_in(key, i), (*into, config.rank))
    adapters[path] = {
      "a": noise / math.sqrt(math.prod(into)),
      "b": jnp.zeros((config.rank, *out)),
    }
  return adapters


def merge(
  params: Any, adapters: dict[str, dict[str, jax.Array]], config: LowRankConfig
) -> Any:
  """The model with its adapters added up; a new tree of the same shapes.

  Raises:
    ValueError: if there is no adapter, or one belongs to no parameter or has
      another shape.
  """
  if not adapters:
    raise ValueError("there are no adapters; merging would change nothing")
  left = dict(adapters)

  def one(path, leaf):
    factors = left.pop(_name(path), None)
    if factors is None:
      return leaf
    a, b = factors["a"], factors["b"]
    if (*a.shape[:-1], *b.shape[1:]) != leaf.shape:
      raise ValueError(
        f"the adapter of {_name(path)} makes {(*a.shape[:-1], *b.shape[1:])}, "
        f"its matrix is {leaf.shape}"
      )
    scale = config.alpha / a.shape[-1]
    whole = leaf.astype(jnp.float32) + scale * jnp.tensordot(a, b, 1)
    return whole.astype(leaf.dtype)

  merged = jax.tree_util.tree_map_with_path(one, params)
  if left:
    raise ValueError(f"the model has no matrix {min(left)} for an adapter")
  return merged


def objective(loss: Callable, params: Any, config: LowRankConfig) -> Callable:
  """A model's objective as one of its adapters.

  Args:
    loss: loss(params, batch, key) -> (f32[], metrics).
    params: the model's parameters, which stay as they are.
    config: of the adapters.

  Returns:
    loss(adapters, batch, key) -> (f32[], metrics).
  """

  def of_adapters(adapters, batch, key):
    return loss(merge(params, adapters, config), batch, key)

  return of_adapters


def gradients(
  of_model: Callable, params: Any, config: LowRankConfig
) -> Callable:
  """A model's gradients as those of its adapters, by the chain rule.

  Args:
    of_model: (params, batch, key) -> (gradients, metrics).
    params: the model's parameters, which stay as they are.
    config: of the adapters.

  Returns:
    (adapters, batch, key) -> (gradients, metrics).
  """

  def of_adapters(adapters, batch, key):
    merged, back = jax.vjp(lambda x: merge(params, x, config), adapters)
    slope, metrics = of_model(merged, batch, key)
    return back(slope)[0], metrics

  return of_adapters


def _matrices(params, matrix_axes) -> dict[str, tuple[jax.Array, int]]:
  """Matrices, and how many of their axes are inputs, by path."""
  found = {}

  def one(path, leaf, axes):
    if axes is not None:
      if tuple(axes[0]) != tuple(range(len(axes[0]))):
        raise ValueError(f"{_name(path)}: input axes {axes[0]} are not first")
      found[_name(path)] = (leaf, len(axes[0]))

  axes = matrix_axes(params)
  for (path, leaf), held in zip(
    jax.tree_util.tree_leaves_with_path(params),
    jax.tree.leaves(axes, is_leaf=lambda x: x is None or isinstance(x, tuple)),
    strict=True,
  ):
    one(path, leaf, held)
  return found


def _name(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator=_JOIN)
