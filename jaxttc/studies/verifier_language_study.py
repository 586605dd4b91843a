# SPDX-License-Identifier: Apache-2.0
"""Training with and without a learned verifier, on a language model.

The base is a small model of modular arithmetic that was stopped early. Asked
for no style, it mixes terse, verbose and bare answers: a heterogeneous base.
Asked for terse solutions, it writes one style: the control. A point of the
study is a family of prompts, a number of steps s and a number of traces n; a
seed has problems of its own. How n traces are spent is that of
`verifier_language_bench`.

Every method has as many learning rates to choose from, at the largest point and
on a seed of its own. A point and seed is a line of runs.jsonl once it is done,
so a study that is stopped, or killed, goes on with the next one.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.studies import verifier_language_bench as bench_lib
from jaxttc.studies import verifier_language_recipe as recipe_lib
from jaxttc.studies import verifier_language_traces as traces_lib
from jaxttc.training import outcome_verifier

_TUNING_SEED = 1_000_000
# A run: family, steps, traces and seed, and what each method came to.
Run = Mapping[str, Any]


class Found(NamedTuple):
  """What a study found.

  Attributes:
    rates: chosen, of each method and of the verifier.
    tuning: mean reward at each rate that was tried; of the verifier, minus its
      squared error.
    runs: point by point, seed by seed.
  """

  rates: dict[str, float]
  tuning: dict[str, dict[float, float]]
  runs: list[Run]

  def of(self, family: str, steps: int, ratio: int) -> list[Run]:
    """A point's runs, seed by seed."""
    return [
      run
      for run in self.runs
      if (run["family"], run["steps"], run["ratio"]) == (family, steps, ratio)
    ]


def run(
  recipe: recipe_lib.LanguageVerifierRecipe,
  workdir: str,
  say: Callable[[str], None] = lambda text: None,
) -> Found:
  """Trains all runs, those on file excepted.

  Args:
    recipe: the study.
    workdir: folder of the base and of runs.jsonl.
    say: is told what was done.

  Raises:
    ValueError: if the recipe cannot be, the file is of another recipe, or the
      base has too few right solutions.
  """
  recipe.validate()
  bench = _Runs(recipe, pathlib.Path(workdir))
  family = next(iter(recipe.families))
  point = (family, recipe.steps[-1], recipe.ratio)
  rates: dict[str, float] = {}
  tuning: dict[str, dict[float, float]] = {}
  for name in (
    "verifier",
    *recipe_lib.METHODS,
  ):  # others learn from the verifier
    tuning[name] = {
      rate: bench.kept("tuned", point, _TUNING_SEED, rates | {name: rate}, name)
      for rate in recipe.dial(name)
    }
    rates[name] = max(tuning[name], key=lambda r: tuning[name][r])
    say(f"{name}: {tuning[name]}")
  runs = []
  for point in recipe.points():
    for seed in range(recipe.seeds):
      runs.append(bench.kept("run", point, seed, rates))
      say(f"{point}, seed {seed}")
  return Found(rates, tuning, runs)


