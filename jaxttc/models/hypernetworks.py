# SPDX-License-Identifier: Apache-2.0
"""Networks that write the parameters of another network, from a preference.

One network answers K tasks, and a user says with a vector how much each of
them matters. A hypernetwork maps that vector to the parameters of a target
network; trained over all preferences, it holds a whole front of trade-offs
(Navon et al. 2021, "Learning the Pareto Front with Hypernetworks", arXiv
2010.04104). The cost of running the target never changes, which is what sets
these apart from networks that change their width.

Three of them, for any target whose parameters a function of a key makes:

*  `RayHypernetwork` (PHN) writes every weight by a row of its own.
*  `ChunkedHypernetwork` (CHN) writes all weights by one generator, a chunk at
   a time; each chunk is told apart by an embedding.
*  `NormHypernetwork` (PHN-BN) keeps ordinary parameters and changes a few of
   them: scales and shifts of norms, or of hidden features.

All start where the target would start, so the first step of training sees a
network that is initialised as usual.
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# key -> parameters of the target, as `target.init(key, x)["params"]` is.
Initial = Callable[[jax.Array], Any]

_LEAST_SPREAD = 0.01  # of a generated leaf, else nothing would move it


class Leaf(NamedTuple):
  """One parameter tensor of a target.

  Attributes:
    path: its names, joined by "/", as "encoder/Dense_0/kernel".
    shape: its axes.
    dtype: of its numbers.
  """

  path: str
  shape: tuple[int, ...]
  dtype: Any

  @property
  def size(self) -> int:
    """Numbers in it."""
    return math.prod(self.shape)


def leaves_of(initial: Initial) -> tuple[tuple[Leaf, ...], Any]:
  """The target's tensors in the order of the tree, and the tree's structure.

  Args:
    initial: makes the target's parameters; it is traced, not run.
  """
  shapes = jax.eval_shape(initial, jax.random.key(0))
  flat, structure = jax.tree_util.tree_flatten_with_path(shapes)
  leaves = tuple(
    Leaf(jax.tree_util.keystr(path, simple=True, separator="/"), *_form(shape))
    for path, shape in flat
  )
  return leaves, structure


def is_norm(path: str) -> bool:
  """Whether a parameter belongs to a norm: a name above it says "norm"."""
  return any("norm" in name.lower() for name in path.split("/")[:-1])


def apply(
  hypernetwork: nn.Module,
  forward: Callable[[Any, Any], Any],
  params: Any,
  preference: Float[Array, " K"],
  inputs: Any,
) -> Any:
  """Runs the target under a preference.

  Pure, so `jax.vmap` over preferences gives one prediction each.

  Args:
    hypernetwork: one of this file.
    forward: (the target's parameters, inputs) -> predictions.
    params: the hypernetwork's parameters.
    preference: weights of the tasks, on the simplex.
    inputs: what the target reads.
  """
  return forward(hypernetwork.apply({"params": params}, preference), inputs)


class RayHypernetwork(nn.Module):
  """PHN: an MLP on the preference, and a linear head a target tensor.

  The heads are stored side by side as one matrix. Their biases start as the
  target's own initial parameters, their matrices as small multiples of them.

  Attributes:
    initial: makes the target's parameters.
    hidden: widths of the MLP; ReLU between its layers.
    variation: how far preferences are apart at the start, as a share of each
      tensor's size.
  """

  initial: Initial
  hidden: tuple[int, ...] = (100, 100, 100)
  variation: float = 0.3

  @nn.compact
  def __call__(self, preference: Float[Array, "..."]) -> Any:
    """The target's parameters under f32[K] weights of the tasks.

    Raises:
      ValueError: if the preference is no vector.
    """
    _check(preference)
    leaves, structure = leaves_of(self.initial)
    features = Trunk(self.hidden, name="trunk")(preference)

    def start(key):
      return _flat(self.initial(key))

    def slope(key):
      # Of another draw than the biases; their sizes are alike.
      flat = jax.tree.leaves(self.initial(key))
      sizes = jnp.concatenate(
        [
          jnp.full(leaf.size, jnp.sqrt(jnp.square(leaf).mean()))
          for leaf in flat
        ]
      )
      normal = jax.random.normal(
        jax.random.fold_in(key, 1), (self.hidden[-1], sizes.size)
      )
      scale = self.variation / math.sqrt(self.hidden[-1])
      return normal * sizes[None] * scale

    kernel = self.param("head_kernel", slope)
    bias = self.param("head_bias", start)
    return _unflatten(features @ kernel + bias, leaves, structure)


class ChunkedHypernetwork(nn.Module):
  """CHN: one generator writes the weights, a chunk at a time.

  All weights lie in a row, cut into chunks of equal length; the last one may
  be longer than what is left. A chunk is written from the sum of r_i e_i, with
  an embedding e_i a task, beside the chunk's own embedding (Ha et al. 2017,
  arXiv 1609.09106; sizes as in the PHN code). The generator writes numbers of
  variance one; each tensor has a gain and an offset, which start as its
  initial spread and mean.

  Attributes:
    initial: makes the target's parameters.
    preference_embedding: length of e_i.
    chunk_embedding: length of a chunk's embedding.
    hidden: widths of the generator's MLP; ReLU between its layers.
    chunk: weights a chunk.
  """

  initial: Initial
  preference_embedding: int = 32
  chunk_embedding: int = 64
  hidden: tuple[int, ...] = (100, 100, 100)
  chunk: int = 10_000

  @nn.compact
  def __call__(self, preference: Float[Array, "..."]) -> Any:
    """The target's parameters under f32[K] weights of the tasks.

    Raises:
      ValueError: if the preference is no vector.
    """
    _check(preference)
    leaves, structure = leaves_of(self.initial)
    total = sum(leaf.size for leaf in leaves)
    length = min(self.chunk, total)
    chunks = -(-total // length)
    wish = embedding(self.preference_embedding, "preference")(preference)
    place = self.param(
      "chunks",
      nn.initializers.normal(1.0),
      (chunks, self.chunk_embedding),
    )
    wish = jnp.broadcast_to(wish, (chunks, wish.size))
    features = Trunk(self.hidden, name="trunk")(
      jnp.concatenate([wish, place], axis=-1)
    )
    row = nn.Dense(length, name="head")(features).reshape(-1)[:total]

    def start(key):
      flat = jax.tree.leaves(self.initial(key))
      gain = jnp.stack([jnp.std(x) for x in flat])
      return {
        "gain": jnp.maximum(gain, _LEAST_SPREAD),
        "offset": jnp.stack([x.mean() for x in flat]),
      }

    sizes = jnp.asarray([leaf.size for leaf in leaves])
    scaling = self.param("scaling", start)
    gain, offset = (
      jnp.repeat(scaling[name], sizes, total_repeat_length=total)
      for name in ("gain", "offset")
    )
    return _unflatten(gain * row + offset, leaves, structure)


class NormHypernetwork(nn.Module):
  """PHN-BN: ordinary parameters, of which a few follow the preference.

  What a selected leaf becomes, with d(r) predicted for each feature (its last
  axis): plain * (1 + d) for scales and kernels, plain + d for shifts. With
  norms selected this is a conditional norm. In a target without norms, select
  kernels and biases of hidden layers: their last axis are the features, so
  this is a scale and a shift of each feature before its activation.

  The published form adds d to scales too (Raychaudhuri et al. 2022, arXiv
  2203.14949); around the scale one, where it starts, that is the same.

  Attributes:
    initial: makes the target's parameters.
    selects: path -> whether the leaf follows the preference.
    embedding: length of the embedding of the preference.
    hidden: widths of the MLP; ReLU between its layers.
    variation: size of d at the start.
  """

  initial: Initial
  selects: Callable[[str], bool] = is_norm
  embedding: int = 32
  hidden: tuple[int, ...] = (100, 100, 100)
  variation: float = 0.1

  @nn.compact
  def __call__(self, preference: Float[Array, "..."]) -> Any:
    """The target's parameters under f32[K] weights of the tasks.

    Raises:
      ValueError: if no parameter is selected, or the preference is no
        vector.
    """
    _check(preference)
    leaves, _ = leaves_of(self.initial)
    chosen = [leaf for leaf in leaves if self.selects(leaf.path)]
    if not chosen:
      named = ", ".join(leaf.path for leaf in leaves[:4])
      raise ValueError(
        "no parameter of the target follows the preference: selects() is "
        f"false for all {len(leaves)} ({named}, ...)"
      )
    plain = self.param("plain", self.initial)
    wish = embedding(self.embedding, "preference")(preference)
    features = Trunk(self.hidden, name="trunk")(wish)
    delta = nn.Dense(
      sum(_features(leaf) for leaf in chosen),
      kernel_init=nn.initializers.variance_scaling(
        self.variation**2, "fan_in", "normal"
      ),
      name="head",
    )(features)
    changed, start = [], 0
    for leaf, value in zip(leaves, jax.tree.leaves(plain), strict=True):
      if self.selects(leaf.path):
        stop = start + _features(leaf)
        value = _modulated(leaf, value, delta[start:stop])
        start = stop
      changed.append(value)
    return jax.tree.unflatten(jax.tree.structure(plain), changed)


class Trunk(nn.Module):
  """An MLP whose last layer is linear; ReLU between the layers.

  Attributes:
    hidden: widths of its layers.
  """

  hidden: tuple[int, ...]

  @nn.compact
  def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B H"]:
    """Features of width `hidden[-1]`, about as large as the inputs."""
    for i, width in enumerate(self.hidden):
      last = i + 1 == len(self.hidden)
      init = (
        nn.initializers.lecun_normal() if last else nn.initializers.he_normal()
      )
      x = nn.Dense(width, kernel_init=init)(x)
      x = x if last else jax.nn.relu(x)
    return x


def embedding(width: int, name: str) -> nn.Module:
  """A learned vector a task, of a width; called with a preference f32[K], or
  with whatever else is told, it gives their weighted sum.
  """
  return nn.Dense(
    width,
    use_bias=False,
    kernel_init=nn.initializers.normal(1.0),
    name=name,
  )


def _check(preference: jax.Array) -> None:
  if preference.ndim != 1:
    raise ValueError(
      "a preference is one number a task, f32[K], got shape "
      f"{preference.shape}; use jax.vmap over several"
    )


def _form(shape: Any) -> tuple[tuple[int, ...], Any]:
  return tuple(shape.shape), shape.dtype


def _flat(tree: Any) -> jax.Array:
  return jnp.concatenate(
    [x.reshape(-1).astype(jnp.float32) for x in jax.tree.leaves(tree)]
  )


def _unflatten(row: jax.Array, leaves: tuple[Leaf, ...], structure: Any) -> Any:
  parts, start = [], 0
  for leaf in leaves:
    part = row[start : start + leaf.size]
    parts.append(part.reshape(leaf.shape).astype(leaf.dtype))
    start += leaf.size
  return jax.tree.unflatten(structure, parts)


def _features(leaf: Leaf) -> int:
  return leaf.shape[-1] if leaf.shape else 1


def _modulated(leaf: Leaf, plain: jax.Array, delta: jax.Array) -> jax.Array:
  ones = (1,) * (len(leaf.shape) - 1)
  delta = delta.reshape(ones + leaf.shape[-1:]).astype(leaf.dtype)
  shift = leaf.path.rsplit("/", 1)[-1] in ("bias", "shift")
  return plain + delta if shift else plain * (1 + delta)
