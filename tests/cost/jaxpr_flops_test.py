# SPDX-License-Identifier: Apache-2.0
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import jaxpr_flops

count = jaxpr_flops.count_flops


def dense_layers(ws, x):
  """Ten dense layers by scan: B = 8 rows of width D = 256."""
  layer = lambda h, w: (jnp.tanh(h @ w), None)  # noqa: E731
  return jax.lax.scan(layer, x, ws)[0].sum()


WS = jax.ShapeDtypeStruct((10, 256, 256), jnp.float32)
X = jax.ShapeDtypeStruct((8, 256), jnp.float32)
SCAN_FLOPS = 10_485_760  # 2 * 10 * 8 * 256 * 256


def test_a_scan_counts_its_body_once_a_trip():
  assert count(dense_layers, WS, X) == SCAN_FLOPS
  unrolled = lambda ws, x: [x := jnp.tanh(x @ w) for w in ws]  # noqa: E731
  ws = [jax.ShapeDtypeStruct((256, 256), jnp.float32)] * 10
  assert count(unrolled, ws, X) == SCAN_FLOPS


def test_gradients_triple_and_remat_quadruples():
  both = lambda fn: jax.grad(fn, argnums=(0, 1))  # noqa: E731
  assert count(both(dense_layers), WS, X) == 3 * SCAN_FLOPS
  rematted = jax.checkpoint(dense_layers)
  assert count(both(rematted), WS, X) == 4 * SCAN_FLOPS


def test_jit_vmap_and_batch_size_scale_as_they_should():
  assert count(jax.jit(dense_layers), WS, X) == SCAN_FLOPS
  batched = jax.ShapeDtypeStruct((5, 8, 256), jnp.float32)
  mapped = jax.vmap(dense_layers, in_axes=(None, 0))
  assert count(mapped, WS, batched) == 5 * SCAN_FLOPS
  doubled = jax.ShapeDtypeStruct((16, 256), jnp.float32)
  assert count(dense_layers, WS, doubled) == 2 * SCAN_FLOPS


class Block(nn.Module):
  """A pre-norm block: 4-head attention with biases, MLP of 4 widths."""

  @nn.compact
  def __call__(self, x):
    mask = nn.make_causal_mask(x[..., 0])
    h = nn.MultiHeadDotProductAttention(num_heads=4)(
      nn.LayerNorm()(x), mask=mask
    )
    x = x + h
    h = nn.gelu(nn.Dense(256)(nn.LayerNorm()(x)))
    return x + nn.Dense(64)(h)


class Model(nn.Module):
  """Three blocks of width 64 over a vocabulary of 100, head untied."""

  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(100, 64)(tokens)
    for _ in range(3):
      x = Block()(x)
    return nn.Dense(100)(nn.LayerNorm()(x))


def test_a_linen_transformer_to_the_integer():
  tokens = jax.ShapeDtypeStruct((8, 32), jnp.int32)
  model = Model()
  params = jax.eval_shape(model.init, jax.random.key(0), tokens)
  leaves = jax.tree_util.tree_leaves_with_path(params)
  parameters = sum(leaf.size for _, leaf in leaves)
  matrices = sum(
    leaf.size for path, leaf in leaves if "kernel" in jax.tree_util.keystr(path)
  )
  traced = count(model.apply, params, tokens)
  assert traced == 85_065_728
  assert traced == 2 * matrices * 8 * 32 + 4 * 3 * 8 * 32**2 * 64
  assert 2 * parameters * 8 * 32 == 83_445_760
  loss = lambda p, t: model.apply(p, t).sum()  # noqa: E731
  training = count(jax.grad(loss), params, tokens)
  assert training == 3 * traced
  assert abs(6 * parameters * 8 * 32 / training - 1) < 0.05


@pytest.mark.parametrize(
  ("left", "right", "numbers"),
  [
    ((3, 4), (4, 5), (((1,), (0,)), ((), ()))),
    ((6, 3, 4), (6, 4, 5), (((2,), (1,)), ((0,), (0,)))),
    ((3, 4, 2), (2, 4, 7), (((1, 2), (1, 0)), ((), ()))),
    ((3,), (4,), (((), ()), ((), ()))),
  ],
)
def test_dot_general_against_a_scalar_count(left, right, numbers):
  """Oracle: an einsum's index space is one multiply-add a point."""
  (lc, rc), (lb, rb) = numbers
  product = lambda sizes: int(np.prod(list(sizes), dtype=int))  # noqa: E731
  contracted = product(left[i] for i in lc)
  batch = product(left[i] for i in lb)
  free = product(n for i, n in enumerate(left) if i not in lc + lb)
  free *= product(n for i, n in enumerate(right) if i not in rc + rb)
  dot = lambda a, b: jax.lax.dot_general(a, b, numbers)  # noqa: E731
  got = count(dot, jnp.zeros(left), jnp.zeros(right))
  assert got == 2 * batch * free * contracted


