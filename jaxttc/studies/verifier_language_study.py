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

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.evaluation import estimators
from jaxttc.inference import bundle as bundle_lib
from jaxttc.studies import verifier_language_bench as bench_lib
from jaxttc.tasks import modular_mix, problems
from jaxttc.training import outcome_verifier, recipes

_TUNING_SEED = 1_000_000
_HEAD, _CLAUSE = 16, 3  # tokens of a prompt: what frames it, and each step
CLONES = ("clone_solved", "clone_charged", "clone_expert")
VERIFIED = ("reweight", "policy_gradient")
METHODS = (*CLONES, *VERIFIED)
SELECTIONS = ("vote", "best_of_n", "weighted_vote", "any")

# A run: family, steps, traces and seed, and what each method came to.
Run = Mapping[str, Any]


@dataclasses.dataclass(kw_only=True)
class LanguageVerifierRecipe:
  """What is compared.

  Attributes:
    base: the model that all runs begin with; its mix is a `ModularMix`.
    families: the style that prompts ask for, by name of the family.
    steps: of a problem, ascending: the horizon in steps.
    tokens_a_step: horizon H in tokens, over steps.
    ratios: traces n over steps, ascending.
    ratio: the one at which horizons are compared; numbers of traces are
      compared at the longest, in the first family.
    seeds: how many, from 0.
    drawn: solutions of the base a problem, S, out of which right ones are
      cloned, and out of which the ball's best policies choose.
    kappa: radius of the chi-square ball, of `clone_expert` and `reweight`.
    batch: rows a step.
    epochs: passes over the cloned traces.
    rates: learning rates of each method; equally many.
    ridges: penalties of the verifier, as many as there are rates.
    members: of the verifier.
    pessimism: deviations between members that are taken off their mean.
    rollouts: tasks a step, group and passes of the policy gradient.
    tested: held-out problems a seed.
    samples: solutions a held-out problem, N of best-of-N and of votes.
    judged: of them, where only their mean is told.
  """

  base: recipes.LanguageModelRecipe
  families: Mapping[str, str]
  steps: tuple[int, ...] = (2, 4, 8)
  tokens_a_step: int = 16
  ratios: tuple[int, ...] = (4, 8, 16)
  ratio: int = 16
  seeds: int = 3
  drawn: int = 8
  kappa: float = 3.0
  batch: int = 32
  epochs: int = 4
  rates: Mapping[str, tuple[float, ...]]
  ridges: tuple[float, ...] = (0.3, 3.0, 30.0)
  members: int = 8
  pessimism: float = 1.0
  rollouts: tuple[int, int, int] = (8, 8, 2)
  tested: int = 128
  samples: int = 8
  judged: int = 4

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be studied."""
    if not isinstance(self.base.mix, modular_mix.ModularMix):
      raise ValueError("base.mix: expected a ModularMix")
    self.base.mix.validate()
    for name in ("steps", "ratios"):
      found = list(getattr(self, name))
      if len(found) < 2 or found != sorted(set(found)) or found[0] < 1:
        raise ValueError(f"{name} must be positive and ascend, got {found}")
    task = self.base.mix.task
    if not task.min_steps <= self.steps[0] <= self.steps[-1] <= task.max_steps:
      raise ValueError(
        f"steps={self.steps}: the base is trained on {task.min_steps} to "
        f"{task.max_steps}"
      )
    needed = _HEAD + (_CLAUSE + self.tokens_a_step) * self.steps[-1]
    if needed > self.base.model.max_length:
      raise ValueError(
        f"base.model.max_length={self.base.model.max_length}: {needed} tokens "
        f"are needed for {self.steps[-1]} steps"
      )
    if self.ratio not in self.ratios:
      raise ValueError(f"ratio={self.ratio} is not one of {self.ratios}")
    if not self.families:
      raise ValueError("families: expected at least one")
    for style in self.families.values():
      problems.require_name(style, problems.STYLES, "style")
    if set(self.rates) != set(METHODS):
      raise ValueError(f"rates of {sorted(self.rates)}, expected of {METHODS}")
    dials = (self.ridges, *self.rates.values())
    if len({len(dial) for dial in dials}) != 1 or not all(
      min(dial, default=0) > 0 for dial in dials
    ):
      raise ValueError("rates and ridges: expected equally many, above 0")
    for name, least in (
      ("tokens_a_step", 1), ("seeds", 1), ("drawn", 2), ("batch", 1),
      ("epochs", 1), ("members", 1), ("tested", 1),
      ("samples", 3), ("judged", 1),
    ):  # fmt: skip
      if getattr(self, name) < least:
        raise ValueError(
          f"{name} must be at least {least}, got {getattr(self, name)}"
        )
    if not (self.kappa >= 0 and self.pessimism >= 0):
      raise ValueError("kappa and pessimism must not be negative")
    tasks, group, passes = self.rollouts
    if tasks < 1 or group < 2 or passes < 1:
      raise ValueError(
        f"rollouts={self.rollouts}: expected tasks, a group of 2 or more, and "
        "passes"
      )

  def dial(self, name: str) -> tuple[float, ...]:
    """The settings of a method, or of "verifier"."""
    return tuple(self.ridges if name == "verifier" else self.rates[name])

  def points(self) -> list[tuple[str, int, int]]:
    """(family, steps, ratio) of all points, the quick ones first."""
    first = next(iter(self.families))
    over_steps = [(f, s, self.ratio) for s in self.steps for f in self.families]
    return over_steps + [
      (first, self.steps[-1], ratio)
      for ratio in self.ratios
      if ratio != self.ratio
    ]


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
  recipe: LanguageVerifierRecipe,
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
  for name in ("verifier", *METHODS):  # others learn from the verifier
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

  def __init__(self, recipe: LanguageVerifierRecipe, folder: pathlib.Path):
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
      recipe.tokens_a_step * steps,
      _HEAD + _CLAUSE * steps,
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
      "family": family, "steps": steps, "ratio": ratio, "seed": seed,
      "horizon": bench.horizon, "traces": ratio * steps,
      "base_rewards": test.rewards(bench.horizon).T.tolist(),
      "methods": {"base": _scored(bench, test)},
    }  # fmt: skip
    for name in METHODS:
      scored, found = self._trained(name, point, seed, rates, pool, test)
      row["methods"][name] = scored
      if name == "clone_solved":
        row["clone_vote"] = _accuracy(found)["vote"]
    chance = bench.chances(verifier, test, recipe.pessimism)
    said = outcome_verifier.calibration(
      jnp.asarray(chance.ravel()), jnp.asarray(test.right.ravel())
    )
    row["verifier"] = {k: float(v) for k, v in said._asdict().items()}
    row["selected"] = _accuracy(test, chance)
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
        verifier, bench.prompts(pool.prompts.problems[:count],
        recipe.families[point[0]]), bench_lib.RolloutPlan(*recipe.rollouts),
        recipe.pessimism, rates[name], seed,
      )  # fmt: skip
      sampled += tokens
    else:
      rank = np.zeros(count, np.int32)
      if name == "clone_solved":
        (rank, at), labels = bench_lib.first_right(pool, count, count)
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
        rank = bench_lib.tilted(worth[:, :count], recipe.kappa, seed)
      most = max(recipe.ratios) * steps
      params = bench.clone(
        pool.take(rank, at), most, recipe.batch, recipe.epochs, rates[name],
        seed,
      )  # fmt: skip
    votes = name == "clone_solved"
    found = bench.sample(
      params,
      test.prompts,
      recipe.samples if votes else recipe.judged,
      2 * seed + 1,
    )
    return _scored(bench, found) | {"labels": labels, "sampled": sampled}, found


def _scored(bench, traces: bench_lib.Traces) -> dict[str, float]:
  """Means of one solution a problem."""
  return {
    "reward": float(traces.rewards(bench.horizon).mean()),
    "accuracy": float(traces.right.mean()),
    "tokens": float(traces.length.mean()),
  }


def _accuracy(
  traces: bench_lib.Traces, chance: np.ndarray | None = None
) -> dict[str, float]:
  """Share of problems right, one answer being taken of all samples."""
  samples, count = traces.right.shape
  found: dict[str, list[float]] = {name: [] for name in SELECTIONS}
  for p in range(count):
    right = traces.right[:, p] > 0
    written = [answers[p] for answers in traces.answers]
    names = sorted({answer for answer in written if answer is not None})
    ids = np.array([-1 if a is None else names.index(a) for a in written])
    votes = estimators.class_counts(ids, right)
    found["vote"].append(
      estimators.maj_at_k(votes.counts, votes.correct, samples, votes.abstained)
    )
    found["any"].append(float(right.any()))
    if chance is not None:
      best = estimators.best_of_n_at_k(chance[:, p], right, samples)
      found["best_of_n"].append(best)
      found["weighted_vote"].append(_weighted(written, right, chance[:, p]))
  return {name: float(np.mean(x)) for name, x in found.items() if x}


def _weighted(written: Sequence[str | None], right, chance) -> float:
  """Whether the answer of the greatest summed chance is right."""
  total: dict[str, float] = {}
  for answer, own in zip(written, chance, strict=True):
    if answer is not None:
      total[answer] = total.get(answer, 0.0) + float(own)
  if not total:
    return 0.0
  taken = max(total, key=lambda answer: total[answer])
  return float(right[[answer == taken for answer in written]].any())


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
