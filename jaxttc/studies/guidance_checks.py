# SPDX-License-Identifier: Apache-2.0
"""What a length predictor is worth by itself: calibration, and its price."""

from collections.abc import Sequence
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np
from scipy import optimize, special, stats

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import (
  controllers,
  generation,
  guidance,
  last_states,
  stop,
  tree_cache,
)
from jaxttc.models import config as config_lib
from jaxttc.models import gamma_length, transformer
from jaxttc.predictors import length_predictor, remaining_length
from jaxttc.tasks import digit_sums
from jaxttc.tasks import problems as problems_lib
from jaxttc.training import length_prediction


class Calibration(NamedTuple):
  """How well predicted laws fit the lengths that came.

  Attributes:
    pit: f64[M], randomised probability integral transforms: uniform if the
      laws are right.
    distance: Kolmogorov-Smirnov distance of `pit` from uniform.
    nats: mean negative log-probability of R, of the predictor.
    constant_nats: likewise of one Gamma for all, fitted to these lengths.
  """

  pit: Float[np.ndarray, " M"]
  distance: float
  nats: float
  constant_nats: float


def calibration(
  predictor: length_predictor.LengthPredictor,
  policy: bundle_lib.Bundle,
  mix: length_prediction.TraceMix,
  *,
  rows: int = 16,
  length: int = 144,
  seed: int = 10_000,
) -> Calibration:
  """Compares a predictor with fresh traces of a mix.

  R is discrete, so its transform is drawn uniformly between the chance of
  less than R and that of at most R.

  Raises:
    ValueError: if the predictor is not of this model.
  """
  chance = predictor.chance(policy, trust=None)
  batch = length_prediction.batches(policy.tokenizer, mix, rows, length, seed)(
    0
  )
  counts = batch.labels > 0
  left = batch.labels[counts].astype(np.int32)

  @jax.jit
  def upto(batch, most):
    stack = transformer.hidden_stack(
      policy.model,
      policy.params,
      batch.tokens,
      batch.segments,
      batch.positions,
    )
    flat = stack.reshape(-1, *stack.shape[-2:])
    found = chance(flat, batch.targets.reshape(-1, 1), most.reshape(-1))
    return jnp.exp(found).reshape(most.shape)

  known = np.maximum(batch.labels, 0).astype(np.int32)
  least, most = (
    np.float64(upto(batch, r))[counts]
    for r in (np.maximum(known, 1) - 1, known)
  )
  drawn = np.random.default_rng(seed).random(len(left))
  pit = least + drawn * (most - least)
  shape, _, scale = stats.gamma.fit(np.log1p(np.float64(left)), floc=0)
  edges = [np.log(left), np.log1p(np.float64(left))]
  constant = np.diff(stats.gamma.cdf(edges, shape, scale=scale), axis=0)
  nats = lambda mass: float(-np.log(np.maximum(mass, 1e-12)).mean())  # noqa: E731
  return Calibration(
    pit=pit,
    distance=float(stats.kstest(pit, "uniform").statistic),
    nats=nats(most - least),
    constant_nats=nats(constant),
  )


def fit_confidence(
  policy: bundle_lib.Bundle,
  items: Sequence[problems_lib.Problem],
  prompts: Sequence[Sequence[int]],
  traces: Sequence[str],
  penalty: float = 1e-2,
) -> tuple[Float[np.ndarray, " D"], float]:
  """A logistic probe: would an answer given at this line start be right?

  Labels come from trial answers: the span is closed at each line start of a
  trace, and the model's likeliest answer is compared with the gold one.

  Args:
    policy: the language model.
    items: the questions.
    prompts: their token ids.
    traces: what was written after each.
    penalty: on the squared weights.

  Returns:
    Weights f64[D] of the last hidden state, and a bias.
  """
  words = policy.tokenizer
  texts, gold = [], []
  for item, prompt, trace in zip(items, prompts, traces, strict=True):
    lines = trace.split(digit_sums.END_THINK)[0].split("\n")[:-1]
    for k in range(len(lines) + 1):
      thought = "".join(f"{line}\n" for line in lines[:k])
      texts.append([*prompt, *words.encode(thought)])
      gold.append(words.id_of(f" {item.answer}"))
  trial = [words.end_think_id, words.id_of("####")]
  logits, _ = last_states.next_token(policy, [[*t, *trial] for t in texts])
  _, hidden = last_states.next_token(policy, texts)
  right = logits.argmax(-1) == np.array(gold)
  return _logistic(np.float64(hidden[:, -1]), right, penalty)


