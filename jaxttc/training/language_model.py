# SPDX-License-Identifier: Apache-2.0
"""Next-token prediction: the objective, and its batches of worked problems."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxttc.models import transformer
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import accumulation, cross_entropy, packing

_EXAMPLES_A_BATCH = 100_000  # index space of one step; never used up


@runtime_checkable
class Mix(Protocol):
  """An endless stream of training text."""

  def validate(self) -> None:
    """Raises ValueError for what cannot be drawn from."""
    ...

  def example(self, index: int, *, seed: int) -> tuple[str, str]:
    """The (prompt, completion) of an index and a stream."""
    ...


def objective(model: transformer.Transformer) -> Callable:
  """Weighted next-token cross-entropy.

  Args:
    model: the language model.

  Returns:
    loss(params, batch, key) -> (f32[], metrics), with a `packing.Packed` of
    device arrays as batch. Metrics: `loss` (nats a target token), `accuracy`
    (share of target tokens that are the argmax) and `weight` (target tokens).
  """

  def loss(params, batch: packing.Packed, key: jax.Array):
    del key
    logits = transformer.forward(
      model, params, batch.tokens, batch.segments, batch.positions
    )
    nats = cross_entropy.nats(logits, batch.targets)
    total = jnp.maximum(batch.weights.sum(), 1e-6)
    mean = (nats * batch.weights).sum() / total
    right = cross_entropy.likeliest(logits, batch.targets) * batch.weights
    return mean, {
      "loss": mean,
      "accuracy": right.sum() / total,
      accumulation.WEIGHT: batch.weights.sum(),
    }

  return loss


def example(
  tokenizer: tokenizer_lib.WordTokenizer,
  prompt: str,
  completion: str,
  prompt_weight: float = 0.0,
) -> packing.Example:
  """`<bos> prompt completion <eos>`; the completion's tokens are targets."""
  head = [tokenizer.bos_id, *tokenizer.encode(prompt)]
  tail = [*tokenizer.encode(completion), tokenizer.eos_id]
  return packing.Example(
    tokens=head + tail,
    weights=[prompt_weight] * len(head) + [1.0] * len(tail),
  )


def generated_batches(
  tokenizer: tokenizer_lib.WordTokenizer,
  mix: Mix,
  rows: int,
  length: int,
  seed: int,
) -> Callable[[int], packing.Packed]:
  """Batches of freshly generated worked problems.

  Returns:
    batch(step) -> `packing.Packed` of B=`rows` by T=`length`: a pure function
    of the step, so that a resumed run sees the same data. It raises
    ValueError if no worked problem is as short as `length`.
  """

  def batch(step: int) -> packing.Packed:
    indices = range(step * _EXAMPLES_A_BATCH, (step + 1) * _EXAMPLES_A_BATCH)
    examples = (example(tokenizer, *mix.example(i, seed=seed)) for i in indices)
    packed = packing.pack(examples, rows, length)
    if not packed.segments.any():
      raise ValueError(f"no worked problem fits train.length={length}")
    return packed

  return batch
