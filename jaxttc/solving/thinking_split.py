# SPDX-License-Identifier: Apache-2.0
"""Budgets of a set of questions, more for those that look hard."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jaxtyping import Float, Int
import numpy as np

from jaxttc.allocators import thinking_budgets
from jaxttc.cost import jaxpr_flops
from jaxttc.inference import bundle as bundle_lib
from jaxttc.predictors import length_predictor, thinking_difficulty
from jaxttc.solving import thinking_text

_CHOICES = 64  # budgets to choose from, at most


class Split(NamedTuple):
  """Budgets that differ.

  Attributes:
    budgets: i32[n], of each question.
    difficulty: f64[n], tokens that it was expected to take.
    flops: of the predictor, a question; reading the prompt is not in it.
    mark: fingerprint of the estimator.
  """

  budgets: Int[np.ndarray, " n"]
  difficulty: Float[np.ndarray, " n"]
  flops: int
  mark: str


def split(
  way: thinking_text.Way,
  policy: bundle_lib.Bundle,
  prompts: Sequence[Sequence[int]],
  *,
  limit: int,
) -> Split:
  """Splits a way's budget over questions, by its estimator.

  Args:
    way: adaptive, with a budget: the mean of a question, at most.
    policy: the language model.
    prompts: token ids, the span's opening token last.
    limit: most tokens of thought and answer.

  Raises:
    ValueError: if the way has no budget, the estimator is of another model or
      knows nothing of the way, or a file cannot be read.
  """
  if way.budget is None:
    raise ValueError(
      f"thinking {way.name!r} is adaptive: needs the argument 'budget', the "
      "mean of a question"
    )
  estimator = thinking_difficulty.load(way.adaptive)
  difficulty = estimator.difficulty(policy, prompts)
  sizes = choices(limit)
  curves = estimator.predict_curve(way.name, difficulty, sizes)
  budgets = thinking_budgets.assign_budgets(
    curves, sizes, way.budget * len(prompts)
  )
  return Split(
    budgets.astype(np.int32),
    difficulty,
    _flops(estimator.predictor, policy),
    estimator.fingerprint,
  )


def choices(limit: int) -> Int[np.ndarray, " K"]:
  """Budgets to choose from: all below `limit`, or some in even ratios."""
  spread = np.geomspace(1, limit - 1, num=min(_CHOICES, limit - 1))
  if limit - 1 <= _CHOICES:
    return np.arange(1, limit)
  return np.unique(np.round(spread).astype(np.int64))


def _flops(
  predictor: length_predictor.LengthPredictor, policy: bundle_lib.Bundle
) -> int:
  """Of one question: the predictor, over the whole vocabulary."""
  config = policy.config
  return jaxpr_flops.count_flops(
    lambda hidden, logits: length_predictor.expected_length(
      predictor, policy, hidden, logits
    ),
    jax.ShapeDtypeStruct((1, config.layers + 1, config.width), policy.dtype),
    jax.ShapeDtypeStruct((1, config.vocab_size), np.float32),
  )
