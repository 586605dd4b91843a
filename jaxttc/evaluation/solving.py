# SPDX-License-Identifier: Apache-2.0
"""Problems in, answers out: one JSON line a problem, resumable.

The first line of the file says which recipe and which weights wrote it. Every
line is on disk before the next problem is begun with, so a run that is killed
goes on after its last whole line; a torn line is cut off. A problem whose
served model failed for good is tried again, and the line of the failure, which
says what it cost, stays before that of the next try. A file of another recipe
is refused. The rows of served models come as they are done; all others
in the order of the problems.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np
from rich import console as rich_console
from rich import progress as rich_progress
from rich import table as rich_table

from jaxttc import mesh as mesh_lib
from jaxttc.allocators import routing as allocation
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.cost import ledger as ledger_lib
from jaxttc.decoders import base
from jaxttc.evaluation import (
  answer_file,
  decoder_text,
  problem_sets,
  routed_connection,
  router_files,
  served_models,
)
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers
from jaxttc.runtime import compiled
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.tasks import problems as problems_lib
from jaxttc.verifiers import process_reward


@dataclasses.dataclass(kw_only=True)
class SamplingOptions:
  """`runtime.settings.SearchSettings`, mutable, for flags to override.

  Attributes:
    temperature: >= 0; 0 is greedy.
    top_k: keep so many tokens; 0 for all.
    top_p: in (0, 1].
    min_p: in [0, 1].
    step_tokens: most tokens of one step.
    max_tokens: most tokens of a solution.
    last_tokens: most tokens of a step-wise decoder's last step; 0 for all
      that max_tokens leaves.
    aggregate: of step rewards: "last", "min", "product" or "mean".
    slots: arena slots a problem; 0 for the default.
    hardware: a name of the hardware table; "" for no joules and dollars.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  step_tokens: int = 32
  max_tokens: int = 128
  last_tokens: int = 0
  aggregate: str = "last"
  slots: int = 0
  hardware: str = ""

  def build(
    self, temperature: float | None = None
  ) -> settings_lib.SearchSettings:
    """The settings, validated.

    Args:
      temperature: in place of the field, if given.

    Raises:
      ValueError: naming the field that cannot be.
    """
    known = tuple(a.value for a in process_reward.Aggregate)
    problems_lib.require_name(self.aggregate, known, "aggregate")
    settings = settings_lib.SearchSettings(
      sampler=controllers.Sampler(
        temperature=self.temperature if temperature is None else temperature,
        top_k=self.top_k or None,
        top_p=self.top_p,
        min_p=self.min_p,
      ),
      step_tokens=self.step_tokens,
      max_tokens=self.max_tokens,
      last_tokens=self.last_tokens or None,
      aggregate=process_reward.Aggregate(self.aggregate),
      slots=self.slots or None,
      hardware=self.hardware or None,
    )
    settings.validate()
    return settings


@dataclasses.dataclass(kw_only=True)
class SolveRecipe:
  """What `solve_to_file` runs.

  Attributes:
    problems: the problems.
    policy: a model file, the name of one that ships, the URL of a server, or a
      router's file (`router_files`), which picks a model for each problem.
    verifier: likewise, but no router; not read if the decoder needs no rewards.
    width: share of the policy's width to use, of those that its recipe names
      (`inference.narrowed`); 1 is the whole of any policy.
    model: what the policy is called on its server.
    verifier_model: what the verifier is called on its server.
    dtype: of models in this process; one of `models.precision.NAMES`.
    attention: how they compute it; one of `models.attention_backend.NAMES`.
    endpoint: how servers are asked.
    routing: how a router picks; not read without one.
    decoder: e.g. "astar(children=4)"; see `decoder_text`.
    thinking: how a model that thinks is decoded in place of a search, e.g.
      "guided(budget=120)"; see `thinking_text`. "" searches.
    budget: of each problem, e.g. "generated_tokens=400,flops=2G"; "" for none.
    sampling: how tokens are drawn; a temperature that the decoder's text names
      goes before.
    seed: of all sampling.
    batch: problems searched at once.
  """

  problems: problem_sets.ProblemSource
  policy: str = "arithmetic_lm"
  verifier: str = "arithmetic_prm"
  width: float = 1.0
  model: str = ""
  verifier_model: str = ""
  dtype: str = "float32"
  attention: str = "auto"
  endpoint: served_models.EndpointOptions = dataclasses.field(
    default_factory=served_models.EndpointOptions
  )
  routing: router_files.RouterOptions = dataclasses.field(
    default_factory=router_files.RouterOptions
  )
  decoder: str = "astar(children=4)"
  thinking: str = ""
  budget: str = "generated_tokens=400"
  sampling: SamplingOptions = dataclasses.field(default_factory=SamplingOptions)
  seed: int = 0
  batch: int = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """A recipe with all that it names, loaded and checked.

  `served` is there for host-driven searches, `policy` for models in this
  process, `router` is the fingerprint of a router among several.
  """

  problems: list[problems_lib.Problem]
  prompts: list[str]
  decoder: base.Decoder
  settings: settings_lib.SearchSettings
  budget: budget_lib.Budget
  policy: bundle_lib.Bundle | None = None
  verifier: bundle_lib.Bundle | None = None
  served: served_models.Served | None = None
  router: str = ""

  def close(self) -> None:
    """Hangs up, if a model is served."""
    if self.served is not None:
      self.served.close()


