# SPDX-License-Identifier: Apache-2.0
"""What the tensors of a published model are called, and how they lie.

A parameter of ours is put together of one or more stored tensors (queries,
keys and values are one matrix here, and three there). A stored matrix is
[outputs, inputs]; both sides pair the halves of a head in rotary positions, so
heads stay as they are.
"""

from typing import Any, NamedTuple

from jaxttc.models import config as config_lib
from jaxttc.models import families


class Piece(NamedTuple):
  """A stored tensor as part of a parameter.

  Attributes:
    name: of the tensor in the checkpoint.
    shape: as stored.
    split: the stored axes, some cut in two.
    order: which axis of `split` each axis of the parameter's part is.
    place: index of the part in the parameter.
  """

  name: str
  shape: tuple[int, ...]
  split: tuple[int, ...]
  order: tuple[int, ...]
  place: tuple[Any, ...] = (Ellipsis,)


class Parameter(NamedTuple):
  """A parameter of ours, in terms of stored tensors.

  Attributes:
    shape: ours.
    pieces: what it is put together of.
    offset: added to what is stored.
  """

  shape: tuple[int, ...]
  pieces: tuple[Piece, ...]
  offset: float = 0.0


def parameters(
  config: config_lib.TransformerConfig, name: str
) -> dict[tuple[str, ...], Parameter]:
  """The parameters of a `Transformer` by path, in stored tensors.

  Args:
    config: its sizes.
    name: a key of `families.FAMILIES`.
  """
  family = families.FAMILIES[name]
  size, table = config.width, (config.vocab_size, config.width)

  def norm(stored, length=size):
    piece = Piece(f"{stored}.weight", (length,), (length,), (0,))
    return Parameter((length,), (piece,), family.norm_offset)

  found = {
    ("embed", "embedding"): Parameter(
      table, (Piece("model.embed_tokens.weight", table, table, (0, 1)),)
    ),
    ("final_norm", "scale"): norm("model.norm"),
  }
  if not config.tie_embeddings:
    found["head", "kernel"] = Parameter(
      table[::-1], (Piece("lm_head.weight", table, table, (1, 0)),)
    )
  for i in range(config.layers):
    at = f"model.layers.{i}"
    for path, parameter in _attention(config, f"{at}.self_attn", norm):
      found[f"attention_{i}", *path] = parameter
    for path, parameter in _mlp(config, f"{at}.mlp"):
      found[f"mlp_{i}", *path] = parameter
    for ours, theirs in _NORMS[config.post_norms].items():
      found[f"{ours}_{i}", "scale"] = norm(f"{at}.{theirs}")
  return found


# Norms of a layer, by whether there are any behind the sublayers.
_NORMS = {
  False: {
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
  },
  True: {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
  },
}


def _attention(config, at, norm):
  groups, size, width = config.kv_heads, config.head_dim, config.width
  queries = config.heads // groups
  parts = (  # name, heads a group, where among a group's heads
    ("q", queries, slice(None, queries)),
    ("k", 1, slice(queries, queries + 1)),
    ("v", 1, slice(queries + 1, None)),
  )
  weights, biases = [], []
  for name, heads, where in parts:
    rows = groups * heads * size
    split = (groups, heads, size)
    weights.append(
      Piece(
        f"{at}.{name}_proj.weight",
        (rows, width),
        (*split, width),
        (3, 0, 1, 2),
        (slice(None), slice(None), where),
      )
    )
    biases.append(
      Piece(
        f"{at}.{name}_proj.bias",
        (rows,),
        split,
        (0, 1, 2),
        (slice(None), where),
      )
    )
  shape = (groups, queries + 2, size)
  yield ("qkv",), Parameter((width, *shape), tuple(weights))
  if config.qkv_bias:
    yield ("qkv_bias",), Parameter(shape, tuple(biases))
  if config.qk_norm:
    yield ("query_norm", "scale"), norm(f"{at}.q_norm", size)
    yield ("key_norm", "scale"), norm(f"{at}.k_norm", size)
  out = Piece(
    f"{at}.o_proj.weight",
    (width, config.heads * size),
    (width, config.heads, size),
    (1, 2, 0),
  )
  yield ("out",), Parameter((config.heads, size, width), (out,))


def _mlp(config, at):
  width, inner = config.width, config.mlp_width
  up = (inner, width)
  gate_up = tuple(
    Piece(f"{at}.{name}_proj.weight", up, up, (1, 0), (slice(None), i))
    for i, name in enumerate(("gate", "up"))
  )
  yield ("gate_up",), Parameter((width, 2, inner), gate_up)
  down = Piece(f"{at}.down_proj.weight", up[::-1], up[::-1], (1, 0))
  yield ("down",), Parameter(up, (down,))
