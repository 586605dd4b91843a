# SPDX-License-Identifier: Apache-2.0
"""Routing between real language models by what the smallest one's state says.

Single steps of digit sums are asked of two models of different size, the
larger one in both its modes. What each got right, and the FLOPs that it took,
is the table that routers learn from: by the smaller model's last hidden state
after the question, which costs reading it, or by the question's n-grams, which
cost nothing. A cascade asks the smaller model several times instead, and goes
on to the dearest where the answers differ. Test questions are never seen in
training, not even in other words.
"""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
from typing import Any, NamedTuple
import zipfile

import jax
import numpy as np
from rich import progress

from jaxttc.evaluation import routing_curves
from jaxttc.predictors import routing
from jaxttc.studies import (
  two_speed_bench,
  two_speed_recipe,
  two_speed_study,
)
from jaxttc.tasks import digit_chains
from jaxttc.tasks import routing as tasks

MODELS = ("small", "large at once", "large, worked out")
STATES, NGRAMS = "states", "n-grams"
UNPAID = "states unpaid"  # as if reading the question for them cost nothing
_DRAWN = 1.5  # questions drawn for one that is kept, at most


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """Which models, how many questions, and what routes.

  Attributes:
    bench: the models, the steps and how they are sampled; its `fast_model` is
      the small one. Its chains and seeds are not read.
    train: questions of the training side.
    test: questions of the test side.
    heads: texts of the routers' heads, each fitted to both kinds of features.
    rank: singular vectors of the hashed n-grams.
    votes: answers of the small model that the cascade compares.
    prices: of a curve.
    tolerances: scores below the best single model's at which cost is told.
    seeds: of questions, samples and fits.
  """

  bench: two_speed_recipe.StudyRecipe
  train: int = 1200
  test: int = 600
  heads: tuple[str, ...] = ("ridge", "mlp(epochs=20)")
  rank: int = 64
  votes: int = 3
  prices: int = 256
  tolerances: tuple[float, ...] = (0.0, 0.01, 0.05)
  seeds: tuple[int, ...] = (0, 1, 2)

  def check(self) -> None:
    """Raises ValueError, naming the field, if the recipe cannot be run."""
    self.bench.check()
    if not self.bench.two_models:
      raise ValueError("bench.fast_model: expected the name of a smaller model")
    if min(self.train, self.test) < 8 or self.votes < 2:
      raise ValueError(
        "expected train >= 8, test >= 8 and votes >= 2, got "
        f"{self.train}, {self.test} and {self.votes}"
      )
    if not self.heads:
      raise ValueError("heads: expected at least one")
    for text in self.heads:
      routing.head(text)
    if not all(0 <= each < 1 for each in self.tolerances):
      raise ValueError(f"tolerances {self.tolerances}: expected 0..1")
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise ValueError(f"seeds {self.seeds}: expected different ones")


class Asked(NamedTuple):
  """What models did on questions, N of them, the training side first.

  Attributes:
    queries: str[N], the questions.
    right: f64[N, K], 0 or 1.
    flops: f64[N, K].
    states: f32[N, D], of the small model.
    reading: f64[N], FLOPs of a state.
    voted: f64[N], whether the small model's commonest answer is right.
    agreed: f64[N], the share of votes that it got.
    voting: f64[N], FLOPs of all votes.
  """

  queries: np.ndarray
  right: np.ndarray
  flops: np.ndarray
  states: np.ndarray
  reading: np.ndarray
  voted: np.ndarray
  agreed: np.ndarray
  voting: np.ndarray


class Policy(NamedTuple):
  """What a family of policies offers on the test side: points."""

  cost: np.ndarray
  score: np.ndarray


class Found(NamedTuple):
  """All that a study computes.

  Attributes:
    single: by seed, mean cost and score f64[K] of each model on the test side.
    policies: by seed, the points of each router, of the cascade and the oracle.
  """

  single: dict[int, Policy]
  policies: dict[int, dict[str, Policy]]


def run(recipe: StudyRecipe, workdir: str | os.PathLike[str]) -> Found:
  """Asks what was not asked yet, fits, and returns everything.

  Args:
    recipe: the study.
    workdir: where answers are kept, a file a seed.

  Raises:
    ValueError: if the recipe cannot be run, or the folder holds another's.
  """
  recipe.check()
  folder = pathlib.Path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  settings = dataclasses.asdict(recipe)
  for name in ("heads", "rank", "prices", "tolerances", "seeds"):
    del settings[name]
  two_speed_study.claim_folder(folder, settings)
  bench: two_speed_bench.Bench | None = None
  single: dict[int, Policy] = {}
  policies: dict[int, dict[str, Policy]] = {}
  with progress.Progress(transient=True) as bar:
    shown = bar.add_task("seeds", total=len(recipe.seeds))
    for seed in recipe.seeds:
      path = folder / f"asked_{seed}.npz"
      if path.exists():
        asked = _read(path)
      else:
        bench = bench or two_speed_bench.Bench(recipe.bench)
        asked = _ask(recipe, bench, seed)
        unfinished = path.with_suffix(".part.npz")
        np.savez_compressed(unfinished, **asked._asdict())
        unfinished.replace(path)
      test = np.arange(recipe.train, recipe.train + recipe.test)
      single[seed] = Policy(
        asked.flops[test].mean(0), asked.right[test].mean(0)
      )
      policies[seed] = _policies(recipe, asked, seed)
      bar.advance(shown)
  return Found(single, policies)


