# SPDX-License-Identifier: Apache-2.0
"""A router's two halves: how good each model's answer will be, and its cost.

A *head* is a pytree of arrays that is called with vectors x f32[n, D] and
returns f32[n, K], one column a model. Fitting happens on the host and may use
any library; a fitted head is pure JAX. What to choose, given both figures, is
the business of `jaxttc.allocators.routing`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from jaxttc.predictors.routing import linear
from jaxttc.tasks.routing import table as table_lib

_BLOCK = 512  # rows


@runtime_checkable
class Head(Protocol):
  """A fitted function of vectors: a pytree that can be called under jit."""

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """One number a model, f32[n, K], of vectors f32[n, D]."""
    ...


# From vectors f32[N, D], scores f64[N, K] (NaN where unknown) and a key.
FitHead = Callable[[np.ndarray, np.ndarray, jax.Array], Head]


class Forecast(NamedTuple):
  """What is expected of each model on each question.

  Attributes:
    quality: f32[n, K], expected score; of heads that only rank models, a
      number that rises with it.
    cost: f32[n, K], expected cost, in the unit of the table.
  """

  quality: Float[Array, "n K"]
  cost: Float[Array, "n K"]

  @property
  def spread(self) -> Float[Array, "n K"]:
    """f32[n, K], the standard deviation of scores that are 0 or 1.

    Of scores between 0 and 1 it is an upper bound. It holds for heads whose
    quality is an expected score.
    """
    chance = jnp.clip(self.quality, 0.0, 1.0)
    return jnp.sqrt(chance * (1 - chance))


@struct.dataclass
class Router:
  """A fitted router, a pytree.

  Attributes:
    quality: head of expected scores.
    cost: head of expected costs.
    models: names of the K models.
    width: D, the width of the vectors that it was fitted on.
    unit: what costs are counted in.
  """

  quality: Any
  cost: Any
  models: tuple[str, ...] = struct.field(pytree_node=False)
  width: int = struct.field(pytree_node=False)
  unit: str = struct.field(pytree_node=False)

  def forecast(self, x: Float[Array, "n D"]) -> Forecast:
    """Expected scores and costs of questions, by their vectors.

    Raises:
      ValueError: if the vectors have another width than those of the fit.
    """
    if x.ndim != 2 or x.shape[1] != self.width:
      raise ValueError(
        f"router: expected vectors of width {self.width}, got shape "
        f"{list(x.shape)}"
      )
    x = jnp.asarray(x, jnp.float32)
    return Forecast(self.quality(x), self.cost(x))


def fit(
  fit_head: FitHead,
  table: table_lib.RoutingTable,
  x: Float[np.ndarray, "N D"],
  key: jax.Array,
) -> Router:
  """Fits both halves of a router.

  Costs that are the same for every question are taken as they are; others are
  predicted by a ridge regression, never below the least that was seen.

  Args:
    fit_head: fits the quality head.
    table: the training questions.
    x: f32[N, D], their vectors.
    key: of whatever is random in the fit.

  Raises:
    ValueError: for vectors that do not fit the table or are not finite, or as
      `fit_head`.
  """
  x = np.asarray(x, np.float32)
  if x.ndim != 2 or len(x) != len(table) or not np.isfinite(x).all():
    raise ValueError(
      f"router: expected finite vectors [{len(table)}, D], one a question, got "
      f"shape {list(x.shape)}"
    )
  return Router(
    quality=fit_head(x, table.scores, key),
    cost=_fit_cost(x, table.costs),
    models=table.models,
    width=x.shape[1],
    unit=table.unit,
  )


def _fit_cost(x: np.ndarray, costs: np.ndarray) -> Head:
  if np.ptp(costs, axis=0).max() == 0:
    return Constant(jnp.asarray(costs[0], jnp.float32))
  least = jnp.asarray(costs.min(0), jnp.float32)
  return AtLeast(linear.fit_ridge(x, costs), least)


@struct.dataclass
class Constant:
  """The same for every question.

  Attributes:
    values: f32[K].
  """

  values: Float[Array, " K"]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K], `values` in every row."""
    return jnp.tile(self.values[None], (len(x), 1))


@struct.dataclass
class AtLeast:
  """A head that is never below a floor.

  Attributes:
    head: the head.
    least: f32[K], the floor.
  """

  head: Any
  least: Float[Array, " K"]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K]."""
    return jnp.maximum(self.head(x), self.least[None])


@jax.jit
def _call(head, x):
  return head(x)


def predict(
  head: Head, x: Float[np.ndarray, "n D"]
) -> Float[np.ndarray, "n K"]:
  """Asks a head from the host, f32[n, K]; sizes that are close share a program.

  Args:
    head: fitted.
    x: f32[n, D].
  """
  rows = len(x)
  padded = np.zeros((-(-rows // _BLOCK) * _BLOCK, x.shape[1]), np.float32)
  padded[:rows] = x
  return np.asarray(_call(head, padded))[:rows]


def fit_means(x: np.ndarray, scores: np.ndarray, key: jax.Array) -> Constant:
  """Each model's mean score, whatever the question: the best single model.

  Args:
    x: f32[N, D], not used.
    scores: f64[N, K], NaN where unknown.
    key: not used.
  """
  del x, key
  return Constant(jnp.asarray(np.nanmean(scores, 0), jnp.float32))
