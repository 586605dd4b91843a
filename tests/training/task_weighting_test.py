# SPDX-License-Identifier: Apache-2.0
"""Tests of task weighting, on losses small enough to work out by hand."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc.training import loop, task_weighting

_KEY = jax.random.key(0)
_TASKS = ("a", "b")


def _linear(slopes):
  """Losses slope . w, of which the slopes are the gradients."""

  def losses(params, batch, key):
    del batch, key
    found = {k: jnp.asarray(v) @ params["w"] for k, v in slopes.items()}
    return found, {"seen": jnp.float32(1)}

  return losses


def _quadratic(curvatures):
  """Losses c/2 |w|^2, with gradients c w."""

  def losses(params, batch, key):
    del batch, key
    square = jnp.square(params["w"]).sum() / 2
    return {k: c * square for k, c in curvatures.items()}, {}

  return losses


def _params(method="uniform", w=(1.0, 2.0), tasks=_TASKS):
  return task_weighting.init({"w": jnp.asarray(w)}, method, tasks)


def test_pcgrad_of_two_conflicting_gradients_by_hand():
  """(1, 0) loses what points against (-1, 1), and the other way round.

  (1, 0) + (-1, 1)/2 = (1/2, 1/2);  (-1, 1) + (1, 0) = (0, 1).
  """
  losses = _linear({"a": (1.0, 0.0), "b": (-1.0, 1.0)})
  descend = task_weighting.gradients("pcgrad", losses, _TASKS)
  grads, metrics = jax.jit(descend)(_params(), None, _KEY)
  np.testing.assert_allclose(grads["w"], (0.5, 1.5), atol=1e-6)
  assert float(metrics["conflicts"]) == 1.0


def test_pcgrad_leaves_gradients_that_agree():
  losses = _linear({"a": (1.0, 0.0), "b": (1.0, 1.0)})
  descend = task_weighting.gradients("pcgrad", losses, _TASKS)
  grads, metrics = descend(_params(), None, _KEY)
  np.testing.assert_allclose(grads["w"], (2.0, 1.0), atol=1e-6)
  assert float(metrics["conflicts"]) == 0.0


_coefficients = jax.jit(task_weighting.pcgrad_coefficients)


@hypothesis.given(seed=st.integers(0, 10_000))
@hypothesis.settings(max_examples=40)
def test_pcgrad_is_the_loop_over_vectors(seed):
  """Inner products suffice: the same as projecting the vectors one by one."""
  rng = np.random.default_rng(seed)
  g = rng.normal(size=(4, 3)).astype(np.float32)
  order = np.stack([rng.permutation(4) for _ in range(4)])
  found = _coefficients(jnp.asarray(g @ g.T), jnp.asarray(order)) @ g
  for i in range(4):
    expected = g[i].astype(np.float64)
    for j in order[i]:
      product = expected @ g[j]
      if j != i and product < 0:
        expected = expected - product / (g[j] @ g[j]) * g[j]
    np.testing.assert_allclose(found[i], expected, atol=2e-3)


def test_pcgrad_survives_a_task_without_gradient():
  gram = jnp.asarray([[1.0, 0.0], [0.0, 0.0]])
  order = jnp.asarray([[0, 1], [1, 0]])
  np.testing.assert_array_equal(_coefficients(gram, order), np.eye(2))


def test_the_key_decides_the_order():
  g = np.random.default_rng(3).normal(size=(4, 3)).astype(np.float32)
  names = ("a", "b", "c", "d")
  losses = _linear(dict(zip(names, g, strict=True)))
  params = _params(w=(1.0, 1.0, 1.0), tasks=names)
  descend = jax.jit(task_weighting.gradients("pcgrad", losses, names))
  found = [
    np.asarray(descend(params, None, jax.random.key(k))[0]["w"])
    for k in (0, 0, 1, 2, 3, 4)
  ]
  np.testing.assert_array_equal(found[0], found[1])
  assert any(np.abs(f - found[0]).max() > 1e-3 for f in found[2:])


def _two_heads(params, batch, key):
  """Conflict in the trunk; each head has a loss of its own."""
  del batch, key
  trunk, heads = params["trunk"], params["heads"]
  return {
    "a": trunk[0] + 3 * heads["a"],
    "b": -trunk[0] + trunk[1] + 5 * heads["b"],
    "distillation": 10 * trunk[0],
  }, {}


def test_only_what_is_shared_is_projected():
  params = {
    "trunk": jnp.zeros(2),
    "heads": {"a": jnp.float32(0), "b": jnp.float32(0)},
  }
  descend = task_weighting.gradients(
    "pcgrad", _two_heads, _TASKS, shared=lambda path: path[0] == "trunk"
  )
  grads, metrics = descend(params, None, _KEY)
  # (1/2, 3/2) as by hand, and what comes from beside the tasks, whole.
  np.testing.assert_allclose(grads["trunk"], (10.5, 1.5), atol=1e-6)
  assert (grads["heads"]["a"], grads["heads"]["b"]) == (3.0, 5.0)
  assert float(metrics["loss"]) == 0.0


def test_sharing_nothing_is_refused():
  descend = task_weighting.gradients(
    "pcgrad", _quadratic({"a": 1.0, "b": 2.0}), _TASKS, shared=lambda _: False
  )
  with pytest.raises(ValueError, match="no parameter is shared"):
    descend(_params(), None, _KEY)


def test_uniform_is_the_gradient_of_the_sum():
  losses = _linear({"a": (1.0, 0.0), "b": (-1.0, 1.0), "other": (5.0, 5.0)})
  descend = task_weighting.gradients("uniform", losses, _TASKS)
  grads, metrics = descend(_params(), None, _KEY)
  np.testing.assert_allclose(grads["w"], (5.0, 6.0))
  assert {k: float(v) for k, v in metrics.items()} == {
    "loss": 17.0,
    "weight_a": 1.0,
    "weight_b": 1.0,
    "seen": 1.0,
  }


def test_uncertainty_rests_where_the_variance_is_the_loss():
  losses = _quadratic({"a": 0.1, "b": 4.0})
  found, _ = losses(_params(), None, _KEY)
  params = _params("uncertainty")
  params["task_weighting"] = {k: jnp.log(v) for k, v in found.items()}
  descend = task_weighting.gradients("uncertainty", losses, _TASKS)
  grads, metrics = descend(params, None, _KEY)
  for name in _TASKS:
    np.testing.assert_allclose(grads["task_weighting"][name], 0, atol=1e-6)
    np.testing.assert_allclose(
      metrics[f"weight_{name}"], 0.5 / found[name], rtol=1e-5
    )
  # L_t / (2 L_t): both tasks pull alike, whatever their scale.
  w = np.asarray(params["w"])
  np.testing.assert_allclose(grads["w"], 2 * w / np.square(w).sum(), rtol=1e-5)


def test_uncertainty_finds_that_place():
  """By gradient descent on what is learned alone."""
  losses = _quadratic({"a": 0.1, "b": 4.0})
  descend = task_weighting.gradients("uncertainty", losses, _TASKS)

  def step(params, _):
    grads, _ = descend(params, None, _KEY)
    moved = jax.tree.map(
      lambda p, g: p - 0.5 * g,
      params["task_weighting"],
      grads["task_weighting"],
    )
    return params | {"task_weighting": moved}, None

  params, _ = jax.lax.scan(step, _params("uncertainty"), None, length=200)
  for name, loss in (("a", 0.25), ("b", 10.0)):
    np.testing.assert_allclose(
      jnp.exp(params["task_weighting"][name]), loss, rtol=1e-3
    )


def _grad_norm(curvatures, alpha, lag=1.0):
  """GradNorm's gradients; task a started at `lag` times less than it is."""
  losses = _quadratic(curvatures)
  start, _ = losses(_params(), None, _KEY)
  start = {k: float(v) for k, v in start.items()}
  start["a"] /= lag
  return task_weighting.gradients(
    "grad_norm", losses, _TASKS, initial_losses=start, alpha=alpha
  )


