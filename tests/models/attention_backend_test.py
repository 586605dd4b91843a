# SPDX-License-Identifier: Apache-2.0
"""Tests of who computes attention, and that all of them find the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import inference
from jaxttc.inference import generation
from jaxttc.models import attention_backend as backend
from jaxttc.models import blocked_attention, key_values, transformer
from jaxttc.models import config as config_lib

_CALL = backend.Call(
  platform="gpu",
  capability=9.0,
  dtype=jnp.bfloat16,
  head_dim=64,
  tokens=128,
)
_CONFIG = config_lib.TransformerConfig(
  vocab_size=29,
  width=16,
  layers=2,
  heads=6,
  kv_heads=2,
  head_dim=8,
  mlp_width=20,
)
# Names of tests -> what a family changes.
_FAMILIES = {
  "grouped": {},
  "all_local": {"window": 5},
  "local_and_global": {"window": 3, "global_every": 2, "qk_norm": True},
  "one_key_head": {"kv_heads": 1, "heads": 4},
  "scaled": {"query_width": 20},
}


def test_on_a_gpu_what_cudnn_can_do_is_fused():
  assert backend.choose("auto", _CALL) == ("fused", "cudnn", "")
  assert backend.choose("fused", _CALL) == ("fused", "cudnn", "")
  half = _CALL._replace(dtype=jnp.dtype("float16"), capability=8.0)
  assert backend.choose("auto", half).implementation == "cudnn"


@pytest.mark.parametrize("wanted", ["auto", "fused"])
@pytest.mark.parametrize(
  ("change", "why"),
  [
    ({"shared": True}, "scattered slots of an arena"),
    ({"decoding": True}, "one query a row"),
    ({"capped": True}, "scores are capped"),
    ({"capability": 7.5}, "compute capability 8.0"),
    ({"capability": 0.0}, "compute capability 8.0"),
    ({"dtype": jnp.float32}, "bfloat16 and float16 only"),
    ({"head_dim": 12}, "multiple of 8 up to 128"),
    ({"head_dim": 256}, "multiple of 8 up to 128"),
    ({"tokens": 7}, "even number of tokens"),
    ({"parts": 2}, "split over devices"),
  ],
)
def test_what_it_cannot_do_is_plain_and_says_why(wanted, change, why):
  found = backend.choose(wanted, _CALL._replace(**change))
  assert found.path == "plain" and not found.implementation
  assert why in found.why


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_elsewhere_plain_is_the_default(platform):
  call = _CALL._replace(platform=platform, capability=0.0, dtype=jnp.float32)
  found = backend.choose("auto", call)
  assert found.path == "plain" and platform in found.why
  assert backend.choose("fused", call) == ("fused", "xla", "")
  assert backend.choose("fused", call._replace(capped=True)).path == "plain"
  assert "asked for" in backend.choose("plain", _CALL).why


def test_on_a_mesh_it_must_be_asked_for():
  call = _CALL._replace(devices=8)
  assert "ask for fused" in backend.choose("auto", call).why
  assert backend.choose("fused", call).implementation == "cudnn"


def test_other_names_are_refused():
  with pytest.raises(ValueError, match="'flash'; expected one of auto, plain"):
    backend.choose("flash", _CALL)
  with pytest.raises(ValueError, match="'flash'; expected one of auto, plain"):
    inference.load("arithmetic_lm", attention="flash")
  assert inference.load("arithmetic_lm", attention="fused").model.backend


def _models(changes):
  config = dataclasses.replace(_CONFIG, **changes)
  config.validate()
  plain = transformer.Transformer(config, backend="plain")
  shapes = jax.eval_shape(
    lambda key: transformer.init(key, plain), jax.random.key(0)
  )
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32) / 3, shapes
  )
  return plain, transformer.Transformer(config, backend="fused"), params


@pytest.fixture
def calls(monkeypatch):
  """What `dot_product_attention` is asked for."""
  asked = []
  real = jax.nn.dot_product_attention

  def spy(*args, **kwargs):
    asked.append(kwargs)
    return real(*args, **kwargs)

  monkeypatch.setattr(jax.nn, "dot_product_attention", spy)
  return asked


@pytest.mark.parametrize("name", _FAMILIES)
def test_prompts_of_all_lengths_are_read_alike(name, calls):
  """Real tokens' keys, values and hidden states, without a mask."""
  plain, fused, params = _models(_FAMILIES[name])
  rng = np.random.default_rng(0)
  tokens = jnp.asarray(rng.integers(0, 29, (4, 12)), jnp.int32)
  length = jnp.asarray([12, 7, 1, 0], jnp.int32)
  ours, theirs = jax.jit(
    lambda p: [
      generation.prefill(model, p, tokens, length) for model in (fused, plain)
    ]
  )(params)
  assert len(calls) == 2  # layers
  assert all(c["is_causal"] and "mask" not in c for c in calls)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(ours))
  for row, real in enumerate(length.tolist()):
    for a, b in zip(ours[0], theirs[0], strict=True):
      np.testing.assert_allclose(
        a.k[row, ..., :real], b.k[row, ..., :real], atol=2e-5
      )
      np.testing.assert_allclose(
        a.v[row, :, :, :real], b.v[row, :, :, :real], atol=2e-5
      )
    np.testing.assert_allclose(
      ours[1][row, :real], theirs[1][row, :real], atol=2e-5
    )


