# SPDX-License-Identifier: Apache-2.0
"""What the study of SCALE asks of its models: calibration, and every arm.

One small model with two modes (`configs/two_speed_lm.py`), or it and a smaller
one that only answers at once (`configs/fast_sums_lm.py`), carries out chains
whose steps differ in difficulty. The outline is the task's own; everything
else is decoded.
"""

import dataclasses
import functools
import random
from typing import NamedTuple

import numpy as np

from jaxttc.agents import difficulty, outlines, two_speed
from jaxttc.allocators import step_modes
from jaxttc.evaluation import samples, statistics
from jaxttc.inference import bundle, controllers, local_engine
from jaxttc.predictors import step_failure
from jaxttc.runtime import programs
from jaxttc.tasks import digit_chains

TAUS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
FIXED = 0.4  # the threshold that was chosen beforehand
_GIVEN_UP = 0.02  # of success, by the threshold that calibration chooses
_PARTS = 100  # a step of the knapsack's budget is this part of the dearest step


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """The chains, and how they are carried out.

  Attributes:
    model: a two-mode model's file, or the name of one that ships.
    fast_model: another that answers at once in its place, likewise; "" for the
      same model's fast mode.
    chains: tested for each seed.
    steps: of a chain.
    additions: of a step, drawn uniformly.
    taus: thresholds; `FIXED` is one of them.
    shares: of the compute of all slow steps, for the knapsack.
    seeds: of chains and samples.
    temperature: of sampling.
    fast_limit: most tokens of an answer at once.
    slow_limit: most tokens of a step that is worked out.
    calibration: steps that the probe is fitted on, and modes are priced by.
    votes: samples of the voting baseline.
    disagreeing: samples of the disagreement scorer.
    slots: programs that one batch serves.
    resamples: of the bootstrap.
  """

  model: str = "two_speed_lm"
  fast_model: str = ""
  chains: int = 120
  steps: int = 5
  additions: tuple[int, ...] = (1, 2, 3, 4, 5)
  taus: tuple[float, ...] = TAUS
  shares: tuple[float, ...] = (0.4, 0.6, 0.8, 1.0)
  seeds: tuple[int, ...] = (3, 4, 5)
  temperature: float = 0.6
  fast_limit: int = 6
  slow_limit: int = 48
  calibration: int = 2000
  votes: int = 8
  disagreeing: int = 4
  slots: int = 64
  resamples: int = 1000

  @property
  def two_models(self) -> bool:
    """Whether the systems are two models; compute is then told in FLOPs."""
    return bool(self.fast_model)

  def check(self) -> None:
    """Raises ValueError if the recipe cannot be run."""
    for name in (
      "chains",
      "fast_limit",
      "slow_limit",
      "calibration",
      "votes",
      "slots",
      "resamples",
    ):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")
    if FIXED not in self.taus or not all(0 <= tau <= 1 for tau in self.taus):
      raise ValueError(f"taus {self.taus}: expected 0..1, {FIXED} among them")
    if not all(0 < share <= 1 for share in self.shares):
      raise ValueError(f"shares {self.shares}: expected above 0, to 1")
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise ValueError(f"seeds {self.seeds}: expected different ones")
    if not self.temperature > 0:
      raise ValueError(f"temperature is {self.temperature}; expected > 0")
    digit_chains.draw(random.Random(0), self.steps, self.additions)


