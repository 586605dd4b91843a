# SPDX-License-Identifier: Apache-2.0
"""FLOPs and bytes of a decoder-only transformer, in closed form.

Only matrix products are counted, two FLOPs a multiply-add; norms, rotary
positions, softmax and activations are left out, as they are in the usual
2 * parameters * tokens (Kaplan et al. 2020), which these forms refine. The
count is exact, and linear: a token costs

    token_flops + context_flops * (positions it attends to)

where a causal token at position i attends to i + 1 positions, itself
included. A kernel that computes masked scores, too, does the work of a dense
rectangle: `forward_flops(shape, tokens, queries * keys)`.
"""

import dataclasses

READ = 4  # numbers a token that a reward model's reading layers are told


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerShape:
  """The sizes that a transformer's cost depends on.

  Model configs offer a `shape()` that returns one; this room is below the
  models and does not import them.

  Attributes:
    vocab_size: rows of the embedding table.
    width: size of the residual stream.
    layers: number of blocks.
    heads: query heads.
    kv_heads: key and value heads (grouped-query attention).
    head_dim: size of a head.
    mlp_width: hidden size of the gated MLP (three matrices).
    tie_embeddings: whether the output head is the embedding table.
    outputs: size of the output head, if that is not a row a vocabulary
      entry: 1 for a reward head.
    reading_layers: how many of the layers lie above a reward model's trunk
      and are told what it expected; its language head is applied, too.
    experts: MLPs of a layer; `mlp_width` is the size of one of them.
    experts_per_token: of those, how many a token is sent to.
    shared_width: hidden size of an MLP beside them that every token takes.
    mlp_matrices: 3 for a gated MLP, 2 for a plain one.
  """

  vocab_size: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp_width: int
  tie_embeddings: bool = True
  outputs: int | None = None
  reading_layers: int = 0
  experts: int = 1
  experts_per_token: int = 1
  shared_width: int = 0
  mlp_matrices: int = 3

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name == "tie_embeddings" or value is None:
        continue
      if field.name in ("reading_layers", "shared_width") and value == 0:
        continue
      if not isinstance(value, int) or value <= 0:
        raise ValueError(
          f"TransformerShape.{field.name} must be a positive int, got {value!r}"
        )
    if self.experts_per_token > self.experts:
      raise ValueError(
        f"TransformerShape.experts_per_token={self.experts_per_token} must be "
        f"at most experts={self.experts}"
      )


def _head_weights(shape: TransformerShape) -> int:
  rows = shape.outputs or shape.vocab_size
  if shape.reading_layers:
    rows += shape.vocab_size + READ
  return rows * shape.width


def matmul_weights(shape: TransformerShape) -> int:
  """Weights that multiply every token, output head included.

  These are what decoding reads from memory at each step; the embedding table
  is only looked up, unless it is the output head as well. Of experts, those
  that one token is sent to, and their router.
  """
  queries = shape.heads * shape.head_dim
  keys = shape.kv_heads * shape.head_dim
  attention = shape.width * (2 * queries + 2 * keys)
  active = shape.experts_per_token * shape.mlp_width + shape.shared_width
  mlp = shape.mlp_matrices * shape.width * active
  router = shape.width * shape.experts if shape.experts > 1 else 0
  return shape.layers * (attention + mlp + router) + _head_weights(shape)


def _idle_weights(shape: TransformerShape) -> int:
  """Weights of the experts that a token is not sent to."""
  idle = (shape.experts - shape.experts_per_token) * shape.mlp_width
  return shape.layers * shape.mlp_matrices * shape.width * idle


def parameters(shape: TransformerShape) -> int:
  """All parameters: matrices, embedding table, and RMSNorm scales.

  What some families have beside Llama's, biases and further norms, is left
  out: a few numbers a thousand, and no matrix product.
  """
  stacks = 2 if shape.reading_layers else 1
  norms = (2 * shape.layers + stacks) * shape.width
  heads = shape.outputs is None or shape.reading_layers > 0
  tied = shape.tie_embeddings and heads
  table = 0 if tied else shape.vocab_size * shape.width
  return matmul_weights(shape) + _idle_weights(shape) + table + norms


