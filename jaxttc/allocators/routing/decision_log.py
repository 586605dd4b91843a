# SPDX-License-Identifier: Apache-2.0
"""Routing decisions as JSON lines, and what can be learnt from them later.

A row says what was expected of each model, which one was asked, and with what
probability it had been picked (its *propensity*). With the scores that the
answers got, known only afterwards, logged questions teach a bandit, and say
what another router would have earned on them, without asking anybody again.

References:
  Horvitz and Thompson (1952), A generalization of sampling without replacement
    from a finite universe.
  Swaminathan and Joachims (2015), The self-normalized estimator for
    counterfactual learning.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import hashlib
import json
import math
import os
import pathlib
from typing import Any, NamedTuple

from jaxtyping import Float, Int
import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
  """Which model one question was given to: a row of a log.

  Attributes:
    question: digest of its text, by `digest`.
    features: digest of its vector, likewise.
    router: fingerprint of the router; "" if nobody knows it.
    models: the names of the K models.
    scores: K expected scores.
    costs: K expected costs.
    unit: what they are counted in.
    choice: the model that was picked.
    propensity: the probability with which it was, in (0, 1].
    spent: what it then cost, by field of `cost.Cost`, where that is known;
      fields that are 0 are left out.
  """

  question: str
  features: str
  router: str
  models: tuple[str, ...]
  scores: tuple[float, ...]
  costs: tuple[float, ...]
  unit: str
  choice: str
  propensity: float
  spent: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    count = len(self.models)
    if not len(self.scores) == len(self.costs) == count:
      raise ValueError(
        f"decision: {len(self.scores)} scores and {len(self.costs)} costs of "
        f"{count} models; expected one each"
      )
    if self.choice not in self.models:
      raise ValueError(
        f"decision: picked {self.choice!r}; expected one of "
        f"{', '.join(self.models)}"
      )
    if not 0 < self.propensity <= 1:
      raise ValueError(
        f"decision: propensity is {self.propensity}; expected (0, 1]"
      )


class Logged(NamedTuple):
  """Logged questions, joined with their vectors and scores.

  Attributes:
    x: f32[n, D].
    choices: i32[n], places among the models.
    rewards: f32[n], score - price * expected cost of the model asked.
    propensities: f32[n].
  """

  x: Float[np.ndarray, "n D"]
  choices: Int[np.ndarray, " n"]
  rewards: Float[np.ndarray, " n"]
  propensities: Float[np.ndarray, " n"]


class Worth(NamedTuple):
  """An estimate of what a policy earns, and its standard error."""

  mean: float
  error: float


def digest(content: str | np.ndarray) -> str:
  """Sixteen hex digits of a text, or of a vector's float32 values."""
  if isinstance(content, str):
    data = content.encode("utf-8", "surrogatepass")
  else:
    data = np.ascontiguousarray(content, "<f4").tobytes()
  return hashlib.sha256(data).hexdigest()[:16]


def append(path: str | os.PathLike[str], decisions: Iterable[Decision]) -> None:
  """Adds rows to a log, each whole before the next is begun.

  Raises:
    ValueError: if the file cannot be written.
  """
  file = pathlib.Path(path)
  lines = [json.dumps(dataclasses.asdict(one)) + "\n" for one in decisions]
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as opened:
      opened.writelines(lines)
  except OSError as error:
    raise ValueError(f"{file}: cannot be written: {error.strerror}") from None


def read(path: str | os.PathLike[str]) -> list[Decision]:
  """The rows of a log.

  Raises:
    ValueError: if it cannot be read; of a row, with its line.
  """
  file = pathlib.Path(path)
  try:
    lines = file.read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"{file}: cannot be read: {error}") from None
  return [
    _decision(line, f"{file}:{number}")
    for number, line in enumerate(lines, start=1)
    if line.strip()
  ]


def _decision(line: str, where: str) -> Decision:
  try:
    row: Any = json.loads(line)
    lists = {name: tuple(row[name]) for name in ("models", "scores", "costs")}
    return Decision(**(row | lists))
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{where}: is no decision: {error}") from None


def logged(
  rows: Sequence[Decision],
  scores: Mapping[str, float],
  embed: Callable[[Sequence[str]], Float[np.ndarray, "n D"]],
  *,
  price: float = 0.0,
) -> Logged:
  """What a learner is given: the logged questions whose scores are known.

  Args:
    rows: of one set of models.
    scores: of the answers, by the questions' texts, as they were asked.
    embed: from texts to vectors; the one that the router had.
    price: score that a unit of the logged costs is worth.

  Returns:
    A row for each decision of a question in `scores`, in their order.

  Raises:
    ValueError: if no question of the log has a score, the rows are of several
      sets of models, the price is negative, or a vector is not the one that
      was logged.
  """
  if not price >= 0 or math.isinf(price):
    raise ValueError(f"price must be finite and not negative, got {price}")
  texts = {digest(text): text for text in scores}
  known = [row for row in rows if row.question in texts]
  if not known:
    raise ValueError(
      f"none of the {len(rows)} logged questions is among the {len(scores)} "
      "whose scores are given"
    )
  models = known[0].models
  if any(row.models != models for row in known):
    raise ValueError(
      "the log is of several sets of models; expected the rows of one"
    )
  x = np.asarray(embed([texts[row.question] for row in known]), np.float32)
  for row, vector in zip(known, x, strict=True):
    if digest(vector) != row.features:
      raise ValueError(
        f"the vector of {texts[row.question][:40]!r} is not the one that was "
        "logged; expected the embedder that the router had"
      )
  choices = np.array([models.index(row.choice) for row in known], np.int32)
  paid = np.array([row.costs[k] for row, k in zip(known, choices, strict=True)])
  earned = np.array([scores[texts[row.question]] for row in known])
  return Logged(
    x,
    choices,
    (earned - price * paid).astype(np.float32),
    np.array([row.propensity for row in known], np.float32),
  )


def worth(log: Logged, odds: Float[np.ndarray, "n K"]) -> Worth:
  """What another policy would have earned on logged questions, on average.

  The self-normalised inverse-propensity estimate. It is consistent if every
  model that the policy picks was picked with some probability in the log.

  Args:
    log: the questions.
    odds: f64[n, K], with what probability the policy asks each model.

  Raises:
    ValueError: if shapes disagree, or the policy never asks what was asked.
  """
  odds = np.asarray(odds, np.float64)
  if odds.ndim != 2 or len(odds) != len(log.choices):
    raise ValueError(
      f"expected odds [{len(log.choices)}, K], one row a logged question, got "
      f"shape {list(odds.shape)}"
    )
  weights = odds[np.arange(len(odds)), log.choices] / log.propensities
  total = weights.sum()
  if not total > 0:
    raise ValueError(
      "the policy asks no model that the log has an answer of; nothing is "
      "known of it"
    )
  mean = float(weights @ log.rewards / total)
  spread = weights * (log.rewards - mean)
  return Worth(mean, float(np.sqrt(spread @ spread) / total))
