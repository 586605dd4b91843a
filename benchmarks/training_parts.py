# SPDX-License-Identifier: Apache-2.0
"""Where a train step's time goes on one core, part by part, beside torch's.

    python -m benchmarks.training_parts

Each part's value and gradients at the sizes of `training_speed`'s first model:
in the form that training on a CPU takes, in the one that other devices take,
and in torch (not compiled). Rivals take turns and CPU seconds count.

Writes docs/results/training_parts.json. Needs torch (the `bench` extra).
"""

from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import timing, torch_transformer, training_speed
from jaxttc import host_memory, results
from jaxttc.models import key_values, transformer
from jaxttc.training import cross_entropy

_SIZE = "0.9M"
_FORMS = {"cpu": "blocked", "other": "plain"}  # name: `attention_backend`
_PARAMETERS = {  # of each part
  "attention": "attention_0",
  "mlp": "mlp_0",
  "norm": "mlp_norm_0",
  "head": "embed",
}
PARTS = tuple(_PARAMETERS)


def rivals(part: str) -> dict[str, Callable[[], Any]]:
  """What computes a part's value and gradients, by name.

  Args:
    part: one of `PARTS`; "head" is the logits with their cross-entropy.
  """
  config, rows, length = training_speed.SIZES[_SIZE]
  rng = np.random.default_rng(0)
  shape = (rows, length, config.width)
  x, d_out = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
  targets = rng.integers(0, config.vocab_size, shape[:2]).astype(np.int32)
  found = {}
  for name, backend in _FORMS.items():
    model = transformer.Transformer(config, backend=backend)
    params = jax.jit(lambda key, m=model: transformer.init(key, m))(
      jax.random.key(0)
    )
    run = jax.jit(_gradient(part, model, targets))
    inputs = params, jnp.asarray(x)[:, None], jnp.asarray(d_out)[:, None]
    found[name] = lambda run=run, inputs=inputs: run(*inputs)
  peer = torch_transformer.from_params(config, params, length)
  found["torch"] = _torch(part, peer, x, d_out, targets)
  return found


def _gradient(part, model, targets):
  """(params, x, gradient of the value) -> the value and its gradients."""
  rows, length = targets.shape
  positions = jnp.broadcast_to(jnp.arange(length), (rows, 1, length))
  mask = key_values.causal_mask(jnp.ones((rows, length), jnp.int32))

  def call(module, x):
    if part == "attention":
      none = (None, None)
      empty = key_values.Context()
      return module.attention[0](x, positions, mask, none, empty)[0]
    if part == "mlp":
      return module.mlp[0](x)
    if part == "norm":
      return module.mlp_norm[0](x)
    nats = cross_entropy.nats(module.logits(x), jnp.asarray(targets)[:, None])
    return nats.mean()

  def run(params, x, d_out):
    value, back = jax.vjp(
      lambda params, x: model.apply({"params": params}, x, method=call),
      params,
      x,
    )
    d_params, d_x = back(jnp.float32(1) if part == "head" else d_out)
    return value, d_params[_PARAMETERS[part]], d_x

  return run


def _torch(part, model, x, d_out, targets):
  block = model.blocks[0]
  x = torch.from_numpy(x).requires_grad_()
  d_out, targets = torch.from_numpy(d_out), torch.from_numpy(targets).long()

  def run():
    model.zero_grad(set_to_none=True)
    x.grad = None
    if part == "attention":
      block.mix(x, model.cos, model.sin).backward(d_out)
    elif part == "mlp":
      block.gated(x).backward(d_out)
    elif part == "norm":
      block.mlp_norm(x).backward(d_out)
    else:
      logits = F.linear(x, model.embed.weight)
      F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()

  return run


def claims(data: dict[str, dict[str, list[float]]]) -> list[results.Claim]:
  """Milliseconds of each part by each rival."""
  return [
    results.Claim(f"{part}_ms_{name}", 1e3 * min(seconds))
    for part, row in data.items()
    for name, seconds in row.items()
  ]


def main(argv: Sequence[str]) -> None:
  """Measures all parts, and writes the file."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  timing.use_one_thread()
  host_memory.keep()
  data = {
    part: timing.by_turns(rivals(part), flags.FLAGS.turns) for part in PARTS
  }
  results.write(
    flags.FLAGS.out,
    command=results.command_line(),
    seeds=[0],
    data=data | {"torch": torch.__version__},
    claims=claims(data),
  )
  for claim in claims(data):
    print(f"{claim.name}: {claim.figure}")


if __name__ == "__main__":
  flags.DEFINE_integer("turns", 9, "Timed runs of each.", 1)
  flags.DEFINE_string("out", "docs/results/training_parts.json", "Results.")
  app.run(main)
