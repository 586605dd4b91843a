# SPDX-License-Identifier: Apache-2.0
"""Problems and one budget in, answers out: route, plan, decode, verify.

    engine = solving.load_models("arithmetic_lm", "arithmetic_prm")
    budget = cost.Budget(generated_tokens=80)
    rows = policy_solving.solve(problems, engine, budget, policy="auto")

A budget policy forecasts, for every problem at once, what each of its arms
would achieve and take; the budget of all problems together then buys arms
where a token brings most (`allocators.routing.Pool`), wave by wave. An arm is a
search whose steps the reward model verifies, under a cap of its own. A policy
with a cascade looks at what came back, and asks again where that is worth its
price. Whatever the forecasts say, the problems together never spend more than
their budget, on any field: the last ones get cheaper arms, or none, and their
rows say so.

A problem of these models has one part, so its plan is its arm's whole cap; for
questions in parts see `allocators.part_policies`.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
from typing import Any

import jax

from jaxttc import mesh as mesh_lib
from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.cost import ledger as ledger_lib
from jaxttc.evaluation import (
  answer_file,
  budget_policies,
  cost_laws,
  looks,
  policy_cascades,
  policy_rows,
  policy_searches,
  served_models,
  solving,
)
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import search as search_lib
from jaxttc.tasks import problems as problems_lib

NOT_TRIED = policy_rows.NOT_TRIED


def solve(
  problems: Sequence[problems_lib.Problem],
  engine: policy_rows.Engine,
  budget: budget_lib.Budget,
  *,
  policy: str | budget_policies.BudgetPolicy = budget_policies.AUTO,
  per: str = "problem",
  seed: int = 0,
  batch: int = 16,
) -> list[dict[str, Any]]:
  """Solves problems under one budget, as a policy sees fit.

  Args:
    problems: with unique ids.
    engine: the language model and the reward model, as `solving.load_models`
      returns them.
    budget: of generated tokens, or whatever fields the policy knows the cost
      of (`cost_laws`), or several at once.
    policy: a policy, its file, or the name of one that ships.
    per: whether the budget is the mean of a "problem" or that of the whole
      "set".
    seed: of all sampling.
    batch: problems searched at once.

  Returns:
    The rows of `solving.solve_to_file`, in the order of the problems, and in
    each of them
      arm: decoder and cap; None if the problem was not tried.
      predicted: success and tokens that the policy expected.
      stages: tokens by stage: of the prompts, of the answer returned, of the
        rest of its search, of tries whose answers were not returned, and those
        that the reward model read.
      tries: of each try its arm, its cost, what it showed and how far its
        answer is trusted (only policies with a cascade look).
      next: what more would buy: the next arm, its gain of predicted success,
        its tokens, and the gain of a hundred tokens; None if nothing would.
        Gains of further tries are what the policy counts them for, discounted.
      price: success that a token had to bring when the problem was last routed;
        of several fields, what their sum of shares of the budget left had to.

  Raises:
    ValueError: before anything is spent, if the policy is unknown, damaged or
      of other models, the budget is on none or other fields, or a problem
      cannot be asked.
  """
  policy = _loaded(policy)
  prompts = [problems_lib.prompt(p, policy.style) for p in problems]
  total = _total(budget, per, len(problems), policy)
  job = policy_rows.Job(
    problems, prompts, engine, policy, total, seed, batch, None
  )
  _check(job)
  rows = {row["id"]: row for row in _rows(job, [])}
  return [rows[problem.id] for problem in problems]


def solve_to_file(
  recipe: solving.SolveRecipe,
  path: str | os.PathLike[str],
  *,
  policy: str | budget_policies.BudgetPolicy = budget_policies.AUTO,
  progress: bool = True,
  mesh: jax.sharding.Mesh | None = None,
  ledger: ledger_lib.Ledger | None = None,
) -> list[dict[str, Any]]:
  """As `solve`, one JSON line a problem as they are done; resumes a file.

  A run that is resumed has what the lines of the file did not spend. An answer
  that might yet have been bettered when it stopped is let be.

  Args:
    recipe: problems, models, seed and batch. Its budget is the mean of a
      problem; its decoder and sampling are not read, the policy has its own.
    path: the file; of several processes the first alone reads and writes it.
    policy: as `solve`.
    progress: whether to show a bar, on the standard error stream.
    mesh: devices to spread models and problems over; None for one device.
    ledger: gets one entry, of phase "inference", with what this call spent.

  Returns:
    The rows of the file.

  Raises:
    ValueError: as `solve`, or if the file is of another recipe or policy,
      damaged before its last line, or cannot be written.
  """
  policy = _loaded(policy)
  job = _prepared(recipe, policy, mesh)
  header = _header(recipe, job)
  path = pathlib.Path(path)
  ids = [problem.id for problem in job.problems]
  rows, offset = mesh_lib.from_first(
    lambda: answer_file.kept(
      path, header, ids, in_order=False, provisional=_is_open
    )
  )
  solved = _rows(job, list(rows))
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
      rows.extend(solving.bar(written(lines), kept, len(ids), progress))
    finally:
      if ledger is not None and rows[kept:]:
        ledger.add_cost(
          costs.Cost.sum(costs.Cost.from_dict(r["cost"]) for r in rows[kept:]),
          "inference",
          queries=len(rows) - kept,
          note=f"budget policy of {recipe.policy}",
        )
  return rows


def _loaded(
  policy: str | budget_policies.BudgetPolicy,
) -> budget_policies.BudgetPolicy:
  if isinstance(policy, budget_policies.BudgetPolicy):
    return policy
  return budget_policies.load(policy)


def _total(
  budget: budget_lib.Budget,
  per: str,
  problems: int,
  policy: budget_policies.BudgetPolicy,
) -> budget_lib.Budget:
  """What all problems together may spend."""
  limits = budget.validate().as_dict()
  if not limits:
    raise ValueError(
      "budget: a policy spends what is limited, and there is no limit; "
      "expected at least one, such as generated_tokens=80"
    )
  cost_laws.limits(policy.laws, tuple(limits), policy.caps)  # knows them all
  problems_lib.require_name(per, ("problem", "set"), "per")
  times = problems if per == "problem" else 1
  return budget_lib.Budget(
    **{name: each * times for name, each in limits.items()}
  )


def _prepared(recipe, policy, mesh) -> policy_rows.Job:
  for name in (recipe.policy, recipe.verifier):
    if served_models.is_url(name):
      raise ValueError(
        f"{name}: a budget policy chooses decoders for models of this process; "
        "expected a model file or the name of one that ships"
      )
  if recipe.thinking:
    raise ValueError(
      f"thinking={recipe.thinking!r} and a budget policy both say how to "
      "decode; give one"
    )
  if recipe.problems.style != policy.style:
    raise ValueError(
      f"problems.style={recipe.problems.style!r}: the policy was fitted on "
      f"solutions asked for as {policy.style!r}"
    )
  problems = recipe.problems.load()
  total = _total(
    budget_lib.Budget.parse(recipe.budget), "problem", len(problems), policy
  )
  engine = solving.load_models(
    recipe.policy,
    recipe.verifier,
    mesh,
    recipe.dtype,
    recipe.attention,
    width=recipe.width,
  )
  prompts = recipe.problems.prompts(problems)
  job = policy_rows.Job(
    problems,
    prompts,
    engine,
    policy,
    total,
    recipe.seed,
    recipe.batch,
    mesh,
  )
  _check(job)
  return job


def _check(job: policy_rows.Job) -> None:
  """Refuses what would only fail when something has been spent."""
  if not job.problems:
    raise ValueError("there are no problems; expected at least one")
  names = [problem.id for problem in job.problems]
  if len(set(names)) < len(names):
    raise ValueError("two problems have one id; ids decide the random keys")
  if job.batch < 1:
    raise ValueError(f"batch must be at least 1, got {job.batch}")
  language, reward = job.engine
  job.policy.check_models(language, reward)
  bundle_lib.check_pair(language, reward)
  for text in job.policy.decoders:
    decoder, settings = job.policy.build(text)
    if decoder.needs_reward and reward is None:
      raise ValueError(f"decoder {text!r} needs rewards: give a reward model")
    search_lib.encode(language, job.prompts, settings)


def _header(
  recipe: solving.SolveRecipe, job: policy_rows.Job
) -> dict[str, Any]:
  problems = json.loads(json.dumps(dataclasses.asdict(recipe.problems)))
  language, reward = map(solving.weights_fingerprint, job.engine)
  return {
    "problems": problems,
    "budget": job.budget.as_dict(),
    "seed": job.seed,
    "policy": language,
    "verifier": reward,
    "budget_policy": job.policy.fingerprint,
  }


def _rows(
  job: policy_rows.Job, done: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
  """Rows of the problems that are not done, as they come.

  The row of an answer that may yet be bettered says `open`; another row of the
  problem comes at last.
  """
  names = {row["id"] for row in done}
  left = [i for i, p in enumerate(job.problems) if p.id not in names]
  if not left:
    return
  work = _begun(job, left, done)
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
  job: policy_rows.Job, left: Sequence[int], done: Sequence[Mapping[str, Any]]
) -> policy_rows.Work:
  """The problems that are left, with what is left of the budget."""
  policy = job.policy
  predicted = policy.predict([job.problems[i].text for i in left])
  used = costs.Cost.sum(costs.Cost.from_dict(row["cost"]) for row in done)
  budget = budget_lib.Meter(budget=job.budget, spent=used).remaining()
  fields = tuple(budget.as_dict())

  def expected(tokens):
    return cost_laws.expected(policy.laws, fields, tokens, policy.caps)

  composed = policies.compose(
    cost_laws.limits(policy.laws, fields, policy.caps),
    policy.caps,
    policy.groups,
    route=lambda _: policies.Forecast(
      predicted.success, expected(predicted.tokens)
    ),
    decode=policy_searches.Searches(job, left, fields).run,
    verify=policy_cascades.verify(
      [policy.cascade] * len(left),
      predicted.success,
      predicted.tokens,
      policy.caps,
      lambda _, outcome: looks.look(outcome.result),
      expected,
    ),
  )
  run = policies.Run(
    composed,
    left,
    budget,
    wave=2 * job.batch,
  )
  return policy_rows.Work(job, left, predicted, run)
