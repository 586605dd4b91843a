# SPDX-License-Identifier: Apache-2.0
"""Splitting a budget over sub-questions, with a model that answers them.

A problem is a few sums that are answered apart; it is solved if all are right.

*  Votes: tokens buy samples of the fast mode, a vote answers each sum. Samples
   are drawn once, into pools; the chance that a vote of k of them is right is
   exact (`estimators.maj_at_k`). Splits of a budget of samples are compared,
   by what is known of a sum: nothing, a probe's credits, the budget allocation
   model fitted to a pilot, everything.
*  Caps: the slow mode works each sum out under a hard cap, with every rule for
   what is left over.

A problem's sums come in any order, so that positions say nothing, but for the
decays, which are also tried with the hard sums first and last.
"""

from collections.abc import Callable, Sequence
import dataclasses
import itertools
import random
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from rich import progress

from jaxttc.agents import two_speed
from jaxttc.allocators import (
  budget_model,
  choice_knapsack,
  decay_schedules,
  executors,
  local_budgets,
  pilot_fit,
  plans,
)
from jaxttc.evaluation import estimators, statistics, thrift
from jaxttc.inference import bundle, controllers, local_engine
from jaxttc.predictors import step_failure
from jaxttc.runtime import programs
from jaxttc.tasks import digit_chains