def _logistic(x, y, penalty):
  """Ridge-penalised logistic regression."""
  sign = np.where(y, 1.0, -1.0)

  def loss(theta):
    score = sign * (x @ theta[:-1] + theta[-1])
    slope = -sign * special.expit(-score)
    value = np.logaddexp(0, -score).mean() + penalty * theta[:-1] @ theta[:-1]
    grad = np.append(
      x.T @ slope / len(x) + 2 * penalty * theta[:-1], slope.mean()
    )
    return value, np.float64(grad)

  found = optimize.minimize(
    loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B"
  )
  return found.x[:-1], float(found.x[-1])


class Overhead(NamedTuple):
  """What guidance adds to a decoding step, on this machine.

  Attributes:
    batch: rows.
    bins: of the predictor's law; 0 for a Gamma.
    parameters: of the language model.
    predictor_parameters: of the length predictor.
    step_seconds: of a plain decoding step of all rows.
    guide_seconds: of the predictor, the chances and the bending of all rows.
    share: of decoding time, where rows begin lines apart from each other.
  """

  batch: int
  bins: int
  parameters: int
  predictor_parameters: int
  step_seconds: float
  guide_seconds: float
  share: float


SHAPE_100M = config_lib.TransformerConfig(
  vocab_size=32_000,
  width=768,
  layers=12,
  heads=12,
  kv_heads=12,
  head_dim=64,
  mlp_width=2048,
  max_length=512,
)


def overhead(
  config: config_lib.TransformerConfig,
  predictor: gamma_length.LengthPredictorConfig,
  *,
  batch: int,
  line_starts: float,
  top_k: int = 64,
  steps: int = 8,
  repeats: int = 2,
) -> Overhead:
  """Times guidance beside decoding, both compiled, with random weights.

  A step is timed as the plain decoding loop's time over its steps, guidance by
  itself; the least of some repeats counts, in seconds of processor time, which
  other programs on the machine do not add to. A step is guided if any row
  begins a line, so of batch B it is with chance 1 - (1 - `line_starts`)^B.

  Args:
    config: the language model's shape.
    predictor: the length predictor's.
    batch: rows B.
    line_starts: share of tokens that begin a line.
    top_k: candidates a row.
    steps: decoding steps a timing.
    repeats: timings.
  """
  model = transformer.Transformer(config)
  params = jax.jit(lambda k: transformer.init(k, model))(jax.random.key(0))
  length = gamma_length.init(jax.random.key(1), predictor)
  hidden = jax.random.normal(
    jax.random.key(2), (batch, config.layers + 1, config.width)
  )
  logits = jax.random.normal(jax.random.key(3), (batch, config.vocab_size))

  def bend(params, length, hidden, logits):
    chance = length_predictor.chance(
      predictor,
      length,
      params["embed"]["embedding"],
      edges=remaining_length.bin_edges(predictor.bins, 2048)
      if predictor.bins
      else None,
    )
    controller = guidance.guidance(
      chance, budget=100, end=1, lines=[2], top_k=top_k
    )
    state = controller.init(batch)
    return controller.apply(state, logits, controllers.Context(hidden))

  guide = _cpu_seconds(jax.jit(bend), (params, length, hidden, logits), repeats)
  decode = _plain_loop(model, batch, steps)
  step = _cpu_seconds(jax.jit(decode), (params,), repeats) / steps
  some = 1 - (1 - line_starts) ** batch
  return Overhead(
    batch=batch,
    bins=predictor.bins,
    parameters=_size(params),
    predictor_parameters=_size(length),
    step_seconds=step,
    guide_seconds=guide,
    share=some * guide / (step + some * guide),
  )


def _plain_loop(model, batch, steps, context=64):
  """A decoding loop of rows that share nothing and never end."""
  config, controller = model.config, controllers.identity()
  rule = generation.StopRule(eos_id=-7, step_end=stop.build([[0]]))
  ones = jnp.ones((batch, 1), jnp.int32)

  def run(params):
    cache = tree_cache.init(config, batch, context)
    rows = generation.idle_rows(config, batch, 1, steps, context, controller)
    requests = generation.Requests(
      node=0 * ones,
      token=3 * ones,
      position=context * ones,
      until=generation.END * ones,
      limit=(steps + 1) * ones,
      key=jax.random.split(jax.random.key(0), (batch, 1)),
    )
    path = jnp.ones((batch, 1, context), bool)
    rows = generation.assign(rows, requests, path, controller)
    return generation.decode(
      model, params, cache, rows, rule, controller, controllers.sample, steps
    ).written

  return run


def _cpu_seconds(run, args, repeats):
  jax.block_until_ready(run(*args))  # compiles
  best = float("inf")
  for _ in range(repeats):
    start = time.process_time()
    jax.block_until_ready(run(*args))
    best = min(best, time.process_time() - start)
  return best


def _size(params) -> int:
  return sum(x.size for x in jax.tree.leaves(params))


def line_start_share(lines: Int[np.ndarray, "..."], spent) -> float:
  """Share of a span's tokens that begin a line, over all rows."""
  return float((np.asarray(lines) + 1).sum() / np.asarray(spent).sum())
