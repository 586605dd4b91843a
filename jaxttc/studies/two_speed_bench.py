# SPDX-License-Identifier: Apache-2.0
"""What the study of SCALE asks of its models: calibration, and every arm.

One small model with two modes (`configs/two_speed_lm.py`), or it and a smaller
one that only answers at once (`configs/fast_sums_lm.py`), carries out chains
whose steps differ in difficulty. The outline is the task's own; everything
else is decoded.
"""

from collections.abc import Generator, Mapping, Sequence
import random
from typing import Any, NamedTuple

import numpy as np

from jaxttc.agents import two_speed
from jaxttc.evaluation import statistics
from jaxttc.inference import (
  bundle,
  controllers,
  local_engine,
  local_prices,
)
from jaxttc.predictors import step_failure
from jaxttc.runtime import programs
from jaxttc.solving import samples
from jaxttc.studies import two_speed_arms, two_speed_recipe
from jaxttc.tasks import digit_chains

_GIVEN_UP = 0.02  # of success, by the threshold that calibration chooses


class Outcome(NamedTuple):
  """One arm of one seed, chain by chain.

  Attributes:
    right: bool[N].
    steps_right: f64[N], share of steps that are right after what came before.
    tokens: f64[N], sampled, those of scoring included.
    rating_tokens: f64[N], of them for scoring.
    prompt_tokens: f64[N], read, those of scoring included.
    hard: f64[N], share of slow steps.
    flops: f64[N], of reading and sampling, those of scoring included.
    per_step: f64[N], tokens over the number of steps: Tpi.
    scores: f64[N, steps], difficulties; 0 where nothing was scored.
  """

  right: np.ndarray
  steps_right: np.ndarray
  tokens: np.ndarray
  rating_tokens: np.ndarray
  prompt_tokens: np.ndarray
  hard: np.ndarray
  flops: np.ndarray
  per_step: np.ndarray
  scores: np.ndarray


class Steps(NamedTuple):
  """Single steps, N of them, and what is right.

  Attributes:
    queries: as they are asked; an instruction follows.
    gold: answers.
    kinds: i64[N], numbers of additions.
  """

  queries: list[str]
  gold: list[str]
  kinds: np.ndarray


