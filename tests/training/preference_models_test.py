# SPDX-License-Identifier: Apache-2.0
"""Tests of preference models on losses that are known in closed form."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc.models import branching, hypernetworks
from jaxttc.training import loop, pareto, preference_models

_CORNERS = jnp.eye(2)
_RAYS = jnp.asarray([[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]])


class _Batch(NamedTuple):
  inputs: jax.Array


class _Stage(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.tanh(nn.LayerNorm()(nn.Dense(4)(x)))


_ANCHOR = branching.Anchor(
  (_Stage(), _Stage()), (nn.Dense(1), nn.Dense(1)), ("a", "b")
)
_BATCH = _Batch(jax.random.normal(jax.random.key(5), (16, 3)))


def _point(params, inputs):
  """A target whose prediction is its one parameter: a point in the plane."""
  del inputs
  return params["x"]


def _initial(key):
  return {"x": jax.random.normal(key, (2,))}


def _distances(point, batch):
  """Squared distances to the two corners: they conflict."""
  del batch
  return jnp.square(point[None] - _CORNERS).sum(-1)


def _stream_losses(out, batch):
  first, second = jnp.sin(batch.inputs[:, 0]), jnp.cos(batch.inputs[:, 1])
  return jnp.stack(
    [
      jnp.square(out["a"][:, 0] - first).mean(),
      jnp.square(out["b"][:, 0] - second).mean(),
    ]
  )


def _filled(init):
  """Parameters of the right shapes, drawn without compiling anything."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(init, jax.random.key(0))
  draw = lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.3, x.dtype)  # noqa: E731
  return jax.tree.map(draw, shapes)


def _train(model, params, steps, rate):
  """Adam with a falling rate, in one compiled scan."""
  tx = optax.adam(optax.cosine_decay_schedule(rate, steps))
  gradients = getattr(model, "gradients", None) or jax.grad(
    model.objective, has_aux=True
  )

  @jax.jit
  def run(params, key):
    def step(carry, key):
      params, state = carry
      grads, metrics = gradients(params, _BATCH, key)
      updates, state = tx.update(grads, state)
      return (optax.apply_updates(params, updates), state), metrics

    carry = (params, tx.init(params))
    (params, _), metrics = jax.lax.scan(
      step, carry, jax.random.split(key, steps)
    )
    return params, metrics

  return run(params, jax.random.key(0))


def test_linear_hypernetwork_finds_the_front():
  """The optimum of r_1 |x - e_1|^2 + r_2 |x - e_2|^2 is x = r."""
  network = hypernetworks.RayHypernetwork(_initial, hidden=(32, 32))
  model = preference_models.hypernetwork(
    network, _point, _distances, 2, draws=8
  )
  params, _ = _train(model, _filled(model.init), 800, 1e-2)
  found = jax.vmap(lambda r: model.predict(params, r, _BATCH.inputs))(_RAYS)
  np.testing.assert_allclose(found, _RAYS, atol=0.08)


def test_exact_hypernetwork_meets_every_ray():
  """On the segment, r_1 L_1 = r_2 L_2 is at x_2 / x_1 = sqrt(r_2 / r_1)."""
  network = hypernetworks.RayHypernetwork(_initial, hidden=(32, 32))
  model = preference_models.hypernetwork(
    network, _point, _distances, 2, exact=True, draws=8, concentration=1.0
  )
  params, metrics = _train(model, _filled(model.init), 800, 1e-2)
  found = jax.vmap(lambda r: model.predict(params, r, _BATCH.inputs))(_RAYS)
  root = jnp.sqrt(_RAYS)[:, ::-1]
  expected = 1 - root / root.sum(-1, keepdims=True)
  np.testing.assert_allclose(found, expected, atol=0.1)
  losses = jax.vmap(lambda x: _distances(x, None))(found)
  assert jax.vmap(pareto.non_uniformity)(_RAYS, losses).max() < 0.05
  assert metrics["unsolved"][-100:].mean() < 0.05


def test_a_static_network_is_the_weighted_optimum():
  model = preference_models.static(_initial, _point, _distances, (3.0, 1.0))
  params, _ = _train(model, _filled(model.init), 300, 5e-2)
  np.testing.assert_allclose(params["x"], [0.75, 0.25], atol=1e-3)
  predicted = model.predict(params, _RAYS[0], _BATCH.inputs)
  np.testing.assert_array_equal(predicted, params["x"])


@pytest.mark.parametrize(
  "preference", [(0.0, 0.0), (1.0, -0.5), (1.0, float("nan"))]
)
def test_impossible_preferences_are_refused(preference):
  with pytest.raises(ValueError, match="finite weights >= 0, not all zero"):
    preference_models.static(_initial, _point, _distances, preference)


