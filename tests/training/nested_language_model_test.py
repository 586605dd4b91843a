# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc import mesh as mesh_lib
from jaxttc.models import config as config_lib
from jaxttc.models import nested_transformer, transformer
from jaxttc.training import language_model, nested_language_model, packing

_CONFIG = config_lib.TransformerConfig(
  vocab_size=13,
  width=8,
  layers=1,
  heads=4,
  kv_heads=2,
  head_dim=4,
  mlp_width=12,
)
_WIDTHS = (0.25, 0.5, 1.0)
_KEY = jax.random.key(0)


def _batch(rows=4, length=9):
  rng = np.random.default_rng(0)
  examples = [
    packing.Example(rng.integers(0, 13, length - i % 2).tolist(), weights)
    for i in range(rows)
    for weights in [[0.0, 0.5] + [1.0] * (length - 2 - i % 2)]
  ]
  return jax.tree.map(jnp.asarray, packing.pack(examples, rows, length))


def _params():
  return transformer.init(jax.random.key(1), transformer.Transformer(_CONFIG))


def _rows(batch, which):
  return jax.tree.map(lambda x: x[which], batch)


def _nats(params, width, batch, taught=None):
  """Cross-entropy to the text or to a teacher, with plain NumPy sums."""
  small = nested_transformer.narrowed(_CONFIG, width)
  logits = transformer.forward(
    transformer.Transformer(small),
    nested_transformer.narrow(params, _CONFIG, small),
    batch.tokens,
    batch.segments,
    batch.positions,
  )
  logprobs = np.asarray(jax.nn.log_softmax(logits))
  if taught is None:
    taught = np.eye(_CONFIG.vocab_size)[np.asarray(batch.targets)]
  nats = -(np.asarray(taught) * logprobs).sum(-1)
  weights = np.asarray(batch.weights)
  return (nats * weights).sum() / weights.sum(), np.exp(logprobs)


@pytest.mark.parametrize(
  ("share", "rows"),
  [(0.0, True), (0.3, True), (1.0, True), (0.3, False)],
)
def test_loss_is_the_mean_over_widths_of_text_and_teacher(share, rows):
  params, batch = _params(), _batch()
  loss = nested_language_model.objective(_CONFIG, _WIDTHS, share, rows)
  value, metrics = loss(params, batch, _KEY)
  full, taught = _nats(params, 1.0, batch)
  expected = [full]
  for width, which in ((0.25, [0, 2]), (0.5, [1, 3])):
    which = which if rows else [0, 1, 2, 3]
    own = _rows(batch, np.array(which))
    hard, _ = _nats(params, width, own)
    soft, _ = _nats(params, width, own, taught[which])
    expected.append((1 - share) * hard + share * soft)
    np.testing.assert_allclose(metrics[f"loss_{width:g}"], hard, rtol=1e-5)
  np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)
  np.testing.assert_allclose(metrics["loss"], full, rtol=1e-5)


def test_full_width_counts_as_the_plain_objective_does():
  params, batch = _params(), _batch()
  plain = language_model.objective(transformer.Transformer(_CONFIG))
  _, expected = plain(params, batch, _KEY)
  nested = nested_language_model.objective(_CONFIG, _WIDTHS, 0.5)
  _, found = nested(params, batch, _KEY)
  for name in ("loss", "accuracy"):
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def test_nobody_teaches_the_teacher():
  """What only the full width has is moved by its own loss alone."""
  params, batch = _params(), _batch()
  grads = [
    jax.grad(
      lambda p, share=share: nested_language_model.objective(
        _CONFIG, (0.5, 1.0), share
      )(p, batch, _KEY)[0]
    )(params)
    for share in (0.0, 1.0)
  ]
  outside = [g["mlp_0"]["down"][6:] for g in grads]
  assert np.abs(outside[0]).max() > 0
  np.testing.assert_allclose(*outside, rtol=1e-5, atol=1e-8)
  inside = [g["mlp_0"]["down"][:6] for g in grads]
  assert np.abs(inside[0] - inside[1]).max() > 1e-5


def test_all_widths_learn():
  params, batch = _params(), _batch(rows=2)
  loss = nested_language_model.objective(_CONFIG, _WIDTHS, 0.5)
  tx = optax.adam(0.03)
  state = tx.init(params)

  @jax.jit
  def step(params, state):
    grads, metrics = jax.grad(loss, has_aux=True)(params, batch, _KEY)
    updates, state = tx.update(grads, state)
    return optax.apply_updates(params, updates), state, metrics

  history = []
  for _ in range(60):
    params, state, metrics = step(params, state)
    history.append(metrics)
  for name in ("loss", "loss_0.25", "loss_0.5"):
    assert history[-1][name] < 0.3 * history[0][name]


def test_a_batch_over_devices_gives_the_same_loss():
  params, batch = _params(), _batch(rows=8)
  loss = jax.jit(nested_language_model.objective(_CONFIG, _WIDTHS, 0.5))
  mesh = mesh_lib.make_mesh()
  spread = mesh_lib.shard_batch(batch, mesh)
  value, found = loss(mesh_lib.replicate(params, mesh), spread, _KEY)
  whole, expected = loss(params, batch, _KEY)
  np.testing.assert_allclose(value, whole, rtol=1e-5)
  for name in expected:
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)


def test_refuses_what_it_cannot_train():
  with pytest.raises(ValueError, match="distillation must be in"):
    nested_language_model.objective(_CONFIG, _WIDTHS, 1.5)
  with pytest.raises(ValueError, match="must rise from above 0 to 1"):
    nested_language_model.objective(_CONFIG, (0.5,), 0.5)
  loss = nested_language_model.objective(_CONFIG, _WIDTHS, 0.5)
  with pytest.raises(ValueError, match="batch_size=1 must be at least 2"):
    loss(_params(), _batch(rows=1), _KEY)
