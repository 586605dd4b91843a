# SPDX-License-Identifier: Apache-2.0
"""Length prediction: the objective over frozen states, batches and recipe.

Texts are as the language model would write them, and copies with more concise
lines: without those, traces as short as a tight budget allows would hardly be
seen, and the tails that guidance works in would be guesses.
"""

from collections.abc import Callable, Iterator
import dataclasses
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import gamma_length, transformer
from jaxttc.predictors import length_predictor, remaining_length
from jaxttc.tasks import digit_sums, thinking_rows
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import loop, packing, recipe_parts, thinking


def objective(
  config: gamma_length.LengthPredictorConfig,
  policy: bundle_lib.Bundle,
  *,
  longest: int = 0,
  model: transformer.Transformer | None = None,
) -> loop.Objective:
  """Mean negative log-likelihood of the remaining lengths, in nats.

  Args:
    config: the predictor's sizes; with bins, the law is discrete.
    policy: the frozen language model.
    longest: where the last bin ends.
    model: how the language model computes; as the bundle says if None.

  Returns:
    loss(params, batch, key) -> (f32[], metrics), with a `packing.Packed` whose
    labels say R of the token that follows, -1 where it does not count. Metrics:
    `loss`, and `log_error`, the mean distance of log(R + 1) from its predicted
    mean.
  """
  module = gamma_length.module(config)
  model, frozen = model or policy.model, policy.params
  embedding = length_predictor.embedding_of(policy)
  edges = np.zeros(0, int)
  if config.bins:
    edges = remaining_length.bin_edges(config.bins, longest)

  def loss(params, batch: packing.Packed, key: jax.Array):
    del key
    stack = transformer.hidden_stack(
      model, frozen, batch.tokens, batch.segments, batch.positions
    )
    stack = jax.lax.stop_gradient(stack)
    flat = stack.reshape(-1, *stack.shape[-2:])
    chosen = batch.targets.reshape(-1, 1)
    out = module.apply({"params": params}, flat, embedding, chosen)
    labels = batch.labels.reshape(-1)
    counts = (labels > 0).astype(jnp.float32)
    left = jnp.maximum(labels, 1)
    if config.bins:
      log_mass = out[:, 0]
      nats = remaining_length.bin_nll(log_mass, left, edges)
      z = remaining_length.encode_length(edges)
      mean = (jnp.exp(log_mass) * z[None]).sum(-1)
    else:
      alpha, rate = (x[:, 0] for x in out)
      nats = remaining_length.gamma_nll(alpha, rate, left)
      mean = alpha / rate
    total = jnp.maximum(counts.sum(), 1.0)
    error = jnp.abs(remaining_length.encode_length(left) - mean)
    value = (nats * counts).sum() / total
    return value, {"loss": value, "log_error": (error * counts).sum() / total}

  return loss


def example(
  tokenizer: tokenizer_lib.WordTokenizer, prompt: str, completion: str
) -> packing.Example:
  """A text whose labels are R of each following token inside the span.

  Raises:
    ValueError: if the completion does not close its thinking span.
  """
  plain = thinking.example(tokenizer, prompt, completion)
  tokens = np.array([plain.tokens])
  start = 1 + len(tokenizer.encode(prompt, specials=True))
  ends = np.flatnonzero(tokens[0] == tokenizer.end_think_id)
  if not ends.size:
    raise ValueError(f"{completion!r}: no closing tag; expected one")
  left, inside = remaining_length.length_targets(
    tokens, np.array([start]), ends[-1:], end_id=tokenizer.end_think_id
  )
  of_next = np.where(inside[0], left[0], -1)[1:]
  return plain._replace(labels=[*of_next.astype(float).tolist(), -1.0])


def example_of(
  tokenizer: tokenizer_lib.WordTokenizer, row: thinking_rows.Thought
) -> packing.Example:
  """Likewise of a worked thought from a file; each message asked ends a line.

  Pack what is wanted of a file, and concise copies (`thinking_rows.concise`),
  with `packing.pack`; `objective` reads the batches.

  Raises:
    ValueError: if the thought has no solution: it never closed.
  """
  if not row.solution:
    raise ValueError(f"{row.id}: the thought never closed; expected a solution")
  asked = "".join(f"{message['content']}\n" for message in row.asked)
  return example(
    tokenizer,
    f"{asked}{thinking_rows.THINK}",
    f"{row.thought}{thinking_rows.END_THINK}{row.solution}",
  )


