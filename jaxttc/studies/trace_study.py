# SPDX-License-Identifier: Apache-2.0
"""Training on what SCALE wrote: a model that thinks where its traces did.

A model of two modes carries out chains (`two_speed_bench`); the steps of those
that came out right are rows to train a copy of it on, each asked as System 1 is
asked. Three kinds of traces, as many rows of each number of additions, trained
on for as many updates: SCALE's, where hard steps were worked out; System 1's,
the model's own right answers at once, which is the control; and System 2's,
where all was worked out. Copies are then asked as System 1 only, without a
scorer, and compared with the model itself.
"""

import dataclasses
import json
import os
import pathlib
import random
from typing import NamedTuple

import numpy as np
from rich import progress

from jaxttc.agents import traces
from jaxttc.inference import bundle
from jaxttc.studies import (
  two_speed_arms,
  two_speed_bench,
  two_speed_recipe,
  two_speed_study,
)
from jaxttc.tasks import digit_chains
from jaxttc.training import (
  loop,
  tuning_data,
  tuning_recipes,
  tuning_rows,
)

KINDS = ("scale", "fast", "slow")
"""Whose traces: SCALE's, System 1's, System 2's."""

_CHUNK = 250  # chains carried out before it is seen whether they suffice


@dataclasses.dataclass(kw_only=True)
class TraceRecipe:
  """What traces are of, and how a copy is trained on them.

  Attributes:
    scale: models, chains and limits, and how many chains are tested; its
      `fast_model` is "", its seeds are not looked at.
    tau: threshold on the difficulty that SCALE's traces are written with.
    chains: most that are carried out for the traces of a kind and a seed.
    rows: of each kind, an equal share of them of each number of additions.
    seeds: each has chains, traces, training and tests of its own.
    tested: single steps, of each seed.
    train: its seed is set by the study.
  """

  scale: two_speed_recipe.StudyRecipe
  tau: float = two_speed_recipe.FIXED
  chains: int = 2000
  rows: int = 800
  seeds: tuple[int, ...] = (0, 1, 2)
  tested: int = 1000
  train: loop.TrainConfig

  def check(self) -> None:
    """Raises ValueError, naming the field, if the recipe cannot be run."""
    self.scale.check()
    self.train.validate()
    if self.scale.two_models:
      raise ValueError(
        f"scale.fast_model is {self.scale.fast_model!r}; expected '', since one"
        " model is trained"
      )
    if not 0 <= self.tau <= 1:
      raise ValueError(f"tau is {self.tau}; expected 0..1")
    for name in ("chains", "tested"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")
    kinds = len(set(self.scale.additions))
    if self.rows < kinds or self.rows % kinds:
      raise ValueError(
        f"rows is {self.rows}; expected a multiple of {kinds}, the numbers of"
        " additions"
      )
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise ValueError(f"seeds {self.seeds}: expected different ones")


class Tested(NamedTuple):
  """What one model does in one way, of one seed.

  Attributes:
    kinds: i64[N], numbers of additions of the steps; none of SCALE, which is
      tested on chains only.
    right: bool[N], of single steps.
    tokens: f64[N], sampled for them.
    chains: outcomes of the test chains; None of the mode that is not trained.
  """

  kinds: np.ndarray
  right: np.ndarray
  tokens: np.ndarray
  chains: two_speed_bench.Outcome | None


class Found(NamedTuple):
  """All that a study computes.

  Attributes:
    calibration: of the model that traces are of.
    written: by kind and seed, mean tokens of a training row's completion.
    tested: by name and seed: the model itself as "fast", "slow" and "scale",
      its copies as "student-" and the kind of traces, and as "kept-" and the
      kind where they are told to work a step out.
  """

  calibration: two_speed_arms.Calibration
  written: dict[str, dict[int, float]]
  tested: dict[str, dict[int, Tested]]


def run(recipe: TraceRecipe, workdir: str | os.PathLike[str]) -> Found:
  """Writes traces, trains copies, and tests them.

  Args:
    recipe: the study.
    workdir: where traces and copies are kept; what is there is not made anew.

  Raises:
    ValueError: if the recipe cannot be run, the folder holds another's, or too
      few chains came out right.
  """
  recipe.check()
  folder = pathlib.Path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  settings = dataclasses.asdict(recipe)
  del settings["seeds"]
  two_speed_study.claim_folder(folder, settings)
  bench = two_speed_bench.Bench(recipe.scale)
  calibration = bench.calibrate()
  found = Found(calibration, {}, {})
  with progress.Progress(transient=True) as bar:
    shown = bar.add_task("model", total=len(recipe.seeds) * (1 + len(KINDS)))
    for seed in recipe.seeds:
      bar.update(shown, description=f"seed {seed}, the model itself")
      for name, tested in _of_itself(recipe, bench, calibration, seed).items():
        found.tested.setdefault(name, {})[seed] = tested
      bar.advance(shown)
      for kind in KINDS:
        bar.update(shown, description=f"seed {seed}, traces of {kind}")
        path = folder / f"{kind}_{seed}.jsonl"
        if not path.exists():
          rows = _rows(recipe, bench, calibration, kind, seed)
          unfinished = path.with_suffix(".part")
          lines = [json.dumps(row) + "\n" for row in rows]
          unfinished.write_text("".join(lines), encoding="utf-8")
          unfinished.replace(path)
        student = _student(recipe, path, seed)
        found.written.setdefault(kind, {})[seed] = _mean_tokens(path, student)
        for name, tested in _of_student(recipe, student, seed).items():
          found.tested.setdefault(f"{name}-{kind}", {})[seed] = tested
        bar.advance(shown)
  return found


def _of_itself(recipe, bench, calibration, seed) -> dict[str, Tested]:
  steps = _test_steps(bench, recipe, seed)
  found = {}
  for mode in digit_chains.MODES:
    right, tokens, _ = bench.attempt(steps, mode, f"steps-{mode}", seed)
    chains = bench.measure(mode, seed, None, {})
    found[mode] = Tested(steps.kinds, right, tokens, chains)
  chains = bench.measure(f"probe-{recipe.tau}", seed, calibration, {})
  none = np.zeros(0)
  found["scale"] = Tested(none.astype(int), none.astype(bool), none, chains)
  return found


def _of_student(recipe, path: pathlib.Path, seed: int) -> dict[str, Tested]:
  """A copy asked as System 1, with room to think; and as System 2."""
  settings = dataclasses.replace(
    recipe.scale, model=str(path), fast_limit=recipe.scale.slow_limit
  )
  bench = two_speed_bench.Bench(settings)
  steps = _test_steps(bench, recipe, seed)
  right, tokens, _ = bench.attempt(steps, "fast", "steps-fast", seed)
  chains = bench.measure("fast", seed, None, {})
  kept, spent, _ = bench.attempt(steps, "slow", "steps-slow", seed)
  return {
    "student": Tested(steps.kinds, right, tokens, chains),
    "kept": Tested(steps.kinds, kept, spent, None),
  }


def _test_steps(bench, recipe, seed) -> two_speed_bench.Steps:
  return bench.steps(recipe.tested, f"chains-tested-steps-{seed}")


def _rows(recipe, bench, calibration, kind, seed) -> list[dict[str, str]]:
  """Steps of chains that came out right, equally many of each difficulty."""
  settings = recipe.scale
  arm = f"probe-{recipe.tau}" if kind == "scale" else kind
  kinds = sorted(set(settings.additions))
  wanted = recipe.rows // len(kinds)
  kept: dict[int, list[dict[str, str]]] = {count: [] for count in kinds}
  rng = random.Random(f"chains-traces-{seed}")
  for start in range(0, recipe.chains, _CHUNK):
    chains = [
      digit_chains.draw(rng, settings.steps, settings.additions)
      for _ in range(min(_CHUNK, recipe.chains - start))
    ]
    label = f"traces-{kind}-{start}"
    done = bench.carry_out(arm, chains, seed, calibration, label=label)
    for chain, one in zip(chains, done, strict=True):
      if one.value.answer == str(chain.answers[-1]):
        for step, row in zip(chain.steps, _written(chain, one), strict=True):
          kept[step.additions].append(row)
    if min(map(len, kept.values())) >= wanted:
      # One of each difficulty, and again.
      groups = [rows[:wanted] for rows in kept.values()]
      return [row for rows in zip(*groups, strict=True) for row in rows]
  count = min(kept, key=lambda one: len(kept[one]))
  raise ValueError(
    f"traces of {kind}, seed {seed}: {len(kept[count])} steps of {count}"
    f" additions in chains that came out right, expected {wanted}; raise chains"
  )


def _written(chain, done) -> list[dict[str, str]]:
  """A row of each step, asked as System 1 is asked."""
  return traces.step_rows(
    chain.text,
    done.value,
    digit_chains.INSTRUCTIONS["fast"],
    digit_chains.query,
  )


def _student(recipe, path: pathlib.Path, seed: int) -> pathlib.Path:
  """The model trained on a file of traces; its own file."""
  made = path.with_suffix(".safetensors")
  if not made.exists():
    tuning = tuning_recipes.SupervisedRecipe(
      start=recipe.scale.model,
      data=tuning_data.DataConfig(path=str(path), longest_prompt=64),
      train=dataclasses.replace(recipe.train, seed=seed),
    )
    params = tuning.run(str(path.with_suffix("")))
    tuning.export(params, str(made))
  return made


def _mean_tokens(path: pathlib.Path, student: pathlib.Path) -> float:
  """Tokens of a completion, the mean of a file's."""
  encode = bundle.load(str(student)).tokenizer.encode
  rows = tuning_rows.demonstrations(path)
  return float(np.mean([len(encode(row.answers[0])) for row in rows]))
