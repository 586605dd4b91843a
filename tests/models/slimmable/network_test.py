# SPDX-License-Identifier: Apache-2.0
"""Whole networks: every width three ways, extraction, statistics, bad input."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models.slimmable import network, widths

_NETS = (
  *[("mlp", kind) for kind in ("group", "layer", "batch", "switchable")],
  *[("residual", kind) for kind in ("none", "group", "switchable")],
  ("mobilenet_v2", "batch"),
  ("mobilenet_v2", "switchable"),
  ("vision_transformer", "layer"),
)


def _inputs(net, batch=4):
  rng = np.random.default_rng(5)
  shape = (batch, *net.input_shape)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _random_config(space, seed):
  rng = np.random.default_rng(seed)
  return space.at(rng.integers(0, len(space.menu), len(space.groups)))


def _shapes(tree):
  return jax.tree.map(lambda x: tuple(x.shape), tree)


@pytest.mark.parametrize(("kind", "norm"), _NETS)
def test_mask_slice_and_extract_are_one(tiny, drawn, kind, norm):
  """Of random configurations, with statistics of the batch."""
  spec = tiny(kind, norm)
  net = spec.build()
  space, params, x = net.space, drawn(net), _inputs(net)

  @jax.jit
  def masked(params, x, indices):
    counts = space.counts_at(indices)
    return net.apply({"params": params}, x, counts, train=True)

  seeds = (1, 2, 3) if kind == "mlp" else (3,)
  configs = [_random_config(space, seed) for seed in seeds]
  smalls = [network.extract(spec, params, config) for config in configs]

  @jax.jit
  def narrow(params, cuts, x):
    found = []
    for config, (small, _), cut in zip(configs, smalls, cuts, strict=True):
      counts = space.counts(config)
      alone = small.build()
      full = alone.space.counts(alone.space.uniform())
      found.append(
        (
          net.apply({"params": params}, x, counts, train=True),
          alone.apply({"params": cut}, x, full, train=True),
        )
      )
    return found

  results = narrow(params, [cut for _, cut in smalls], x)
  for config, (sliced, extracted) in zip(configs, results, strict=True):
    predictions, features = masked(params, x, space.indices(config))
    jax.tree.map(np.testing.assert_array_equal, sliced, extracted)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    jax.tree.map(close, predictions, sliced[0])
    used = sliced[1].shape[-1]
    close(features[..., :used], sliced[1])
    np.testing.assert_array_equal(features[..., used:], 0)
    assert all(np.std(y) > 1e-3 for y in predictions.values())


@pytest.mark.parametrize(
  ("kind", "norm"), [("mlp", "layer"), ("residual", "group")]
)
def test_nothing_outside_a_configuration_matters_or_learns(
  tiny, drawn, kind, norm
):
  spec = tiny(kind, norm)
  net = spec.build()
  space, params, x = net.space, drawn(net), _inputs(net, batch=2)
  config = _random_config(space, 1)
  counts = space.counts(config)

  @jax.jit
  def gradients(params, traced):
    def gradient(counts):
      loss = lambda params: sum(  # noqa: E731
        jnp.sin(y).sum()
        for y in net.apply({"params": params}, x, counts)[0].values()
      )
      return jax.value_and_grad(loss)(params)

    return gradient(counts), gradient(traced)

  traced = space.counts_at(space.indices(config))
  found = gradients(params, traced)
  _, small = network.extract(spec, params, config)

  def prefix(leaf, cut):
    used = np.zeros(leaf.shape, bool)
    used[tuple(slice(n) for n in cut.shape)] = True
    return used

  used = jax.tree.map(prefix, params, small)
  assert not all(map(np.all, jax.tree.leaves(used)))
  for _, gradient in found:
    jax.tree.map(
      lambda used, g: np.testing.assert_array_equal(np.asarray(g)[~used], 0),
      used,
      gradient,
    )
    for leaf in jax.tree.leaves(gradient):
      assert np.isfinite(leaf).all() and np.any(np.asarray(leaf) != 0)
  other = jax.tree.map(
    lambda used, keep, new: np.where(used, keep, 7 * new),
    used,
    params,
    drawn(net, seed=1),
  )
  jax.tree.map(np.testing.assert_array_equal, found, gradients(other, traced))


def test_parameters_are_named_by_task_and_of_full_width(tiny):
  net = tiny("residual").build()
  params = jax.eval_shape(
    functools.partial(network.init, net), jax.random.key(0)
  )
  assert set(params) == {"encoder", "decoder_depth", "decoder_kind"}
  assert params["decoder_depth"]["Conv_0"]["kernel"].shape == (3, 3, 16, 8)
  kernel = params["decoder_kind"]["MapDense_0"]["kernel"]
  assert kernel.shape == (1, 16, 3)  # places, hidden channels, outputs


def test_an_extracted_network_has_one_width_and_a_json_description(tiny, drawn):
  spec = tiny("residual", "switchable")
  params = drawn(spec.build())
  config = widths.WidthConfig((0.5, 1.0), (("depth", 1.0), ("kind", 0.5)))
  small, cut = network.extract(spec, params, config)
  assert small.menu == (1.0,) and small.hidden == (8, 8)
  assert small.encoder["stages"] == ((4, 1, 1), (16, 1, 2))
  again = network.NetworkSpec.from_dict(json.loads(json.dumps(small.to_dict())))
  assert again == small and again.build() == small.build()
  shapes = jax.eval_shape(
    functools.partial(network.init, small.build()), jax.random.key(0)
  )
  assert _shapes(cut) == _shapes(shapes)
  np.testing.assert_array_equal(  # the row of the width in use
    cut["encoder"]["Norm_0"]["scale"][0],
    params["encoder"]["Norm_0"]["scale"][0, :4],
  )
  np.testing.assert_array_equal(
    cut["decoder_depth"]["Norm_0"]["scale"][0],
    params["decoder_depth"]["Norm_0"]["scale"][1],
  )
  with pytest.raises(widths.UnknownWidth, match="'stage0': 0.4 is not one"):
    network.extract(
      spec, params, dataclasses.replace(config, encoder=(0.4, 1.0))
    )


def test_recalibrated_statistics_are_numpys_and_serve_evaluation(tiny, drawn):
  """One dense layer and norm by NumPy; the rest by evaluating in two ways."""
  spec = tiny("mlp", "batch")
  net = spec.build()
  params = drawn(net)
  config = net.space.config([0.5, 1.0, 0.5, 1.0])
  rng = np.random.default_rng(0)
  batches = rng.normal(size=(3, 8, 5)).astype(np.float32)
  variables = network.recalibrate(net, params, config, jnp.asarray(batches))
  first = params["encoder"]["Dense_0"]
  hidden = batches @ first["kernel"][:, :8] + first["bias"][:8]
  found = variables["batch_stats"]["encoder"]["Norm_0"]
  np.testing.assert_allclose(found["mean"], hidden.mean((0, 1)), rtol=1e-4)
  np.testing.assert_allclose(
    found["variance"], hidden.var(1).mean(0), rtol=1e-4
  )
  # Of one batch, evaluation is what training sees; and the extracted network
  # takes the same statistics.
  one = network.recalibrate(net, params, config, jnp.asarray(batches[:1]))
  small, cut = network.extract(spec, params, config)
  alone = small.build()

  @jax.jit
  def run(variables, cut, x):
    counts = net.space.counts(config)
    full = alone.space.counts(alone.space.uniform())
    return (
      net.apply(variables, x, counts, train=True)[0],
      net.apply(variables, x, counts)[0],
      alone.apply(variables | {"params": cut}, x, full)[0],
    )

  trained, *evaluated = run(one, cut, jnp.asarray(batches[0]))
  for found in evaluated:
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
      found,
      trained,
    )


def test_recalibration_over_eight_devices_is_that_of_one(tiny, drawn):
  net = tiny("mlp", "batch").build()
  params = drawn(net)
  config = net.space.uniform(0.5)
  rng = np.random.default_rng(1)
  batches = jnp.asarray(rng.normal(size=(2, 16, 5)), jnp.float32)
  mesh = jax.make_mesh((8,), ("data",))
  spread = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec(None, "data")
  )
  one = network.recalibrate(net, params, config, batches)
  many = network.recalibrate(
    net, params, config, jax.device_put(batches, spread)
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
    one["batch_stats"],
    many["batch_stats"],
  )


def test_batch_norms_do_not_evaluate_what_nobody_measured(tiny, drawn):
  net = tiny("mlp", "batch").build()
  params, x = drawn(net), _inputs(net)
  narrow = net.space.uniform(0.5)
  with pytest.raises(ValueError, match="recalibrate this configuration first"):
    net.apply({"params": params}, x, net.space.counts(narrow))
  variables = network.recalibrate(net, params, narrow, x[None])
  with pytest.raises(ValueError, match="another configuration's"):
    net.apply(variables, x, net.space.counts(net.space.uniform()))


def test_norms_without_statistics_need_no_recalibration(tiny, drawn):
  net = tiny("mlp", "group").build()
  params, x = drawn(net), _inputs(net)
  found = network.recalibrate(net, params, net.space.uniform(), x[None])
  assert set(found) == {"params"}


def test_inputs_and_counts_of_other_shapes_are_refused(tiny, drawn):
  net = tiny("residual").build()
  params, full = drawn(net), net.space.counts(net.space.uniform())
  for shape in ((2, 4, 4, 1), (2, 8, 4, 3), (4, 4, 3)):
    with pytest.raises(ValueError, match=r"shape \[batch, 4, 4, 3\], got"):
      net.apply({"params": params}, jnp.zeros(shape), full)
  x = jnp.zeros((1, 4, 4, 3))
  for counts in (
    widths.Counts((8,), full.decoders),
    widths.Counts(full.encoder, (8, 16, 8)),
    net.space.counts_at(net.space.all_indices()),
  ):
    with pytest.raises(ValueError, match="expected counts of shapes"):
      net.apply({"params": params}, x, counts)
  with pytest.raises(ValueError, match="32 of 8 channels cannot be used"):
    net.apply({"params": params}, x, widths.Counts((32, 16), full.decoders))
  with pytest.raises(ValueError, match="6 of 8 channels are not a multiple"):
    net.apply({"params": params}, x, widths.Counts((6, 16), full.decoders))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"encoder": {"kind": "vgg"}}, "kind 'vgg' is not one of mlp, residual"),
    ({"encoder": {"hidden": (16,)}}, "kind None is not one of"),
    (
      {"encoder": {"kind": "mlp", "layers": 3}},
      "'mlp' has no field 'layers'; expected hidden",
    ),
    ({"hidden": (8, 8, 8)}, "3 hidden sizes for 2 tasks"),
    ({"menu": (0.5, 0.25, 1.0)}, "must ascend"),
    ({"menu": (0.5, 0.51, 1.0)}, "cannot tell the widths"),
    ({"norm": "instance"}, "norm 'instance' is not one of"),
    ({"tasks": (("a", 1, False), ("a", 1, False))}, "names of their own"),
  ],
)
def test_networks_that_cannot_be_are_refused(tiny, changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(tiny("mlp"), **changes).build()


@pytest.mark.parametrize("kind", ["mlp", "mobilenet_v2", "vision_transformer"])
def test_descriptions_survive_json(tiny, kind):
  spec = tiny(kind)
  again = network.NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
  assert again == spec and again.build() == spec.build()
  assert hash(again.build()) == hash(spec.build())  # names compiled programs


@pytest.mark.parametrize("fields", [{}, {"encoder": {}}, {"width": 3}], ids=str)
def test_descriptions_of_no_network_are_refused(fields):
  with pytest.raises(ValueError, match="not a network's description"):
    network.NetworkSpec.from_dict(fields)


@pytest.mark.parametrize(
  ("kind", "shape", "dense", "said"),
  [
    ("mlp", (4, 4, 3), False, "encoder 'mlp' reads vectors"),
    ("residual", (5,), False, "encoder 'residual' reads images"),
    ("mlp", (5,), True, "task 'depth' predicts every pixel, the inputs have"),
    ("residual", (5, 4, 3), True, "multiples of the encoder's reduction, 2"),
  ],
)
def test_inputs_that_do_not_fit_the_encoder_are_refused(
  kind, shape, dense, said, tiny
):
  """When the network is built, not when it runs."""
  spec = dataclasses.replace(
    tiny(kind),
    input_shape=shape,
    tasks=(("depth", 1, dense), ("kind", 3, False)),
  )
  with pytest.raises(ValueError, match=said):
    spec.build()