def prepare(recipe: SolveRecipe, mesh: jax.sharding.Mesh | None = None) -> Job:
  """Loads what a recipe names, and refuses what could never run.

  Args:
    recipe: what to run.
    mesh: devices to spread the models over; None for one device.

  Raises:
    ValueError: in one line: what, where, and what was expected.
  """
  if recipe.batch < 1:
    raise ValueError(f"batch must be at least 1, got {recipe.batch}")
  if recipe.thinking:
    raise ValueError(
      f"thinking={recipe.thinking!r} is not for a search; expected ''"
    )
  decoder = decoder_text.build(recipe.decoder)
  settings = recipe.sampling.build(
    decoder_text.parse(recipe.decoder).temperature
  )
  budget = parsed_budget(recipe.budget)
  problems = recipe.problems.load()
  prompts = recipe.problems.prompts(problems)
  if router_files.is_router(recipe.policy):
    served, router = _routed(recipe, mesh, prompts, decoder, settings)
    return Job(
      problems=problems,
      prompts=prompts,
      decoder=decoder,
      settings=settings,
      budget=budget,
      served=served,
      router=router,
    )
  if any(map(served_models.is_url, (recipe.policy, recipe.verifier))):
    if mesh is not None:
      raise ValueError(
        "mesh: a served model is not spread over devices of this process; "
        "leave the mesh out"
      )
    if recipe.width != 1:
      raise ValueError(
        f"width={recipe.width!r}: expected 1 where a model is served, since "
        "only a policy of this process is narrowed"
      )
    blind = served_models.is_url(recipe.policy) and not recipe.endpoint.logprobs
    if blind and decoder_text.reads_logprobs(recipe.decoder):
      raise ValueError(
        f"decoder {recipe.decoder!r} reads log-probabilities; set "
        "endpoint.logprobs"
      )
    return Job(
      problems=problems,
      prompts=prompts,
      decoder=decoder,
      settings=settings,
      budget=budget,
      served=served_models.connect(
        recipe.policy,
        recipe.verifier,
        decoder,
        settings,
        recipe.endpoint,
        model=recipe.model,
        verifier_model=recipe.verifier_model,
        slots=recipe.batch,
        dtype=recipe.dtype,
        attention=recipe.attention,
      ),
    )
  settings = fit_slots(settings, decoder, budget.generated_tokens)
  policy, verifier = load_models(
    recipe.policy,
    recipe.verifier if decoder.needs_reward else "",
    mesh,
    recipe.dtype,
    recipe.attention,
    width=recipe.width,
  )
  if decoder.needs_reward and verifier is None:
    raise ValueError(
      f"decoder {recipe.decoder!r} needs rewards: give a verifier"
    )
  check_prompts(problems, prompts, policy, verifier, budget, settings)
  served = None
  if compiled.why_host_driven(policy, verifier, decoder):
    served = served_models.hosted(
      policy,
      verifier,
      decoder,
      settings,
      slots=recipe.batch,
      shown=shown_prompts(verifier, problems, prompts),
    )
  return Job(
    problems=problems,
    prompts=prompts,
    policy=policy,
    verifier=verifier,
    decoder=decoder,
    settings=settings,
    budget=budget,
    served=served,
  )


