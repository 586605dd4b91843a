# SPDX-License-Identifier: Apache-2.0
"""Problems and one budget in, answers out: route, decode, verify.

    engine = solving.load_models("arithmetic_lm", "arithmetic_prm")
    budget = cost.Budget(generated_tokens=80)
    rows = policy_solving.solve(problems, engine, budget, policy="auto")

A budget policy forecasts, for every problem at once, what each of its arms
would achieve and take; the budget of all problems together then buys arms
where a token brings most (`allocators.routing.Pool`), wave by wave. An arm is a
search whose steps the reward model verifies, under a cap of its own. Whatever
the forecasts say, the problems together never generate more tokens than their
budget: the last ones get cheaper arms, or none, and their rows say so.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
import pathlib
from typing import Any, NamedTuple

import jax

from jaxttc import mesh as mesh_lib
from jaxttc.allocators import routing as allocation
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.cost import ledger as ledger_lib
from jaxttc.evaluation import (
  answer_file,
  budget_policies,
  problem_sets,
  served_models,
  solving,
)
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import search as search_lib
from jaxttc.tasks import problems as problems_lib

NOT_TRIED = "not tried"  # the `stop` of problems that the budget left out
STAGES = ("prompt", "answer", "search", "verify")
Engine = tuple[bundle_lib.Bundle, bundle_lib.Bundle | None]


class _Job(NamedTuple):
  """Everything that a run needs, checked."""

  problems: Sequence[problems_lib.Problem]
  prompts: Sequence[str]
  engine: Engine
  policy: budget_policies.BudgetPolicy
  amount: int
  seed: int
  batch: int
  mesh: jax.sharding.Mesh | None


def solve(
  problems: Sequence[problems_lib.Problem],
  engine: Engine,
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
    budget: of generated tokens, and of nothing else.
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
      stages: tokens by stage: of the prompt, of the answer returned, of the
        rest of the search, and those that the reward model read.
      next: what more would buy: the next arm, its gain of predicted success,
        its tokens, and the gain of a hundred tokens; None if nothing would.
      price: success a token had to bring when the problem was routed.

  Raises:
    ValueError: before anything is spent, if the policy is unknown, damaged or
      of other models, the budget is not one of generated tokens alone, or a
      problem cannot be asked.
  """
  policy = _loaded(policy)
  prompts = [problems_lib.prompt(p, policy.style) for p in problems]
  amount = _amount(budget, per, len(problems))
  job = _Job(problems, prompts, engine, policy, amount, seed, batch, None)
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

  A run that is resumed has what the lines of the file did not spend.

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
    lambda: answer_file.kept(path, header, ids, in_order=False)
  )
  solved = _rows(job, list(rows))
  if not mesh_lib.is_first():
    return rows + list(solved)
  kept = len(rows)
  with contextlib.closing(solved), answer_file.Lines(path, offset) as lines:
    if not offset:
      lines.append(header)
    try:
      for row in solving.bar(solved, kept, len(ids), progress):
        lines.append(row)
        rows.append(row)
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


def _amount(budget: budget_lib.Budget, per: str, problems: int) -> int:
  """Generated tokens of all problems together."""
  limits = budget.validate().as_dict()
  if set(limits) != {"generated_tokens"}:
    got = ", ".join(f"{k}={v}" for k, v in limits.items()) or "no limit"
    raise ValueError(
      "budget: a policy spends generated tokens; expected generated_tokens "
      f"and nothing else, got {got}"
    )
  problems_lib.require_name(per, ("problem", "set"), "per")
  return limits["generated_tokens"] * (problems if per == "problem" else 1)