@pytest.mark.parametrize("name", ["grouped", "local_and_global"])
def test_packed_texts_and_their_gradients_are_alike(name, calls):
  plain, fused, params = _models(_FAMILIES[name])
  rng = np.random.default_rng(1)
  tokens = jnp.asarray(rng.integers(0, 29, (2, 14)), jnp.int32)
  segments = jnp.asarray([[1] * 5 + [2] * 7 + [0] * 2, [1] * 14])
  positions = jnp.asarray([[*range(5), *range(7), 0, 0], [*range(14)]])

  def loss(model):
    def run(params):
      logits = transformer.forward(model, params, tokens, segments, positions)
      scores = jnp.take_along_axis(
        jax.nn.log_softmax(logits), tokens[..., None], axis=-1
      )
      return -jnp.where(segments > 0, scores[..., 0], 0).sum(), logits

    return jax.value_and_grad(run, has_aux=True)

  ours, theirs = jax.jit(lambda p: (loss(fused)(p), loss(plain)(p)))(params)
  (_, ours), our_grads = ours
  (_, theirs), their_grads = theirs
  assert calls and all("mask" in c for c in calls)
  np.testing.assert_allclose(ours, theirs, atol=2e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4),
    our_grads,
    their_grads,
  )


def test_decoding_is_plain_whatever_is_asked(calls):
  plain, fused, params = _models({})
  caches = key_values.empty_key_values(_CONFIG, (1, 2), 4)
  context = key_values.Context(scratch=caches, column=jnp.int32(0))
  tokens = jnp.asarray([[[3], [5]]], jnp.int32)
  mask = jnp.asarray([[[[True, False, False, False]]] * 2])
  args = (params, tokens, jnp.zeros_like(tokens), mask, context)
  run = lambda m: m.apply({"params": args[0]}, *args[1:])[0]  # noqa: E731
  np.testing.assert_array_equal(run(fused), run(plain))
  assert not calls


def test_capped_scores_are_plain(calls):
  _, fused, params = _models({"score_cap": 5.0})
  tokens = jnp.zeros((1, 4), jnp.int32)
  length = jnp.asarray([4])
  jax.eval_shape(lambda p: generation.prefill(fused, p, tokens, length), params)
  assert not calls


def test_the_default_here_is_plain_bit_for_bit(calls):
  plain, _, params = _models({})
  auto = transformer.Transformer(_CONFIG)
  assert auto.backend == "auto" and jax.default_backend() == "cpu"
  tokens = jnp.arange(10)[None]
  length = jnp.asarray([8])
  jax.tree.map(
    np.testing.assert_array_equal,
    generation.prefill(auto, params, tokens, length),
    generation.prefill(plain, params, tokens, length),
  )
  assert not calls


@pytest.mark.parametrize("name", _FAMILIES)
def test_blocks_of_queries_give_the_same_logits_and_gradients(
  name, monkeypatch
):
  monkeypatch.setattr(blocked_attention, "_BLOCK", 5)
  plain, _, params = _models(_FAMILIES[name])
  blocked = transformer.Transformer(plain.config, backend="blocked")
  rng = np.random.default_rng(0)
  tokens = jnp.asarray(rng.integers(0, 29, (2, 12)), jnp.int32)
  segments = jnp.asarray([[1] * 7 + [2] * 4 + [0], [1] * 12], jnp.int32)
  positions = jnp.asarray([[*range(7), *range(4), 0], [*range(12)]], jnp.int32)

  def loss(params, model):
    out = transformer.forward(model, params, tokens, segments, positions)
    return jnp.square(jax.nn.log_softmax(out)).mean(), out

  (_, ours), (_, theirs) = found = [
    jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)(
      params, model
    )
    for model in (blocked, plain)
  ]
  for a, b in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)


def test_blocks_are_for_tokens_of_the_call_and_for_training_on_a_cpu():
  assert backend.choose("blocked", _CALL).path == "blocked"
  for change in ("shared", "decoding", "capped"):
    choice = backend.choose("blocked", _CALL._replace(**{change: True}))
    assert choice.path == "plain" and "uncapped tokens" in choice.why
  assert backend.training() == "blocked"
