# SPDX-License-Identifier: Apache-2.0
"""Objectives for models that are told how much each task matters.

A step draws preferences r from a Dirichlet distribution, whose small
concentration favours corners and edges of the simplex, and lowers

*  the weighted sum of losses, sum_t r_t L_t (`linear`), or
*  along a direction that moves all losses towards r_1 L_1 = ... = r_K L_K
   without raising them needlessly (`exact`): the search for an exact Pareto
   optimum, EPO (Mahapatra and Rajan 2020), as Navon et al. (2021, arXiv
   2010.04104) train hypernetworks with it.

EPO chooses weights of the tasks' gradients by a small linear program. With at
most six tasks its vertices are few, so it is solved exactly by trying them
all, inside the compiled step.
"""

from collections.abc import Callable
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key
import numpy as np

# (params, preference f32[K], batch, key) -> losses f32[K], in task order.
Losses = Callable[[Any, jax.Array, Any, jax.Array], jax.Array]
Objective = Callable[[Any, Any, jax.Array], tuple[jax.Array, dict]]
Gradients = Callable[[Any, Any, jax.Array], tuple[Any, dict]]

MOST_TASKS = 6  # that the linear program is solved for

_ONE_BY_ONE = 4  # draws that are not mapped
_UNIFORM = 1e-4  # non-uniformity from which on losses lie on the ray
_SLACK = 1e-4  # by which a vertex may break a constraint of length one


def sample_preferences(
  key: Key[Array, ""], draws: int, tasks: int, concentration: float = 0.2
) -> Float[Array, "N K"]:
  """Weights of the tasks, drawn from a symmetric Dirichlet distribution.

  Args:
    key: a random key.
    draws: preferences, N.
    tasks: weights of each, K; they sum to one.
    concentration: below one most weight falls to few tasks.
  """
  return jax.random.dirichlet(
    key, jnp.full(tasks, concentration, jnp.float32), (draws,)
  )


def over_draws(run: Callable, *drawn: jax.Array) -> Any:
  """Returns what `run` makes of each draw, stacked; few are run one by one.

  Mapped over draws, a convolution whose kernel follows the draw becomes one
  of as many groups, which XLA for CPU runs many times slower than one after
  the other. Many draws are mapped, as each would be compiled by itself.

  Args:
    run: of an entry of each array.
    *drawn: arrays of N entries.
  """
  count = len(drawn[0])
  if count > _ONE_BY_ONE:
    return jax.vmap(run)(*drawn)
  found = [run(*(array[i] for array in drawn)) for i in range(count)]
  return jax.tree.map(lambda *each: jnp.stack(each), *found)


def non_uniformity(
  preference: Float[Array, " K"], losses: Float[Array, " K"]
) -> Float[Array, ""]:
  """How far losses are from the ray of a preference, in nats.

  With p_t = r_t L_t / sum(r L), it is the divergence of p from the uniform
  distribution, sum_t p_t log(K p_t): zero just when all r_t L_t are equal, at
  most log K. Where all are zero it is zero.

  Args:
    preference: r, not negative.
    losses: L, not negative.
  """
  share, log_share = _shares(preference, losses)
  return (share * log_share).sum()


def _shares(preference, losses):
  """p_t and log(K p_t), the logarithm zero where p_t is."""
  weighted = preference * losses
  total = weighted.sum()
  uniform = jnp.full_like(weighted, 1 / weighted.size)
  share = jnp.where(
    total > 0, weighted / jnp.where(total > 0, total, 1), uniform
  )
  positive = share > 0
  log_share = jnp.log(jnp.where(positive, share, 1.0) * share.size)
  return share, jnp.where(positive, log_share, 0.0)


