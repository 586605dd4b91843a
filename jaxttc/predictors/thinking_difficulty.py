# SPDX-License-Identifier: Apache-2.0
"""How hard questions are, seen before a word is thought about them.

The length predictor reads the model's state at the end of a prompt, and says
how long the thought will be: that is the difficulty, in tokens. A curve fitted
for each way of thinking (`success_curves`) turns it into the chance of a right
answer under any budget, and `allocators.thinking_budgets` splits a total by
these chances:

    estimator = thinking_difficulty.load("thinking_difficulty")
    difficulty = estimator.difficulty(model, prompts)
    curves = estimator.predict_curve("guided", difficulty, budgets)
    thinking_budgets.assign_budgets(curves, budgets, total)
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import os
import pathlib

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Shaped
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import last_states
from jaxttc.predictors import length_predictor, success_curves

_KIND = "thinking_difficulty"
_PRETRAINED = pathlib.Path(__file__).parent.parent / "pretrained"


@dataclasses.dataclass(frozen=True)
class DifficultyEstimator:
  """A length predictor, and what its lengths mean to each way of thinking.

  Attributes:
    predictor: of the language model.
    name: its file, or the name that it ships under.
    curves: by way of thinking, such as "guided".
    origin: in words, what the curves were fitted on.
  """

  predictor: length_predictor.LengthPredictor
  name: str
  curves: Mapping[str, success_curves.SuccessCurve]
  origin: str = ""

  @property
  def fingerprint(self) -> str:
    """Sixteen hex digits that tell apart any two estimators."""
    content = [self.predictor.weights_fingerprint, _listed(self.curves)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

  def difficulty(
    self, policy: bundle_lib.Bundle, prompts: Sequence[Sequence[int]]
  ) -> Float[np.ndarray, " n"]:
    """Tokens that each question is expected to be thought about; positive.

    Args:
      policy: the language model.
      prompts: token ids, the span's opening token last.

    Raises:
      ValueError: if the model is not the predictor's, or a prompt is empty.
    """
    length_predictor.check_policy(self.predictor, policy)
    logits, hidden = last_states.next_token(policy, prompts)
    found = length_predictor.expected_length(
      self.predictor, policy, jnp.asarray(hidden), jnp.asarray(logits)
    )
    return np.maximum(np.asarray(found, np.float64), 1.0)

  def predict_curve(
    self,
    way: str,
    difficulty: Float[np.ndarray, " n"],
    budgets: Int[np.ndarray, " K"],
  ) -> Float[np.ndarray, "n K"]:
    """Chance of a right answer of each question under each budget.

    Raises:
      ValueError: if there is no curve of the way.
    """
    if way not in self.curves:
      raise ValueError(
        f"no success curve of the way of thinking {way!r}; expected one of "
        f"{', '.join(sorted(self.curves))}"
      )
    return self.curves[way](
      np.asarray(difficulty)[:, None], np.asarray(budgets)[None]
    )

  def fit(
    self,
    way: str,
    difficulty: Shaped[np.ndarray, " N"],
    budget: Shaped[np.ndarray, " N"],
    right: Bool[np.ndarray, " N"],
  ) -> "DifficultyEstimator":
    """The same with a curve of a way, fitted to answers.

    Raises:
      ValueError: as `success_curves.fit`.
    """
    curve = success_curves.fit(difficulty, budget, right)
    return dataclasses.replace(self, curves={**self.curves, way: curve})


def begin(predictor: str) -> DifficultyEstimator:
  """An estimator without curves.

  Args:
    predictor: a length predictor's file, or the name of one that ships.

  Raises:
    ValueError: as `length_predictor.load`.
  """
  return DifficultyEstimator(length_predictor.load(predictor), predictor, {})


def save(path: str | os.PathLike[str], estimator: DifficultyEstimator) -> None:
  """Writes one JSON file; the predictor stays in its own.

  Raises:
    ValueError: if the file cannot be written.
  """
  content = {
    "kind": _KIND,
    "predictor": estimator.name,
    "weights": estimator.predictor.weights_fingerprint,
    "curves": _listed(estimator.curves),
    "origin": estimator.origin,
  }
  file = pathlib.Path(path)
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
  except OSError as error:
    raise ValueError(f"{file}: cannot be written: {error.strerror}") from None


def load(name: str | os.PathLike[str]) -> DifficultyEstimator:
  """Reads what `save` wrote, and its predictor.

  Args:
    name: a file, or the name of one that ships ("thinking_difficulty").

  Raises:
    ValueError: if a file is missing, damaged or something else, or the
      predictor is not the one that it was fitted with.
  """
  file = pathlib.Path(name)
  if not file.suffix and not file.exists():
    file = _PRETRAINED / f"{file.name}.json"
  try:
    about = json.loads(file.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{file}: expected a JSON file of a difficulty estimator: {error}"
    ) from None
  if not isinstance(about, dict) or about.get("kind") != _KIND:
    raise ValueError(f"{file}: holds no difficulty estimator")
  try:
    curves = {
      str(way): success_curves.SuccessCurve(
        **{key: float(value) for key, value in numbers.items()}
      )
      for way, numbers in about["curves"].items()
    }
    named, weights = str(about["predictor"]), str(about["weights"])
    origin = str(about["origin"])
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise ValueError(f"{file}: damaged: {error}") from None
  predictor = length_predictor.load(named)
  if predictor.weights_fingerprint != weights:
    raise ValueError(
      f"{file}: was fitted with another predictor {named} (weights {weights}, "
      f"found {predictor.weights_fingerprint}); fit it anew with "
      "scripts/study_thinking_split.py --export=FILE"
    )
  return DifficultyEstimator(predictor, named, curves, origin)


def _listed(
  curves: Mapping[str, success_curves.SuccessCurve],
) -> dict[str, dict[str, float]]:
  return {way: dataclasses.asdict(curves[way]) for way in sorted(curves)}
