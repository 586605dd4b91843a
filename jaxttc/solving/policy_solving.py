# SPDX-License-Identifier: Apache-2.0
"""Problems and one budget in, answers out: route, plan, decode, verify.

    engine = loading.load_models("arithmetic_lm", "arithmetic_prm")
    budget = cost.Budget(generated_tokens=80)
    rows = solving.solve(problems, engine, budget, policy="auto")

A budget policy forecasts, for every problem at once, what each of its arms
would achieve and take; the budget of all problems together then buys arms
where a token brings most (`allocators.routing.Pool`), wave by wave. An arm is a
search whose steps the reward model verifies, a way to think, or a program that
takes the problem apart (`arm_text`), under a cap of its own. A policy
with a cascade looks at what came back, and asks again where that is worth its
price. Whatever the forecasts say, the problems together never spend more than
their budget, on any field: the last ones get cheaper arms, or none, and their
rows say so.

Arms may be of several models, of any price or width: the policy is then a
router among them. Models that no policy was fitted to get the plain one
(`plain_policies`).

A policy is fitted (`budget_policies`), plain, or put together from named stages
(`composed_policies`).
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
from typing import Any

from absl import logging
import jax

from jaxttc import mesh as mesh_lib
from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.cost import ledger as ledger_lib
from jaxttc.solving import (
  answer_file,
  answer_rows,
  arm_text,
  budget_policies,
  composed_policies,
  loading,
  measured_splits,
  plain_policies,
  policy_decoding,
  policy_rows,
  routed_models,
  served_models,
  solve_recipe,
  split_policies,
  stage_text,
)
from jaxttc.tasks import problems as problems_lib

NOT_TRIED = policy_rows.NOT_TRIED


def solve(
  problems: Sequence[problems_lib.Problem],
  engine: served_models.Engine | Mapping[str, served_models.Engine],
  budget: budget_lib.Budget,
  *,
  policy: str | policy_rows.Policy = budget_policies.AUTO,
  per: str = "problem",
  style: str = "free",
  sampling: solve_recipe.SamplingOptions | None = None,
  seed: int = 0,
  batch: int = 16,
) -> list[dict[str, Any]]:
  """Solves problems under one budget, as a policy sees fit.

  Args:
    problems: with unique ids.
    engine: the language model and the reward model, as `loading.load_models`
      returns them, or connected elsewhere (`served_models.Served`); or several
      of these, by the names that the policy's arms call them, the cheapest
      first.
    budget: of generated tokens, or whatever fields the policy knows the cost
      of (`cost_laws`), or several at once.
    policy: a policy, its file, the name of one that ships, the text of a
      composed one (`composed_policies`), or "plain" (`plain_policies`). "auto"
      ships, and is plain for models that it was not fitted to; so does
      "solve_or_verify" (`split_policies`).
    per: whether the budget is the mean of a "problem" or that of the whole
      "set".
    style: how a plain policy asks, one of `tasks.problems.STYLES`; others have
      their own.
    sampling: how a plain policy draws tokens; None for the defaults.
    seed: of all sampling.
    batch: problems searched at once.

  Returns:
    The rows of `search_solving.solve_to_file`, in the order of the problems,
    and in each of them
      arm: decoder and cap; None if the problem was not tried.
      predicted: success and tokens that the policy expected; the success is
        None of a plain policy, which forecasts nothing.
      stages: tokens by stage; see `policy_rows.STAGES`.
      tries: of each try its arm, its cost, what it showed and how far its
        answer is trusted (only policies with a cascade look).
      next: what more would buy: the next arm, its gain of predicted success,
        its tokens, and the gain of a hundred tokens; None if nothing would.
        Gains of further tries are what the policy counts them for, discounted;
        a plain policy's are a rule of thumb.
      price: success that a token had to bring when the problem was last routed;
        of several fields, what their sum of shares of the budget left had to.

  Raises:
    ValueError: before anything is spent, if the policy is unknown, damaged or
      of other models, the budget is on none or other fields, or a problem
      cannot be asked.
  """
  problems_lib.require_name(per, ("problem", "set"), "per")
  if not problems:
    raise ValueError("there are no problems; expected at least one")
  engines = engine if isinstance(engine, Mapping) else {"": engine}
  total = _times(budget, len(problems)) if per == "problem" else budget
  each = budget if per == "problem" else _times(budget, 1, len(problems))
  policy = resolved(
    policy,
    engines,
    each,
    style=style,
    sampling=sampling or solve_recipe.SamplingOptions(),
  )
  job = policy_rows.Job(
    problems, policy_rows.put_plainly, engines, policy, total, seed, batch, None
  )
  answered_by = _checked(job)
  rows = {row["id"]: row for row in _rows(job, answered_by, [])}
  return [rows[problem.id] for problem in problems]


def solve_to_file(
  recipe: solve_recipe.SolveRecipe,
  path: str | os.PathLike[str],
  *,
  policy: str | policy_rows.Policy = budget_policies.AUTO,
  router: Sequence[str] = (),
  progress: bool = True,
  mesh: jax.sharding.Mesh | None = None,
  ledger: ledger_lib.Ledger | None = None,
) -> list[dict[str, Any]]:
  """As `solve`, one JSON line a problem as they are done; resumes a file.

  A run that is resumed has what the lines of the file did not spend. An answer
  that might yet have been bettered when it stopped is let be.

  Args:
    recipe: problems, models, seed and batch. Its budget is the mean of a
      problem; its decoder is not read, the policy has its own, nor is its
      sampling but by a plain policy.
    path: the file; of several processes the first alone reads and writes it.
    policy: as `solve`.
    router: language models to choose from in place of the recipe's, the
      cheapest first, as `routed_models.load` takes them.
    progress: whether to show a bar, on the standard error stream.
    mesh: devices to spread models and problems over; None for one device.
    ledger: gets one entry, of phase "inference", with what this call spent.

  Returns:
    The rows of the file.

  Raises:
    ValueError: as `solve`, or if the file is of another recipe or policy,
      damaged before its last line, or cannot be written.
  """
  with contextlib.ExitStack() as stack:
    job = _prepared(recipe, policy, router, mesh, stack)
    return _written(job, recipe, path, progress, ledger)


def _written(job, recipe, path, progress, ledger) -> list[dict[str, Any]]:
  """The rows of a job, each on disk as it is done."""
  answered_by = _checked(job)
  header = _header(recipe, job)
  path = pathlib.Path(path)
  ids = [problem.id for problem in job.problems]
  rows, offset = mesh_lib.from_first(
    lambda: answer_file.kept(
      path, header, ids, in_order=False, provisional=_is_open
    )
  )
  solved = _rows(job, answered_by, list(rows))
  if not mesh_lib.is_first():
    return rows + [row for row in solved if not _is_open(row)]
  kept = len(rows)

  def written(lines: answer_file.Lines) -> Iterator[dict[str, Any]]:
    for row in solved:
      lines.append(row)
      if not _is_open(row):
        yield row

  with contextlib.closing(solved), answer_file.Lines(path, offset) as lines:
    if not offset:
      lines.append(header)
    try:
      rows.extend(answer_rows.bar(written(lines), kept, len(ids), progress))
    finally:
      if ledger is not None and rows[kept:]:
        ledger.add_cost(
          costs.Cost.sum(costs.Cost.from_dict(r["cost"]) for r in rows[kept:]),
          "inference",
          queries=len(rows) - kept,
          note=f"budget policy of {', '.join(job.engines) or recipe.policy}",
        )
  return rows


def resolved(
  policy: str | policy_rows.Policy,
  engines: Mapping[str, served_models.Engine],
  each: budget_lib.Budget,
  *,
  style: str,
  sampling: solve_recipe.SamplingOptions,
) -> policy_rows.Policy:
  """The policy that a name means for some models; says when "auto" is plain.

  Args:
    policy: as `solve`.
    engines: by name.
    each: the mean budget of a problem.
    style: of a plain policy.
    sampling: of a plain policy.

  Raises:
    ValueError: if the policy is unknown or damaged, or the budget buys nothing.
  """
  if not isinstance(policy, str):
    return policy
  if stage_text.is_composed(policy):
    return composed_policies.parse(
      policy, list(engines), each, style=style, sampling=sampling
    )
  if split_policies.is_one(policy):
    return split_policies.make(measured_splits.load(policy), engines, each)
  if policy not in (budget_policies.AUTO, plain_policies.PLAIN):
    return budget_policies.load(policy)
  if policy == budget_policies.AUTO:
    shipped = budget_policies.load(policy)
    try:
      shipped.check_models(_bundles(engines))
      shipped.check_fields(tuple(each.as_dict()))
    except ValueError as error:
      logging.warning(
        "policy auto is plain here (one try each, doubtful answers asked "
        "again): %s",
        error,
      )
    else:
      return shipped
  return plain_policies.make(engines, each, style=style, sampling=sampling)


def _bundles(engines):
  """Language and reward models by name; None for those that are elsewhere."""
  return {
    name: (None, None) if isinstance(each, served_models.Served) else each
    for name, each in engines.items()
  }


def _times(
  budget: budget_lib.Budget, times: int, parts: int = 1
) -> budget_lib.Budget:
  """A budget so many times, over so many parts; counts are rounded down.

  Raises:
    ValueError: if it limits nothing, or a limit cannot be.
  """
  limits = budget.validate().as_dict()
  if not limits:
    raise ValueError(
      "budget: a policy spends what is limited, and there is no limit; "
      "expected at least one, such as generated_tokens=80"
    )
  return budget_lib.Budget(
    **{
      name: each * times // parts
      if name in costs.COUNTS
      else each * times / parts
      for name, each in limits.items()
    }
  )


def _prepared(
  recipe, policy, router, mesh, stack: contextlib.ExitStack
) -> policy_rows.Job:
  if recipe.thinking:
    raise ValueError(
      f"thinking={recipe.thinking!r} and a budget policy both say how to "
      "decode; give one"
    )
  each = solve_recipe.parsed_budget(recipe.budget)
  if isinstance(policy, str):  # an unknown one is told before models are read
    if stage_text.is_composed(policy):
      stage_text.parts(policy)
    elif split_policies.is_one(policy):
      measured_splits.load(policy)
    elif policy != plain_policies.PLAIN:
      known = budget_policies.load(policy)
      if policy != budget_policies.AUTO:
        policy = known
  problems = recipe.problems.load()
  total = _times(each, len(problems))
  engines = routed_models.engines(recipe, router, mesh, stack)
  policy = resolved(
    policy,
    engines,
    each,
    style=recipe.problems.style,
    sampling=recipe.sampling,
  )
  if recipe.problems.style != policy.style:
    raise ValueError(
      f"problems.style={recipe.problems.style!r}: the policy was fitted on "
      f"solutions asked for as {policy.style!r}"
    )
  job = policy_rows.Job(
    problems,
    lambda asked, style: dataclasses.replace(
      recipe.problems, style=style
    ).prompts(asked),
    engines,
    policy,
    total,
    recipe.seed,
    recipe.batch,
    mesh,
  )
  return job


def _checked(job: policy_rows.Job) -> policy_decoding.Answerers:
  """Who answers; refuses what would only fail when something has been spent."""
  names = [problem.id for problem in job.problems]
  if len(set(names)) < len(names):
    raise ValueError("two problems have one id; ids decide the random keys")
  if job.batch < 1:
    raise ValueError(f"batch must be at least 1, got {job.batch}")
  policy = job.policy
  fields = tuple(job.budget.as_dict())
  policy.check_fields(fields)
  policy.check_models(_bundles(job.engines))
  answered_by = policy_decoding.answerers(job)
  if isinstance(policy, composed_policies.ComposedPolicy):
    _check_prompts(job, fields)
  return answered_by


def _check_prompts(job: policy_rows.Job, fields: Sequence[str]) -> None:
  """Refuses budgets that some prompt alone exceeds: nothing is cheaper here."""
  prompts = job.prompts
  for place, arm in enumerate(job.policy.arms):
    engine = job.engines[arm.model]
    if isinstance(engine, served_models.Served) or (
      arm_text.kind(arm.decoder) != arm_text.SEARCH
    ):
      continue
    decoder, settings = job.policy.build(arm.decoder)
    language, reward = engine
    loading.check_prompts(
      list(job.problems),
      prompts,
      language,
      reward if decoder.needs_reward else None,
      job.policy.limits(place, fields),
      settings,
    )


def _header(
  recipe: solve_recipe.SolveRecipe, job: policy_rows.Job
) -> dict[str, Any]:
  problems = json.loads(json.dumps(dataclasses.asdict(recipe.problems)))
  models = {
    name: list(map(loading.weights_fingerprint, each))
    for name, each in _bundles(job.engines).items()
  }
  one = models.get("", ["", ""])
  header = {
    "problems": problems,
    "budget": job.budget.as_dict(),
    "seed": job.seed,
    "policy": one[0],
    "verifier": one[1],
    "budget_policy": job.policy.fingerprint,
  }
  return header if "" in models else header | {"models": models}


def _rows(
  job: policy_rows.Job,
  answered_by: policy_decoding.Answerers,
  done: Sequence[Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
  """Rows of the problems that are not done, as they come.

  The row of an answer that may yet be bettered says `open`; another row of the
  problem comes at last.
  """
  names = {row["id"] for row in done}
  left = [i for i, p in enumerate(job.problems) if p.id not in names]
  if not left:
    return
  work = _begun(job, answered_by, left, done)
  waiting = dict.fromkeys(range(len(left)))  # in the order of the problems
  for question in work.run:
    row = policy_rows.row(work, question)
    if work.run.open(question):
      row["open"] = True
    else:
      del waiting[question]
    yield row
  for question in waiting:
    yield policy_rows.row(work, question)


def _is_open(row: Mapping[str, Any]) -> bool:
  return row.get("open", False)


def _begun(
  job: policy_rows.Job,
  answered_by: policy_decoding.Answerers,
  left: Sequence[int],
  done: Sequence[Mapping[str, Any]],
) -> policy_rows.Work:
  """The problems that are left, with what is left of the budget."""
  used = costs.Cost.sum(costs.Cost.from_dict(row["cost"]) for row in done)
  budget = budget_lib.Meter(budget=job.budget, spent=used).remaining()
  fields = tuple(budget.as_dict())
  predicted, composed = job.policy.compose(
    [job.problems[i] for i in left],
    fields,
    policy_decoding.Decoding(job, answered_by, left, fields).run,
    job.engines,
  )
  places = range(len(left))
  run = policies.Run(composed, places, budget, wave=2 * job.batch)
  return policy_rows.Work(job, left, predicted, run)