def epo_weights(
  preference: Float[Array, " K"],
  losses: Float[Array, " K"],
  gram: Float[Array, "K K"],
) -> tuple[Float[Array, " K"], Bool[Array, ""]]:
  """Weights of the tasks' gradients in one step of the exact search.

  With the anchor a_t = r_t (log(K p_t) - mu), mu = `non_uniformity` and C the
  Gram matrix, weights alpha on the simplex

  *  off the ray (mu > 1e-4) maximise a.C alpha, so mu falls fastest, subject
     to (C alpha)_j >= 0 where r_j L_j is largest, >= (C a)_j where that is not
     positive, and no bound elsewhere; without any positive (C a)_j all bounds
     are zero;
  *  on the ray maximise the sum of C alpha subject to C alpha >= 0 and
     a.C alpha >= min(0, max_j (C a)_j): no loss rises, the ray is kept.

  Pure; `jax.vmap` over all arguments gives one program each.

  Args:
    preference: r, on the simplex. A task with r_t = 0 has a_t = 0.
    losses: L, not negative.
    gram: C, inner products of the gradients of the losses.

  Returns:
    (alpha, whether the program had a solution). Without one alpha is
    r / sum(r). The step goes along K alpha.

  Raises:
    ValueError: if there are fewer than two tasks, or more than `MOST_TASKS`.
  """
  tasks = losses.size
  if not 2 <= tasks <= MOST_TASKS:
    raise ValueError(
      f"the exact search is for 2 to {MOST_TASKS} tasks, got {tasks}; use "
      "linear scalarisation"
    )
  share, log_share = _shares(preference, losses)
  mu = (share * log_share).sum()
  anchor = jnp.where(share > 0, preference * (log_share - mu), 0.0)
  # The weights do not depend on the size of the gradients.
  gram = gram / jnp.maximum(jnp.abs(gram).max(), jnp.finfo(gram.dtype).tiny)
  pull = _dot(gram, anchor)
  rises = pull > 0
  weighted = preference * losses
  bound = jnp.where(rises, -jnp.inf, pull)
  bound = jnp.where(weighted >= weighted.max(), 0.0, bound)
  bound = jnp.where(rises.any(), bound, 0.0)
  balance = mu > _UNIFORM
  keep = jnp.where(balance, -jnp.inf, jnp.minimum(0.0, pull.max()))
  alpha, found = solve_simplex_program(
    objective=jnp.where(balance, pull, gram.sum(0)),
    rows=jnp.concatenate([gram, pull[None]]),
    bounds=jnp.append(jnp.where(balance, bound, 0.0), keep),
  )
  return jnp.where(found, alpha, preference / preference.sum()), found


def solve_simplex_program(
  objective: Float[Array, " K"],
  rows: Float[Array, "M K"],
  bounds: Float[Array, " M"],
) -> tuple[Float[Array, " K"], Bool[Array, ""]]:
  """max c.x over x >= 0, sum(x) = 1, rows x >= bounds, by all vertices.

  A vertex of the feasible set makes K - 1 of the K + M inequalities
  equalities, so there are (K + M choose K - 1) systems of K equations.

  Args:
    objective: c.
    rows: left sides. Rows are scaled to length one before they are compared.
    bounds: right sides; -inf for none.

  Returns:
    (x, whether anything is feasible); x is zero if nothing is.
  """
  size = objective.size
  length = jnp.sqrt(jnp.square(rows).sum(-1))
  # A row of zeros says 0 >= bound.
  length = jnp.where(length > 0, length, 1.0)
  left = jnp.concatenate(
    [jnp.eye(size, dtype=rows.dtype), rows / length[:, None]]
  )
  right = jnp.concatenate([jnp.zeros(size, rows.dtype), bounds / length])
  bounded = jnp.isfinite(right)
  right = jnp.where(bounded, right, 0.0)
  chosen = np.asarray(
    list(itertools.combinations(range(left.shape[0]), size - 1))
  )
  ones = jnp.ones((len(chosen), 1, size), rows.dtype)
  systems = jnp.concatenate([ones, left[chosen]], axis=1)
  values = jnp.concatenate([ones[..., 0], right[chosen]], axis=1)
  vertices = jnp.linalg.solve(systems, values[..., None])[..., 0]
  finite = jnp.isfinite(vertices).all(-1)
  vertices = jnp.where(finite[:, None], vertices, 0.0)
  over = _dot(vertices, left.T) - right[None]
  feasible = finite & bounded[chosen].all(-1)
  feasible &= jnp.abs(vertices.sum(-1) - 1) <= _SLACK
  feasible &= (~bounded[None] | (over >= -_SLACK)).all(-1)
  worth = jnp.where(feasible, _dot(vertices, objective), -jnp.inf)
  found = feasible.any()
  best = jnp.maximum(vertices[worth.argmax()], 0.0)
  return jnp.where(found, best, 0.0), found


