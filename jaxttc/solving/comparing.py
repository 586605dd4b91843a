# SPDX-License-Identifier: Apache-2.0
"""Decoders x settings x budgets x seeds, on the same problems.

A *group* is one method at one setting with one seed. It is run under the
largest budget first. A smaller budget is run only for those problems where it
could have cut a round short (`Cell.unbound_at`); the others are taken over and
marked. Groups with small trees come first.

Budgets limit generated tokens; every other cost is measured.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import hashlib
import json
import pathlib
import time

import jax
import numpy as np
from rich import console as rich_console
from rich import progress as rich_progress

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.decoders import base
from jaxttc.evaluation import controls as controls_lib
from jaxttc.evaluation import looks, tables
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import cells as cells_lib
from jaxttc.solving import decoder_text, loading, problem_sets, solve_recipe
from jaxttc.solving import samples as samples_lib
from jaxttc.tasks import problems as problems_lib
from jaxttc.verifiers import process_reward

FIELDS = (
  "generated_tokens",
  "verifier_calls",
  "verifier_tokens",
  "flops",
  "seconds",
)


@dataclasses.dataclass(kw_only=True)
class MethodSpec:
  """A method, and the settings that it is tried at.

  Attributes:
    label: its name in tables and pictures, e.g. "astar".
    decoder: e.g. "astar(nodes=256)"; see `decoder_text`.
    settings: more arguments, each a setting of its own, e.g. ("children=2",
      "children=4, temperature=0.5"); the last is the largest.
  """

  label: str
  decoder: str
  settings: tuple[str, ...] = ("",)


@dataclasses.dataclass(kw_only=True)
class CompareRecipe:
  """What `run` compares.

  Attributes:
    problems: the problems, all with answers.
    methods: the methods.
    budgets: generated tokens a problem, any order.
    seeds: of all sampling.
    policy: a model file, or the name of one that ships.
    verifier: likewise.
    width: of the policy, as in `solve_recipe.SolveRecipe`; cells of different
      widths are kept apart by the weights.
    sampling: how tokens are drawn.
    batch: problems searched at once.
    samples: independent samples a problem, for pass@k, maj@k and the reward
      model's AUC; 0 for none.
    controls: negative controls, names of `controls.CONTROLS`.
    control_methods: labels of the methods that they are tried with, at the
      largest setting and budget.
    tree_method: label of the method whose search tree is drawn; "" for none.
    only: labels to keep, with commas between; "" for all.
    seen: whether cells that do not keep what their searches showed (`looks`)
      are run again.
  """

  problems: problem_sets.ProblemSource
  methods: tuple[MethodSpec, ...]
  budgets: tuple[int, ...]
  seeds: tuple[int, ...] = (0,)
  policy: str = "arithmetic_lm"
  verifier: str = "arithmetic_prm"
  width: float = 1.0
  sampling: solve_recipe.SamplingOptions = dataclasses.field(
    default_factory=solve_recipe.SamplingOptions
  )
  batch: int = 32
  samples: int = 16
  controls: tuple[str, ...] = ()
  control_methods: tuple[str, ...] = ()
  tree_method: str = "astar"
  only: str = ""
  seen: bool = False

  def chosen(self) -> list[MethodSpec]:
    """The methods that `only` leaves.

    Raises:
      ValueError: if a label is unknown or occurs twice.
    """
    labels = [method.label for method in self.methods]
    for label in labels:
      if labels.count(label) > 1:
        raise ValueError(f"two methods are labelled {label!r}")
    wanted = [x.strip() for x in self.only.split(",") if x.strip()]
    for label in wanted:
      problems_lib.require_name(label, labels, "method")
    return [m for m in self.methods if not wanted or m.label in wanted]

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    methods = self.chosen()
    if not methods:
      raise ValueError("methods: expected at least one")
    for name in ("budgets", "seeds"):
      values = getattr(self, name)
      if not values or len(set(values)) < len(values):
        raise ValueError(f"{name}={values} must be distinct, at least one")
    for budget in self.budgets:
      if budget < 1:
        raise ValueError(f"budgets={self.budgets} must be at least 1 each")
    if self.batch < 1 or self.samples < 0:
      raise ValueError(
        f"batch={self.batch} must be >= 1 and samples={self.samples} >= 0"
      )
    for kind in self.controls:
      problems_lib.require_name(kind, controls_lib.CONTROLS, "control")
    labels = [method.label for method in self.methods]
    for label in (*self.control_methods, self.tree_method or labels[0]):
      problems_lib.require_name(label, labels, "method")
    for method in methods:
      if not method.settings:
        raise ValueError(f"method {method.label!r} has no settings")
      for setting in method.settings:
        decoder_text.build(method.decoder, setting)
        self.sampling_of(method, setting)

  def sampling_of(
    self, method: MethodSpec, setting: str
  ) -> settings_lib.SearchSettings:
    """How tokens are drawn for a method at one of its settings."""
    text = decoder_text.written(method.decoder, setting)
    return self.sampling.build_for(text)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
  """What came of a comparison.

  Attributes:
    runs: one a (method, setting, budget, seed).
    controls: likewise, the methods labelled "method/control".
    samples: the policy's own samples, scored by the reward model ("") and by
      each control; empty if there are none.
    tree: a search to draw, and its problem; None if there is none.
    copied: share of the (problem, cell) pairs that were taken over.
  """

  runs: list[tables.Run]
  controls: list[tables.Run]
  samples: dict[str, samples_lib.Samples]
  tree: tuple[problems_lib.Problem, search_lib.SearchResult] | None
  copied: float


# Seeds share a decoder, so that its search is compiled once for all of them.
_built = functools.lru_cache(decoder_text.build)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Group:
  """One method at one setting with one seed, under all its budgets."""

  method: MethodSpec
  setting: str
  seed: int
  budgets: tuple[int, ...]
  control: str = ""

  @functools.cached_property
  def decoder(self) -> base.Decoder:
    return _built(self.method.decoder, self.setting)


def run(
  recipe: CompareRecipe,
  workdir: str,
  *,
  progress: bool = True,
  mesh: jax.sharding.Mesh | None = None,
) -> Comparison:
  """Runs what is missing of a comparison.

  Args:
    recipe: what to compare.
    workdir: folder of the cells; it is made if need be.
    progress: whether to show a bar, on the standard error stream.
    mesh: devices of this process to spread models and problems over; None for
      one device.

  Returns:
    All runs, new and old.

  Raises:
    ValueError: if the recipe cannot be run, a problem has no answer, there
      are several processes, or a cell cannot be written. The cells that are
      done are kept, also after an interrupt.
  """
  recipe.validate()
  if jax.process_count() > 1:
    raise ValueError(
      f"a comparison runs in one process, found {jax.process_count()}; start "
      "one with a part of the methods on each host (config.only)"
    )
  bench = _Bench(recipe, pathlib.Path(workdir) / "cells", mesh)
  groups = _groups(recipe, bench)
  finished: list[tuple[_Group, dict[int, cells_lib.Cell]]] = []
  with _bar(progress) as bar:
    total = sum(len(g.budgets) for g in groups) * len(bench.problems)
    task = bar.add_task("comparing", total=total)
    for group in groups:
      name = "/".join(filter(None, (group.method.label, group.control)))
      bar.update(task, description=f"{name} {group.setting}")
      advance = functools.partial(bar.advance, task)
      finished.append((group, bench.run_group(group, advance)))
    bar.update(task, description="samples and tree")
    samples = {
      kind: bench.sample(kind)
      for kind in ("", *recipe.controls)
      if recipe.samples and bench.verifier is not None
    }
    tree = bench.tree() if recipe.tree_method else None
  done = [cell for _, found in finished for cell in found.values()]
  return Comparison(
    runs=_runs(finished, controls=False),
    controls=_runs(finished, controls=True),
    samples=samples,
    tree=tree,
    copied=float(np.mean([cell.copied.mean() for cell in done])),
  )


def _groups(recipe: CompareRecipe, bench: "_Bench") -> list[_Group]:
  """All groups, small trees first."""
  budgets = tuple(sorted(recipe.budgets))
  found = [
    _Group(method=m, setting=setting, seed=seed, budgets=budgets)
    for m in recipe.chosen()
    for setting in m.settings
    for seed in recipe.seeds
  ]
  found += [
    _Group(
      method=m,
      setting=m.settings[-1],
      seed=seed,
      budgets=budgets[-1:],
      control=kind,
    )
    for m in recipe.chosen()
    for seed in recipe.seeds
    for kind in recipe.controls
    if m.label in recipe.control_methods
  ]
  return sorted(found, key=lambda g: (bool(g.control), g.decoder.shape.nodes))


class _Bench:
  """The problems and models that all groups share."""

  def __init__(self, recipe: CompareRecipe, folder: pathlib.Path, mesh):
    self.recipe, self.folder, self.mesh = recipe, folder, mesh
    self.problems = recipe.problems.load()
    for problem in self.problems:
      problems_lib.gold(problem)
    self.prompts = recipe.problems.prompts(self.problems)
    decoders = [
      decoder_text.build(m.decoder, m.settings[-1]) for m in recipe.chosen()
    ]
    needed = recipe.samples or any(d.needs_reward for d in decoders)
    if needed and not recipe.verifier:
      raise ValueError("verifier: some decoder needs rewards; expected a model")
    self.policy, self.verifier = loading.load_models(
      recipe.policy,
      recipe.verifier if needed else "",
      mesh,
      width=recipe.width,
    )
    if self.verifier is not None and self.verifier.writes_verdicts:
      raise ValueError(
        f"verifier: {recipe.verifier} is a generative verifier; a comparison "
        "scores steps, and takes a process-reward model; solve.py takes "
        "either"
      )
    self._scorers = {"": self.verifier}
    for kind in recipe.controls:
      if self.verifier is not None:
        self._scorers[kind] = controls_lib.control(self.verifier, kind)
    encoded = search_lib.encode(
      self.policy, self.prompts, recipe.sampling.build()
    )
    self._longest = max(map(len, encoded))
    self._experiment = self._fingerprint()
    self._warm: set[tuple[base.Decoder, str]] = set()  # compiled

  def _fingerprint(self) -> str:
    content = [
      [[p.id, p.text, p.answer] for p in self.problems],
      self.recipe.problems.style,
      self.recipe.sampling.identity() | {"temperature": None},
      loading.weights_fingerprint(self.policy),
      loading.weights_fingerprint(self.verifier),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

  def _id(self, group: _Group, budget: int) -> cells_lib.CellId:
    said = decoder_text.parse(group.method.decoder, group.setting)
    settings = self.recipe.sampling_of(group.method, group.setting)
    return cells_lib.CellId(
      method=group.method.label,
      setting=group.setting,
      budget=budget,
      seed=group.seed,
      decoder=f"{said.name}({sorted(said.arguments.items())})",
      temperature=settings.sampler.temperature,
      control=group.control,
      experiment=self._experiment,
    )

  def run_group(self, group: _Group, advance) -> dict[int, cells_lib.Cell]:
    """The group's cells by budget, run where they are missing."""
    found = {budget: self._kept(group, budget) for budget in group.budgets}
    top = group.budgets[-1]
    advance(sum(c is not None for c in found.values()) * len(self.problems))
    for budget in reversed(group.budgets):
      if found[budget] is None:
        cell = cells_lib.Cell.empty(len(self.problems))
        if budget != top:
          unbound = found[top].unbound_at(budget, self._worst_wave(group))
          cell = found[top].copy(unbound)
        advance(int(cell.copied.sum()))
        self._fill(group, budget, cell, advance)
        cells_lib.save(self.folder, self._id(group, budget), cell)
        found[budget] = cell
    return found

  def _kept(self, group: _Group, budget: int) -> cells_lib.Cell | None:
    cell = cells_lib.load(self.folder, self._id(group, budget))
    if cell is not None and self.recipe.seen and np.isnan(cell.seen).any():
      return None
    return cell

  def _settings(
    self, method: MethodSpec, setting: str
  ) -> settings_lib.SearchSettings:
    settings = dataclasses.replace(
      self.recipe.sampling_of(method, setting), prompt_tokens=self._longest
    )
    return loading.fit_slots(
      settings, _built(method.decoder, setting), max(self.recipe.budgets)
    )

  def _worst_wave(self, group: _Group) -> int:
    shape = group.decoder.shape
    settings = self.recipe.sampling_of(group.method, group.setting)
    longest = settings.longest_span(group.decoder.until)
    return shape.asks * shape.children * longest

  def _fill(
    self, group: _Group, budget: int, cell: cells_lib.Cell, advance
  ) -> None:
    """Runs the problems of a cell that were not copied."""
    which = np.flatnonzero(~cell.copied).tolist()
    if not which:
      return
    search = functools.partial(
      self._search,
      group.decoder,
      self._settings(group.method, group.setting),
      seed=group.seed,
      kind=group.control,
    )
    if (group.decoder, group.control) not in self._warm:
      # Compiles without searching: the prompt itself is not paid for.
      list(search(which[:1], budget=budget_lib.Budget(prompt_tokens=0)))
      self._warm.add((group.decoder, group.control))
    limit = budget_lib.Budget(generated_tokens=budget)
    begun = time.perf_counter()
    for result in search(which, budget=limit):
      i = which[result.problem]
      cell.correct[i] = bool(
        problem_sets.is_right(self.problems[i], result.completion)
      )
      cell.cost[i] = costs.quantities(result.cost)
      cell.stop[i], cell.rounds[i] = result.stop, result.rounds
      cell.seen[i] = looks.look(result)
      advance(1)
    # Problems are searched side by side: each took its share of the time.
    share = (time.perf_counter() - begun) / len(which)
    for i in which:
      cell.cost[i, costs.FIELDS.index("seconds")] = share

  def _search(
    self,
    decoder: base.Decoder,
    settings: settings_lib.SearchSettings,
    which: Sequence[int],
    *,
    budget: budget_lib.Budget,
    seed: int,
    kind: str,
  ) -> Iterator[search_lib.SearchResult]:
    """Searches some of the problems, scored by a reward model or a control."""
    return search_lib.solve(
      [self.prompts[i] for i in which],
      [self.problems[i].id for i in which],
      self.policy,
      self._scorers[kind],
      decoder,
      budget=budget,
      settings=settings,
      seed=seed,
      batch=self.recipe.batch,
      mesh=self.mesh,
    )

  def sample(self, kind: str) -> samples_lib.Samples:
    """Independent samples, scored step by step by a reward model."""
    n = self.recipe.samples
    decoder = decoder_text.build(f"dvts(subtrees={n}, expansions=1)")
    settings = dataclasses.replace(
      self.recipe.sampling.build(), aggregate=process_reward.Aggregate.LAST
    )
    found = list(
      self._search(
        decoder,
        settings,
        range(len(self.problems)),
        budget=budget_lib.Budget(),
        seed=self.recipe.seeds[0],
        kind=kind,
      )
    )
    return samples_lib.collect(self.problems, found, n)

  def tree(
    self,
  ) -> tuple[problems_lib.Problem, search_lib.SearchResult] | None:
    """A search that makes a picture: solved, branched, not too large."""
    found = [
      m for m in self.recipe.chosen() if m.label == self.recipe.tree_method
    ]
    if not found:
      return None
    which = range(min(self.recipe.batch, len(self.problems)))
    results = self._search(
      _built(found[0].decoder, found[0].settings[-1]),
      self._settings(found[0], found[0].settings[-1]),
      which,
      budget=budget_lib.Budget(generated_tokens=max(self.recipe.budgets)),
      seed=self.recipe.seeds[0],
      kind="",
    )
    ranked = [(self._pictured(result), result) for result in results]
    best = max(ranked, key=lambda pair: pair[0])[1]
    return self.problems[best.problem], best

  def _pictured(self, result: search_lib.SearchResult) -> tuple[bool, int]:
    solved = problem_sets.is_right(
      self.problems[result.problem], result.completion
    )
    nodes = len(result.tree.parent)
    # Rows of boxes stay legible up to about so many nodes; what is worth
    # looking at is how many different steps there are.
    different = len(set(result.tree.text))
    return bool(solved), different if nodes <= 40 else -nodes


def _runs(
  finished: list[tuple[_Group, dict[int, cells_lib.Cell]]], *, controls: bool
) -> list[tables.Run]:
  """The rows of the table, of the controls or of the rest."""
  return [
    tables.Run(
      method="/".join(filter(None, (group.method.label, group.control))),
      setting=group.setting,
      budget=float(budget),
      seed=group.seed,
      accuracy=cell.correct,
      cost={name: cell.field(name) for name in FIELDS},
      seen=dict(zip(looks.FIELDS, cell.seen.T, strict=True)),
    )
    for group, found in finished
    if bool(group.control) == controls
    for budget, cell in found.items()
  ]


def _bar(progress: bool) -> rich_progress.Progress:
  return rich_progress.Progress(
    *rich_progress.Progress.get_default_columns(),
    rich_progress.TimeElapsedColumn(),
    console=rich_console.Console(stderr=True),
    disable=not progress,
  )
