# SPDX-License-Identifier: Apache-2.0
"""Transformers within a transformer: width as a slice of the parameters.

A model of width w has the first hidden units of each MLP and the first key-
value heads of each attention, with the query heads that read them; the
residual stream, the norms and the vocabulary stay whole. So models of all
widths are prefixes of one another, and a narrow one is a plain `Transformer`
of a smaller config: it is trained, decoded and priced like any other, and its
FLOPs truly shrink (Devvrit et al. 2023, "MatFormer"; Yu et al. 2018,
"Slimmable neural networks").

    small = narrowed(config, 0.5)
    Transformer(small).apply({"params": narrow(params, config, small)}, ...)
"""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxttc.models import config as config_lib

_ROUNDING = 1e-6  # a third of 384 units is 128 units, however it is written


def check_widths(widths: Sequence[Any]) -> None:
  """Refuses a menu of widths that cannot be.

  Raises:
    ValueError: unless the widths rise, from above 0 to 1, and are two or more.
  """
  numbers = all(
    isinstance(w, int | float) and not isinstance(w, bool) for w in widths
  )
  rises = numbers and all(
    low < high for low, high in zip((0, *widths), widths, strict=False)
  )
  if not rises or len(widths) < 2 or widths[-1] != 1:
    raise ValueError(
      f"widths={tuple(widths)} must rise from above 0 to 1, with at least one "
      "below 1, e.g. (0.25, 0.5, 0.75, 1.0)"
    )


def narrowed(
  config: config_lib.TransformerConfig, width: int | float
) -> config_lib.TransformerConfig:
  """The sizes of the model of a width.

  Args:
    config: of the whole model.
    width: share of the hidden units and of the key-value heads, in (0, 1];
      both are rounded up, so that at least one of each is left.

  Returns:
    A config that differs in `mlp_width`, `kv_heads` and `heads`.

  Raises:
    ValueError: if the width is out of range.
  """
  if not 0 < width <= 1:
    raise ValueError(f"width must be in (0, 1], got {width!r}")

  def share(size: int) -> int:
    return math.ceil(size * width - _ROUNDING)

  kv_heads = share(config.kv_heads)
  return dataclasses.replace(
    config,
    mlp_width=share(config.mlp_width),
    kv_heads=kv_heads,
    heads=kv_heads * (config.heads // config.kv_heads),
  )


def narrow(
  params: Any,
  config: config_lib.TransformerConfig,
  small: config_lib.TransformerConfig,
) -> Any:
  """The slices that make a narrower model; differentiable.

  Args:
    params: of a `Transformer` or a `ProcessRewardModel` of `config`.
    config: the whole model's sizes.
    small: what `narrowed` made of it.

  Returns:
    Parameters of a model of `small`. Arrays that stay whole are not copied.

  Raises:
    ValueError: if `small` is no narrower form of `config`.
  """
  _check_form(config, small)
  kv, heads, units = small.kv_heads, small.heads, small.mlp_width
  slices = {
    "qkv": lambda x: x[:, :kv],
    "qkv_scale": lambda x: x[:kv],  # of int8 weights, as the next scale
    "qkv_bias": lambda x: x[:kv],
    "out": lambda x: x[:heads],
    "gate_up": lambda x: x[..., :units],
    "gate_up_scale": lambda x: x[..., :units],
    "down": lambda x: x[:units],
  }
  return jax.tree_util.tree_map_with_path(
    lambda path, x: slices.get(path[-1].key, lambda x: x)(x), params
  )


def by_importance(params: Any, config: config_lib.TransformerConfig) -> Any:
  """The same function, its units ordered so that prefixes lose least.

  Hidden units and key-value heads can change places without changing what a
  layer computes. A unit counts for the product of the norms of the weights
  into and out of it; a key-value head for that of its values and its outputs.

  Args:
    params: of a `Transformer` or a `ProcessRewardModel` of `config`, floats.
    config: its sizes.

  Returns:
    Parameters of the same shapes; the model's outputs are those of `params`,
    but for rounding.
  """
  queries = config.heads // config.kv_heads

  def ordered(node):
    if not isinstance(node, dict):
      return node
    if "gate_up" in node:
      return _ordered_mlp(node)
    if "qkv" in node:
      return _ordered_attention(node, queries)
    return {name: ordered(child) for name, child in node.items()}

  return ordered(params)


def _ordered_mlp(params):
  into = jnp.linalg.norm(params["gate_up"], axis=0).prod(axis=0)
  order = jnp.argsort(-into * jnp.linalg.norm(params["down"], axis=1))
  return params | {
    "gate_up": params["gate_up"][..., order],
    "down": params["down"][order],
  }


def _ordered_attention(params, queries):
  qkv, out = params["qkv"], params["out"]
  by_group = out.reshape(-1, queries, *out.shape[1:])
  values = jnp.linalg.norm(qkv[:, :, -1], axis=(0, 2))
  order = jnp.argsort(-values * jnp.sqrt(jnp.square(by_group).sum((1, 2, 3))))
  found = {"qkv": qkv[:, order], "out": by_group[order].reshape(out.shape)}
  if "qkv_bias" in params:
    found["qkv_bias"] = params["qkv_bias"][order]
  return params | found


def _check_form(config, small):
  sizes = ("mlp_width", "kv_heads", "heads")
  same = {name: getattr(config, name) for name in sizes}
  if dataclasses.replace(small, **same) != config:
    raise ValueError(
      "a narrower model differs in mlp_width, kv_heads and heads only; got "
      f"{small} of {config}"
    )
  groups = config.heads // config.kv_heads, small.heads // small.kv_heads
  if groups[0] != groups[1] or any(
    getattr(small, name) > getattr(config, name) for name in sizes
  ):
    raise ValueError(
      "a narrower model has whole key-value groups, and no more of anything; "
      f"got {[getattr(small, name) for name in sizes]} of {sizes} "
      f"{[getattr(config, name) for name in sizes]}"
    )