def linear(
  losses: Losses, tasks: int, *, draws: int = 1, concentration: float = 0.2
) -> Objective:
  """Linear scalarisation, sum_t r_t L_t, over fresh preferences a step.

  Args:
    losses: (params, preference, batch, key) -> f32[K].
    tasks: K.
    draws: preferences a step, averaged; each sees the whole batch.
    concentration: of their Dirichlet distribution.

  Returns:
    loss(params, batch, key) -> (f32[], metrics), for `loop.fit`. Metrics:
    `loss`, and `non_uniformity` in nats, means over the draws.
  """

  def loss(params, batch, key: jax.Array):
    draw, other = jax.random.split(key)
    rays = sample_preferences(draw, draws, tasks, concentration)
    run = lambda ray: losses(params, ray, batch, other)  # noqa: E731
    found = over_draws(run, rays)
    total = (rays * found).sum(-1).mean()
    return total, _metrics(rays, found)

  return loss


def exact(
  losses: Losses, tasks: int, *, draws: int = 1, concentration: float = 0.2
) -> Gradients:
  """The exact search, over fresh preferences a step.

  Args:
    losses: (params, preference, batch, key) -> f32[K], not negative.
    tasks: K, 2 to `MOST_TASKS`.
    draws: preferences a step, whose directions are averaged. A step keeps
      `draws` times K gradients.
    concentration: of their Dirichlet distribution.

  Returns:
    gradients(params, batch, key) -> (tree like params, metrics). Metrics:
    those of `linear`, and `unsolved`, the share of draws whose linear program
    had no solution.
  """

  def gradients(params, batch, key: jax.Array):
    draw, other = jax.random.split(key)
    rays = sample_preferences(draw, draws, tasks, concentration)

    @jax.vmap
    def direction(ray):
      run = lambda params: losses(params, ray, batch, other)  # noqa: E731
      found, pullback = jax.vjp(run, params)
      (each,) = jax.vmap(pullback)(jnp.eye(tasks, dtype=found.dtype))
      alpha, solved = epo_weights(ray, found, gram_matrix(each))
      along = tasks * alpha
      grads = jax.tree.map(lambda g: jnp.tensordot(along, g, axes=1), each)
      return grads, found, solved

    grads, found, solved = direction(rays)
    metrics = _metrics(rays, found) | {"unsolved": 1 - solved.mean()}
    return jax.tree.map(lambda g: g.mean(0), grads), metrics

  return gradients


def gram_matrix(gradients: Any) -> Float[Array, "K K"]:
  """Inner products of gradients.

  Args:
    gradients: a tree like the parameters, each leaf with a leading axis K.
  """
  flat = [g.reshape(g.shape[0], -1) for g in jax.tree.leaves(gradients)]
  return sum(_dot(g, g.T) for g in flat[1:]) + _dot(flat[0], flat[0].T)


def _metrics(rays: jax.Array, found: jax.Array) -> dict[str, jax.Array]:
  return {
    "loss": (rays * found).sum(-1).mean(),
    "non_uniformity": jax.vmap(non_uniformity)(rays, found).mean(),
  }


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """A product in full float32, on accelerators too."""
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