SPLITS = ("in_order", "uniform", "weighted", "model", "oracle", "vanilla")
PLACES = ("anywhere", "hard first", "hard last")
_FAST = digit_chains.INSTRUCTIONS["fast"]


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """The problems, and what is bought.

  Attributes:
    model: a two-mode model's file, or the name of one that ships.
    problems: for each seed.
    additions: of a problem's sums, each once.
    seeds: of problems and samples.
    pool: samples drawn of each sum.
    vanilla: samples a sum, without a budget.
    budget: samples a problem.
    pilot: samples a sum that the allocation model is fitted at.
    pilot_sums: of each kind, for pilot and probe; other ones.
    temperature: of the samples.
    capped: problems of each seed that are worked out under caps.
    shares: of the mean need of a problem, as budgets of caps.
    slots: programs that one batch serves.
    resamples: of the bootstrap.
  """

  model: str = "two_speed_lm"
  problems: int = 150
  additions: tuple[int, ...] = (1, 2, 3, 4)
  seeds: tuple[int, ...] = (0, 1, 2)
  pool: int = 48
  vanilla: int = 24
  budget: int = 32
  pilot: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
  pilot_sums: int = 60
  temperature: float = 1.4
  capped: int = 40
  shares: tuple[float, ...] = (0.8, 1.0, 1.2, 1.6)
  slots: int = 128
  resamples: int = 1000

  def check(self) -> None:
    """Raises ValueError if the recipe cannot be run."""
    for name in ("problems", "capped", "pilot_sums", "slots", "resamples"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")
    steps = len(self.additions)
    if self.budget < steps:
      raise ValueError(f"budget is {self.budget}; expected >= {steps} samples")
    most = max(self.vanilla, self.budget - steps + 1, *self.pilot)
    if self.pool < most:
      raise ValueError(f"pool is {self.pool}; expected >= {most} samples")
    if not self.seeds:
      raise ValueError("seeds: expected at least one")
    for count in self.additions:
      digit_chains.draw(random.Random(0), 1, (count,))


class Sums(NamedTuple):
  """Pools of samples of some sums.

  Attributes:
    kind: i64[M], index of the number of additions.
    curve: f64[M, K + 1], chance that a vote of k samples is right; 0 at 0.
    tokens: f64[M], mean of a sample.
    failure: f64[M], what the probe says.
  """

  kind: np.ndarray
  curve: np.ndarray
  tokens: np.ndarray
  failure: np.ndarray


def run(recipe: StudyRecipe) -> dict[str, Any]:
  """Draws the samples and compares the splits.

  Returns:
    Tidy data: `splits`, `decays` and `caps`, rows of dicts; `curves`, mean
    accuracy of a vote by kind.

  Raises:
    ValueError: if the recipe cannot be run.
  """
  recipe.check()
  bench = _Bench(recipe)
  with progress.Progress(transient=True) as bar:
    steps = 1 + 2 * len(recipe.seeds)
    shown = bar.add_task("pilot", total=steps)
    pilot = bench.pools(recipe.pilot_sums, "pilot")
    bar.advance(shown)
    splits, decays, caps, curves = [], [], [], []
    for seed in recipe.seeds:
      bar.update(shown, description=f"seed {seed}, votes")
      tested = bench.pools(recipe.problems, f"test-{seed}")
      splits += _splits(recipe, seed, pilot, tested)
      decays += _decays(recipe, seed, tested)
      curves.append(_by_kind(recipe, tested))
      bar.advance(shown)
      bar.update(shown, description=f"seed {seed}, caps")
      caps += bench.caps(seed)
      bar.advance(shown)
  return {
    "splits": splits,
    "decays": decays,
    "caps": caps,
    "curves": np.mean(curves, axis=0).tolist(),
  }


class _Bench:
  """The model, and what is asked of it."""

  def __init__(self, recipe: StudyRecipe):
    self._recipe = recipe
    policy = bundle.load(recipe.model)
    self._engine = local_engine.LocalEngine(
      policy,
      sampler=controllers.Sampler(temperature=recipe.temperature),
      groups=recipe.slots,
      rows=1,
      slots=64,
      steps=8,
    )
    self._read = step_failure.StateReader(policy)
    self._probe: step_failure.Probe | None = None

  def sums(self, count: int, label: str) -> list[digit_chains.Chain]:
    """One sum of each kind a problem, problem by problem."""
    rng = random.Random(f"plans-{label}")
    return [
      digit_chains.draw(rng, 1, (additions,))
      for _ in range(count)
      for additions in self._recipe.additions
    ]

  def pools(self, count: int, label: str) -> Sums:
    """Pools of `count` problems' sums; the first call fits the probe."""
    recipe = self._recipe
    chains = self.sums(count, label)
    system = two_speed.System(
      _FAST, 6, digit_chains.content, samples=recipe.pool
    )
    queries = [chain.text for chain in chains]
    drawn = self._serve([_sample(q, system) for q in queries], label)
    curves, tokens, failed = [], [], []
    for chain, done in zip(chains, drawn, strict=True):
      said = [system.content(reply.text) for reply in done.value]
      gold = str(chain.answers[0])
      curves.append(_curve(said, gold, recipe.pool))
      tokens.append(np.mean([reply.tokens for reply in done.value]))
      failed.append(said[0] != gold)
    states = self._read([query + _FAST for query in queries])
    if self._probe is None:
      self._probe = step_failure.fit(states, np.array(failed))
    kinds = np.tile(np.arange(len(recipe.additions)), count)
    return Sums(
      kinds, np.array(curves), np.array(tokens), self._probe.failure(states)
    )

  def caps(self, seed: int) -> list[dict[str, Any]]:
    """Problems worked out under hard caps, by rule and budget."""
    recipe = self._recipe
    steps = len(recipe.additions)
    chains = self.sums(recipe.capped, f"caps-{seed}")
    orders = np.random.default_rng([seed, 3]).permuted(
      np.tile(np.arange(steps), (recipe.capped, 1)), axis=1
    )
    problems = [
      [chains[number * steps + kind] for kind in order]
      for number, order in enumerate(orders)
    ]
    free = self._work_out(
      problems, [np.full(steps, 96)] * len(problems), "none"
    )
    need = float(np.mean([row["tokens"] for row in free]))
    rows = [_summary("uncapped", 0.0, free)]
    for share, rule in itertools.product(
      recipe.shares, local_budgets.ROLL_OVERS
    ):
      each = decay_schedules.uniform_tokens(steps, int(share * need))
      found = self._work_out(problems, [each] * len(problems), rule)
      rows.append(_summary(rule, share, found))
    for share in recipe.shares:
      shares = [
        decay_schedules.allocate_tokens(
          _hundred(
            np.array([1.0 + chain.steps[0].additions for chain in problem])
          ),
          int(share * need),
          "constant",
          floor=1,
        )
        for problem in problems
      ]
      found = self._work_out(problems, shares, "none")
      rows.append(_summary("credits by length", share, found))
    return [row | {"seed": seed} for row in rows]

  def _work_out(self, problems, shares, rule):
    tasks = [
      _capped(problem, given, rule)
      for problem, given in zip(problems, shares, strict=True)
    ]
    return [
      {"right": done.value, "tokens": sum(done.tokens.values())}
      for done in self._serve(tasks, "caps")
    ]

  def _serve(self, tasks, label) -> list[programs.Done]:
    names = [f"{label}-{i}" for i in range(len(tasks))]
    served = programs.serve(tasks, {"policy": self._engine}, names)
    return sorted(served, key=lambda done: done.index)


def _sample(query: str, system: two_speed.System):
  return (yield system.ask(query))


def _capped(problem: Sequence[digit_chains.Chain], shares, rule: str):
  """Carries a plan out with an executor, whose requests become asks."""
  plan = plans.Plan(
    steps=tuple(chain.text for chain in problem),
    credits=(1.0,) * len(problem),
  )
  slow = digit_chains.INSTRUCTIONS["slow"]
  executor = executors.sequential(
    "sums",
    plan,
    shares,
    rule,
    prompt=lambda at, before: plan.steps[at] + slow,
  )
  said = []
  request = next(executor)
  while True:
    if request.cap < 1:
      outcome = executors.StepOutcome("", 0, False)
    else:
      (reply,) = yield programs.Ask(request.prompt, request.cap)
      outcome = executors.StepOutcome(reply.text, reply.tokens, reply.finished)
    said.append(
      digit_chains.content(outcome.text) if outcome.finished else None
    )
    try:
      request = executor.send(outcome)
    except StopIteration:
      break
  gold = [str(chain.answers[0]) for chain in problem]
  return said == gold


def _curve(said: Sequence[str | None], gold: str, most: int) -> np.ndarray:
  """Chance that the vote of k samples is right, k = 0 .. most."""
  names = sorted({answer for answer in said if answer is not None})
  counts = [said.count(name) for name in names]
  correct = [name == gold for name in names]
  silent = sum(answer is None for answer in said)
  if not any(correct):
    return np.zeros(most + 1)
  votes = [
    estimators.maj_at_k(counts, correct, k, silent) for k in range(1, most + 1)
  ]
  return np.array([0.0, *votes])


def _hundred(credits: np.ndarray) -> np.ndarray:
  """Credits that total 100 a problem."""
  return 100.0 * credits / credits.sum(-1, keepdims=True)


def _by_kind(recipe: StudyRecipe, sums: Sums) -> np.ndarray:
  """Mean accuracy of a vote, f64[kinds, K + 1]."""
  return np.stack(
    [
      sums.curve[sums.kind == kind].mean(0)
      for kind in range(len(recipe.additions))
    ]
  )


def _rule_of(
  recipe: StudyRecipe, pilot: Sums, tested: Sums
) -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
  """Splits by name: kinds i64[M] and probe f64[M] of a problem -> samples."""
  steps, budget = len(recipe.additions), recipe.budget
  fits = [
    pilot_fit.fit(
      np.array(recipe.pilot, float),
      1.0 - pilot.curve[pilot.kind == kind][:, list(recipe.pilot)].T,
      resamples=1,
    )
    for kind in range(steps)
  ]
  c, beta = (
    np.array([getattr(fit, name).value for fit in fits])
    for name in ("c", "beta")
  )
  by_kind = {
    "model": np.asarray(
      budget_model.solve_integer(jnp.asarray(c), jnp.asarray(beta), budget)
    ),
    "oracle": _best(_by_kind(recipe, tested), budget),
  }

  def pool_in_order(kinds, failure):
    del kinds, failure
    given: list[int] = []
    for left in range(steps - 1, -1, -1):
      given.append(min(recipe.vanilla, budget - sum(given) - left))
    return np.array(given)

  def weighted(kinds, failure):
    del kinds
    credits = _hundred(1.0 + 99.0 * failure)
    return decay_schedules.allocate_tokens(credits, budget, "constant", floor=1)

  return {
    "in_order": pool_in_order,
    "uniform": lambda *_: decay_schedules.uniform_tokens(steps, budget),
    "weighted": weighted,
    "model": lambda kinds, _: by_kind["model"][kinds],
    "oracle": lambda kinds, _: by_kind["oracle"][kinds],
    "vanilla": lambda *_: np.full(steps, recipe.vanilla),
  }


def _best(curves: np.ndarray, budget: int) -> np.ndarray:
  """The split that a knapsack over mean curves finds best."""
  steps = len(curves)
  most = budget - steps + 1
  values = np.log(np.maximum(curves[:, : most + 1], 1e-9))
  values[:, 0] = -np.inf
  costs = np.broadcast_to(np.arange(most + 1), values.shape)
  found, _ = choice_knapsack.solve(
    jnp.asarray(values, jnp.float32),
    jnp.asarray(costs),
    jnp.int32(budget),
    budget,
  )
  return np.asarray(found)


def _shuffled(recipe, seed, tested, place="anywhere"):
  """Indices i64[N, M] of each problem's sums, in the order they come."""
  steps = len(recipe.additions)
  own = np.arange(recipe.problems * steps).reshape(-1, steps)
  if place == "anywhere":
    return np.random.default_rng([seed, 4]).permuted(own, axis=1)
  hardest_last = np.argsort(recipe.additions)
  return own[:, hardest_last[::-1] if place == "hard first" else hardest_last]


def _solved(tested: Sums, rows: np.ndarray, samples: np.ndarray):
  """Chance that all votes are right, and tokens: f64[N] each."""
  right = tested.curve[rows, samples].prod(1)
  return right, (tested.tokens[rows] * samples).sum(1)


def _splits(recipe, seed, pilot, tested) -> list[dict[str, Any]]:
  rows = _shuffled(recipe, seed, tested)
  found = []
  for name, split in _rule_of(recipe, pilot, tested).items():
    samples = np.stack(
      [split(tested.kind[row], tested.failure[row]) for row in rows]
    )
    right, tokens = _solved(tested, rows, samples)
    accuracy = statistics.bootstrap(
      right, resamples=recipe.resamples, rng=np.random.default_rng(seed)
    )
    found.append(
      {
        "split": name,
        "seed": seed,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "samples": int(samples.sum(1).mean()),
        "tokens": float(tokens.mean()),
        "e3": thrift.e3(100 * float(right.mean()), float(tokens.mean())),
      }
    )
  return found


def _decays(recipe, seed, tested) -> list[dict[str, Any]]:
  """Schedules over the probe's credits, by where the hard sums are."""
  found = []
  for place, name in itertools.product(PLACES, decay_schedules.SCHEDULES):
    rows = _shuffled(recipe, seed, tested, place)
    for told, credits in (
      ("probe", _hundred(1.0 + 99.0 * tested.failure[rows])),
      (
        "late",
        _hundred(np.tile(np.arange(1.0, rows.shape[1] + 1), (len(rows), 1))),
      ),
    ):
      samples = np.stack(
        [
          decay_schedules.allocate_tokens(row, recipe.budget, name, floor=1)
          for row in credits
        ]
      )
      right, _ = _solved(tested, rows, samples)
      found.append(
        {
          "place": place,
          "credits": told,
          "schedule": name,
          "seed": seed,
          "accuracy": float(right.mean()),
        }
      )
  return found


def _summary(rule, share, found) -> dict[str, Any]:
  right = float(np.mean([row["right"] for row in found]))
  tokens = float(np.mean([row["tokens"] for row in found]))
  return {
    "rule": rule,
    "share": share,
    "accuracy": right,
    "tokens": tokens,
    "e3": thrift.e3(100 * right, tokens) if tokens else 0.0,
  }
