# SPDX-License-Identifier: Apache-2.0
"""What recipes have in common: description, held-out figures, saved model."""

from collections.abc import Callable, Sequence
import dataclasses
import json
from typing import Any

import jax

from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import config as config_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import accumulation

Evaluate = Callable[[Any, int], dict[str, Any]]


def described(kind: str, recipe: Any) -> dict[str, Any]:
  """A recipe as a JSON-ready dict; kept beside what it trained.

  Args:
    kind: of the recipe, which leads the dict.
    recipe: a dataclass of what JSON knows.
  """
  return json.loads(json.dumps({"kind": kind} | dataclasses.asdict(recipe)))


def check_vocabulary(
  config: config_lib.TransformerConfig,
  tokenizer: tokenizer_lib.WordTokenizer,
) -> None:
  """Raises ValueError unless a model has one embedding for each word."""
  if config.vocab_size != tokenizer.vocab_size:
    raise ValueError(
      f"model.vocab_size={config.vocab_size} must be the tokenizer's "
      f"{tokenizer.vocab_size}"
    )


def word_model(
  kind: str,
  config: config_lib.TransformerConfig,
  params: dict[str, Any],
  recipe: dict[str, Any],
) -> bundle_lib.Bundle:
  """A trained model of words with all that is needed to run it.

  Args:
    kind: "language_model" or "process_reward".
    config: its sizes.
    params: what was trained.
    recipe: how, as `described` tells it.
  """
  return bundle_lib.Bundle(
    kind=kind,
    config=config,
    params=params,
    tokenizer=tokenizer_lib.WordTokenizer(),
    recipe=recipe,
  )


def held_out(objective: Any, batches: Sequence[Any]) -> Evaluate | None:
  """Mean metrics of batches that training never sees.

  Args:
    objective: (params, batch, key) -> (loss, metrics); a batch counts by what
      its loss is a mean over, `accumulation.WEIGHT`.
    batches: fixed ones.

  Returns:
    evaluate(params, step) -> metrics, each name after "held_out_"; None if
    there are no batches.
  """
  if not batches:
    return None
  figures = jax.jit(objective)
  key = jax.random.key(0)

  def evaluate(params: Any, step: int) -> dict[str, Any]:
    del step
    found = [figures(params, batch, key)[1] for batch in batches]
    weights = [metrics.pop(accumulation.WEIGHT, 1.0) for metrics in found]
    means = jax.tree.map(
      lambda *x: (
        sum(v * w for v, w in zip(x, weights, strict=True)) / sum(weights)
      ),
      *found,
    )
    return {f"held_out_{name}": value for name, value in means.items()}

  return evaluate


def export_tuned(recipe: Any, params: dict[str, Any], path: str) -> None:
  """Writes the model that a recipe started from, with other parameters.

  Args:
    recipe: has `start`, a language model, and `describe()`.
    params: what was trained.
    path: a file, or a directory if `start` is one.
  """
  made = dataclasses.replace(bundle_lib.load(recipe.start), params=params)
  if isinstance(made.tokenizer, tokenizer_lib.WordTokenizer):
    bundle_lib.save(path, dataclasses.replace(made, recipe=recipe.describe()))
  else:  # its own recipe names the architecture to write
    bundle_lib.export(path, made)