def _ask(recipe, bench, seed: int) -> Asked:
  """Draws questions, and asks all models each of them."""
  steps = _different(recipe, bench, seed)
  instruction = digit_chains.INSTRUCTIONS["fast"]
  tried = [
    bench.attempt(steps, mode, f"routing-{name}", seed, model)
    for name, mode, model in zip(
      MODELS, ("fast", "fast", "slow"), (None, "slow", None), strict=True
    )
  ]
  voted, agreed, voting = bench.vote(steps, recipe.votes, "routing-votes", seed)
  texts = [query + instruction for query in steps.queries]
  return Asked(
    np.array(steps.queries),
    np.stack([right for right, _, _ in tried], 1).astype(float),
    np.stack([flops for _, _, flops in tried], 1),
    bench.states(texts),
    np.array([bench.reading_flops(text) for text in texts]),
    voted.astype(float),
    agreed,
    voting,
  )


def _different(recipe, bench, seed: int) -> two_speed_bench.Steps:
  """As many questions as are wanted, no two of them the same."""
  count = recipe.train + recipe.test
  drawn = bench.steps(int(_DRAWN * count) + 64, f"routing-{seed}")
  first = {
    query: place for place, query in reversed(list(enumerate(drawn.queries)))
  }
  places = sorted(first.values())[:count]
  if len(places) < count:
    raise ValueError(
      f"only {len(places)} different questions of {count} wanted; expected "
      "more additions, or fewer questions"
    )
  return two_speed_bench.Steps(
    [drawn.queries[p] for p in places],
    [drawn.gold[p] for p in places],
    drawn.kinds[places],
  )


def _policies(recipe, asked: Asked, seed: int) -> dict[str, Policy]:
  """The points of every policy on the test side."""
  cut = recipe.train
  scores, costs = asked.right[cut:], asked.flops[cut:]
  table = tasks.RoutingTable(
    prompts=tuple(asked.queries[:cut].tolist()),
    models=MODELS,
    scores=asked.right[:cut],
    costs=asked.flops[:cut],
    unit="FLOPs",
  )
  prices = routing_curves.prices(table.costs, recipe.prices)
  embed = routing.hashed_ngrams.fit(table.prompts, rank=recipe.rank)
  features = {
    STATES: asked.states,
    NGRAMS: embed(asked.queries.tolist()),
  }
  found: dict[str, Policy] = {}
  for kind, x in features.items():
    # Reading the question for its state is paid for, whoever answers it.
    more = asked.reading[cut:].mean() if kind == STATES else 0.0
    for text in recipe.heads:
      router = routing.fit(
        routing.head(text), table, x[:cut], jax.random.key(seed)
      )
      forecast = routing.Forecast(
        *(
          jax.numpy.asarray(routing.predict(head, x[cut:]))
          for head in (router.quality, router.cost)
        )
      )
      curve = routing_curves.evaluate(forecast, scores, costs, prices)
      head = text.partition("(")[0]
      found[f"{kind}, {head}"] = Policy(curve.cost + more, curve.score)
      if kind == STATES:
        found[f"{UNPAID}, {head}"] = Policy(curve.cost, curve.score)
  found["cascade"] = _cascade(asked, cut)
  oracle = routing_curves.evaluate(
    routing_curves.oracle(scores, costs), scores, costs, prices
  )
  found["oracle"] = Policy(oracle.cost, oracle.score)
  return found


def _cascade(asked: Asked, cut: int) -> Policy:
  """Points of trusting votes from each share of agreement on."""
  agreed, voted = asked.agreed[cut:], asked.voted[cut:]
  last_right, last_flops = asked.right[cut:, -1], asked.flops[cut:, -1]
  points = []
  for least in np.unique(agreed):
    trusted = agreed >= least
    points.append(
      (
        (asked.voting[cut:] + np.where(trusted, 0, last_flops)).mean(),
        np.where(trusted, voted, last_right).mean(),
      )
    )
  cost, score = np.array(points).T
  return Policy(cost, score)


def _read(path: pathlib.Path) -> Asked:
  try:
    with np.load(path) as saved:
      return Asked(*(saved[name] for name in Asked._fields))
  except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path}: cannot be read ({error}); delete it") from None


def settings(recipe: StudyRecipe) -> Mapping[str, Any]:
  """What a report says of the models and the questions."""
  return {
    "small": recipe.bench.fast_model,
    "large": recipe.bench.model,
    "additions": list(recipe.bench.additions),
    "train": recipe.train,
    "test": recipe.test,
    "votes": recipe.votes,
  }