def _prepared(recipe, policy, mesh) -> _Job:
  for name in (recipe.policy, recipe.verifier):
    if served_models.is_url(name):
      raise ValueError(
        f"{name}: a budget policy chooses decoders for models of this process; "
        "expected a model file or the name of one that ships"
      )
  if recipe.problems.style != policy.style:
    raise ValueError(
      f"problems.style={recipe.problems.style!r}: the policy was fitted on "
      f"solutions asked for as {policy.style!r}"
    )
  problems = recipe.problems.load()
  amount = _amount(
    budget_lib.Budget.parse(recipe.budget), "problem", len(problems)
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
  job = _Job(
    problems,
    prompts,
    engine,
    policy,
    amount,
    recipe.seed,
    recipe.batch,
    mesh,
  )
  _check(job)
  return job


def _check(job: _Job) -> None:
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


def _header(recipe: solving.SolveRecipe, job: _Job) -> dict[str, Any]:
  problems = json.loads(json.dumps(dataclasses.asdict(recipe.problems)))
  language, reward = map(solving.weights_fingerprint, job.engine)
  return {
    "problems": problems,
    "tokens": job.amount,
    "seed": job.seed,
    "policy": language,
    "verifier": reward,
    "budget_policy": job.policy.fingerprint,
  }


def _rows(
  job: _Job, done: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
  """Rows of the problems that are not done, as they come."""
  names = {row["id"] for row in done}
  left = [i for i, p in enumerate(job.problems) if p.id not in names]
  if not left:
    return
  policy = job.policy
  predicted = policy.predict([job.problems[i].text for i in left])
  used = sum(row["cost"]["generated_tokens"] for row in done)
  pool = allocation.Pool(
    predicted.success,
    predicted.tokens,
    policy.caps,
    policy.groups,
    amount=max(job.amount - used, 0),
    wave=2 * job.batch,
  )
  searches = _Searches(job)
  while (wave := pool.ask()) is not None:
    which = [left[q] for q in wave.questions]
    arms = [policy.arms[arm] for arm in wave.arms]
    for result in searches.run(which, arms):
      question = int(wave.questions[result.problem])
      pool.tell(question, int(result.cost.generated_tokens))
      problem = job.problems[left[question]]
      row = solving.answer_row(problem, result)
      row["stages"] = _stages(job.engine[0], result)
      yield row | _routed(policy, predicted, pool, question)
  for question in (pool.arms == allocation.pooled_budget.NONE).nonzero()[0]:
    row = _untried(job.problems[left[question]])
    yield row | _routed(policy, predicted, pool, int(question))


class _Searches:
  """Runs arms of one decoder at a time; each decoder is compiled once."""

  def __init__(self, job: _Job):
    self._job = job
    language = job.engine[0]
    self._built = {}
    for text in job.policy.decoders:
      decoder, settings = job.policy.build(text)
      longest = max(
        map(len, search_lib.encode(language, job.prompts, settings))
      )
      settings = dataclasses.replace(settings, prompt_tokens=longest)
      most = max(arm.cap for arm in job.policy.arms if arm.decoder == text)
      self._built[text] = decoder, solving.fit_slots(settings, decoder, most)

  def run(
    self, which: Sequence[int], arms: Sequence[budget_policies.Arm]
  ) -> Iterator[search_lib.SearchResult]:
    """Searches problems, by their places; arms share their decoder."""
    job = self._job
    decoder, settings = self._built[arms[0].decoder]
    return search_lib.solve(
      [job.prompts[i] for i in which],
      [job.problems[i].id for i in which],
      *job.engine,
      decoder,
      budget=[budget_lib.Budget(generated_tokens=arm.cap) for arm in arms],
      settings=settings,
      seed=job.seed,
      batch=job.batch,
      mesh=job.mesh,
    )


def _stages(
  language: bundle_lib.Bundle, result: search_lib.SearchResult
) -> dict[str, int]:
  generated = int(result.cost.generated_tokens)
  answer = 0
  if result.completion:
    answer = len(language.tokenizer.encode(result.completion))
  answer = min(answer, generated)
  return {
    "prompt": int(result.cost.prompt_tokens),
    "answer": answer,
    "search": generated - answer,
    "verify": int(result.cost.verifier_tokens),
  }


def _routed(policy, predicted, pool, question: int) -> dict[str, Any]:
  """What the policy had to say about a problem."""
  arm, rung = int(pool.arms[question]), pool.next_rung(question)
  described: dict[str, Any] = {
    "arm": None,
    "predicted": {"success": 0.0, "tokens": 0.0},
    "price": float(pool.prices[question]),
    "next": None,
  }
  if arm != allocation.pooled_budget.NONE:
    described["arm"] = policy.arms[arm]._asdict()
    described["predicted"] = {
      "success": float(predicted.success[question, arm]),
      "tokens": float(predicted.tokens[question, arm]),
    }
  if rung is not None:
    described["next"] = policy.arms[rung.arm]._asdict() | {
      "gain": rung.gain,
      "tokens": rung.cost,
      "gain_of_100_tokens": 100 * rung.worth,
    }
  return described


def _untried(problem: problems_lib.Problem) -> dict[str, Any]:
  return {
    "id": problem.id,
    "answer": None,
    "correct": problem_sets.is_right(problem, None),
    "completion": None,
    "stop": NOT_TRIED,
    "rounds": 0,
    "cost": costs.Cost().as_dict(),
    "assumed": {},
    "tree": None,
    "stages": dict.fromkeys(STAGES, 0),
  }
