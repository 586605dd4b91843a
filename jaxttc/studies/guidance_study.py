# SPDX-License-Identifier: Apache-2.0
"""Thinking policies side by side, at budgets from tight to generous.

Sums of digits are asked under each policy and budget. A question's budget is a
fraction of what questions of its kind take by themselves. Policies with
settings, guidance's strength among them, get those that did best on other
questions, at each budget anew; how they did there also tells which budget loses
nothing, before any question that figures are taken over is asked.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import random
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np
from rich import progress

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import last_states, thinking_policies
from jaxttc.predictors import length_predictor
from jaxttc.studies import guidance_bench, guidance_menu
from jaxttc.tasks import digit_sums
from jaxttc.tasks import problems as problems_lib

_TUNING_SEEDS = (1_000, 1_001)


@dataclasses.dataclass(kw_only=True)
class GuidanceStudyRecipe:
  """Which models and questions, and how they are compared.

  Attributes:
    policy: the language model's file, or the name of one that ships.
    predictor: likewise its length predictor's.
    discrete: likewise that of a predictor whose law is discrete.
    least_digits: of a question.
    most_digits: of a question.
    items: questions that figures are taken over.
    tuning: other questions, for settings and natural lengths.
    seeds: of the decoding.
    fractions: budgets, over the natural length.
    band: fractions that the claims of tight budgets are taken over.
    generous: from which fraction on nothing should be lost.
    tolerance: points within which an accuracy counts as equal.
    resamples: of the bootstrap over questions.
    limit: most tokens a row may write.
    min_p: what is less likely than this share of the likeliest token is never
      drawn, under any policy.
  """

  policy: str = "thinking_lm"
  predictor: str = "thinking_length"
  discrete: str = "thinking_length_bins"
  least_digits: int = 2
  most_digits: int = 4
  items: int = 120
  tuning: int = 80
  seeds: tuple[int, ...] = (0, 1, 2)
  fractions: tuple[float, ...] = (0.4, 0.5, 0.6, 0.7, 1.0, 1.3)
  band: tuple[float, ...] = (0.4, 0.5, 0.6, 0.7)
  generous: float = 1.3
  tolerance: float = 1.0
  resamples: int = 1000
  limit: int = 56
  min_p: float = 0.01

  def check(self) -> None:
    """Raises ValueError if the recipe cannot be run."""
    for name in ("items", "tuning", "resamples", "limit"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    if not 2 <= self.least_digits <= self.most_digits:
      raise ValueError(
        f"least_digits {self.least_digits} and most_digits "
        f"{self.most_digits}; expected 2 <= least_digits <= most_digits"
      )
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise ValueError(f"seeds {self.seeds}; expected different ones")
    if not self.fractions or min(self.fractions) <= 0:
      raise ValueError(f"fractions {self.fractions}; expected positive ones")
    missing = set(self.band) - set(self.fractions)
    if missing or not self.band:
      raise ValueError(
        f"band {self.band}; expected some of the fractions {self.fractions}"
      )
    if not 0 <= self.min_p < 1:
      raise ValueError(f"min_p is {self.min_p}; expected 0 <= min_p < 1")
    if max(self.fractions) < self.generous:
      raise ValueError(
        f"generous is {self.generous}; expected at most the largest fraction"
      )


class Run(NamedTuple):
  """One policy at one budget.

  Attributes:
    policy: its name.
    fraction: the budgets, over the natural length; 0 if it knows none.
    setting: chosen on the tuning questions.
    tuned: accuracy on them, of that setting; chosen as the best, so no figure.
    budgets: i32[B].
    tally: of all seeds, each array [S, B].
  """

  policy: str
  fraction: float
  setting: str
  tuned: float
  budgets: Int[np.ndarray, " B"]
  tally: guidance_bench.Tally


class Found(NamedTuple):
  """All that a study computes.

  Attributes:
    items: the questions.
    natural: mean natural length by number of digits.
    runs: by (policy, fraction); fraction 0 for policies without a budget.
    expected: f64[B], predicted length before any thinking.
    policy: the language model.
    predictor: its length predictor.
    discrete: another, whose law is discrete.
  """

  items: tuple[problems_lib.Problem, ...]
  natural: dict[int, float]
  runs: dict[tuple[str, float], Run]
  expected: Float[np.ndarray, " B"]
  policy: bundle_lib.Bundle
  predictor: length_predictor.LengthPredictor
  discrete: length_predictor.LengthPredictor

  @property
  def full(self) -> guidance_bench.Tally:
    """What thinking without a budget came to."""
    return self.runs["full", 0.0].tally

  def cell(self, policy: str, fraction: float) -> guidance_bench.Tally:
    """What a policy came to at a budget."""
    return self.runs[policy, fraction].tally


def questions(
  recipe: GuidanceStudyRecipe, count: int, name: str
) -> tuple[problems_lib.Problem, ...]:
  """Questions of uniformly many digits, a pure function of the arguments."""
  rng = random.Random(f"guidance-study-{name}")
  return tuple(
    digit_sums.generate(
      rng, rng.randint(recipe.least_digits, recipe.most_digits)
    )
    for _ in range(count)
  )


def run(recipe: GuidanceStudyRecipe) -> Found:
  """Asks everything.

  Raises:
    ValueError: if the recipe cannot be run, or the predictor was not trained
      on the model.
  """
  recipe.check()
  policy = bundle_lib.load(recipe.policy)
  predictor = length_predictor.load(recipe.predictor)
  discrete = length_predictor.load(recipe.discrete)
  for made in (predictor, discrete):
    made.chance(policy)  # refuses another model's
  bench = guidance_bench.Bench(policy, recipe.limit, recipe.min_p)
  items = questions(recipe, recipe.items, "held-out")
  others = questions(recipe, recipe.tuning, "tuning")
  natural = natural_lengths(bench, others, recipe.limit)
  menu = guidance_menu.policies(
    policy, predictor, discrete, bench.confidence(others)
  )
  runs = {}
  bare = guidance_bench.Bench(policy, recipe.limit)
  unfiltered = {
    guidance_menu.UNFILTERED: {
      setting: menu[guidance_menu.GUIDED][setting]
      for setting in guidance_menu.MODERATE
    }
  }
  total = 2 + len(recipe.fractions) * (len(menu) + 1)
  with progress.Progress(transient=True) as bar:
    shown = bar.add_task("policies", total=total)
    for made in itertools.chain(
      _unbudgeted(recipe, bench, items, others),
      _budgeted(recipe, bench, menu, items, others, natural),
      _budgeted(recipe, bare, unfiltered, items, others, natural),
    ):
      bar.update(shown, description=f"{made.policy}, {made.fraction:g}")
      runs[made.policy, made.fraction] = made
      bar.advance(shown)
  prompts = bench.prompts(items, thinking_policies.full())
  logits, hidden = last_states.next_token(policy, prompts)
  expected = length_predictor.expected_length(
    predictor, policy, jnp.asarray(hidden), jnp.asarray(logits)
  )
  return Found(
    items, natural, runs, np.asarray(expected), policy, predictor, discrete
  )


def _unbudgeted(recipe, bench, items, others) -> Iterator[Run]:
  unlimited = np.full(len(items), recipe.limit, np.int32)
  for made in (thinking_policies.full(), thinking_policies.no_thinking()):
    found = [bench.ask(items, made, unlimited, s) for s in recipe.seeds]
    apart = np.full(len(others), recipe.limit, np.int32)
    tuned = np.mean(
      [bench.ask(others, made, apart, s).right for s in _TUNING_SEEDS]
    )
    yield Run(made.name, 0.0, "", float(tuned), unlimited, _stacked(found))


def _budgeted(recipe, bench, menu, items, others, natural) -> Iterator[Run]:
  fractions = recipe.fractions
  for name, candidates in menu.items():
    chosen, tuned = choose(bench, candidates, others, natural, fractions)
    swept = {
      setting: [
        sweep(bench, candidates[setting], items, natural, fractions, seed)
        for seed in recipe.seeds
      ]
      for setting in dict.fromkeys(chosen)
    }
    for at, (fraction, setting) in enumerate(
      zip(fractions, chosen, strict=True)
    ):
      yield Run(
        name,
        fraction,
        setting,
        tuned[at],
        budgets(items, natural, fraction),
        _stacked([tallies[at] for tallies in swept[setting]]),
      )


def sweep(
  bench: guidance_bench.Bench,
  policy: thinking_policies.ThinkingPolicy,
  items: Sequence[problems_lib.Problem],
  natural: Mapping[int, float],
  fractions: Sequence[float],
  seed: int,
) -> list[guidance_bench.Tally]:
  """Asks each question once at each fraction, all in one batch."""
  given = [budgets(items, natural, fraction) for fraction in fractions]
  whole = bench.ask(
    [*items] * len(fractions), policy, np.concatenate(given), seed
  )
  parts = [np.split(field, len(fractions)) for field in whole]
  return [guidance_bench.Tally(*fields) for fields in zip(*parts, strict=True)]


def choose(
  bench: guidance_bench.Bench,
  candidates: guidance_menu.Candidates,
  items: Sequence[problems_lib.Problem],
  natural: Mapping[int, float],
  fractions: Sequence[float],
) -> tuple[list[str], list[float]]:
  """At each fraction, the setting that is right most often; on ties, the one
  that spends least, or comes first.

  Returns:
    The settings, and how often they were right.
  """
  names = list(candidates)
  right, spent = np.empty((2, len(names), len(fractions)))
  for at, policy in enumerate(candidates.values()):
    swept = [
      sweep(bench, policy, items, natural, fractions, seed)
      for seed in _TUNING_SEEDS
    ]
    for k, found in enumerate(zip(*swept, strict=True)):
      right[at, k] = np.mean([tally.right for tally in found])
      spent[at, k] = np.mean([tally.spent for tally in found])
  best = np.lexsort((spent, -right), axis=0)[0]
  return [names[i] for i in best], right.max(axis=0).tolist()


def natural_lengths(
  bench: guidance_bench.Bench, items: Sequence[problems_lib.Problem], limit: int
) -> dict[int, float]:
  """Mean tokens of unguided thinking, by number of digits."""
  full = thinking_policies.full()
  unlimited = np.full(len(items), limit, np.int32)
  spent = np.stack(
    [bench.ask(items, full, unlimited, 2_000 + s).spent for s in range(3)]
  ).mean(axis=0)
  steps = np.array([item.steps for item in items])
  return {int(n): float(spent[steps == n].mean()) for n in np.unique(steps)}


def budgets(
  items: Sequence[problems_lib.Problem],
  natural: Mapping[int, float],
  fraction: float,
) -> Int[np.ndarray, " B"]:
  """Whole tokens of each question's span: a fraction of its natural length.

  Raises:
    ValueError: if no length is known of a question's kind.
  """
  unknown = {item.steps for item in items} - set(natural)
  if unknown:
    raise ValueError(
      f"no natural length of {sorted(unknown)} digits; ask more questions"
    )
  given = [fraction * natural[item.steps] for item in items]
  return np.maximum(np.floor(given), 1).astype(np.int32)


def _stacked(found: Sequence[guidance_bench.Tally]) -> guidance_bench.Tally:
  """Tallies of all seeds, each array [S, B]."""
  return guidance_bench.Tally(*(np.stack(x) for x in zip(*found, strict=True)))
