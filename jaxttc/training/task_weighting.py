# SPDX-License-Identifier: Apache-2.0
"""Making one gradient of several tasks' losses.

  uniform      the gradient of sum_t L_t
  uncertainty  Kendall, Gal and Cipolla 2018: s_t = log sigma_t^2 is learned by
               minimising sum_t (L_t exp(-s_t) + s_t) / 2, which for a fixed
               loss is least at sigma_t^2 = L_t
  grad_norm    Chen, Badrinarayanan, Lee and Rabinovich 2018: weights w_t are
               learned so that G_t = w_t |grad L_t| comes near
               mean(G) (r_t / mean(r))^alpha, r_t = L_t / L_t(at the start),
               for gradients of the shared parameters: tasks that lag behind
               pull harder
  pcgrad       Yu et al. 2020: from each task's gradient its component against
               another one's is taken away, for all others in random order, and
               what is left is summed

`gradients` makes of a method what `loop.fit` takes for its argument of that
name. What a method learns is in the parameters, under `task_weighting`, so it
is trained by their optimizer and lies in their checkpoints.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxttc.training import loop

METHODS = ("uniform", "uncertainty", "grad_norm", "pcgrad")
PARAMS = "task_weighting"

# (params, batch, key) -> ({name: f32[]}, metrics)
Losses = Callable[[Any, Any, jax.Array], tuple[dict[str, jax.Array], dict]]
# Path of a parameter's names -> whether all tasks share it
Shared = Callable[[tuple[str, ...]], bool]


def init(
  params: Mapping[str, Any], method: str, tasks: Sequence[str]
) -> dict[str, Any]:
  """The parameters, and what a method learns beside them.

  Args:
    params: a network's parameters.
    method: one of `METHODS`.
    tasks: names of the tasks that are weighted.

  Returns:
    `params`, for "uncertainty" and "grad_norm" with a number f32[] a task
    under `task_weighting`; they start with equal weights.

  Raises:
    ValueError: if the method is unknown, a name comes twice, or there is a
      `task_weighting` already.
  """
  _check(method, tasks)
  if PARAMS in params:
    raise ValueError(f"the parameters have a {PARAMS!r} already")
  if method in ("uniform", "pcgrad"):
    return dict(params)
  return {**params, PARAMS: {name: jnp.float32(0) for name in tasks}}


def weights(
  params: Mapping[str, Any], method: str, tasks: Sequence[str]
) -> Float[Array, " K"]:
  """What a task's loss counts now; in pcgrad, before the projections.

  GradNorm's weights are K times the softmax of what is learned: positive, and
  K in sum without a step to make them so.
  """
  _check(method, tasks)
  if method in ("uniform", "pcgrad"):
    return jnp.ones((len(tasks),))
  learned = _learned(params, tasks)
  if method == "uncertainty":
    return jnp.exp(-learned) / 2
  return len(tasks) * jax.nn.softmax(learned)


def gradients(
  method: str,
  losses: Losses,
  tasks: Sequence[str],
  *,
  shared: Shared | None = None,
  initial_losses: Mapping[str, float] | None = None,
  alpha: float = 1.5,
) -> loop.Gradients:
  """A method's gradients, for `loop.fit(gradients=...)`.

  "grad_norm" and "pcgrad" hold a gradient a task at once, K times the
  parameters, from one forward pass and K backward ones.

  Args:
    method: one of `METHODS`.
    losses: (params, batch, key) -> (losses f32[] by name, metrics).
      Losses of other names than the tasks' (distillation, say) are added with
      weight 1 and never projected.
    tasks: names of the tasks to weight.
    shared: which parameters the tasks contend for, by the path of their names
      (("encoder", "stem", "kernel"), say); all if None. GradNorm balances the
      gradients of these (its paper takes the last shared layer), PCGrad
      projects these and sums the others.
    initial_losses: GradNorm's L_t at the start, by task: measured on the first
      batch, or log C for the cross-entropy of C classes.
    alpha: GradNorm's pull on tasks that lag behind, not negative.

  Returns:
    (params, batch, key) -> (gradients, metrics). To the metrics of `losses`
    it adds `loss`, the unweighted sum, and `weight_NAME` of every task; PCGrad
    also `conflicts`, the share of pairs with a negative inner product. Of
    a metric with one of these names, that of `losses` is kept.

  Raises:
    ValueError: if the method is unknown, a name comes twice, or GradNorm lacks
      a positive initial loss. When called: if a loss or `task_weighting` is
      missing, or no parameter is shared.
  """
  _check(method, tasks)
  tasks = tuple(tasks)
  if method in ("uniform", "uncertainty"):
    return _of_weighted_sum(method, losses, tasks)
  if method == "pcgrad":
    return _projected(losses, tasks, shared)
  if not alpha >= 0:
    raise ValueError(f"alpha must not be negative, got {alpha}")
  start = _initial(initial_losses, tasks)
  return _balanced(losses, tasks, shared, start, alpha)


def pcgrad_coefficients(
  gram: Float[Array, "K K"], order: Int[Array, "K K"]
) -> Float[Array, "K K"]:
  """PCGrad's projected gradients, as sums of the tasks' own.

  Args:
    gram: inner products of the tasks' gradients.
    order: row i is the order in which task i meets the others, a permutation
      of all tasks (it passes itself by).

  Returns:
    Row i holds what the projected gradient of task i has of each gradient.
  """

  def meet(own, coefficients, other):
    product = coefficients @ gram[:, other]
    conflict = (product < 0) & (other != own)
    square = jnp.maximum(gram[other, other], jnp.finfo(gram.dtype).tiny)
    away = jnp.where(conflict, product / square, 0.0)
    return coefficients.at[other].add(-away), None

  def project(own, row):
    start = jax.nn.one_hot(own, len(gram), dtype=gram.dtype)
    return jax.lax.scan(lambda c, j: meet(own, c, j), start, row)[0]

  return jax.vmap(project)(jnp.arange(len(gram)), order)


def grad_norm_step(
  learned: Float[Array, " K"],
  norms: Float[Array, " K"],
  losses: Float[Array, " K"],
  initial: Float[Array, " K"],
  alpha: float,
) -> Float[Array, " K"]:
  """Gradient of GradNorm's own loss, sum_t |G_t - target_t|.

  Args:
    learned: logits of the weights.
    norms: |grad L_t| of the shared parameters, unweighted.
    losses: L_t now, not negative.
    initial: L_t at the start.
    alpha: pull on tasks that lag behind.

  Returns:
    The gradient with respect to `learned`; targets are held fixed.
  """
  lag = jnp.maximum(losses, 0) / initial
  lag /= jnp.maximum(lag.mean(), jnp.finfo(lag.dtype).tiny)

  def distance(learned):
    weighted = len(learned) * jax.nn.softmax(learned) * norms
    target = jax.lax.stop_gradient(weighted.mean() * lag**alpha)
    return jnp.abs(weighted - target).sum()

  return jax.grad(distance)(learned)


def _of_weighted_sum(method, losses: Losses, tasks) -> loop.Gradients:
  def total(params, batch, key):
    found, metrics = losses(params, batch, key)
    stacked = _stack(found, tasks)
    w = weights(params, method, tasks)
    loss = w @ stacked[: len(tasks)] + stacked[len(tasks) :].sum()
    if method == "uncertainty":
      loss += _learned(params, tasks).sum() / 2
    return loss, _report(metrics, stacked, w, tasks)

  return jax.grad(total, has_aux=True)


def _projected(losses: Losses, tasks, shared: Shared | None) -> loop.Gradients:
  def of_batch(params, batch, key):
    order_key, losses_key = jax.random.split(key)
    rows, stacked, metrics = _rows(losses, tasks, params, batch, losses_key)
    gram = _gram(rows, len(tasks), shared)
    order = jax.vmap(lambda k: jax.random.permutation(k, len(tasks)))(
      jax.random.split(order_key, len(tasks))
    )
    w = weights(params, "pcgrad", tasks)
    projected = pcgrad_coefficients(gram, order).sum(0)
    pairs = max(len(tasks) * (len(tasks) - 1), 1)
    metrics = {"conflicts": (gram < 0).sum() / pairs, **metrics}
    return (
      _combine(rows, projected, w, shared),
      _report(metrics, stacked, w, tasks),
    )

  return of_batch


def _balanced(losses: Losses, tasks, shared, initial, alpha) -> loop.Gradients:
  def of_batch(params, batch, key):
    rows, stacked, metrics = _rows(losses, tasks, params, batch, key)
    norms = jnp.sqrt(jnp.diagonal(_gram(rows, len(tasks), shared)))
    w = weights(params, "grad_norm", tasks)
    grads = _combine(rows, w, w, shared)
    step = grad_norm_step(
      _learned(params, tasks), norms, stacked[: len(tasks)], initial, alpha
    )
    grads[PARAMS] = dict(zip(tasks, step, strict=True))
    return grads, _report(metrics, stacked, w, tasks)

  return of_batch


def _rows(losses: Losses, tasks, params, batch, key):
  """Every task's gradients, on a leading axis; losses; metrics.

  A last row is of the sum of all other losses, where there are any.
  """

  def stacked(params):
    found, metrics = losses(params, batch, key)
    return _stack(found, tasks), metrics

  values, pullback, metrics = jax.vjp(stacked, params, has_aux=True)
  (rows,) = jax.vmap(pullback)(jnp.eye(len(values), dtype=values.dtype))
  return rows, values, metrics


def _stack(found: Mapping[str, jax.Array], tasks) -> jax.Array:
  """The tasks' losses, and behind them the sum of all others."""
  missing = [name for name in tasks if name not in found]
  if missing:
    raise ValueError(
      f"there is no loss of task {missing[0]!r}; there are "
      f"{', '.join(sorted(found)) or 'none'}"
    )
  stacked = [found[name] for name in tasks]
  others = [value for name, value in found.items() if name not in tasks]
  return jnp.stack([*stacked, sum(others)] if others else stacked)