def _balance(descend, steps=400):
  """Lets GradNorm's weights settle, the network held still."""

  def step(params, i):
    grads, metrics = descend(params, None, _KEY)
    rate = 0.3 / (1 + i)
    moved = jax.tree.map(
      lambda p, g: p - rate * g,
      params["task_weighting"],
      grads["task_weighting"],
    )
    return params | {"task_weighting": moved}, metrics

  start = _params("grad_norm")
  params, metrics = jax.lax.scan(step, start, jnp.arange(float(steps)))
  return params, {k: float(v[-1]) for k, v in metrics.items()}


def test_grad_norm_balances_norms_on_a_quadratic():
  """Gradients c w: weights must be as 1/c, and 2 in sum."""
  _, metrics = _balance(_grad_norm({"a": 0.5, "b": 2.0}, alpha=1.5))
  np.testing.assert_allclose(metrics["weight_a"], 1.6, rtol=0.01)
  np.testing.assert_allclose(metrics["weight_b"], 0.4, rtol=0.03)


def test_grad_norm_lets_a_task_that_lags_pull_harder():
  """Loss ratios 3 and 1: norms as 3^alpha to 1."""
  _, metrics = _balance(_grad_norm({"a": 1.0, "b": 1.0}, alpha=1.0, lag=3.0))
  ratio = metrics["weight_a"] / metrics["weight_b"]
  np.testing.assert_allclose(ratio, 3.0, rtol=0.03)