def _routed(
  recipe: SolveRecipe,
  mesh: jax.sharding.Mesh | None,
  prompts: Sequence[str],
  decoder: base.Decoder,
  settings: settings_lib.SearchSettings,
) -> tuple[served_models.Served, str]:
  """The engine of a router's file, and the router's fingerprint."""
  if mesh is not None or recipe.width != 1:
    raise ValueError(
      f"{recipe.policy}: the models of a router are neither spread over a mesh "
      "nor narrowed by width=; leave both out"
    )
  if served_models.is_url(recipe.verifier) and decoder.needs_reward:
    raise ValueError(
      f"verifier {recipe.verifier!r}: expected one of this process beside a "
      "router's models"
    )
  file = router_files.load(recipe.policy)
  bundles = routed_connection.models(file, recipe.dtype, recipe.attention)
  verifier = None
  if decoder.needs_reward and recipe.verifier:
    verifier = bundle_lib.load(
      recipe.verifier, recipe.dtype, attention=recipe.attention
    )
  served = routed_connection.connect(
    file,
    bundles,
    verifier,
    decoder,
    settings,
    recipe.routing,
    prompts=prompts,
    slots=recipe.batch,
    seed=recipe.seed,
  )
  return served, file.fingerprint


def shown_prompts(
  verifier: bundle_lib.Bundle | None,
  problems: Sequence[problems_lib.Problem],
  prompts: Sequence[str],
) -> Callable[[str], str] | None:
  """From a prompt to what a published reward model is shown of it.

  One with a chat template is asked the problem as a user would ask it.
  """
  if verifier is None or verifier.step_format is None or not verifier.chats:
    return None
  texts = problem_sets.chats(verifier.tokenizer, [p.text for p in problems])
  return dict(zip(prompts, texts, strict=True)).__getitem__


def parsed_budget(text: str) -> budget_lib.Budget:
  """A recipe's budget; `cost.Budget.parse`, but it must buy something.

  Raises:
    ValueError: if the text is malformed, or allows no tokens or no FLOPs.
  """
  budget = budget_lib.Budget.parse(text)
  for name in ("generated_tokens", "flops"):
    if getattr(budget, name) == 0:
      raise ValueError(
        f"budget={text!r}: with {name}=0 nothing can be asked; expected more"
      )
  return budget


def fit_slots(
  settings: settings_lib.SearchSettings,
  decoder: base.Decoder,
  tokens: int | None,
) -> settings_lib.SearchSettings:
  """Makes the arena no larger than a budget of generated tokens can fill.

  Every token reads the whole arena, so room that stays empty costs time, and
  an arena that grows is compiled again: it starts small only if it can double
  within the budget. One step more than the budget keeps the budget, not the
  arena, in charge.

  Args:
    settings: the settings; `slots` that are set are let be.
    decoder: the strategy.
    tokens: most tokens that a problem may generate; None if unlimited.
  """
  if tokens is None or settings.slots is not None:
    return settings
  enough = tokens + settings.step_tokens
  if enough >= 2 * settings.arena_slots(decoder.shape):
    return settings
  return dataclasses.replace(settings, slots=enough)


def load_models(
  policy: str,
  verifier: str,
  mesh: jax.sharding.Mesh | None = None,
  dtype: str = "float32",
  attention: str = "auto",
  width: int | float = 1.0,
) -> tuple[bundle_lib.Bundle, bundle_lib.Bundle | None]:
  """Reads the two models; the verifier is None if its name is "".

  Args:
    policy: a model file, or the name of one that ships.
    verifier: likewise, or "".
    mesh: devices to spread them over; None for one device.
    dtype: one of `models.precision.NAMES`.
    attention: one of `models.attention_backend.NAMES`.
    width: of the policy, as `inference.narrowed` takes it.

  Raises:
    ValueError: if a file is missing or damaged, the dtype or the attention is
      unknown, the policy has no such width, or the two do not fit each other
      or the mesh.
  """

  def load(name, mesh=mesh):
    return bundle_lib.load(name, dtype, mesh, attention=attention)

  if width == 1:
    ours = load(policy)
  else:  # cut first: what is cut away may be what a device would hold
    ours = bundle_lib.narrowed(load(policy, None), width)
    ours = ours if mesh is None else bundle_lib.shard(ours, mesh)
  theirs = load(verifier) if verifier else None
  bundle_lib.check_pair(ours, theirs)
  return ours, theirs


