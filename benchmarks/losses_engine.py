# SPDX-License-Identifier: Apache-2.0
"""What the engine reports of sampled spans against a trainer's forward pass."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, local_engine
from jaxttc.inference import engine as engine_lib
from jaxttc.tasks import arithmetic, problems
from jaxttc.training import log_probs, sequences


def gaps(count: int = 16, limit: int = 96) -> dict[str, Any]:
  """Engine against trainer: log-probabilities of spans that were sampled.

  Args:
    count: problems, one solution each.
    limit: most tokens of a solution.

  Returns:
    Greatest difference of a span's sum, by temperature, and tokens compared.
  """
  policy = bundle_lib.load("arithmetic_lm")
  asked = arithmetic.problems(count, split="test", seed=0)
  found, tokens = {}, 0
  for temperature in (1.0, 0.7):
    engine = local_engine.LocalEngine(
      policy,
      sampler=controllers.Sampler(temperature=temperature),
      groups=count,
      rows=1,
      columns=limit,
    )
    prompts = {
      i: engine_lib.Prompt(text=text, tokens=engine.encode(text))
      for i, p in enumerate(asked)
      for text in [problems.prompt(p, "terse")]
    }
    spans = _sampled(engine, prompts, limit)
    sums = _trainer_sums(policy, prompts, spans, temperature)
    found[str(temperature)] = float(
      max(abs(spans[i].logprob - sums[i]) for i in prompts)
    )
    tokens += sum(span.length for span in spans.values())
  return {"difference": found, "tokens": tokens}


def _sampled(engine, prompts, limit) -> dict[int, engine_lib.Completion]:
  engine.open(prompts)
  engine.submit(
    [
      engine_lib.Request(
        group=i,
        ticket=0,
        node=0,
        until=engine_lib.END,
        limit=limit,
        seed=(0, i),
      )
      for i in prompts
    ]
  )
  spans = {}
  while len(spans) < len(prompts):
    spans |= {c.group: c for c in engine.step()}
  return spans


def _trainer_sums(policy, prompts, spans, temperature) -> dict[int, float]:
  """Sums of the spans' log-probabilities, by one forward pass over all."""
  texts = [[*prompts[i].tokens, *spans[i].tokens] for i in prompts]
  shape = (len(texts), max(map(len, texts)))
  tokens, real, mask = (np.zeros(shape, np.int32) for _ in range(3))
  for row, (i, text) in enumerate(zip(prompts, texts, strict=True)):
    tokens[row, : len(text)] = text
    real[row, : len(text)] = 1
    mask[row, len(prompts[i].tokens) - 1 : len(text) - 1] = 1
  positions = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
  targets = np.roll(tokens, -1, axis=1)

  @jax.jit
  def run(params):
    found = log_probs.of_model(
      policy.model,
      params,
      tokens,
      real,
      positions * real,
      targets,
      temperature=temperature,
    )
    return sequences.Sequences(jnp.asarray(mask == 1)).sums(found.log_probs)

  return dict(zip(prompts, np.asarray(run(policy.params))[:, 0], strict=True))