def test_grad_norm_moves_the_network_along_the_weighted_sum():
  descend = _grad_norm({"a": 0.5, "b": 2.0}, alpha=1.5)
  params = _params("grad_norm")
  params["task_weighting"] = {"a": jnp.log(3.0), "b": jnp.float32(0)}
  grads, metrics = descend(params, None, _KEY)
  np.testing.assert_allclose(metrics["weight_a"], 1.5, rtol=1e-5)
  np.testing.assert_allclose(metrics["weight_b"], 0.5, rtol=1e-5)
  np.testing.assert_allclose(
    grads["w"], 1.75 * np.asarray(params["w"]), rtol=1e-5
  )


@pytest.mark.parametrize("method", task_weighting.METHODS)
def test_the_train_loop_trains_with_every_method(method, tmp_path):
  """Both tasks' losses fall, and a method's weights are saved and learned."""
  inputs = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)

  def losses(params, batch, key):
    del key
    out = batch @ params["w"]
    square = lambda t, x: jnp.square(out[:, t] - x).mean()  # noqa: E731
    a, b = square(0, batch[:, 0]), square(1, 5 * batch[:, 1])
    return {"a": a, "b": b}, {"a": a, "b": b}

  start = {"w": jnp.zeros((3, 2))}
  state = loop.fit(
    loop.TrainConfig(
      steps=30, batch_size=8, learning_rate=0.1, warmup_steps=1, log_every=5
    ),
    objective=None,
    init_params=lambda key: task_weighting.init(start, method, _TASKS),
    batches=lambda step: inputs,
    workdir=str(tmp_path),
    tx=optax.adam(0.1),
    gradients=task_weighting.gradients(
      method, losses, _TASKS, initial_losses={"a": 1.0, "b": 25.0}
    ),
  )
  before, _ = losses(start, inputs, None)
  after, _ = losses(state.params, inputs, None)
  assert after["a"] < 0.5 * before["a"] and after["b"] < 0.8 * before["b"]
  if method in ("uncertainty", "grad_norm"):
    learned = state.params["task_weighting"]
    assert abs(float(learned["a"] - learned["b"])) > 0.05


def test_learned_weights_go_with_the_parameters():
  params = {"w": jnp.zeros(2)}
  assert list(task_weighting.init(params, "pcgrad", _TASKS)) == ["w"]
  for method, each in (("uncertainty", 0.5), ("grad_norm", 1.0)):
    made = task_weighting.init(params, method, _TASKS)
    assert set(made["task_weighting"]) == set(_TASKS)
    found = task_weighting.weights(made, method, _TASKS)
    np.testing.assert_allclose(found, [each, each])


def test_bad_input():
  losses = _quadratic({"a": 1.0})
  make = task_weighting.gradients
  with pytest.raises(ValueError, match="'mean' is not one of uniform, uncert"):
    make("mean", losses, _TASKS)
  with pytest.raises(
    ValueError, match=r"must be different ones, got \['a', 'a"
  ):
    make("uniform", losses, ("a", "a"))
  with pytest.raises(ValueError, match="initial loss of task 'b', got None"):
    make("grad_norm", losses, _TASKS, initial_losses={"a": 1.0})
  start = {"a": 1.0, "b": 1.0}
  with pytest.raises(ValueError, match="alpha must not be negative, got nan"):
    make("grad_norm", losses, _TASKS, initial_losses=start, alpha=float("nan"))
  with pytest.raises(ValueError, match="no loss of task 'b'; there are a"):
    make("uniform", losses, _TASKS)(_params(), None, _KEY)
  both = _quadratic({"a": 1.0, "b": 1.0})
  with pytest.raises(ValueError, match="no 'task_weighting'"):
    make("uncertainty", both, _TASKS)(_params(), None, _KEY)
  with pytest.raises(ValueError, match="have a 'task_weighting' already"):
    task_weighting.init(_params("grad_norm"), "grad_norm", _TASKS)