class Calibration(NamedTuple):
  """What is known of the model before it is tested.

  Attributes:
    probe: fitted to its answers at once.
    auc: of the probe, on steps that it was not fitted on.
    tau: the largest of the recipe's that, on those steps, promises a chain's
      success to within 0.02 of that of working every step out.
    rates: f64[A, 2], success of fast and slow by number of additions, in the
      order of the recipe's.
    tokens: f64[A, 2], mean tokens sampled for them.
    flops: f64[A, 2], mean FLOPs of them, reading the query included.
  """

  probe: step_failure.Probe
  auc: float
  tau: float
  rates: np.ndarray
  tokens: np.ndarray
  flops: np.ndarray


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
  """

  right: np.ndarray
  steps_right: np.ndarray
  tokens: np.ndarray
  rating_tokens: np.ndarray
  prompt_tokens: np.ndarray
  hard: np.ndarray
  flops: np.ndarray


class Bench:
  """The models, and everything that is asked of them."""

  def __init__(self, recipe: StudyRecipe):
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

  def _system(
    self,
    mode: str,
    limit: int | None = None,
    votes: int = 1,
    model: str | None = None,
  ) -> two_speed.System:
    limits = {"fast": self._recipe.fast_limit, "slow": self._recipe.slow_limit}
    return two_speed.System(
      digit_chains.INSTRUCTIONS[mode],
      limits[mode] if limit is None else limit,
      digit_chains.content,
      model=self._served_by(mode) if model is None else model,
      stage=mode,
      samples=votes,
    )

  def _served_by(self, mode: str) -> str:
    return mode if mode in self._engines else "slow"

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

  def calibrate(self) -> Calibration:
    """Single steps after right answers, in both modes; half fit the probe."""
    recipe = self._recipe
    rng = random.Random("chains-calibration")
    queries, gold, kinds = [], [], []
    for _ in range(recipe.calibration):
      count = rng.randint(1, recipe.steps)
      chain = digit_chains.draw(rng, count, recipe.additions)
      answers = chain.answers
      solved = [
        (step.text, str(that))
        for step, that in zip(chain.steps[:-1], answers, strict=False)
      ]
      queries.append(digit_chains.query("", solved, chain.steps[-1].text))
      gold.append(str(answers[-1]))
      kinds.append(chain.steps[-1].additions)
    right, tokens, flops = (
      np.stack(part, axis=1)
      for part in zip(
        *(self._tried(queries, gold, mode) for mode in digit_chains.MODES),
        strict=True,
      )
    )
    instruction = digit_chains.INSTRUCTIONS["fast"]
    states = self._states([query + instruction for query in queries])
    half = recipe.calibration // 2
    failed = ~right[:, 0]
    probe = step_failure.fit(states[:half], failed[:half])
    self._gauges["probe"] = step_failure.Gauge(self._states, probe)
    guess = probe.failure(states[half:])
    by_kind = [np.array(kinds) == n for n in sorted(set(recipe.additions))]
    return Calibration(
      probe,
      samples.step_auc(guess, failed[half:]),
      _promising(guess, right[half:], recipe),
      np.stack([right[rows].mean(0) for rows in by_kind]),
      np.stack([tokens[rows].mean(0) for rows in by_kind]),
      np.stack([flops[rows].mean(0) for rows in by_kind]),
    )

  def _tried(self, queries, gold, mode):
    system = self._system(mode)
    runs = self._serve(
      [two_speed.answer_at_once(query, system) for query in queries],
      f"calibration-{mode}",
      0,
    )
    right = [
      done.value == answer for done, answer in zip(runs, gold, strict=True)
    ]
    return (
      np.array(right),
      np.array([sum(run.tokens.values()) for run in runs]),
      np.array([float(run.cost.flops) for run in runs]),
    )

  def measure(
    self,
    name: str,
    seed: int,
    calibration: Calibration,
    hard: dict[str, np.ndarray],
  ) -> Outcome:
    """Carries out all chains by one arm."""
    arm, _, number = name.partition("-")
    kind = {"cap_easy": "easy", "cap_hard": "hard"}.get(arm, "")
    if "independent" in arm:
      kind = "independent"
    chains = self.chains(seed, kind)
    build = functools.partial(
      self._program, arm, number, calibration, seed, hard
    )
    runs = self._serve(
      [build(at, chain) for at, chain in enumerate(chains)],
      f"chain-{kind}",
      seed,
    )
    return Outcome(
      *map(np.array, zip(*map(_graded, chains, runs), strict=True))
    )

  def _program(self, arm, number, calibration, seed, hard, at, chain):
    """The program of one chain, the `at`th, under one arm."""
    fast = self._system(
      "fast",
      votes=self._recipe.votes if arm == "vote" else 1,
      model="slow" if arm == "large_at_once" else None,
    )
    cap = int(number) if arm.startswith("cap_") else None
    slow = self._system("slow", cap)
    tau = float(number) if number and cap is None else 0.0
    scorer: difficulty.Scorer | None = None
    regime = "with_solutions"
    if arm in ("fast", "vote", "large_at_once"):
      policy = step_modes.always(False)
    elif arm.startswith(("slow", "cap_")):
      policy = step_modes.always(True)
    elif arm == "random":
      share = hard[f"probe-{number}"][at]
      rng = np.random.default_rng([seed, at, int(1000 * tau)])
      count = round(float(share) * self._recipe.steps)
      policy = step_modes.at_random(count, rng)
    elif arm == "budgeted":
      policy, regime = self._budgeted(calibration, chain, tau), "text_only"
      scorer = difficulty.known([0.0])
    else:
      floor = 0.9 if arm == "probe_floor" else 0.0
      policy = step_modes.threshold(tau, floor)
      regime = "text_only" if arm == "text_only" else regime
      scorer = self._scorer(arm, calibration, chain)
    return two_speed.carry_out(
      chain.text,
      outlines.Outline(chain.outline),
      fast,
      slow,
      policy,
      scorer,
      regime=regime,
      query=digit_chains.query,
      carry="without_answers" not in arm,
    )

  def _scorer(self, arm, calibration, chain) -> difficulty.Scorer:
    if arm == "disagreement":
      return difficulty.disagreement(
        digit_chains.content,
        samples=self._recipe.disagreeing,
        limit=self._recipe.fast_limit,
        model=self._served_by("fast"),
      )
    if arm == "oracle":
      kinds = sorted(set(self._recipe.additions))
      return difficulty.known(
        [
          float(1 - calibration.rates[kinds.index(step.additions), 0])
          for step in chain.steps
        ]
      )
    return difficulty.probe()

  def _budgeted(self, calibration, chain, share) -> step_modes.ModePolicy:
    """Best modes by known rates, at a share of the compute of all slow."""
    kinds = sorted(set(self._recipe.additions))
    rows = [kinds.index(step.additions) for step in chain.steps]
    rates = np.clip(calibration.rates[rows], 1e-3, 1.0)
    prices = calibration.tokens[rows]
    if self._recipe.two_models:
      prices = calibration.flops[rows] * _PARTS / calibration.flops.max()
    prices = np.ceil(prices).astype(int)
    budget = max(int(share * prices[:, 1].sum()), 1)
    return step_modes.budgeted(lambda _: rates, lambda _: prices, budget)

  def _serve(self, tasks, label, seed) -> list[programs.Done]:
    names = [f"{label}-{i}" for i in range(len(tasks))]
    done = list(
      programs.serve(
        tasks, self._engines, names, gauges=self._gauges, seed=seed
      )
    )
    return sorted(done, key=lambda one: one.index)


def _promising(
  guess: np.ndarray, right: np.ndarray, recipe: StudyRecipe
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


def _graded(
  chain: digit_chains.Chain, done: programs.Done
) -> tuple[bool, float, float, float, float, float, float]:
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
  )