@pytest.mark.parametrize(("groups", "stride"), [(1, 1), (2, 1), (4, 2)])
def test_convolutions_against_a_loop(groups, stride):
  x, w = jnp.zeros((2, 8, 9, 9)), jnp.zeros((12, 8 // groups, 3, 3))
  conv = lambda x, w: jax.lax.conv_general_dilated(  # noqa: E731
    x, w, (stride, stride), "VALID", feature_group_count=groups
  )
  out = (9 - 3) // stride + 1
  multiply_adds = 0
  for _ in range(2 * 12 * out * out):  # every element of the result
    multiply_adds += 8 // groups * 3 * 3
  assert count(conv, x, w) == 2 * multiply_adds


def test_complex_products_are_four_real_ones():
  square = lambda x: x @ x  # noqa: E731
  real = count(square, jnp.zeros((4, 4)))
  assert count(square, jnp.zeros((4, 4), jnp.complex64)) == 4 * real


def test_cond_costs_its_dearest_branch():
  x = jnp.zeros((4, 4))
  fn = lambda x: jax.lax.cond(  # noqa: E731
    x.sum() > 0, lambda x: x @ x @ x, lambda x: x @ x, x
  )
  assert count(fn, x) == 2 * 128


def test_while_loops_need_a_bound_only_if_they_multiply():
  x = jnp.zeros((4, 4))
  product = lambda h: h @ h  # noqa: E731
  loop = lambda x: jax.lax.while_loop(  # noqa: E731
    lambda h: h.sum() < 3, product, x
  )
  with pytest.raises(ValueError, match="no bound on its trips"):
    count(loop, x)
  assert count(loop, x, while_trips=7) == 7 * 128
  twice = lambda x: loop(loop(x))  # noqa: E731
  assert count(twice, x, while_trips=(2, 5)) == 7 * 128
  assert count(twice, x, while_trips=5) == 10 * 128
  plain = lambda x: jax.lax.while_loop(  # noqa: E731
    lambda h: h.sum() < 3, lambda h: h + 1, x
  )
  assert count(plain, x) == 0
  assert count(lambda x: jax.lax.fori_loop(0, 6, lambda i, h: h @ h, x), x) == (
    6 * 128
  )


def test_nested_while_loops_take_outer_bounds_first():
  def inner(h):
    return jax.lax.while_loop(lambda g: g.sum() < 3, lambda g: g @ g, h)

  def outer(x):
    return jax.lax.while_loop(lambda h: (h @ h).sum() < 3, inner, x)

  x = jnp.zeros((4, 4))
  tests, bodies = 4 * 128, 3 * 5 * 128  # the condition runs once more
  assert count(outer, x, while_trips=(3, 5)) == tests + bodies
  with pytest.raises(ValueError, match="no bound"):
    count(outer, x, while_trips=(3,))
  with pytest.raises(ValueError, match="more bounds"):
    count(outer, x, while_trips=(3, 5, 7))
  with pytest.raises(ValueError, match="not be negative"):
    count(outer, x, while_trips=-1)


def test_custom_rules_are_counted_as_they_run():
  @jax.custom_vjp
  def square(x):
    return x @ x

  square.defvjp(lambda x: (square(x), x), lambda x, g: (g @ x @ x,))
  x = jnp.zeros((4, 4))
  assert count(square, x) == 128
  assert count(jax.grad(lambda x: square(x).sum()), x) == 3 * 128

  @jax.custom_jvp
  def cube(x):
    return x @ x @ x

  cube.defjvps(lambda tangent, _, x: tangent @ x)
  assert count(cube, x) == 2 * 128
  assert count(lambda x: jax.jvp(cube, (x,), (x,)), x) == 3 * 128


def test_shard_map_counts_every_device():
  devices = np.array(jax.devices()[:4]).reshape(2, 2)
  mesh = jax.sharding.Mesh(devices, ("data", "model"))
  spec = jax.sharding.PartitionSpec
  fn = jax.shard_map(
    lambda x, w: x @ w,
    mesh=mesh,
    in_specs=(spec("data"), spec()),
    out_specs=spec("data"),
    axis_names={"data"},
  )
  x, w = jnp.zeros((8, 4)), jnp.zeros((4, 4))
  assert count(fn, x, w) == count(lambda x, w: x @ w, x, w) == 256
  everywhere = jax.shard_map(
    lambda x, w: x @ w, mesh=mesh, in_specs=(spec(), spec()), out_specs=spec()
  )  # replicated work is work
  assert count(everywhere, x, w) == 4 * 256


def test_what_the_jaxpr_hides_is_refused():
  with pytest.raises(ValueError, match="cannot count the FLOPs of"):
    count(jnp.linalg.inv, jnp.zeros((4, 4)))
  with pytest.raises(ValueError, match="'fft'"):
    count(jnp.fft.fft, jnp.zeros(8))
