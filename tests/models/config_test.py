# SPDX-License-Identifier: Apache-2.0
"""Tests of the transformer's config."""

import dataclasses
import json
import math

import pytest

from jaxttc.cost import transformer_flops
from jaxttc.models import config as config_lib

_SIZES = dict(
  vocab_size=32,
  width=16,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  mlp_width=24,
)


def test_survives_json():
  config = config_lib.TransformerConfig(**_SIZES, rope_theta=500.0)
  fields = json.loads(json.dumps(config.to_dict()))
  assert config_lib.TransformerConfig.from_dict(fields) == config
  assert hash(config_lib.TransformerConfig.from_dict(fields)) == hash(config)


def test_shape_carries_every_size_that_a_price_depends_on():
  config = config_lib.TransformerConfig(**_SIZES)
  shape = config.shape(outputs=1)
  ours = {field.name for field in dataclasses.fields(config)}
  for field in dataclasses.fields(shape):
    if field.name in ours:
      assert getattr(shape, field.name) == getattr(config, field.name)
  others = {field.name for field in dataclasses.fields(shape)} - ours
  # Our transformer has one gated MLP a layer; other models have more.
  assert others == {
    "outputs",
    "experts",
    "experts_per_token",
    "shared_width",
    "mlp_matrices",
  }
  assert shape.outputs == 1
  # One output instead of a row a vocabulary entry.
  saved = transformer_flops.matmul_weights(
    config.shape()
  ) - transformer_flops.matmul_weights(shape)
  assert saved == (32 - 1) * 16


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("layers", 0),
    ("width", -16),
    ("vocab_size", "32"),
    ("heads", 4.0),
    ("mlp_width", True),
    ("rope_theta", math.nan),
    ("rope_theta", math.inf),
    ("norm_eps", 0.0),
    ("tie_embeddings", 1),
    ("heads", 3),
    ("head_dim", 7),
    ("activation", "relu"),
    ("window", -1),
    ("logit_cap", True),
    ("rope_low", 8.0),
  ],
)
def test_refuses_sizes_that_do_not_fit_and_names_the_field(field, value):
  config = config_lib.TransformerConfig(
    **_SIZES | {"rope_original": 64, field: value}
  )
  with pytest.raises(ValueError, match=f"model.{field}"):
    config.validate()


def test_from_dict_refuses_unknown_missing_and_no_fields():
  with pytest.raises(ValueError, match="unknown.*depth"):
    config_lib.TransformerConfig.from_dict(_SIZES | {"depth": 3})
  fields = {k: v for k, v in _SIZES.items() if k != "width"}
  with pytest.raises(ValueError, match="incomplete.*width"):
    config_lib.TransformerConfig.from_dict(fields)
  with pytest.raises(ValueError, match="model.layers"):
    config_lib.TransformerConfig.from_dict(_SIZES | {"layers": 0})
  with pytest.raises((ValueError, TypeError)):
    config_lib.TransformerConfig.from_dict([1, 2])
