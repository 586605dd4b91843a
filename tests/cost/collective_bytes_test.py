# SPDX-License-Identifier: Apache-2.0
import jax
from jax import lax
import jax.numpy as jnp
import pytest

from jaxttc import mesh as mesh_lib
from jaxttc.cost import collective_bytes, hlo_collectives

count = collective_bytes.count_collectives
ring = collective_bytes.ring_bytes
SHARDS = jnp.ones((8, 4), jnp.float32)
PIECE = 4 * 4 * 4  # bytes of what one of two devices holds


def mesh_of(data, tensor=1):
  devices = jax.devices()[: data * tensor]
  return mesh_lib.make_mesh(data, tensor, devices=devices)


def mapped(fn, mesh=None):
  return jax.shard_map(
    lambda x: jnp.sum(fn(x))[None],
    mesh=mesh or mesh_of(2, 2),
    in_specs=jax.P("data"),
    out_specs=jax.P(("data", "tensor")),
    check_vma=False,
  )


def test_a_reduction_is_a_scatter_and_a_gather():
  for devices in (1, 2, 3, 8):
    for payload in (0, 24, 4096):
      halves = (
        ring("reduce_scatter", payload, devices),
        ring("all_gather", payload, devices),
      )
      assert ring("all_reduce", payload, devices) == sum(halves)
  assert ring("all_reduce", 4096, 4) == 2 * 3 * 1024
  assert ring("broadcast", 10, 4) == ring("permute", 10, 2) == 10
  assert ring("all_to_all", 100, 1) == 0


@pytest.mark.parametrize(
  ("fn", "sent"),
  [
    (lambda x: lax.psum(x, "data"), {"all_reduce": PIECE}),
    (
      lambda x: lax.pmax(x, ("data", "tensor")),
      {"all_reduce": 2 * 3 * PIECE // 4},
    ),
    (lambda x: lax.all_gather(x, "data"), {"all_gather": PIECE}),
    (
      lambda x: lax.psum_scatter(x, "data", tiled=True),
      {"reduce_scatter": PIECE // 2},
    ),
    (
      lambda x: lax.all_to_all(x, "data", 0, 0, tiled=True),
      {"all_to_all": PIECE // 2},
    ),
    (lambda x: lax.ppermute(x, "data", [(0, 1), (1, 0)]), {"permute": PIECE}),
    (lambda x: lax.ppermute(x, "data", [(0, 0), (1, 1)]), {}),
    (lambda x: x * 2, {}),
  ],
)
def test_the_jaxpr_and_the_compiled_text_agree(fn, sent):
  assert count(mapped(fn), SHARDS) == sent
  compiled = jax.jit(mapped(fn)).lower(SHARDS).compile()
  assert hlo_collectives.count(compiled.as_text()) == sent


def test_loops_and_branches_count_as_often_as_they_run():
  def looped(x):
    return lax.scan(lambda h, _: (lax.psum(h, "data"), None), x, length=5)[0]

  def either(x):
    return lax.cond(x.sum() > 0, lambda x: lax.psum(x, "data"), jnp.sin, x)

  def until(x):
    step = lambda h: lax.psum(h, "data") * 0.1  # noqa: E731
    return lax.while_loop(lambda h: h.sum() > 3, step, x)

  assert count(mapped(looped), SHARDS) == {"all_reduce": 5 * PIECE}
  text = jax.jit(mapped(looped)).lower(SHARDS).compile().as_text()
  assert hlo_collectives.count(text) == {"all_reduce": 5 * PIECE}
  assert count(mapped(either), SHARDS) == {"all_reduce": PIECE}
  with pytest.raises(ValueError, match="no bound on its trips"):
    count(mapped(until), SHARDS)
  assert count(mapped(until), SHARDS, while_trips=3) == {
    "all_reduce": 3 * PIECE
  }
  text = jax.jit(mapped(until)).lower(SHARDS).compile().as_text()
  with pytest.raises(ValueError, match="unknown number of times"):
    hlo_collectives.count(text)
  assert hlo_collectives.count(text, while_trips=3)["all_reduce"] >= 3 * PIECE


def test_a_data_parallel_step_sends_its_gradient():
  """Four devices: 2 * 3/4 of the gradient's bytes from each of them."""
  mesh = mesh_of(4)
  place = lambda x, spec: jax.device_put(  # noqa: E731
    x, jax.NamedSharding(mesh, spec)
  )
  w = place(jnp.ones((16, 16)), jax.P())
  x = place(jnp.ones((8, 16)), jax.P("data"))
  step = lambda w, x: w - jax.grad(lambda w: jnp.tanh(x @ w).sum())(w)  # noqa: E731
  text = jax.jit(step, out_shardings=w.sharding).lower(w, x).compile().as_text()
  gradient = 16 * 16 * 4
  assert hlo_collectives.count(text) == {"all_reduce": 2 * 3 * gradient // 4}
  assert count(step, w, x) == {}  # the jaxpr knows of no shardings


HLO = """HloModule jit_step, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %r = f32[] add(%a, %b)
}

ENTRY %main (p: bf16[16,8]) -> bf16[16,8] {
  %p = bf16[16,8]{1,0} parameter(0)
  %ag = (bf16[16,8]{1,0}, bf16[64,8]{1,0}) all-gather-start(%p), \
replica_groups=[2,4]<=[8], dimensions={0}
  %agd = bf16[64,8]{1,0} all-gather-done(%ag)
  %cp = (f8e4m3fn[10]{0}, f8e4m3fn[10]{0}, u32[], u32[]) \
collective-permute-start(%q), source_target_pairs={{0,1},{1,0}}
  ROOT %ar = f32[8]{0} all-reduce(%z), replica_groups={}, to_apply=%add
}
"""


def test_forms_that_this_machine_does_not_write():
  assert hlo_collectives.count(HLO) == {
    "all_reduce": 2 * 7 * 32 // 8,
    "all_gather": 64 * 8 * 2 * 3 // 4,
    "permute": 10,
  }


def test_what_cannot_be_read_is_refused():
  with pytest.raises(ValueError, match="no ENTRY computation"):
    hlo_collectives.count("hello")
  with pytest.raises(ValueError, match="cannot read the devices"):
    hlo_collectives.count(HLO.replace("replica_groups={}", "x=1"))
  with pytest.raises(ValueError, match="unknown collective 'gossip'"):
    ring("gossip", 1, 1)
  with pytest.raises(ValueError, match="at least one device"):
    ring("all_reduce", 1, 0)
