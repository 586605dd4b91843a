# SPDX-License-Identifier: Apache-2.0
"""Decoding on an accelerator, as a share of what its memory allows.

    python -m benchmarks.accelerator            # on a GPU or a TPU
    python -m benchmarks.accelerator --tiny     # the same program, anywhere

Llama's shapes of 1.2 and 8 billion parameters, bfloat16, random weights made
on the device, greedy; batches of 1, 16, 64 and 256 rows that each have a
prompt of their own. A step cannot take less time than reading all weights and
caches once, nor than its FLOPs: the roofline, from `jaxttc.cost`. A share is
that time over the measured one, the median of the turns; prefill is not in it.
Where torch sees a GPU, transformers' `generate` writes as many tokens with
weights of its own. Prompts are read with plain and with fused attention, both
are timed, and the keys and values that they leave are compared.

Writes docs/results/accelerator.json on an accelerator only.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import gc
import os
import statistics
import sys
import time
from typing import Any

from absl import app, flags
import jax
import jax.numpy as jnp

from benchmarks import decoding
from jaxttc import results
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import transformer_flops
from jaxttc.models import attention_backend, transformer
from jaxttc.models import config as config_lib

SHAPES = {
  "1b": config_lib.TransformerConfig(
    vocab_size=128_256,
    width=2048,
    layers=16,
    heads=32,
    kv_heads=8,
    head_dim=64,
    mlp_width=8192,
    rope_theta=500_000.0,
  ),
  "8b": config_lib.TransformerConfig(
    vocab_size=128_256,
    width=4096,
    layers=32,
    heads=32,
    kv_heads=8,
    head_dim=128,
    mlp_width=14_336,
    rope_theta=500_000.0,
    tie_embeddings=False,
  ),
}
TINY = config_lib.TransformerConfig(
  vocab_size=256,
  width=64,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=16,
  mlp_width=128,
)
_COMPARED = 16  # rows that both programs of attention read, and both keep
# Keys and values of two programs in bfloat16, as a share of their size.
_MOST_APART = 0.05
_BARS = {("1b", 1): 0.5, ("8b", 1): 0.65, ("1b", 64): 0.45}


def weights(config: config_lib.TransformerConfig, dtype: Any) -> Any:
  """Random parameters of a `Transformer`, made where they are used."""
  model = transformer.Transformer(config)

  def make(key):
    params = transformer.init(key, model)
    return jax.tree.map(lambda x: x.astype(dtype), params)

  return jax.block_until_ready(jax.jit(make)(jax.random.key(0)))


def median_seconds(run: Callable[[], Any], turns: int) -> float:
  """Wall seconds of a turn, after one that is not timed."""
  jax.block_until_ready(run())
  seconds = []
  for _ in range(turns):
    start = time.perf_counter()
    jax.block_until_ready(run())
    seconds.append(time.perf_counter() - start)
  return statistics.median(seconds)


def ours(
  config: config_lib.TransformerConfig,
  params: Any,
  *,
  batch: int,
  prompt: int,
  new: int,
  turns: int,
) -> dict[str, Any]:
  """Seconds of our prefill, and of a step of our decoding.

  Args:
    config: sizes of the model.
    params: its parameters; all is computed in their dtype.
    batch: rows.
    prompt: tokens of each row's prompt.
    new: tokens written after it.
    turns: timed turns.

  Returns:
    `prefill_s` (with fused attention where that is chosen), `step_s`, and what
    `both_ways` finds.
  """
  dtype = jax.tree.leaves(params)[0].dtype
  read = jax.jit(decoding.reader(config, dtype))
  write = jax.jit(decoding.writer(config, new_tokens=new, dtype=dtype))
  tokens = jnp.asarray(
    decoding.random_prompts(config.vocab_size, batch, prompt, seed=batch)
  )
  cache = read(params, tokens)
  prefill = median_seconds(lambda: read(params, tokens), turns)
  key = jax.random.key(0)
  writing = median_seconds(lambda: write(params, cache, tokens, key), turns)
  paths = both_ways(config, params, tokens[:_COMPARED], turns)
  return {"prefill_s": prefill, "step_s": writing / new, **paths}


def both_ways(
  config: config_lib.TransformerConfig,
  params: Any,
  tokens: jax.Array,
  turns: int,
) -> dict[str, Any]:
  """Reads prompts with both programs of attention.

  Args:
    config: sizes of the model.
    params: its parameters.
    tokens: i32[G, T], prompts; both caches are held at once.
    turns: timed turns of each.

  Returns:
    `plain_s` and `fused_s` of a turn; `apart`, the largest distance of two
    layers' keys or values over their size; `fused_by`, what computed the
    fused one, or why nothing did.
  """
  dtype = jax.tree.leaves(params)[0].dtype
  platform, capability = attention_backend.device()
  choice = attention_backend.choose(
    attention_backend.FUSED,
    attention_backend.Call(
      platform, capability, dtype, config.head_dim, tokens.shape[1]
    ),
  )
  seconds, arenas = {}, []
  for name in (attention_backend.PLAIN, attention_backend.FUSED):
    read = jax.jit(decoding.reader(config, dtype, name))
    # The last slot is of no token.
    arenas.append(read(params, tokens).arena)
    seconds[f"{name}_s"] = median_seconds(
      functools.partial(read, params, tokens), turns
    )
  last = tokens.shape[1] - 1
  apart = 0.0
  for plain, fused in zip(*arenas, strict=True):
    for a, b in (
      (plain.k[..., :last], fused.k[..., :last]),
      (plain.v[..., :last, :], fused.v[..., :last, :]),
    ):
      apart = max(apart, float(_distance(a, b)))
  by = choice.implementation or choice.why
  return {**seconds, "apart": apart, "fused_by": by}


@jax.jit
def _distance(a, b):
  a, b = a.astype(jnp.float32), b.astype(jnp.float32)
  return jnp.linalg.norm(a - b) / jnp.linalg.norm(a)


def theirs(
  config: config_lib.TransformerConfig,
  *,
  batch: int,
  prompt: int,
  new: int,
  turns: int,
) -> float | None:
  """Seconds of a step of transformers' `generate`; None without torch's GPU.

  The time to the first token, which holds the prefill, is taken off.
  """
  try:
    import torch
  except ImportError:
    return None
  if not torch.cuda.is_available():
    return None
  step = _generate_step(torch, config, batch, prompt, new, turns)
  gc.collect()  # its weights
  torch.cuda.empty_cache()
  return step


def _generate_step(torch, config, batch, prompt, new, turns) -> float:
  from benchmarks import llama_peer

  torch.manual_seed(0)
  model = llama_peer.untrained(config, "cuda", torch.bfloat16)
  prompts = decoding.random_prompts(config.vocab_size, batch, prompt, seed=1)
  # Tokens are copied to the host, so the work is done when they are there.
  whole, first = (
    median_seconds(
      functools.partial(llama_peer.generate, model, prompts, tokens), turns
    )
    for tokens in (new, 1)
  )
  return (whole - first) / (new - 1)


def floor_seconds(
  config: config_lib.TransformerConfig,
  hardware: hardware_lib.Hardware,
  dtype: Any,
  *,
  batch: int,
  prompt: int,
  new: int,
) -> float:
  """Least seconds of a step, on average over `new` of them."""
  shape, size = config.shape(), jnp.dtype(dtype)
  context = prompt + new // 2
  return hardware_lib.roofline_seconds(
    hardware,
    batch * transformer_flops.decode_flops(shape, context),
    transformer_flops.decode_bytes(shape, batch, context, size.itemsize),
    size.name,
  )


def measure(
  shapes: Mapping[str, config_lib.TransformerConfig],
  hardware: hardware_lib.Hardware,
  dtype: Any,
  *,
  batches: Sequence[int],
  prompt: int,
  new: int,
  turns: int,
  limit_s: float,
) -> list[dict[str, Any]]:
  """A row a shape and batch, sizes ascending.

  Args:
    shapes: models by name.
    hardware: what the device can do.
    dtype: of parameters and caches.
    batches: rows decoded together.
    prompt: tokens of each prompt.
    new: tokens written.
    turns: timed turns of each.
    limit_s: no cell is begun after so many seconds.

  Returns:
    Rows with `prefill_s`, `step_s`, `floor_s`, `share`, `tokens_per_s`, what
    `both_ways` finds, and the peer's `peer_step_s`, None where it did not run.
  """
  start, rows = time.monotonic(), []
  for name, config in shapes.items():
    params = weights(config, dtype)
    for batch in batches:
      if time.monotonic() - start > limit_s:
        print(f"{name} batch {batch}: not begun, after {limit_s:g} s")
        continue
      sizes = {"batch": batch, "prompt": prompt, "new": new}
      found = ours(config, params, **sizes, turns=turns)
      floor = floor_seconds(config, hardware, dtype, **sizes)
      peer = theirs(config, **sizes, turns=turns)
      rows.append(
        {"shape": name, **sizes, **found, "floor_s": floor}
        | {"share": floor / found["step_s"], "peer_step_s": peer}
        | {"tokens_per_s": batch / found["step_s"]}
      )
      print(rows[-1], flush=True)
    del params
  return rows


def claims(rows: Sequence[dict[str, Any]]) -> list[results.Claim]:
  """Shares of the roofline, and speed next to the peer."""
  found = []
  for row in rows:
    cell = f"{row['shape']}_b{row['batch']}"
    bar = _BARS.get((row["shape"], row["batch"]))
    found.append(results.Claim(f"roofline_{cell}", row["share"], bar=bar))
    found.append(
      results.Claim(
        f"attention_apart_{cell}",
        row["apart"],
        bar=_MOST_APART,
        comparison="<=",
      )
    )
    found.append(
      results.Claim(f"fused_over_plain_{cell}", row["plain_s"] / row["fused_s"])
    )
    if row["peer_step_s"] is not None:
      ratio = row["peer_step_s"] / row["step_s"]
      found.append(results.Claim(f"over_transformers_{cell}", ratio))
  return found


def main(argv: Sequence[str]) -> None:
  """Measures, prints, and writes the file on an accelerator."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  device = jax.devices()[0]
  if flags.FLAGS.tiny:
    hardware = hardware_lib.lookup("cpu-core-avx2")
    measure(
      {"tiny": TINY}, hardware, jnp.float32, batches=(1, 4), prompt=16, new=8,
      turns=flags.FLAGS.turns, limit_s=flags.FLAGS.limit_s,
    )  # fmt: skip
    return
  if device.platform == "cpu":
    print("accelerator: none here, nothing measured; --tiny runs anywhere")
    return
  try:
    hardware = hardware_lib.of_device(device)
  except ValueError as error:
    sys.exit(f"accelerator: {error}")
  rows = measure(
    {name: SHAPES[name] for name in flags.FLAGS.only or SHAPES},
    hardware,
    jnp.bfloat16,
    batches=(1, 16, 64, 256),
    prompt=512,
    new=128,
    turns=flags.FLAGS.turns,
    limit_s=flags.FLAGS.limit_s,
  )
  results.write(
    flags.FLAGS.out,
    command=results.command_line(),
    seeds=[0],
    data={"device": device.device_kind, "rows": rows},
    claims=claims(rows),
  )


if __name__ == "__main__":
  flags.DEFINE_bool("tiny", False, "A tiny shape; nothing is written.")
  flags.DEFINE_multi_enum("only", [], list(SHAPES), "Shapes; all if none.")
  flags.DEFINE_integer("turns", 5, "Timed turns.", 1)
  flags.DEFINE_float("limit_s", 480.0, "Begin no cell after that.")
  flags.DEFINE_string("out", "docs/results/accelerator.json", "Results file.")
  # torch needs some of the memory.
  os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
  app.run(main)