def check_prompts(
  problems: list[problems_lib.Problem],
  prompts: list[str],
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle | None,
  budget: budget_lib.Budget,
  settings: settings_lib.SearchSettings,
) -> None:
  """Refuses budgets that some prompt alone exceeds.

  Raises:
    ValueError: naming the problem, its length and the field; or as
      `runtime.search.encode`.
  """
  prices = settings_lib.prices(policy, verifier, settings)
  meter = budget_lib.Meter.start(budget)
  encoded = search_lib.encode(policy, prompts, settings)
  for problem, ids in zip(problems, encoded, strict=True):
    field = meter.exhausted_by(prices.root(len(ids)))
    if field is not None:
      raise ValueError(
        f"problem {problem.id!r}: reading its prompt of {len(ids)} tokens "
        f"exceeds the budget of {field}={getattr(budget, field)}"
      )


def weights_fingerprint(bundle: bundle_lib.Bundle | None) -> str:
  """`Bundle.weights_fingerprint`; "" for None."""
  return "" if bundle is None else bundle.weights_fingerprint


def solve_to_file(
  recipe: SolveRecipe,
  path: str | os.PathLike[str],
  *,
  progress: bool = True,
  mesh: jax.sharding.Mesh | None = None,
  ledger: ledger_lib.Ledger | None = None,
) -> list[dict[str, Any]]:
  """Solves a recipe's problems, one JSON line each; resumes what is there.

  Args:
    recipe: what to run.
    path: the file; its folder is made if need be. Of several processes the
      first alone reads and writes it.
    progress: whether to show a bar, on the standard error stream.
    mesh: devices to spread models and problems over; None for one device. If
      it spans processes, all must make this call.
    ledger: gets one entry, of phase "inference", with what the problems cost
      that were solved in this call.

  Returns:
    The rows of the file: id, answer, correct (None if unknown), completion,
    stop, rounds, cost (all fields), assumed (of the cost, what a server did
    not confirm; fields that are 0 are left out) and a summary of the tree; the
    model, if a router picked one (None if nothing was asked). Of a problem that
    was tried again, the last row.

  Raises:
    ValueError: if the recipe cannot be run, or the file is of another recipe,
      is damaged before its last line, or cannot be written. What was written
      stays and can be resumed, also after an interrupt.
  """
  with contextlib.closing(prepare(recipe, mesh)) as job:
    header = _header(recipe, job)
    path = pathlib.Path(path)
    ids = [problem.id for problem in job.problems]
    rows, offset = mesh_lib.from_first(
      lambda: answer_file.kept(
        path, header, ids, in_order=job.served is None, retried=_failed
      )
    )
    solved = _solved(job, recipe, {row["id"] for row in rows}, mesh)
    if not mesh_lib.is_first():
      return rows + list(solved)
    with contextlib.closing(solved), answer_file.Lines(path, offset) as lines:
      if not offset:
        lines.append(header)
      kept = len(rows)
      try:
        for row in bar(solved, len(rows), len(job.problems), progress):
          lines.append(row)
          rows.append(row)
      finally:
        if ledger is not None and rows[kept:]:
          _account(ledger, rows[kept:], recipe)
  return rows


def _account(
  ledger: ledger_lib.Ledger, rows: list[dict[str, Any]], recipe: SolveRecipe
) -> None:
  spent = costs.Cost.sum(costs.Cost.from_dict(row["cost"]) for row in rows)
  ledger.add_cost(
    spent,
    "inference",
    queries=len(rows),
    note=f"{recipe.decoder} of {recipe.policy}",
  )