class _Runs:
  """The base, a bench a horizon, and the lines that were written."""

  def __init__(
    self, recipe: recipe_lib.LanguageVerifierRecipe, folder: pathlib.Path
  ):
    self.recipe = recipe
    folder.mkdir(parents=True, exist_ok=True)
    self.path = folder / "runs.jsonl"
    self.done = _lines(self.path, recipe)
    start = folder / "base.safetensors"
    if not start.exists():
      recipe.base.export(recipe.base.run(str(folder / "base")), str(start))
    self.policy = bundle_lib.load(str(start))
    self.bench = functools.cache(self._bench)
    self.drawn = functools.lru_cache(maxsize=1)(self._drawn)
    self.verifier = functools.lru_cache(maxsize=1)(self._verifier)

  def kept(self, what, point, seed, rates, *more) -> Any:
    """A line's finding; what is not on file is measured."""
    name = json.dumps([what, point, seed, rates, *more], sort_keys=True)
    if name not in self.done:
      measure = self._measure if what == "run" else self._tuned
      found = measure(point, seed, rates, *more)
      with self.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([name, found]) + "\n")
        file.flush()
        os.fsync(file.fileno())
      self.done[name] = found
    return self.done[name]

  def _bench(self, steps: int) -> bench_lib.Bench:
    recipe = self.recipe
    return bench_lib.Bench(
      self.policy,
      recipe.horizon(steps),
      recipe.width(steps),
    )

  def _drawn(self, family: str, steps: int, seed: int):
    """The base's solutions of a seed's problems, to learn from and to test."""
    recipe, bench = self.recipe, self.bench(steps)
    task = dataclasses.replace(
      recipe.base.mix.task, min_steps=steps, max_steps=steps
    )
    style = recipe.families[family]
    # One list for all numbers of traces; each takes the first of it.
    most = max(recipe.ratios) * steps
    asked = bench.prompts(task.problems(most, "train", seed), style)
    pool = bench.sample(self.policy.params, asked, recipe.drawn, 2 * seed)
    asked = bench.prompts(task.problems(recipe.tested, "test", seed), style)
    test = bench.sample(self.policy.params, asked, recipe.samples, 2 * seed + 1)
    return pool, test

  def _tuned(self, point, seed, rates, name) -> float:
    """How good a method is at the rate that is given for it."""
    family, steps, ratio = point
    pool, test = self.drawn(family, steps, seed)
    if name == "verifier":
      verifier = self.verifier(point, seed, rates["verifier"])
      chance = self.bench(steps).chances(verifier, test, self.recipe.pessimism)
      return -float(((chance - test.right) ** 2).mean())
    return self._trained(name, point, seed, rates, pool, test)[0]["reward"]

  def _measure(self, point, seed, rates) -> dict[str, Any]:
    """All methods at a point."""
    family, steps, ratio = point
    recipe, bench = self.recipe, self.bench(steps)
    pool, test = self.drawn(family, steps, seed)
    verifier = self.verifier(point, seed, rates["verifier"])
    row: dict[str, Any] = {
      "family": family,
      "steps": steps,
      "ratio": ratio,
      "seed": seed,
      "horizon": bench.horizon,
      "traces": ratio * steps,
      "base_rewards": test.rewards(bench.horizon).T.tolist(),
      "methods": {"base": traces_lib.scored(test, bench.horizon)},
    }
    for name in recipe_lib.METHODS:
      scored, found = self._trained(name, point, seed, rates, pool, test)
      row["methods"][name] = scored
      if name == "clone_solved":
        row["clone_vote"] = traces_lib.accuracy(found)["vote"]
    chance = bench.chances(verifier, test, recipe.pessimism)
    said = outcome_verifier.calibration(
      jnp.asarray(chance.ravel()), jnp.asarray(test.right.ravel())
    )
    row["verifier"] = {k: float(v) for k, v in said._asdict().items()}
    row["selected"] = traces_lib.accuracy(test, chance)
    return row

  def _verifier(self, point, seed, ridge):
    """Members fitted to the first solution of each of n problems."""
    family, steps, ratio = point
    pool, _ = self.drawn(family, steps, seed)
    count = ratio * steps
    return outcome_verifier.fit(
      jax.random.key(seed),
      jnp.asarray(self.bench(steps).features(pool, count, 1)[0]),
      jnp.asarray(pool.right[0, :count]),
      ridge=ridge,
      members=self.recipe.members,
    )

  def _trained(self, name, point, seed, rates, pool, test):
    """Score and test solutions of one method."""
    _, steps, ratio = point
    recipe, bench, count = self.recipe, self.bench(steps), ratio * steps
    at = np.arange(count)
    labels, sampled = count, int(pool.length[0, at].sum())
    if name == "policy_gradient":
      verifier = self.verifier(point, seed, rates["verifier"])
      params, tokens = bench.policy_gradient(
        verifier,
        bench.prompts(pool.prompts.problems[:count], recipe.families[point[0]]),
        bench_lib.RolloutPlan(*recipe.rollouts),
        recipe.pessimism,
        rates[name],
        seed,
      )
      sampled += tokens
    else:
      rank = np.zeros(count, np.int32)
      if name == "clone_solved":
        (rank, at), labels = traces_lib.first_right(pool, count, count)
        sampled = int(pool.length[:, :count].ravel()[:labels].sum())
      elif name == "clone_charged":
        at = np.flatnonzero(pool.right[0, :count])
        rank = np.zeros(at.size, np.int32)
      else:
        worth = pool.rewards(bench.horizon)
        labels, sampled = worth[:, :count].size, int(pool.length[:, at].sum())
        if name == "reweight":
          verifier = self.verifier(point, seed, rates["verifier"])
          left = bench.horizon + 1 - pool.length[:, :count]
          worth = left * bench.chances(verifier, pool, recipe.pessimism, count)
          labels = count
        rank = traces_lib.tilted(worth[:, :count], recipe.kappa, seed)
      most = max(recipe.ratios) * steps
      params = bench.clone(
        pool.take(rank, at),
        most,
        recipe.batch,
        recipe.epochs,
        rates[name],
        seed,
      )
    votes = name == "clone_solved"
    found = bench.sample(
      params,
      test.prompts,
      recipe.samples if votes else recipe.judged,
      2 * seed + 1,
    )
    return traces_lib.scored(found, bench.horizon) | {
      "labels": labels,
      "sampled": sampled,
    }, found


def _lines(path: pathlib.Path, recipe) -> dict[str, Any]:
  """Findings on file, by what they are of; the first line is the recipe."""
  described = dataclasses.asdict(recipe)
  for name in ("seeds", "steps", "rates", "ridges"):  # each line says its own
    described.pop(name)
  wanted = json.loads(json.dumps(described))
  if not path.exists():
    path.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
    return {}
  text = path.read_text(encoding="utf-8")
  whole = text[: text.rfind("\n") + 1]
  path.write_text(whole, encoding="utf-8")  # without a torn last line
  first, *rows = map(json.loads, whole.splitlines())
  if first != wanted:
    raise ValueError(
      f"{path} holds runs of another recipe; choose another --workdir"
    )
  return dict(rows)