@dataclasses.dataclass(kw_only=True)
class TraceMix:
  """Which traces a predictor reads.

  Attributes:
    questions: the language model's own training mix.
    copies: share of traces that are copies with more concise lines; of each,
      the share of concise lines is drawn uniformly, from the model's own up.
  """

  questions: thinking.DigitSumMix
  copies: float = 0.5

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be drawn from."""
    self.questions.validate()
    if not 0 <= self.copies <= 1:
      raise ValueError(f"mix.copies is {self.copies}, expected 0..1")

  def example(self, index: int, seed: int) -> tuple[str, str]:
    """One (prompt, completion) pair, a pure function of its arguments."""
    rng = random.Random(f"length-{seed}-{index}")
    drawn = self.questions.problem(rng)
    share = self.questions.concise_share
    if rng.random() < self.copies:
      share = rng.uniform(share, 1.0)
    lines = digit_sums.thinking_lines(drawn, rng, share)
    return digit_sums.prompt(drawn), digit_sums.completion(drawn, lines)


def batches(
  tokenizer: tokenizer_lib.WordTokenizer,
  mix: TraceMix,
  rows: int,
  length: int,
  seed: int,
) -> Callable[[int], packing.Packed]:
  """Batches of traces with their remaining lengths as labels.

  Returns:
    batch(step) -> `packing.Packed` of B=`rows` by T=`length`: a pure function
    of the step.
  """

  def examples(step: int) -> Iterator[packing.Example]:
    index = step * rows * length
    while True:
      yield example(tokenizer, *mix.example(index, seed))
      index += 1

  return lambda step: packing.pack(examples(step), rows, length)


@dataclasses.dataclass(kw_only=True)
class LengthPredictorRecipe:
  """Trains a length predictor on a frozen language model's states.

  Attributes:
    policy: the language model's file, or the name of one that ships.
    mix: the traces that it reads.
    train: length, rate and bookkeeping of the run; its `dtype` is that of the
      language model, the predictor's is float32.
    width: of the encoder.
    layers: of the encoder; 0 for the linear variant.
    heads: attention heads of the encoder.
    head: one of `gamma_length.HEADS`.
    rank: of the head "lowrank".
    bins: of a discrete law; 0 for a Gamma.
    longest: tokens at which the last bin ends.
  """

  policy: str
  mix: TraceMix
  train: loop.TrainConfig
  width: int = 32
  layers: int = 1
  heads: int = 2
  head: str = "full"
  rank: int = 16
  bins: int = 0
  longest: int = 64

  def run(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> dict[str, Any]:
    """Trains, and returns the parameters; a ledger gets what it takes.

    Raises:
      ValueError: if the recipe cannot be.
    """
    self.mix.validate()
    self.train.validate()
    policy = bundle_lib.load(self.policy)
    config = self._config(policy)
    config.validate()
    if config.bins:
      remaining_length.bin_edges(config.bins, self.longest)
    frozen = transformer.Transformer(policy.config, **self.train.compute())
    loss = objective(config, policy, longest=self.longest, model=frozen)
    traces = lambda seed: batches(  # noqa: E731
      policy.tokenizer,
      self.mix,
      self.train.batch_size,
      self.train.length,
      seed,
    )
    state = loop.fit(
      self.train,
      loss,
      lambda key: gamma_length.init(key, config),
      traces(self.train.seed),
      workdir,
      evaluate=recipe_parts.held_out(loss, [traces(self.train.seed + 1)(0)]),
      mesh=mesh,
      meta=self.describe(),
      ledger=ledger,
    )
    return state.params

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("length_predictor", self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the predictor, with this recipe, as one .safetensors file."""
    policy = bundle_lib.load(self.policy)
    length_predictor.save(path, self.predictor(params, policy))

  def predictor(
    self, params: dict[str, Any], policy: bundle_lib.Bundle
  ) -> length_predictor.LengthPredictor:
    """The trained predictor of a language model, ready to run."""
    return length_predictor.LengthPredictor(
      config=self._config(policy),
      params=params,
      fingerprint=policy.tokenizer.fingerprint,
      models=length_predictor.weights_fingerprints(policy),
      longest=self.longest if self.bins else 0,
      recipe=self.describe(),
    )

  def _config(self, policy):
    return gamma_length.LengthPredictorConfig(
      vocab_size=policy.config.vocab_size,
      hidden_width=policy.config.width,
      hidden_states=policy.config.layers + 1,
      width=self.width,
      layers=self.layers,
      heads=self.heads,
      head=self.head,
      rank=self.rank,
      bins=self.bins,
    )