class Bench:
  """The models, and everything that is asked of them."""

  def __init__(self, recipe: two_speed_recipe.StudyRecipe):
    """Loads the models of a recipe that has been checked."""
    self._recipe = recipe
    slow = bundle.load(recipe.model)
    self._engines = {"slow": self._engine(slow)}
    fast = slow
    if recipe.two_models:
      fast = bundle.load(recipe.fast_model)
      self._engines["fast"] = self._engine(fast)
    self._states = step_failure.StateReader(fast)
    self._gauges: dict[str, step_failure.Gauge] = {}

  def _engine(self, policy: bundle.Bundle) -> local_engine.LocalEngine:
    return local_engine.LocalEngine(
      policy,
      sampler=controllers.Sampler(temperature=self._recipe.temperature),
      groups=self._recipe.slots,
      rows=1,
      slots=128,
    )

  def chains(self, seed: int, kind: str = "") -> list[digit_chains.Chain]:
    """The chains of a seed; the same for all arms of a kind."""
    recipe = self._recipe
    additions = sorted(recipe.additions)
    if kind == "easy":
      additions = additions[: (len(additions) + 1) // 2]
    if kind == "hard":
      additions = additions[len(additions) // 2 :]
    rng = random.Random(f"chains-test-{seed}-{kind}")
    return [
      digit_chains.draw(
        rng, recipe.steps, additions, chained=kind != "independent"
      )
      for _ in range(recipe.chains)
    ]

  def steps(self, count: int, label: str) -> Steps:
    """Steps at any place of a chain, after right answers.

    Args:
      count: how many.
      label: other labels draw other steps.
    """
    recipe = self._recipe
    rng = random.Random(label)
    queries, gold, kinds = [], [], []
    for _ in range(count):
      length = rng.randint(1, recipe.steps)
      chain = digit_chains.draw(rng, length, recipe.additions)
      answers = chain.answers
      solved = [
        (step.text, str(that))
        for step, that in zip(chain.steps[:-1], answers, strict=False)
      ]
      queries.append(digit_chains.query("", solved, chain.steps[-1].text))
      gold.append(str(answers[-1]))
      kinds.append(chain.steps[-1].additions)
    return Steps(queries, gold, np.array(kinds))

  def calibrate(self) -> two_speed_arms.Calibration:
    """Tries single steps in both modes; half of them fit the probe."""
    recipe = self._recipe
    steps = self.steps(recipe.calibration, "chains-calibration")
    tried = [
      self.attempt(steps, mode, f"calibration-{mode}")
      for mode in digit_chains.MODES
    ]
    right, tokens, flops = (
      np.stack(part, axis=1) for part in zip(*tried, strict=True)
    )
    instruction = digit_chains.INSTRUCTIONS["fast"]
    states = self._states([query + instruction for query in steps.queries])
    half = recipe.calibration // 2
    failed = ~right[:, 0]
    probe = step_failure.fit(states[:half], failed[:half])
    self._gauges["probe"] = step_failure.Gauge(self._states, probe)
    guess = probe.failure(states[half:])
    by_kind = [steps.kinds == n for n in sorted(set(recipe.additions))]
    return two_speed_arms.Calibration(
      probe,
      samples.step_auc(guess, failed[half:]),
      _promising(guess, right[half:], recipe),
      np.stack([right[rows].mean(0) for rows in by_kind]),
      np.stack([tokens[rows].mean(0) for rows in by_kind]),
      np.stack([flops[rows].mean(0) for rows in by_kind]),
    )

  @property
  def states(self) -> step_failure.StateReader:
    """Reads the states of the model that answers at once."""
    return self._states

  def reading_flops(self, text: str) -> float:
    """FLOPs of reading a text for its state."""
    policy = self._states.policy
    tariff, _ = local_prices.local_tariff(policy, None, "prompt")
    length = len(policy.tokenizer.encode_prompt(text))
    return float(tariff.price(length, 0).flops)

  def attempt(
    self,
    steps: Steps,
    mode: str,
    label: str,
    seed: int = 0,
    model: str | None = None,
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One sample of each step: bool[N] right, f64[N] tokens, f64[N] FLOPs.

    Args:
      steps: to try.
      mode: one of `digit_chains.MODES`.
      label: of the samples; other labels draw others.
      seed: likewise.
      model: who is asked, in place of the mode's own model.
    """
    asked = two_speed_arms.system(self._recipe, mode, model=model)
    runs = self._serve(
      [two_speed.answer_at_once(query, asked) for query in steps.queries],
      label,
      seed,
    )
    right = [
      done.value == answer
      for done, answer in zip(runs, steps.gold, strict=True)
    ]
    return (
      np.array(right),
      np.array([sum(run.tokens.values()) for run in runs]),
      np.array([float(run.cost.flops) for run in runs]),
    )

  def vote(
    self, steps: Steps, votes: int, label: str, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Several answers at once to each step, and how far they agree.

    Returns:
      bool[N], whether the commonest answer is right; f64[N], its share of the
      votes; f64[N], FLOPs of all.
    """
    asked = two_speed_arms.system(self._recipe, "fast", votes=votes)
    runs = self._serve(
      [_ballot(query, asked) for query in steps.queries], label, seed
    )
    best = [max(done.value, key=done.value.count) for done in runs]
    return (
      np.array([b == gold for b, gold in zip(best, steps.gold, strict=True)]),
      np.array(
        [
          0.0 if b is None else done.value.count(b) / votes
          for b, done in zip(best, runs, strict=True)
        ]
      ),
      np.array([float(run.cost.flops) for run in runs]),
    )

  def measure(
    self,
    name: str,
    seed: int,
    calibration: two_speed_arms.Calibration | None,
    hard: Mapping[str, np.ndarray],
  ) -> Outcome:
    """Carries out all test chains of a seed by one arm."""
    arm = name.partition("-")[0]
    kind = {"cap_easy": "easy", "cap_hard": "hard"}.get(arm, "")
    if "independent" in arm:
      kind = "independent"
    chains = self.chains(seed, kind)
    done = self.carry_out(
      name, chains, seed, calibration, hard=hard, label=f"chain-{kind}"
    )
    return Outcome(
      *map(np.array, zip(*map(_graded, chains, done), strict=True))
    )

  def carry_out(
    self,
    name: str,
    chains: Sequence[digit_chains.Chain],
    seed: int,
    calibration: two_speed_arms.Calibration | None = None,
    *,
    hard: Mapping[str, np.ndarray] | None = None,
    label: str = "chain",
  ) -> list[programs.Done]:
    """Carries out chains by one arm (`two_speed_arms.program`), in order."""
    return self._serve(
      [
        two_speed_arms.program(
          name,
          self._recipe,
          calibration,
          chain,
          seed=seed,
          at=at,
          hard=hard or {},
        )
        for at, chain in enumerate(chains)
      ],
      label,
      seed,
    )

  def _serve(self, tasks, label, seed) -> list[programs.Done]:
    names = [f"{label}-{i}" for i in range(len(tasks))]
    done = list(
      programs.serve(
        tasks, self._engines, names, gauges=self._gauges, seed=seed
      )
    )
    return sorted(done, key=lambda one: one.index)


def _ballot(
  query: str, asked: two_speed.System
) -> Generator[programs.Ask, programs.Replies, list[str | None]]:
  """Asks for samples, and returns the answer of each; None for none."""
  replies = yield asked.ask(query)
  return [asked.content(reply.text) for reply in replies]


def _promising(
  guess: np.ndarray, right: np.ndarray, recipe: two_speed_recipe.StudyRecipe
) -> float:
  """The largest threshold whose chains succeed nearly as all slow ones do.

  Its share of right steps is taken at the lower end of its interval, or a lucky
  draw of steps would promise too much.
  """

  def found(slow):
    return int(np.where(slow, right[:, 1], right[:, 0]).sum())

  all_slow = found(np.ones(len(guess), bool)) / len(guess)
  floor = all_slow**recipe.steps - _GIVEN_UP
  fits = [
    tau
    for tau in recipe.taus
    if statistics.wilson_interval(found(guess > tau), len(guess), 0.9).low
    ** recipe.steps
    >= floor
  ]
  return max(fits, default=min(recipe.taus))


def _graded(chain: digit_chains.Chain, done: programs.Done) -> tuple[Any, ...]:
  """The fields of `Outcome` for one chain."""
  run: two_speed.Run = done.value
  that, right = "0", []
  for step, said in zip(chain.steps, run.contents, strict=True):
    known = that.isdecimal()
    expected = digit_chains.answer(step, int(that)) if known else None
    right.append(said == str(expected))
    that = said
  tokens = sum(done.tokens.values())
  return (
    run.answer == str(chain.answers[-1]),
    float(np.mean(right)),
    float(tokens),
    float(done.tokens.get("rating", 0)),
    float(sum(done.prompt_tokens.values())),
    float(np.mean(run.slow)),
    float(done.cost.flops),
    float(tokens) / len(run.steps),
    run.scores,
  )
