# SPDX-License-Identifier: Apache-2.0
"""What recipes have in common: runs, descriptions, figures, saved models."""

from collections.abc import Callable, Sequence
import dataclasses
import json
from typing import Any, ClassVar

import jax

from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import config as config_lib
from jaxttc.models import transformer
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import accumulation, language_model, loop

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


class WordModelRun:
  """What recipes share that train a language model of words.

  A recipe is a dataclass with `model`, the transformer's sizes, and `train`,
  length, rate and bookkeeping of the run; it says the rest by overriding.

  Attributes:
    kind: of the recipe, as descriptions have it.
  """

  kind: ClassVar[str]
  model: config_lib.TransformerConfig
  train: loop.TrainConfig

  def validate(self) -> None:
    """Raises ValueError for what cannot be."""
    self.model.validate()
    self.train.validate()

  def batches(self, tokenizer: tokenizer_lib.WordTokenizer) -> Any:
    """Step -> batch; a pure function of the recipe."""
    raise NotImplementedError

  def objective(self) -> Any:
    """As `loop.fit` takes it."""
    return language_model.objective(
      transformer.Transformer(self.model, **self.train.compute())
    )

  def initial(self) -> Callable[[jax.Array], dict[str, Any]]:
    """Key -> the parameters that training starts from."""
    return lambda key: transformer.init(
      key, transformer.Transformer(self.model)
    )

  def evaluation(
    self, objective: Any, tokenizer: tokenizer_lib.WordTokenizer
  ) -> Evaluate | None:
    """Figures of held-out text; None for none."""
    del objective, tokenizer
    return None

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
    self.validate()
    tokenizer = tokenizer_lib.WordTokenizer()
    check_vocabulary(self.model, tokenizer)
    objective = self.objective()
    state = loop.fit(
      self.train,
      objective,
      self.initial(),
      self.batches(tokenizer),
      workdir,
      tx=loop.optimizer(self.train, transformer.matrix_axes),
      evaluate=self.evaluation(objective, tokenizer),
      mesh=mesh,
      meta=self.describe(),
      ledger=ledger,
    )
    return state.params

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return described(self.kind, self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model, with this recipe, as one .safetensors file."""
    bundle_lib.save(
      path, word_model("language_model", self.model, params, self.describe())
    )


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