def _gram(rows, tasks: int, shared: Shared | None) -> jax.Array:
  """Inner products of the tasks' gradients, of the shared parameters."""
  leaves = [
    leaf[:tasks].reshape(tasks, -1)
    for path, leaf in jax.tree_util.tree_leaves_with_path(rows)
    if _is_shared(path, shared)
  ]
  if not leaves:
    raise ValueError("no parameter is shared by the tasks")
  return jnp.stack([leaf @ leaf.T for leaf in leaves]).sum(0)


def _combine(rows, of_shared, of_others, shared: Shared | None):
  """Sums of the rows, with one set of coefficients each."""

  def one(path, leaf):
    c = of_shared if _is_shared(path, shared) else of_others
    ones = jnp.ones((len(leaf) - len(c),), c.dtype)  # losses beside the tasks'
    return jnp.tensordot(jnp.concatenate([c, ones]), leaf, 1)

  return jax.tree_util.tree_map_with_path(one, rows)


def _is_shared(path, shared: Shared | None) -> bool:
  names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
  return names[0] != PARAMS and (shared is None or shared(tuple(names)))


def _learned(params, tasks) -> jax.Array:
  if PARAMS not in params:
    raise ValueError(
      f"the parameters have no {PARAMS!r}; task_weighting.init adds it"
    )
  return jnp.stack([params[PARAMS][name] for name in tasks])


def _report(metrics, stacked, w, tasks) -> dict[str, jax.Array]:
  of_tasks = {f"weight_{name}": w[i] for i, name in enumerate(tasks)}
  return {"loss": stacked.sum(), **of_tasks, **metrics}


def _initial(initial_losses, tasks) -> jax.Array:
  given = initial_losses or {}
  for name in tasks:
    if not given.get(name, 0.0) > 0:
      raise ValueError(
        f"grad_norm needs a positive initial loss of task {name!r}, got "
        f"{given.get(name)}"
      )
  return jnp.asarray([float(given[name]) for name in tasks])


def _check(method: str, tasks: Sequence[str]) -> None:
  if method not in METHODS:
    raise ValueError(
      f"task weighting {method!r} is not one of {', '.join(METHODS)}"
    )
  if not tasks or len(set(tasks)) < len(tasks):
    raise ValueError(f"task names must be different ones, got {list(tasks)}")
