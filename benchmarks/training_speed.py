# SPDX-License-Identifier: Apache-2.0
"""How fast the train loop's step is, against the same step in torch.

    python -m benchmarks.training_speed

The same transformer, parameters, batch and AdamW in float32, one thread on one
core on either side; rivals take turns and CPU seconds count (`timing`). Torch
is given its fused kernels: `scaled_dot_product_attention` (which skips what is
masked, being told that it is causal), `RMSNorm`, AdamW fused and not, and
`torch.compile` where a C++ compiler is found; its fastest form is the one
compared with. That both do the same work is checked by their losses. The core's
roofline is the best rate of a large matrix product in either library, measured
in the same run. The C library keeps freed memory for all (`host_memory`), as
the train loop has it.

Then come, without a bar, the bytes of temporary memory that XLA plans for a
step with and without remat, in float32 and bfloat16.

Writes docs/results/training_speed.json. Needs torch (the `bench` extra).
"""

from collections.abc import Callable, Sequence
import itertools
from typing import Any

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from benchmarks import timing, torch_transformer
from jaxttc import host_memory, results
from jaxttc.cost import flop_estimates
from jaxttc.cost import memory as memory_lib
from jaxttc.models import config as config_lib
from jaxttc.models import transformer
from jaxttc.training import language_model, loop, packing

# Name: (sizes, rows, tokens a row). The first are those of the embedded policy.
SIZES = {
  "0.9M": (
    config_lib.TransformerConfig(
      vocab_size=704,
      width=128,
      layers=4,
      heads=4,
      kv_heads=4,
      head_dim=32,
      mlp_width=384,
    ),
    16,
    384,
  ),
  "14M": (
    config_lib.TransformerConfig(
      vocab_size=4096,
      width=512,
      layers=4,
      heads=8,
      kv_heads=8,
      head_dim=64,
      mlp_width=1408,
    ),
    4,
    256,
  ),
}
_RATE, _DECAY, _CLIP = 1e-3, 0.05, 1.0
_FORMS = {
  "torch": {"fused": True, "compiled": False},
  "torch, AdamW not fused": {"fused": False, "compiled": False},
  "torch.compile": {"fused": True, "compiled": True},
}
_CHECKED = 3  # first steps, whose losses are compared
_PRODUCT = 1024  # rows and columns of the matrices that the roofline is of


def measure(
  config: config_lib.TransformerConfig,
  rows: int,
  length: int,
  forms: Sequence[str],
  turns: int,
) -> dict[str, Any]:
  """Steps of one model, by us and by each form of torch.

  Args:
    config: its sizes.
    rows: B; each is one text of `length` tokens.
    length: T.
    forms: keys of `_FORMS`.
    turns: timed steps of each.

  Returns:
    CPU seconds a step, tokens and FLOP a step, the largest difference between
    losses, the matrix products' rates, and why forms are missing.
  """
  rng = np.random.default_rng(0)
  text = rng.integers(1, config.vocab_size, (rows, length + 1), dtype=np.int32)
  tokens, targets = text[:, :-1].copy(), text[:, 1:].copy()
  model = transformer.Transformer(config, **loop.TrainConfig().compute())
  params = jax.jit(lambda key: transformer.init(key, model))(jax.random.key(0))
  found: dict[str, Any] = {"missing": {}, "loss_difference": {}}
  peers = {}
  for form in forms:
    peer = torch_transformer.stepper(
      torch_transformer.from_params(config, params, length),
      (tokens, targets),
      learning_rate=_RATE,
      weight_decay=_DECAY,
      clip_norm=_CLIP,
      **_FORMS[form],
    )
    try:
      losses = [peer() for _ in range(_CHECKED)]
    except Exception as error:  # torch.compile fails in many ways
      lines = str(error).strip().splitlines() or [""]
      found["missing"][form] = f"{type(error).__name__}: {lines[0][:160]}"
      continue
    peers[form], found["loss_difference"][form] = peer, losses
  ours, flop = _ours(model, params, tokens, targets)
  losses = [float(ours()["loss"]) for _ in range(_CHECKED)]
  for form, theirs in found["loss_difference"].items():
    apart = np.abs(np.subtract(theirs, losses)).max()
    found["loss_difference"][form] = float(apart)
  seconds = timing.by_turns({"jaxttc": ours} | peers | _products(), turns)
  return found | {
    "parameters": sum(x.size for x in jax.tree.leaves(params)),
    "tokens": rows * length,
    "flop": flop,
    "product_flop": 2.0 * _PRODUCT**3,
    "seconds": seconds,
  }


def step_bytes(
  config: config_lib.TransformerConfig, rows: int, length: int
) -> dict[str, int]:
  """Temporary memory that a step is compiled with, in bytes, by its form.

  Args:
    config: the model's sizes.
    rows: of the batch.
    length: tokens a row.
  """
  text = np.zeros((rows, length), np.int32)
  found = {}
  for dtype, remat in itertools.product(("float32", "bfloat16"), (False, True)):
    model = transformer.Transformer(
      config, **loop.TrainConfig(dtype=dtype, remat=remat).compute()
    )
    params = jax.eval_shape(
      lambda key, model=model: transformer.init(key, model), jax.random.key(0)
    )
    tx = _optimizer()
    step = loop.train_step(language_model.objective(model), tx)
    state = jax.eval_shape(lambda p, tx=tx: _state(p, tx), params)
    compiled = step.lower(state, _batch(text, text)).compile()
    name = f"{dtype}, remat" if remat else dtype
    found[name] = memory_lib.of_program(compiled).temporary
  return found


