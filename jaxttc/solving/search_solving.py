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

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import os
import pathlib
from typing import Any

import jax

from jaxttc import mesh as mesh_lib
from jaxttc.allocators import routing as allocation
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.cost import ledger as ledger_lib
from jaxttc.decoders import base
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import compiled, whole_solutions
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import (
  answer_file,
  answer_rows,
  decoder_text,
  loading,
  routed_connection,
  router_files,
  served_models,
  solve_recipe,
)
from jaxttc.tasks import problems as problems_lib


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


def prepare(
  recipe: solve_recipe.SolveRecipe, mesh: jax.sharding.Mesh | None = None
) -> Job:
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
  settings = recipe.sampling.build_for(recipe.decoder)
  budget = solve_recipe.parsed_budget(recipe.budget)
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
  settings = loading.fit_slots(settings, decoder, budget.generated_tokens)
  policy, verifier = loading.load_models(
    recipe.policy,
    recipe.verifier if decoder.needs_reward else "",
    mesh,
    recipe.dtype,
    recipe.attention,
    width=recipe.width,
    template=recipe.sampling.checks.template,
  )
  if decoder.needs_reward and verifier is None:
    raise ValueError(
      f"decoder {recipe.decoder!r} needs rewards: give a verifier"
    )
  if why := whole_solutions.why_not(decoder, verifier):
    raise ValueError(f"decoder {recipe.decoder!r}: {why}")
  loading.check_prompts(problems, prompts, policy, verifier, budget, settings)
  served = None
  if compiled.why_host_driven(policy, verifier, decoder):
    served = served_models.hosted(
      policy,
      verifier,
      decoder,
      settings,
      slots=recipe.batch,
      shown=loading.shown_prompts(verifier, problems, prompts),
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
  recipe: solve_recipe.SolveRecipe,
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
    if recipe.sampling.checks.template:
      verifier = bundle_lib.as_verifier(verifier)
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


def solve_to_file(
  recipe: solve_recipe.SolveRecipe,
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
        for row in answer_rows.bar(
          solved, len(rows), len(job.problems), progress
        ):
          lines.append(row)
          rows.append(row)
      finally:
        if ledger is not None and rows[kept:]:
          _account(ledger, rows[kept:], recipe)
  return rows


def _account(
  ledger: ledger_lib.Ledger,
  rows: list[dict[str, Any]],
  recipe: solve_recipe.SolveRecipe,
) -> None:
  spent = costs.Cost.sum(costs.Cost.from_dict(row["cost"]) for row in rows)
  ledger.add_cost(
    spent,
    "inference",
    queries=len(rows),
    note=f"{recipe.decoder} of {recipe.policy}",
  )


def _header(recipe: solve_recipe.SolveRecipe, job: Job) -> dict[str, Any]:
  return {
    "recipe": solve_recipe.described(recipe),
    "policy": job.router or loading.weights_fingerprint(job.policy),
    "verifier": loading.weights_fingerprint(job.verifier),
  }


def _failed(row: dict[str, Any]) -> bool:
  """Whether a served model was lost in the middle of a search."""
  return str(row.get("stop")).startswith(search_lib.FAILURES)


def _solved(
  job: Job,
  recipe: solve_recipe.SolveRecipe,
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
    row = answer_rows.answer_row(job.problems[place], result)
    if isinstance(engine, allocation.RoutedEngine):
      row["model"] = engine.asked.get(job.prompts[place])
    yield row
