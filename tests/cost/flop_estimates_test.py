# SPDX-License-Identifier: Apache-2.0
import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import pytest

from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import flop_estimates, jaxpr_flops, stored_shape
from jaxttc.cost import transformer_flops as tf
from jaxttc.models import config as config_lib

Work = flop_estimates.Work
_HF = pathlib.Path(__file__).parents[1] / "data" / "hf"
CONFIG = config_lib.TransformerConfig(
  vocab_size=50,
  width=32,
  layers=3,
  heads=4,
  kv_heads=2,
  head_dim=8,
  mlp_width=48,
)
WS = jax.ShapeDtypeStruct((10, 256, 256), jnp.float32)
X = jax.ShapeDtypeStruct((8, 256), jnp.float32)
SCAN_FLOPS = 10_485_760


def dense_layers(ws, x):
  layer = lambda h, w: (jnp.tanh(h @ w), None)  # noqa: E731
  return jax.lax.scan(layer, x, ws)[0].sum()


def test_the_closed_forms_are_those_of_the_transformer():
  shape = CONFIG.shape()
  for remat in (False, True):
    work = Work(tokens=4 * 12, length=12, remat=remat)
    found = flop_estimates.from_config(CONFIG, work)
    assert found.value == tf.train_flops(shape, 4, 12, remat)
    dense = (4 if remat else 3) * tf.forward_flops(shape, 48, 48 * 12)
    assert found.high == pytest.approx(1.05 * dense)
  extra = flop_estimates.recomputed(CONFIG, work)
  assert extra == tf.train_flops(shape, 4, 12) / 3
  scored = flop_estimates.from_config(
    shape, Work(tokens=48, length=12, kind="forward")
  )
  assert scored.value == 4 * tf.prefill_flops(shape, 12)
  decoded = flop_estimates.from_config(
    shape, Work(tokens=12, length=12, kind="decode")
  )
  assert decoded.value == sum(tf.decode_flops(shape, j) for j in range(12))


def test_frozen_weights_get_no_gradient():
  """(4 * all + 2 * trained) FLOP a token, and attention backwards."""
  shape = CONFIG.shape()
  found = flop_estimates.from_config(
    shape, Work(tokens=12, length=12, trainable=0.25)
  )
  matrices = 12 * tf.matmul_weights(shape)
  attention = tf.attended_positions(12) * tf.context_flops(shape)
  assert found.value == (4 + 2 * 0.25) * matrices + 3 * attention


def test_a_checkpoint_directory_is_as_its_config():
  work = Work(tokens=1e9, length=64)
  shape = stored_shape.read(_HF / "llama")
  assert flop_estimates.from_hf_config(
    _HF / "llama", work
  ) == flop_estimates.from_config(shape, work)


def test_compiled_counts_are_put_right_where_there_are_loops():
  """The compiler counts ten layers as one."""
  compiled = jax.jit(dense_layers).lower(WS, X).compile()
  assert flop_estimates.reported_flops(compiled) < 1.1 * SCAN_FLOPS / 10
  traced = flop_estimates.from_trace(dense_layers, WS, X)
  assert traced.value == SCAN_FLOPS
  found = flop_estimates.from_compiled(dense_layers, WS, X)
  assert found.value == pytest.approx(SCAN_FLOPS, rel=1e-3)
  assert found.low <= SCAN_FLOPS <= found.high
  unrolled = lambda ws, x: [x := jnp.tanh(x @ w) for w in ws][-1]  # noqa: E731
  ws = [jax.ShapeDtypeStruct((256, 256), jnp.float32)] * 10
  found = flop_estimates.from_compiled(unrolled, ws, X)
  assert found.value == pytest.approx(SCAN_FLOPS, rel=0.01)
  once = jaxpr_flops.count_flops(dense_layers, WS, X, loops_once=True)
  assert once == SCAN_FLOPS // 10


def test_unbounded_loops_count_once_for_the_compiler_only():
  loop = lambda x: jax.lax.while_loop(  # noqa: E731
    lambda h: h.sum() < 3, lambda h: h @ h, x
  )
  x = jnp.zeros((32, 32))
  with pytest.raises(ValueError, match="no bound"):
    flop_estimates.from_compiled(loop, x)
  found = flop_estimates.from_compiled(loop, x, while_trips=7)
  assert found.low <= 7 * 2 * 32**3 <= found.high


def test_hardware_time_has_the_utilisation_of_its_kind():
  day = 86_400
  known = flop_estimates.from_hardware("h100-sxm", 8, day, "bfloat16", 0.4)
  assert known.value == 8 * day * 989.5e12 * 0.4 and known.is_exact
  unknown = flop_estimates.from_hardware("h100-sxm", 8, day, "bfloat16")
  assert unknown.value == pytest.approx(known.value * 0.3 / 0.4)
  assert unknown.high / unknown.value == pytest.approx(1.75)
  assert unknown.provenance == "assumed"
  other = flop_estimates.from_hardware(
    "h100-sxm", 8, day, "bfloat16", kind="other"
  )
  assert other.value == pytest.approx(known.value)


def test_bad_input_is_refused():
  share = estimate_lib.Estimate.exact(0.5, "J", "wrong")
  hardware = flop_estimates.from_hardware
  for call, message in (
    (lambda: hardware("h100", 1, 1, "bfloat16"), "did you mean 'h100-sxm'"),
    (lambda: hardware("t4", 1, 1, "bfloat16"), "no peak for dtype"),
    (lambda: hardware("t4", 0, 1, "float16"), "count must be a whole"),
    (lambda: hardware("t4", 1, -1, "float16"), "seconds must be finite"),
    (lambda: hardware("t4", 1, 1, "float16", 1.2), "must lie in"),
    (lambda: hardware("t4", 1, 1, "float16", 0.0), "must lie in"),
    (lambda: hardware("t4", 1, 1, "float16", share), "must be in 1, got J"),
    (lambda: hardware("t4", 1, 1, "float16", kind="x"), "kind must be one of"),
    (lambda: Work(tokens=-1, length=1), "Work.tokens must be finite"),
    (lambda: Work(tokens=1, length=float("nan")), "Work.length must be"),
    (lambda: Work(tokens=1, length=1, kind="x"), "Work.kind must be one of"),
    (lambda: Work(tokens=1, length=1, trainable=2.0), "Work.trainable"),
  ):
    with pytest.raises(ValueError, match=message):
      call()
  silent = type("Compiled", (), {"cost_analysis": lambda self: {"flops": -1.0}})
  with pytest.raises(ValueError, match="compiler reports -1"):
    flop_estimates.reported_flops(silent())
  assert dataclasses.replace(Work(tokens=1, length=1), remat=True).remat