def summary(rows: list[dict[str, Any]]) -> rich_table.Table:
  """A printable table of what the rows of `solve_to_file` come to."""
  table = rich_table.Table("problems", "answered", "correct", title="Answers")
  graded = [row["correct"] for row in rows if row["correct"] is not None]
  answered = sum(row["answer"] is not None for row in rows)
  share = f"{sum(graded)} of {len(graded)}" if graded else "-"
  cells = [str(len(rows)), str(answered), share]
  for field in ("generated_tokens", "verifier_calls", "flops"):
    table.add_column(f"{field} a problem".replace("_", " "), justify="right")
    mean = np.mean([row["cost"][field] for row in rows]) if rows else 0.0
    cells.append(f"{mean:.4g}")
  table.add_row(*cells)
  return table


def described(recipe: SolveRecipe) -> dict[str, Any]:
  """What of a recipe decides its answers, JSON-ready."""
  found = json.loads(json.dumps(dataclasses.asdict(recipe)))
  # These change how fast answers come, not which.
  del found["batch"], found["attention"]
  if not recipe.thinking:
    del found["thinking"]
  if not router_files.is_router(recipe.policy):
    del found["routing"]
  else:
    del found["routing"]["log"]
  found["endpoint"] = recipe.endpoint.identity()
  return found


def _header(recipe: SolveRecipe, job: Job) -> dict[str, Any]:
  return {
    "recipe": described(recipe),
    "policy": job.router or weights_fingerprint(job.policy),
    "verifier": weights_fingerprint(job.verifier),
  }


def _failed(row: dict[str, Any]) -> bool:
  """Whether a served model was lost in the middle of a search."""
  return str(row.get("stop")).startswith(search_lib.FAILURES)


def _solved(
  job: Job,
  recipe: SolveRecipe,
  done: set[str],
  mesh: jax.sharding.Mesh | None,
) -> Iterator[dict[str, Any]]:
  """The rows of the problems that are not done; checks them at once."""
  left = [i for i, p in enumerate(job.problems) if p.id not in done]
  prompts = [job.prompts[i] for i in left]
  names = [job.problems[i].id for i in left]
  if not left:
    results = iter(())
  elif job.served is not None:
    results = job.served.solve(
      job.decoder, prompts, names, job.budget, job.settings, recipe.seed
    )
  else:
    results = search_lib.solve(
      prompts,
      names,
      job.policy,
      job.verifier,
      job.decoder,
      budget=job.budget,
      settings=job.settings,
      seed=recipe.seed,
      batch=recipe.batch,
      mesh=mesh,
    )
  return _rows(job, left, results)


def _rows(
  job: Job, left: list[int], results: Iterator[search_lib.SearchResult]
) -> Iterator[dict[str, Any]]:
  """Rows of the problems at some places, each with the model that was asked."""
  engine = None if job.served is None else job.served.engine
  for result in results:
    place = left[result.problem]
    row = answer_row(job.problems[place], result)
    if isinstance(engine, allocation.RoutedEngine):
      row["model"] = engine.asked.get(job.prompts[place])
    yield row


def answer_row(
  problem: problems_lib.Problem, result: search_lib.SearchResult
) -> dict[str, Any]:
  """What a search found, as `solve_to_file` describes it."""
  tree = result.tree
  paths = [len(tree.path(node)) for node in range(len(tree.parent))]
  return {
    "id": problem.id,
    "answer": problem_sets.answer_of(problem, result.completion),
    "correct": problem_sets.is_right(problem, result.completion),
    "completion": result.completion,
    "stop": result.stop,
    "rounds": result.rounds,
    "cost": result.cost.as_dict(),
    "assumed": {k: v for k, v in result.assumed.as_dict().items() if v},
    "tree": {
      "nodes": len(tree.parent),
      "expanded": int((tree.expanded_at >= 0).sum()),
      "finished": len(tree.finished()),
      "depth": max(paths),
      "chosen": tree.path(tree.chosen),
      "reward": float(tree.reward[tree.chosen]) if tree.chosen > 0 else None,
    },
  }


def bar(
  new: Iterator[dict[str, Any]], done: int, total: int, progress: bool
) -> Iterator[dict[str, Any]]:
  """Passes rows through, moving a bar that starts at what is done."""
  shown = rich_progress.Progress(
    *rich_progress.Progress.get_default_columns(),
    rich_progress.MofNCompleteColumn(),
    console=rich_console.Console(stderr=True),
    disable=not progress,
  )
  with shown:
    task = shown.add_task("solving", total=total, completed=done)
    for row in new:
      yield row
      shown.advance(task)