def memory_claims(found: dict[str, int]) -> list[results.Claim]:
  """Megabytes of each form's step, and the shares that are left of them."""
  plain, half = found["float32"], found["bfloat16"]
  return [
    results.Claim("step_megabytes", plain / 1e6),
    results.Claim("remat_memory_share", found["float32, remat"] / plain),
    results.Claim("bfloat16_memory_share", half / plain),
    results.Claim(
      "remat_memory_share_bfloat16", found["bfloat16, remat"] / half
    ),
  ]


def claims(data: dict[str, dict[str, Any]]) -> list[results.Claim]:
  """Ratios and shares of each size; the bar is on the embedded policy's."""
  found = []
  for i, (name, row) in enumerate(data.items()):
    seconds = row["seconds"]
    peers = [form for form in _FORMS if form in seconds]
    fastest = min(peers, key=lambda form: min(seconds[form]))
    ratio = timing.ratio(seconds, fastest, "jaxttc")
    suffix = "" if not i else f"_{name}"
    found.append(
      results.Claim(
        f"throughput_over_torch{suffix}",
        ratio["value"],
        ratio["low"],
        ratio["high"],
        1.0,
      )
    )
    plain = min(
      (form for form in peers if not _FORMS[form]["compiled"]),
      key=lambda form: min(seconds[form]),
      default=None,
    )
    if plain is not None:
      ratio = timing.ratio(seconds, plain, "jaxttc")
      found.append(
        results.Claim(
          f"throughput_over_torch_not_compiled{suffix}",
          ratio["value"],
          ratio["low"],
          ratio["high"],
        )
      )
    products = [s for k, s in seconds.items() if k.endswith("product")]
    peak = row["product_flop"] / min(map(min, products))
    for who, key in (("roofline_share", "jaxttc"), ("torch_share", fastest)):
      share = row["flop"] / min(seconds[key]) / peak
      found.append(results.Claim(f"{who}{suffix}", share))
    rate = row["tokens"] / min(seconds["jaxttc"])
    found.append(results.Claim(f"tokens_per_second{suffix}", rate))
    apart = max(row["loss_difference"].values())
    found.append(
      results.Claim(
        f"loss_difference{suffix}", apart, bar=1e-3, comparison="<="
      )
    )
  return found


def _optimizer():
  """The optimizer of both sides."""
  return optax.chain(
    optax.clip_by_global_norm(_CLIP),
    optax.adamw(
      _RATE,
      b2=0.98,
      weight_decay=_DECAY,
      mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
    ),
  )


def _batch(tokens, targets):
  """Rows that are one text each, all of whose tokens are learned."""
  whole = np.ones(tokens.shape, np.int32)
  batch = packing.Packed(
    tokens=tokens,
    segments=whole,
    positions=np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape),
    targets=targets,
    weights=whole.astype(np.float32),
    labels=-whole.astype(np.float32),
  )
  return jax.tree.map(jnp.asarray, batch)


def _state(params, tx):
  return loop.TrainState(
    step=jnp.int32(0),
    params=params,
    opt_state=tx.init(params),
    key=jax.random.key(0),
  )


def _ours(model, params, tokens, targets):
  """A function that takes a step of the train loop, and the FLOP of one."""
  tx, batch = _optimizer(), _batch(tokens, targets)
  step = loop.train_step(language_model.objective(model), tx)
  state = _state(jax.tree.map(jnp.copy, params), tx)
  shapes = jax.eval_shape(lambda: (state, batch))
  flop = flop_estimates.from_trace(step, *shapes).value

  def run():
    nonlocal state
    state, metrics = step(state, batch)
    return metrics

  return run, flop


def _products() -> dict[str, Callable[[], Any]]:
  """One large matrix product in each library."""
  x = np.random.default_rng(0).normal(size=(_PRODUCT, _PRODUCT))
  mine, theirs = jnp.float32(x), torch.from_numpy(x.astype(np.float32))
  product = jax.jit(lambda a: a @ a)
  return {
    "jax product": lambda: product(mine),
    "torch product": lambda: theirs @ theirs,
  }


def main(argv: Sequence[str]) -> None:
  """Measures every size, and writes the file."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  timing.use_one_thread()
  host_memory.keep()
  data, memory = {}, {}

  def write():
    found = claims(data) + (memory_claims(memory) if memory else [])
    results.write(
      flags.FLAGS.out,
      command=results.command_line(),
      seeds=[0],
      data=data | {"step_bytes": memory, "torch": torch.__version__},
      claims=found,
    )
    return found

  for name in flags.FLAGS.sizes:
    config, rows, length = SIZES[name]
    data[name] = measure(
      config, rows, length, flags.FLAGS.forms, flags.FLAGS.turns
    )
    write()
  memory = step_bytes(*SIZES[flags.FLAGS.sizes[0]])
  for claim in write():
    print(f"{claim.name}: {claim.figure}")


if __name__ == "__main__":
  flags.DEFINE_multi_enum("sizes", list(SIZES), list(SIZES), "Models.")
  flags.DEFINE_multi_enum("forms", list(_FORMS), list(_FORMS), "Of torch.")
  flags.DEFINE_integer("turns", 7, "Timed steps of each rival.", 1)
  flags.DEFINE_string("out", "docs/results/training_speed.json", "Results.")
  app.run(main)
