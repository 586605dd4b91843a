# SPDX-License-Identifier: Apache-2.0
"""Quality by trees: randomised forests and boosting, grown by scikit-learn.

Growing happens there; the grown trees become arrays, and asking them is pure
JAX. Trees mix what a question looks like with what it is about without being
told how, which is why they lead here (docs/routing.md).

References:
  Geurts et al. (2006), Extremely randomized trees.
  Friedman (2001), Greedy function approximation: a gradient boosting machine.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

_BLOCK = 256  # nodes are padded to a multiple, so that programs are shared


@struct.dataclass
class Trees:
  """A sum of T trees of at most M nodes, and a bias.

  Attributes:
    feature: i32[T, M], the column that a node asks for.
    threshold: f32[T, M]; at most that goes left.
    left: i32[T, M], a leaf's is itself.
    right: i32[T, M], likewise.
    values: f32[T, M, K], what leaves add.
    bias: f32[K].
    depth: i32[], questions on the longest way down.
  """

  feature: Int[Array, "T M"]
  threshold: Float[Array, "T M"]
  left: Int[Array, "T M"]
  right: Int[Array, "T M"]
  values: Float[Array, "T M K"]
  bias: Float[Array, " K"]
  depth: Int[Array, ""]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K]."""
    rows = jnp.arange(len(x))

    def add(total, tree):
      feature, threshold, left, right, values = tree

      def descend(_, node):
        goes_left = x[rows, feature[node]] <= threshold[node]
        return jnp.where(goes_left, left[node], right[node])

      start = jnp.zeros(len(x), jnp.int32)
      leaf = jax.lax.fori_loop(0, self.depth, descend, start)
      return total + values[leaf], None

    start = jnp.tile(self.bias[None], (len(x), 1))
    trees = self.feature, self.threshold, self.left, self.right, self.values
    return jax.lax.scan(add, start, trees)[0]


class _Tree(NamedTuple):
  """One tree; arrays of its M nodes, a leaf's children being -1."""

  feature: np.ndarray
  threshold: np.ndarray
  left: np.ndarray
  right: np.ndarray
  values: np.ndarray  # [M, K]


def fit_forest(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  *,
  trees: int = 200,
  leaf: int = 5,
  features: float = 0.3,
  seed: int = 0,
) -> Trees:
  """Extremely randomised trees: the mean of trees with random thresholds.

  Models that are known on the same questions share their trees.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where unknown, which leaves the row out.
    trees: trees of a forest.
    leaf: least questions in a leaf.
    features: share of the columns that a node chooses from.
    seed: of columns and thresholds.

  Raises:
    ImportError: if scikit-learn is not installed.
  """
  ensemble = _ensemble()
  known = ~np.isnan(scores)
  masks, which = np.unique(known, axis=1, return_inverse=True)
  grown, models = [], scores.shape[1]
  for place in range(masks.shape[1]):
    rows, columns = masks[:, place], np.flatnonzero(which.ravel() == place)
    forest = ensemble.ExtraTreesRegressor(
      trees, min_samples_leaf=leaf, max_features=features, random_state=seed
    ).fit(x[rows], np.squeeze(scores[rows][:, columns]))
    grown += [
      _from_forest(e.tree_, columns, models, trees) for e in forest.estimators_
    ]
  return _stack(grown, np.zeros(models))


def fit_boosting(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  *,
  trees: int = 100,
  leaves: int = 8,
  rate: float = 0.05,
  features: float = 0.3,
  seed: int = 0,
) -> Trees:
  """Gradient boosting on histograms, a model at a time.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where unknown, which leaves the row out.
    trees: trees a model.
    leaves: most leaves of a tree.
    rate: learning rate.
    features: share of the columns that a node chooses from.
    seed: of the columns.

  Raises:
    ImportError: if scikit-learn is not installed.
  """
  ensemble = _ensemble()
  grown, bias = [], []
  for column, target in enumerate(scores.T):
    known = ~np.isnan(target)
    boosted = ensemble.HistGradientBoostingRegressor(
      learning_rate=rate,
      max_iter=trees,
      max_leaf_nodes=leaves,
      max_features=features,
      l2_regularization=1.0,
      early_stopping=False,
      random_state=seed,
    ).fit(x[known], target[known])
    # scikit-learn shows the nodes of these trees nowhere else.
    bias.append(np.ravel(boosted._baseline_prediction)[0])
    grown += [
      _from_boosting(stage[0].nodes, column, scores.shape[1])
      for stage in boosted._predictors
    ]
  return _stack(grown, np.array(bias))


def _ensemble() -> Any:
  try:
    from sklearn import ensemble
  except ImportError as error:
    raise ImportError(
      "trees are grown by scikit-learn; install it with: pip install "
      "'jaxttc[trees]'"
    ) from error
  return ensemble


def _from_forest(tree, columns, models: int, trees: int) -> _Tree:
  values = np.zeros((tree.node_count, models))
  values[:, columns] = tree.value[:, :, 0] / trees
  return _Tree(
    np.maximum(tree.feature, 0),
    tree.threshold,
    tree.children_left,
    tree.children_right,
    values,
  )


def _from_boosting(nodes, column: int, models: int) -> _Tree:
  leaf = nodes["is_leaf"].astype(bool)
  values = np.zeros((len(nodes), models))
  values[:, column] = np.where(leaf, nodes["value"], 0)
  return _Tree(
    np.where(leaf, 0, nodes["feature_idx"]),
    np.where(leaf, 0.0, nodes["num_threshold"]),
    np.where(leaf, -1, nodes["left"].astype(np.int64)),
    np.where(leaf, -1, nodes["right"].astype(np.int64)),
    values,
  )


def _stack(grown: Sequence[_Tree], bias: np.ndarray) -> Trees:
  """Pads trees to one size; a leaf's children become itself."""
  nodes = max(len(tree.feature) for tree in grown)
  nodes = -(-nodes // _BLOCK) * _BLOCK

  def pad(values: np.ndarray) -> np.ndarray:
    room = [(0, nodes - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, room)

  def children(values: np.ndarray) -> np.ndarray:
    return pad(np.where(values < 0, np.arange(len(values)), values))

  return Trees(
    feature=jnp.asarray(np.stack([pad(t.feature) for t in grown]), jnp.int32),
    threshold=jnp.asarray(np.stack([pad(_below(t.threshold)) for t in grown])),
    left=jnp.asarray(np.stack([children(t.left) for t in grown]), jnp.int32),
    right=jnp.asarray(np.stack([children(t.right) for t in grown]), jnp.int32),
    values=jnp.asarray(np.stack([pad(t.values) for t in grown]), jnp.float32),
    bias=jnp.asarray(bias, jnp.float32),
    depth=jnp.asarray(max(_depth(tree) for tree in grown), jnp.int32),
  )


def _below(threshold: np.ndarray) -> np.ndarray:
  """The largest float32 at most a float64, so that comparisons stay exact."""
  near = threshold.astype(np.float32)
  return np.where(
    near > threshold, np.nextafter(near, np.float32(-np.inf)), near
  )


def _depth(tree: _Tree) -> int:
  level, depth = np.array([0]), -1
  while len(level):
    depth += 1
    level = np.concatenate([tree.left[level], tree.right[level]])
    level = level[level >= 0]
  return depth
