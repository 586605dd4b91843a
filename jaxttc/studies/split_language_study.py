# SPDX-License-Identifier: Apache-2.0
"""Demonstrations against preference pairs, on a language model.

The base is a small model of modular arithmetic that was stopped early. Money
buys gold solutions, or pairs of a model's own solutions of one problem, one
right, one wrong. Demonstrations train first; the pairs are samples of what they
made (of the base, if there are none), and DPO goes on from there. Both stages
are the recipes of `tuning_recipes`, run on files of rows as users have them.

A run is a budget, a share and a seed; it is a line of runs.jsonl once it is
done, so a study that is stopped, or killed, goes on with the next one.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import json
import math
import os
import pathlib
import shutil
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxttc.allocators import annotation_split
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import rollouts
from jaxttc.tasks import arithmetic, prompt_sets
from jaxttc.tasks import problems as problems_lib
from jaxttc.training import (
  loop,
  metrics,
  modular_model,
  preference_losses,
  sampled_pairs,
  tuning_batches,
  tuning_data,
  tuning_recipes,
)

_TUNING_SEED = 1_000_000
_CHUNK = 128  # problems sampled at once

# A run: budget, share and seed, what was bought, what it took, and scores.
Run = Mapping[str, Any]


@dataclasses.dataclass(kw_only=True)
class StageRecipe:
  """How one stage trains, in all runs alike.

  Attributes:
    train: rows and length; its steps, seed and rate are set by the study.
    epochs: passes over the stage's annotations.
    rates: learning rates to choose from.
  """

  train: loop.TrainConfig
  epochs: int
  rates: tuple[float, ...]


@dataclasses.dataclass(kw_only=True)
class LanguageSplitRecipe:
  """What is compared.

  Attributes:
    base: the model that all runs begin with.
    task: what is asked; each seed has problems of its own.
    sft_price: of a demonstration.
    pair_price: of a pair.
    budgets: money, ascending.
    largest: money that a seed's pool of problems suffices for, so that more
      budgets may be added without changing what the others buy.
    shares: of the money for demonstrations, ascending from 0 to 1.
    tuning_budget: at which the rates are chosen, on a seed of its own: that of
      demonstrations with nothing else, that of pairs likewise.
    seeds: how many, from 0.
    draws: solutions a problem, out of which a pair is taken, and out of which a
      success rate is estimated.
    asked: most problems whose solutions are marked, a pair that is wanted.
    tested: held-out problems a seed.
    max_tokens: longest solution.
    demonstrations: the first stage.
    pairs: the second.
    loss: of pairs.
  """

  base: modular_model.ModularModelRecipe
  task: prompt_sets.ModularTask
  sft_price: float = 2.0
  pair_price: float = 1.0
  budgets: tuple[int, ...] = (256, 1024)
  largest: int = 4096
  shares: tuple[float, ...] = (0.0, 0.1, 0.5, 1.0)
  tuning_budget: int = 1024
  seeds: int = 3
  draws: int = 8
  asked: int = 4
  tested: int = 128
  max_tokens: int = 28
  demonstrations: StageRecipe
  pairs: StageRecipe
  loss: preference_losses.PreferenceLossConfig

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be studied."""
    self.task.validate()
    self.loss.validate()
    for name in ("budgets", "shares"):
      found = list(getattr(self, name))
      if len(found) < 2 or found != sorted(set(found)):
        raise ValueError(f"{name} must ascend, got {found}")
    if max(*self.budgets, self.tuning_budget) > self.largest:
      raise ValueError(
        f"budgets={self.budgets} and tuning_budget={self.tuning_budget}: "
        f"expected at most largest={self.largest}"
      )
    if (self.shares[0], self.shares[-1]) != (0, 1) or len(self.shares) < 3:
      raise ValueError(
        f"shares must go from 0 to 1, with one between, got {self.shares}"
      )
    for name in ("tuning_budget", "seeds", "asked", "tested", "max_tokens"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    if self.draws < 2:
      raise ValueError(f"draws={self.draws}: a pair needs at least 2")
    for name in ("demonstrations", "pairs"):
      stage = getattr(self, name)
      stage.train.validate()
      if stage.epochs < 1 or not stage.rates or not min(stage.rates) > 0:
        raise ValueError(
          f"{name}: expected at least one epoch and rates above 0, got "
          f"epochs={stage.epochs}, rates={stage.rates}"
        )

  def plan(
    self, budget: int | float, share: int | float
  ) -> annotation_split.SplitPlan:
    """What a budget buys."""
    prices = annotation_split.AnnotationPrices(
      sft=self.sft_price, pair=self.pair_price
    )
    return annotation_split.plan_budget(budget, prices, share)

  def front(self) -> int:
    """Problems at the pool's beginning that only demonstrations are of."""
    return self.plan(self.largest, 1.0).sft

  def pool(self) -> int:
    """Problems of a seed that there are to buy annotations of."""
    return self.front() + self.asked * self.plan(self.largest, 0.0).pairs


class Found(NamedTuple):
  """What a study found.

  Attributes:
    base: success of the base on each seed's held-out problems, f64[S].
    rates: learning rate chosen, of each stage.
    tuning: success at each rate that was tried, of each stage.
    runs: budget by budget, share by share, seed by seed.
  """

  base: np.ndarray
  rates: dict[str, float]
  tuning: dict[str, dict[float, float]]
  runs: list[Run]


def run(recipe: LanguageSplitRecipe, workdir: str) -> Found:
  """Trains all runs, those on file excepted.

  Args:
    recipe: the study.
    workdir: folder of the base and of runs.jsonl.

  Raises:
    ValueError: if the recipe cannot be, the file is of another recipe, or a
      model has too few problems with a right and a wrong solution.
  """
  recipe.validate()
  bench = _Bench(recipe, pathlib.Path(workdir))
  rates, tuning = {}, {}
  for stage, share in (("demonstrations", 1.0), ("pairs", 0.0)):
    tuning[stage] = {
      rate: bench.measured(
        recipe.tuning_budget, share, _TUNING_SEED, {stage: rate}
      )["success"]
      for rate in getattr(recipe, stage).rates
    }
    rates[stage] = max(tuning[stage], key=lambda r: tuning[stage][r])
  found = {}
  # Budget by budget, so that a study cut short has all seeds of some budgets.
  for budget in recipe.budgets:
    for seed in range(recipe.seeds):
      for share in recipe.shares:
        found[budget, share, seed] = bench.measured(budget, share, seed, rates)
  base = [bench.measured(0, 1.0, s, {})["success"] for s in range(recipe.seeds)]
  return Found(
    np.array(base),
    rates,
    tuning,
    [found[key] for key in sorted(found)],
  )


def scores(
  recipe: LanguageSplitRecipe, runs: Sequence[Run], field: str = "success"
) -> np.ndarray:
  """A figure of all runs, f64[budgets, shares, seeds]."""
  shape = (len(recipe.budgets), len(recipe.shares), recipe.seeds)
  return np.reshape([row[field] for row in runs], shape).astype(np.float64)


class _Bench:
  """The base, one compiled sampler, and the lines that were written."""

  def __init__(self, recipe: LanguageSplitRecipe, folder: pathlib.Path):
    self.recipe, self.folder = recipe, folder
    folder.mkdir(parents=True, exist_ok=True)
    self.path = folder / "runs.jsonl"
    self.done = _lines(self.path, recipe)
    self.start = folder / "base.safetensors"
    if not self.start.exists():
      recipe.base.export(recipe.base.run(str(folder / "base")), str(self.start))
    self.policy = bundle_lib.load(str(self.start))
    self.width = recipe.pairs.train.length - recipe.max_tokens

    @jax.jit
    def draw(params, table, task, key):
      rank = jax.numpy.arange(task.shape[0]) % recipe.draws
      return rollouts.sample(
        self.policy.model,
        params,
        table,
        task,
        rollouts.row_keys(key, task, rank),
        self.policy.stop_rule,
        columns=recipe.max_tokens,
      )

    self.draw = draw
    self.pool = functools.lru_cache(maxsize=recipe.seeds + 1)(
      lambda seed: recipe.task.problems(recipe.pool(), "train", seed)
    )

  def measured(self, budget, share, seed, rates) -> Run:
    """A run's line; what is not on file is trained."""
    plan = self.recipe.plan(budget, share)
    about = {"budget": budget, "share": share, "seed": seed, "rates": rates}
    name = json.dumps(about, sort_keys=True)
    if name not in self.done:
      folder = self.folder / "now"
      row = about | self._train(plan, seed, rates, folder)
      with self.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
      shutil.rmtree(folder, ignore_errors=True)
      self.done[name] = row
    return self.done[name]

  def _train(self, plan, seed, rates, folder) -> dict[str, Any]:
    """Both stages, from the base; then the score."""
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    folder.mkdir()
    made, start = self.policy.params, str(self.start)
    row = {"sft": plan.sft, "pairs": plan.pairs, "spent": plan.spent}
    if plan.sft:
      rows = self._demonstrations(plan.sft, seed)
      sampled_pairs.write(folder / "demonstrations.jsonl", rows)
      made = self._supervised(folder, start, seed, rates["demonstrations"])
      start = str(folder / "tuned.safetensors")
      bundle_lib.save(start, dataclasses.replace(self.policy, params=made))
    if plan.pairs:
      row["marked"] = self._pairs(folder / "pairs.jsonl", made, plan, seed)
      made = self._preference(folder, start, seed, rates["pairs"], plan.pairs)
      last = metrics.read(str(folder / "preference"))[-1]
      row |= {name: last[name] for name in ("chosen", "rejected", "agrees")}
    problems = self.recipe.task.problems(self.recipe.tested, "test", seed)
    right = [
      share for share, *_ in self._solved(made, problems, jax.random.key(seed))
    ]
    return row | {"success": float(np.mean(right))}

  def _demonstrations(self, count, seed) -> Iterator[Mapping[str, str]]:
    for problem in self.pool(seed)[:count]:
      yield {
        "prompt": problems_lib.prompt(problem),
        "completion": arithmetic.solution(problem, "terse"),
      }

  def _pairs(self, path, params, plan, seed) -> int:
    """Writes pairs; how many problems had their solutions marked for them."""
    first = self.recipe.front()
    most = first + self.recipe.asked * plan.pairs
    problems = self.pool(seed)[first:most]
    key = jax.random.key(_TUNING_SEED + seed)
    rows, marked = [], 0
    for _, problem, right, wrong in self._solved(params, problems, key):
      marked += 1
      if right and wrong:
        prompt = problems_lib.prompt(problem)
        rows.append(
          {"prompt": prompt, "chosen": right[0], "rejected": wrong[0]}
        )
      if len(rows) == plan.pairs:
        break
    if len(rows) < plan.pairs:
      raise ValueError(
        f"only {len(rows)} of {marked} problems have a right and a wrong "
        f"solution, {plan.pairs} pairs are wanted; raise asked or draws"
      )
    sampled_pairs.write(path, iter(rows))
    return marked

  def _solved(self, params, problems, key):
    """(share right, problem, right texts, wrong texts) of each problem.

    What was cut is wrong, and in no list: it has no end.
    """
    draws = self.recipe.draws
    for start in range(0, len(problems), _CHUNK):
      part = problems[start : start + _CHUNK]
      filled = part + [part[-1]] * (_CHUNK - len(part))  # one shape for all
      asked = prompt_sets.prompt_set(
        filled, self.policy.tokenizer, width=self.width, check_steps=True
      )
      task = np.repeat(np.arange(_CHUNK), draws)
      table = rollouts.Prompts(asked.tokens, asked.length)
      key, own = jax.random.split(key)
      drawn = self.draw(params, table, task, own)
      tokens, ended = np.asarray(drawn.tokens), np.asarray(drawn.finished)
      right = asked.grade(task, tokens) * ended
      for i, problem in enumerate(part):
        rows = range(i * draws, (i + 1) * draws)
        texts: tuple[list[str], list[str]] = ([], [])
        for row in rows:
          if ended[row]:
            text = self.policy.tokenizer.decode(tokens[row][tokens[row] >= 0])
            texts[int(right[row])].append(text)
        yield float(right[list(rows)].mean()), problem, texts[1], texts[0]

  def _supervised(self, folder, start, seed, rate) -> dict[str, Any]:
    stage = self.recipe.demonstrations
    data = self._data(folder / "demonstrations.jsonl")
    examples, _ = tuning_data.demonstrations(
      data, self.policy, stage.train.length
    )
    batches = tuning_batches.demonstration_batches(
      examples, stage.train.batch_size, stage.train.length, seed
    )
    steps = stage.epochs * batches.steps_an_epoch
    return tuning_recipes.SupervisedRecipe(
      start=start, data=data, train=_paced(stage.train, steps, seed, rate)
    ).run(str(folder / "supervised"))

  def _preference(self, folder, start, seed, rate, pairs) -> dict[str, Any]:
    stage = self.recipe.pairs
    steps = math.ceil(stage.epochs * pairs / stage.train.batch_size)
    return tuning_recipes.PreferenceRecipe(
      start=start,
      data=self._data(folder / "pairs.jsonl"),
      loss=self.recipe.loss,
      train=_paced(stage.train, steps, seed, rate),
    ).run(str(folder / "preference"))

  def _data(self, path) -> tuning_data.DataConfig:
    return tuning_data.DataConfig(path=str(path), longest_prompt=self.width)


def _paced(train, steps, seed, rate) -> loop.TrainConfig:
  """The stage's settings for a run; it logs its last step."""
  return dataclasses.replace(
    train,
    steps=steps,
    seed=seed,
    learning_rate=rate,
    decay_steps=None,
    log_every=steps,
    evaluate_every=steps,
    checkpoint_every=steps,
  )


def _lines(path: pathlib.Path, recipe) -> dict[str, Run]:
  """Runs on file, by what they are of; the first line is the recipe."""
  described = dataclasses.asdict(recipe)
  for name in ("budgets", "shares", "seeds"):  # more may be asked for later
    described.pop(name)
  for stage in ("demonstrations", "pairs"):
    described[stage].pop("rates")  # each run says its own
  wanted = json.loads(json.dumps(described | {"pool": recipe.pool()}))
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
  fields = ("budget", "share", "seed", "rates")
  return {
    json.dumps({name: row[name] for name in fields}, sort_keys=True): row
    for row in rows
  }