def test_streams_train_as_if_alone():
  model = preference_models.single_task_streams(
    _ANCHOR, _BATCH.inputs[:1], _stream_losses
  )
  params = _filled(model.init)

  def loss_of(task):
    return lambda p: _stream_losses(
      model.predict(p, _RAYS[0], _BATCH.inputs), _BATCH
    )[task]

  grads = jax.jit(jax.grad(loss_of(0)))(params)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    name = jax.tree_util.keystr(path)
    own = "stream_0" in name or "head_0" in name
    assert bool(np.abs(grad).max() > 0) == own, name
  value, _ = model.objective(params, _BATCH, jax.random.key(0))
  each = [loss_of(t)(params) for t in (0, 1)]
  np.testing.assert_allclose(value, sum(each), rtol=1e-6)


@pytest.fixture(scope="module")
def branched():
  return preference_models.branching(
    _ANCHOR, _BATCH.inputs[:1], _stream_losses, draws=2
  )


def test_gradient_reaches_edges_norms_and_anchor(branched):
  params = _filled(branched.init)
  # Four keys, so that the sampled trees use every node.
  keys = jax.random.split(jax.random.key(1), 4)

  @jax.jit
  def total(params):
    values, _ = jax.vmap(branched.objective, in_axes=(None, None, 0))(
      params, _BATCH, keys
    )
    return values.mean()

  grads = jax.jit(jax.grad(total))(params)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    assert np.isfinite(grad).all()
    assert np.abs(grad).max() > 0, path


def test_what_is_chosen_is_what_is_predicted(branched):
  params = _filled(branched.init)
  rays = jnp.concatenate([_RAYS, jnp.eye(2)])
  shares = jnp.asarray([0.5, 0.7, 1.0, 0.5, 1.0])
  predict = jax.vmap(branched.predict, in_axes=(None, 0, 0, None))
  found = jax.jit(predict)(params, rays, shares, _BATCH.inputs)
  for i in range(len(rays)):
    edges, fitted = branched.choose(params, rays[i], shares[i])
    tree = branching.tree_of(edges)
    alone = branching.run(_ANCHOR, fitted, tree, _BATCH.inputs)
    np.testing.assert_allclose(alone["a"], found["a"][i], atol=1e-5)
    np.testing.assert_allclose(alone["b"], found["b"][i], atol=1e-5)


def test_trees_shrink_to_the_compute_that_is_asked_for():
  """With no task to serve, the penalties alone decide."""
  anchor = branching.Anchor((nn.Dense(2),), (nn.Dense(1),) * 2, ("a", "b"))
  init = lambda key: branching.init(anchor, key, _BATCH.inputs)  # noqa: E731
  model = preference_models.branching(
    anchor,
    _BATCH.inputs[:1],
    lambda out, batch: 0.0 * _stream_losses(out, batch),
    anchor_params=_filled(init),
    follows=lambda path: path.startswith("stage"),
    draws=16,
  )
  params, metrics = _train(model, _filled(model.init), 150, 3e-3)
  assert metrics["compute_excess"][-20:].mean() < 0.05
  assert metrics["compute_share"][0] > 0.8
  edges, _ = model.choose(params, jnp.asarray([0.5, 0.5]), jnp.float32(0.5))
  assert len(branching.active(branching.tree_of(edges))[0]) == 1


def test_a_fixed_anchor_is_no_parameter(branched):
  init = lambda key: branching.init(_ANCHOR, key, _BATCH.inputs)  # noqa: E731
  streams = _filled(init)
  model = preference_models.branching(
    _ANCHOR, _BATCH.inputs[:1], _stream_losses, anchor_params=streams
  )
  params = _filled(model.init)
  assert "plain" not in params["norms"]
  _, fitted = model.choose(params, _RAYS[0], jnp.float32(1.0))
  np.testing.assert_array_equal(
    fitted["stage_0"]["stream_1"]["Dense_0"]["kernel"],
    streams["stage_0"]["stream_1"]["Dense_0"]["kernel"],
  )
  assert "plain" in jax.eval_shape(branched.init, jax.random.key(0))["norms"]


def test_generators_move_slower_than_their_targets():
  """The first step of Adam is the learning rate, whatever the gradient."""
  network = hypernetworks.NormHypernetwork(_initial, lambda path: True)
  model = preference_models.hypernetwork(network, _point, _distances, 2)
  config = loop.TrainConfig(
    learning_rate=1e-2, warmup_steps=0, weight_decay=0.0, clip_norm=1e9
  )
  params = model.init(jax.random.key(0))
  slopes = jax.tree.map(jnp.ones_like, params)
  for share in (1.0, 0.1):
    tx = preference_models.optimizer(config, share)
    moved, _ = tx.update(slopes, tx.init(params), params)
    for path, step in jax.tree_util.tree_leaves_with_path(moved):
      rate = 1e-2 if path[0].key == "plain" else 1e-2 * share
      np.testing.assert_allclose(step, -rate, rtol=1e-4)


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_shares_of_learning_rates_that_cannot_be_are_refused(share):
  with pytest.raises(ValueError, match=r"share must be in \(0, 1\]"):
    preference_models.optimizer(loop.TrainConfig(), share)
