# SPDX-License-Identifier: Apache-2.0
"""Trains every kind of router on folds of real questions, resumably.

Near-duplicate questions share a fold. In each outer fold a router's settings
are chosen by inner folds of the training side alone, by the area under its
curve; test questions are only predicted. Each (fold, router) is a file of its
predictions: a run that was stopped goes on where it was.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import hashlib
import os
import pathlib
import time
from typing import NamedTuple
import zipfile

import jax
import numpy as np
from rich import progress

from jaxttc.allocators import routing as allocation
from jaxttc.evaluation import routing_curves
from jaxttc.predictors import routing as predictors
from jaxttc.tasks import routing as tasks

BLEND = "blend"
SPLITS = ("groups", "kinds", "labels")
_SHUFFLED = ", shuffled"


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """Which data, which routers, and how they are compared.

  Attributes:
    data: file that `tasks.routing.load` reads.
    routers: (name, texts of the heads to choose from) of each router.
    blended: names of the routers that the blend joins.
    shuffled: names of the routers that are also fitted with the questions in
      another order than the scores: a check, never chosen.
    split: how questions are dealt to the outer folds: "groups" of
      near-duplicates, at random; or by what is left out: one of the "kinds"
      that are told by rules (`tasks.routing.question_kinds`), or the data's
      own "labels".
    folds: outer folds of groups; each question is tested once.
    inner_folds: folds of a training side.
    seed: of folds and fits.
    shingle: words in a shingle, for near-duplicates.
    threshold: Jaccard similarity of near-duplicates.
    rank: singular vectors of the hashed n-grams.
    prices: prices of a curve.
    resamples: of the bootstrap.
    strong: for the pair metrics; "": the best single model by all scores.
    weak: likewise; "": the best model of less than a quarter of its cost.
    confidence: with which the safe price reaches the best single's score.
  """

  data: str
  routers: tuple[tuple[str, tuple[str, ...]], ...]
  blended: tuple[str, ...]
  shuffled: tuple[str, ...] = ()
  split: str = "groups"
  folds: int = 5
  inner_folds: int = 3
  seed: int = 0
  shingle: int = 3
  threshold: float = 0.3
  rank: int = 64
  prices: int = 256
  resamples: int = 500
  strong: str = ""
  weak: str = ""
  confidence: float = 0.95

  def check(self) -> None:
    """Raises ValueError if the recipe cannot be run."""
    names = [name for name, _ in self.routers]
    if len(set(names)) < len(names) or BLEND in names or not names:
      raise ValueError(
        f"routers: expected different names, none of them {BLEND!r}, got "
        f"{', '.join(names) or 'none'}"
      )
    for name, texts in self.routers:
      if not texts:
        raise ValueError(f"router {name!r}: expected at least one head")
      for text in texts:
        predictors.head(text)
    strange = [name for name in self.shuffled if name not in names]
    if strange:
      raise ValueError(
        f"shuffled: expected some of {', '.join(names)}, got {strange[0]!r}"
      )
    if self.split not in SPLITS:
      raise ValueError(
        f"split={self.split!r}: expected one of {', '.join(SPLITS)}"
      )
    unknown = [name for name in self.blended if name not in names]
    if unknown or not self.blended:
      raise ValueError(
        f"blended: expected some of {', '.join(names)}, got "
        f"{', '.join(self.blended) or 'none'}"
      )
    if min(self.folds, self.inner_folds) < 2 or self.resamples < 1:
      raise ValueError("expected at least 2 folds, inner folds, and 1 resample")


class Predicted(NamedTuple):
  """What one router says in one fold.

  Attributes:
    text: the head that the inner folds chose.
    inner: mean height of its curve on the training side, out of fold.
    out_of_fold: f32[N, K], on the training side.
    test: f32[T, K], on the test side.
    fit_seconds: of the chosen head's fit on the whole training side.
    microseconds: a question's forecast, compiled.
  """

  text: str
  inner: float
  out_of_fold: np.ndarray
  test: np.ndarray
  fit_seconds: float
  microseconds: float


class Fold(NamedTuple):
  """One outer fold.

  Attributes:
    train: i64[N], questions of the training side.
    test: i64[T], of the test side.
    routers: what each router says, by name; the blend comes last.
    shuffled: what those fitted to questions in another order say.
    label: what was left out; "" of a fold of groups.
  """

  train: np.ndarray
  test: np.ndarray
  routers: dict[str, Predicted]
  shuffled: dict[str, Predicted]
  label: str = ""


class Found(NamedTuple):
  """All that a study computes.

  Attributes:
    table: the questions.
    groups: i64[N], groups of near-duplicates.
    folds: the outer folds.
  """

  table: tasks.RoutingTable
  groups: np.ndarray
  folds: tuple[Fold, ...]


def run(recipe: StudyRecipe, workdir: str | os.PathLike[str]) -> Found:
  """Trains what is not there yet, and returns everything.

  Args:
    recipe: the study.
    workdir: where predictions are kept.

  Raises:
    ValueError: if the recipe or its data cannot be used, or the folder holds
      the predictions of another recipe.
  """
  recipe.check()
  table = tasks.load(recipe.data)
  if np.isnan(table.scores).any():
    raise ValueError(f"{recipe.data}: a study needs every model's score")
  groups = tasks.near_duplicate_groups(
    table.prompts, shingle=recipe.shingle, threshold=recipe.threshold
  )
  folder = _Folder(pathlib.Path(workdir), _fingerprint(recipe, table))
  splits = _splits(recipe, table, groups)
  counted = predictors.hashed_ngrams.count(table.prompts)
  cells = [(name, texts, False) for name, texts in recipe.routers]
  cells += [(n, t, True) for n, t in recipe.routers if n in recipe.shuffled]
  with progress.Progress(transient=True) as bar:
    shown = bar.add_task("routers", total=len(splits) * len(cells))
    folds = []
    for number, (label, train, test) in enumerate(splits):
      side = _Side(recipe, table, counted, groups, train, test, number)
      found: dict[bool, dict[str, Predicted]] = {False: {}, True: {}}
      for name, texts, shuffled in cells:
        bar.update(shown, description=f"fold {number + 1}, {name}")
        path = folder.path(number, name + _SHUFFLED * shuffled)
        kept = folder.read(path, texts)
        found[shuffled][name] = kept or folder.write(
          path, texts, side.fit(texts, shuffled)
        )
        bar.advance(shown)
      routers = found[False]
      routers[BLEND] = side.blend([routers[name] for name in recipe.blended])
      folds.append(Fold(train, test, routers, found[True], label))
  return Found(table, groups, tuple(folds))


def _splits(
  recipe: StudyRecipe, table: tasks.RoutingTable, groups: np.ndarray
) -> list[tuple[str, np.ndarray, np.ndarray]]:
  """What is left out, training and test side of each outer fold."""
  if recipe.split == "groups":
    dealt = tasks.folds(groups, recipe.folds, recipe.seed)
    return [("", train, test) for train, test in dealt]
  labels = table.labels
  if recipe.split == "kinds":
    labels = tasks.question_kinds.kinds(table.prompts)
  return list(tasks.left_out(labels, groups))


class _Side:
  """The training side of one fold, and the test questions to predict."""

  def __init__(self, recipe, table, counted, groups, train, test, number):
    self._recipe = recipe
    self._counted = counted.take(train), counted.take(test)
    self._train, self._test = table.take(train), table.take(test)
    self._folds = list(
      tasks.folds(groups[train], recipe.inner_folds, recipe.seed)
    )
    self._key = jax.random.fold_in(jax.random.key(recipe.seed), number)
    self._prices = routing_curves.prices(self._train.costs, recipe.prices)

  @functools.cached_property
  def _vectors(self) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of both sides; only prompts of the training side are fitted."""
    train, test = self._counted
    embed = predictors.hashed_ngrams.fit(train, rank=self._recipe.rank)
    return embed.vectors(train), embed.vectors(test)

  def fit(self, texts: Sequence[str], shuffled: bool = False) -> Predicted:
    """The head that the inner folds like best, fitted on the whole side.

    Args:
      texts: of the heads to choose from.
      shuffled: whether each question gets the vector of another one.
    """
    x, x_test = self._vectors
    if shuffled:
      x = x[np.random.default_rng(self._recipe.seed).permutation(len(x))]
    scores = self._train.scores
    best: tuple[float, str, np.ndarray] | None = None
    for text in texts:
      guess = predictors.blend.out_of_fold(
        predictors.head(text), x, scores, self._folds, self._key
      )
      height = self._height(guess)
      if best is None or height > best[0]:
        best = height, text, guess
    assert best is not None  # check() saw that there are texts
    height, text, guess = best
    start = time.perf_counter()
    head = predictors.head(text)(x, scores, self._key)
    jax.block_until_ready(head)
    seconds = time.perf_counter() - start
    test = predictors.predict(head, x_test)
    start = time.perf_counter()
    predictors.predict(head, x_test)
    each = (time.perf_counter() - start) / len(x_test) * 1e6
    return Predicted(text, height, guess, test, seconds, each)

  def blend(self, parts: Sequence[Predicted]) -> Predicted:
    """Several routers as one, weighed on the training side, out of fold."""
    weights, bias = predictors.blend.fit_weights(
      [part.out_of_fold for part in parts], self._train.scores
    )

    def mixed(side: str) -> np.ndarray:
      arrays = np.stack([getattr(part, side) for part in parts])
      return np.tensordot(weights, arrays, 1) + bias

    guess = mixed("out_of_fold")
    words = ", ".join(
      f"{weight:.2f} {part.text}"
      for weight, part in zip(weights, parts, strict=True)
      if weight > 0.005
    )
    return Predicted(
      words,
      self._height(guess),
      guess,
      mixed("test"),
      sum(part.fit_seconds for part in parts),
      sum(part.microseconds for part in parts),
    )

  def _height(self, quality: np.ndarray) -> float:
    """Mean height of the curve on the training side."""
    scores, costs = self._train.scores, self._train.costs
    curve = routing_curves.evaluate(
      forecast(quality, costs), scores, costs, self._prices
    )
    front = routing_curves.hull(curve.cost, curve.score)
    return routing_curves.aiq(front, costs.mean(0).min(), costs.mean(0).max())