def active_parameters(shape: TransformerShape) -> int:
  """Parameters that one token meets: all but those of idle experts."""
  return parameters(shape) - _idle_weights(shape)


def token_flops(shape: TransformerShape, outputs: bool = True) -> int:
  """FLOPs of one token beside attention scores and mixing.

  Args:
    shape: the transformer.
    outputs: whether the output head is applied to the token, as it is when
      decoding or training; a prefill may apply it to the last token only.
  """
  skipped = 0 if outputs else _head_weights(shape)
  return 2 * (matmul_weights(shape) - skipped)


def context_flops(shape: TransformerShape) -> int:
  """FLOPs of one token attending to one position: QK^T and AV, all layers."""
  return 4 * shape.layers * shape.heads * shape.head_dim


def attended_positions(new_tokens: int, context: int = 0) -> int:
  """Positions that `new_tokens` causal tokens after `context` attend to.

  Token j of n attends to context + j + 1, which sums to
  n * context + n * (n + 1) / 2.
  """
  _require("new_tokens", new_tokens)
  _require("context", context)
  return new_tokens * context + new_tokens * (new_tokens + 1) // 2


def forward_flops(shape: TransformerShape, tokens: int, attended: int) -> int:
  """FLOPs of a forward pass with all outputs.

  Args:
    shape: the transformer.
    tokens: tokens processed.
    attended: attended positions, summed over the tokens.
  """
  return tokens * token_flops(shape) + attended * context_flops(shape)


def prefill_flops(
  shape: TransformerShape, new_tokens: int, context: int = 0
) -> int:
  """FLOPs of extending a cached prefix of `context` by `new_tokens`.

  Raises:
    ValueError: if a number of tokens is negative.
  """
  attended = attended_positions(new_tokens, context)
  return forward_flops(shape, new_tokens, attended)


def decode_flops(shape: TransformerShape, context: int) -> int:
  """FLOPs of one token after a cached prefix of `context` tokens.

  Raises:
    ValueError: if `context` is negative.
  """
  return prefill_flops(shape, 1, context)


def train_flops(
  shape: TransformerShape, batch: int, length: int, remat: bool = False
) -> int:
  """FLOPs of one training step on `batch` causal sequences of `length`.

  The backward pass multiplies each matrix twice, once for its input and once
  for its weights: 3 times the forward pass. Full rematerialisation repeats
  the forward pass: 4 times.

  Raises:
    ValueError: if `batch` or `length` is negative.
  """
  _require("batch", batch)
  return (4 if remat else 3) * batch * prefill_flops(shape, length)


def kv_bytes_per_token(shape: TransformerShape, dtype_bytes: int = 4) -> int:
  """Bytes that one token's keys and values take in the cache."""
  return 2 * shape.layers * shape.kv_heads * shape.head_dim * dtype_bytes


def decode_bytes(
  shape: TransformerShape,
  batch: int,
  context: int,
  bytes_per_weight: int = 4,
  bytes_per_value: int | None = None,
) -> int:
  """Bytes moved by one decoding step: the floor of its time on any machine.

  Every matrix is read once for the whole batch, every row's keys and values
  once, and the new token's are written. Activations stay on the chip. Of
  experts, those of one token: a batch that is sent to more reads more.

  Args:
    shape: the transformer.
    batch: rows decoded together, each with a cache of its own.
    context: cached tokens a row.
    bytes_per_weight: size of a weight.
    bytes_per_value: size of a cached value; that of a weight if None.

  Raises:
    ValueError: if `batch` or `context` is negative.
  """
  _require("batch", batch)
  _require("context", context)
  size = bytes_per_weight if bytes_per_value is None else bytes_per_value
  cache = batch * (context + 1) * kv_bytes_per_token(shape, size)
  return matmul_weights(shape) * bytes_per_weight + cache


def _require(name: str, value: int) -> None:
  if value < 0:
    raise ValueError(f"{name} must not be negative, got {value}")
