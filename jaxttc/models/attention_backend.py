# SPDX-License-Identifier: Apache-2.0
"""Which program computes a layer's attention: one place that chooses.

There are three. The *plain* one is the transformer's own einsums, which do all
that it can ask for. The *fused* one is `jax.nn.dot_product_attention`, which on
a GPU is cuDNN's flash attention (Dao et al. 2022) and never writes the scores
to memory; elsewhere XLA compiles it to what the plain one is. The *blocked* one
(`blocked_attention`) takes a block of queries at a time, each with the keys up
to its end, so it computes little more than half of the scores. It must be asked
for, and is for training on a CPU, where a gradient reads and writes all scores
several times. A model that asks for it gets the products around it in the form
that XLA's gradient for CPU is fast in, too (`transformer`).

Decoding over an arena is always plain. A row sees slots that lie scattered
among those of its siblings, and the plain program reads a slot once for all
rows that share it. Of the kernels that come with JAX, `decode_attention` of
Pallas takes one range of slots a row; `paged_attention` takes scattered ones,
but reads them anew for each row, and does not return the sum of weights that
would join its part to that of the row's private keys.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

AUTO, PLAIN, FUSED, BLOCKED = "auto", "plain", "fused", "blocked"
NAMES = (AUTO, PLAIN, FUSED, BLOCKED)
_HEAD = 128  # cuDNN's largest size of a head on every GPU that it supports
_CAPABILITY = 8.0  # CUDA's of the first GPUs with flash attention


class Call(NamedTuple):
  """What decides; known when a program is traced.

  Attributes:
    platform: "cpu", "gpu" or "tpu".
    capability: CUDA's compute capability; 0 for what is no such GPU.
    dtype: of queries, keys and values.
    head_dim: size of a head.
    tokens: queries a row.
    shared: whether it attends to an arena, too.
    decoding: whether its private keys are a scratch.
    capped: whether scores are bounded by a tanh.
    parts: devices that the heads are split over.
    devices: all devices that the program is mapped over.
  """

  platform: str
  capability: float
  dtype: jnp.dtype
  head_dim: int
  tokens: int
  shared: bool = False
  decoding: bool = False
  capped: bool = False
  parts: int = 1
  devices: int = 1


class Choice(NamedTuple):
  """A program, and the reason.

  Attributes:
    path: `PLAIN`, `FUSED` or `BLOCKED`.
    implementation: of the fused one, "xla" or "cudnn"; "" of the plain one.
    why: in words, why it is plain; "" if it is not.
  """

  path: str
  implementation: str = ""
  why: str = ""


def check(name: str) -> None:
  """Refuses a name that is none of `NAMES`.

  Raises:
    ValueError: listing them.
  """
  if name not in NAMES:
    raise ValueError(
      f"attention is {name!r}; expected one of {', '.join(NAMES)}"
    )


def choose(wanted: str, call: Call) -> Choice:
  """The program that runs a call.

  Args:
    wanted: `AUTO` takes the fused one where it is faster, on a GPU; `FUSED`
      takes it wherever it can do the call, and on a mesh; `PLAIN` never.
      `BLOCKED` does what is neither shared nor decoding, and is plain else.
    call: the call.

  Raises:
    ValueError: as `check`.
  """
  check(wanted)
  if wanted == PLAIN:
    return Choice(PLAIN, why="plain was asked for")
  if wanted == BLOCKED:
    if call.shared or call.decoding or call.capped:
      return Choice(PLAIN, why="blocks are for uncapped tokens of the call")
    return Choice(BLOCKED)
  why = _unfit(call)
  if wanted == AUTO and call.platform != "gpu" and not why:
    why = f"on a {call.platform} both are the same products"
  if wanted == AUTO and call.devices > 1 and not why:
    why = "over several devices cuDNN was not tried; ask for fused"
  if why:
    return Choice(PLAIN, why=why)
  return Choice(FUSED, "cudnn" if call.platform == "gpu" else "xla")


def _unfit(call: Call) -> str:
  """Why the fused program cannot do a call; "" if it can."""
  if call.shared:
    return "rows see scattered slots of an arena, which no kernel takes"
  if call.decoding:
    return "a decoding step has one query a row, and no scores to save"
  if call.capped:
    return "scores are capped, which no kernel does"
  if call.platform != "gpu":
    return ""
  if call.capability < _CAPABILITY:
    return f"cuDNN needs compute capability {_CAPABILITY} or more"
  if jnp.dtype(call.dtype).name not in ("bfloat16", "float16"):
    return "cuDNN computes in bfloat16 and float16 only"
  if call.head_dim % 8 or call.head_dim > _HEAD:
    return f"cuDNN takes heads of a multiple of 8 up to {_HEAD}"
  if call.tokens % 2:
    return "cuDNN takes an even number of tokens under a mask"
  if call.parts > 1:
    return "heads are split over devices, where cuDNN was not tried"
  return ""


def device() -> tuple[str, float]:
  """(platform, CUDA's compute capability or 0) of JAX's default devices."""
  first = jax.devices()[0]
  try:
    return first.platform, float(getattr(first, "compute_capability", 0))
  except ValueError:  # AMD's are names
    return first.platform, 0.0


def fused(
  q: Float[Array, "G R T N E"],
  k: Float[Array, "G R T K E"],
  v: Float[Array, "G R T K E"],
  *,
  mask: Bool[Array, "#G #R T T"],
  length: Int[Array, "G R"] | None,
  window: int,
  implementation: str,
) -> Float[Array, "G R T N E"]:
  """Attention of tokens among themselves.

  Args:
    q: queries, scaled already; those of a key-value head together.
    k: keys.
    v: values.
    mask: which keys each token sees.
    length: how many tokens of each row are real, if each row is one text from
      its start, whose real tokens each sees up to itself; then no mask is
      read. None if only the mask tells.
    window: with `length`, how many tokens each sees, itself included; 0 for
      all. The mask knows already.
    implementation: "xla" or "cudnn".
  """
  groups, rows, tokens = q.shape[:3]
  merged = lambda x: x.reshape(groups * rows, *x.shape[2:])  # noqa: E731
  if length is None:
    whole = jnp.broadcast_to(mask, (groups, rows, tokens, tokens))
    seen = {"mask": merged(whole)[:, None]}
  else:
    # A row without real tokens sees the first one: a mean of nothing is NaN.
    real = jnp.maximum(length.reshape(-1), 1).astype(jnp.int32)
    seen = {"is_causal": True, "key_value_seq_lengths": real}
    if window:
      seen["local_window_size"] = (window - 1, 0)
  out = jax.nn.dot_product_attention(
    merged(q),
    merged(k),
    merged(v),
    scale=1.0,
    implementation=implementation,
    **seen,
  )
  return out.reshape(q.shape)


def training() -> str:
  """What computes attention fastest in a gradient, on the default devices."""
  return BLOCKED if jax.default_backend() == "cpu" else AUTO