def forecast(quality: np.ndarray, costs: np.ndarray) -> predictors.Forecast:
  """A forecast of known costs: of models that have one price each."""
  return predictors.Forecast(
    jax.numpy.asarray(quality, jax.numpy.float32),
    jax.numpy.asarray(costs, jax.numpy.float32),
  )


def choices(
  quality: np.ndarray, costs: np.ndarray, prices: np.ndarray
) -> np.ndarray:
  """i32[P, N], the model of each question at each price."""
  return np.asarray(allocation.sweep(forecast(quality, costs), prices))


class _Folder:
  """Files of predictions, each complete or absent."""

  def __init__(self, root: pathlib.Path, fingerprint: str):
    self._root = root
    root.mkdir(parents=True, exist_ok=True)
    mark = root / "recipe.txt"
    if mark.exists() and mark.read_text(encoding="utf-8") != fingerprint:
      raise ValueError(
        f"{root}: holds the predictions of another recipe or other data; "
        "expected an empty folder"
      )
    mark.write_text(fingerprint, encoding="utf-8")

  def path(self, fold: int, name: str) -> pathlib.Path:
    return self._root / f"fold_{fold}_{name.replace(' ', '_')}.npz"

  def read(self, path: pathlib.Path, texts: Sequence[str]) -> Predicted | None:
    if not path.exists():
      return None
    try:
      with np.load(path) as saved:
        values = {field: saved[field] for field in saved}
        fields = [values[field] for field in Predicted._fields]
        chosen_from = str(values["candidates"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
      raise ValueError(f"{path}: cannot be read ({error}); delete it") from None
    if chosen_from != "; ".join(texts):
      raise ValueError(
        f"{path}: was chosen from {chosen_from}; delete it, or keep these"
      )
    text, inner, guess, test, seconds, each = fields
    return Predicted(
      str(text), float(inner), guess, test, float(seconds), float(each)
    )

  def write(
    self, path: pathlib.Path, texts: Sequence[str], predicted: Predicted
  ) -> Predicted:
    unfinished = path.with_suffix(".part.npz")
    candidates = "; ".join(texts)
    np.savez(unfinished, candidates=candidates, **predicted._asdict())
    unfinished.replace(path)
    return predicted


def _fingerprint(recipe: StudyRecipe, table: tasks.RoutingTable) -> str:
  """Changes with whatever changes the predictions of all routers."""
  digest = hashlib.sha256()
  for part in _parts(recipe, table):
    digest.update(part)
  return digest.hexdigest()


def _parts(recipe: StudyRecipe, table: tasks.RoutingTable) -> Iterator[bytes]:
  settings = dataclasses.asdict(recipe)
  # What only the report reads, and what the table holds anyway.
  for name in ("data", "blended", "resamples", "strong", "weak", "confidence"):
    del settings[name]
  del settings["routers"]  # each router's file holds its own
  yield repr(settings).encode()
  yield repr((table.models, table.prompts)).encode()
  yield table.scores.tobytes()
  yield table.costs.tobytes()
