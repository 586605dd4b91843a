# SPDX-License-Identifier: Apache-2.0
"""Problems put to a model that thinks, each thought within its budget.

As `search_solving`, with a way to think (`thinking_text`) in place of a search:
one JSON line a problem, resumable, and a file of another recipe is refused. A
problem's tokens depend on its name and the seed, not on its batch; where
budgets are adaptive, its budget depends on what the others look like.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Int
import numpy as np
from rich import table as rich_table

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.cost import ledger as ledger_lib
from jaxttc.evaluation import length_control
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import local_prices, thinking_span, thoughts
from jaxttc.runtime import funding
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import (
  answer_file,
  answer_rows,
  loading,
  problem_sets,
  served_models,
  solve_recipe,
  thinking_split,
  thinking_text,
)
from jaxttc.tasks import problems as problems_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """A recipe with all that it names, loaded and checked.

  Attributes:
    problems: the problems.
    prompts: token ids of each, up to where the model thinks, or answers.
    policy: the language model.
    way: how it thinks.
    budget: tokens of each span; their mean, at most, where budgets differ.
    prices: of the model.
    hardware: a name of the hardware table; None for no joules and dollars.
    split: where budgets differ: each problem's, and how hard it looked.
  """

  problems: list[problems_lib.Problem]
  prompts: list[list[int]]
  policy: bundle_lib.Bundle
  way: thinking_text.Way
  budget: int
  prices: funding.Prices
  hardware: str | None = None
  split: thinking_split.Split | None = None

  def budgets(
    self, which: Sequence[int] | Int[np.ndarray, " b"]
  ) -> Int[np.ndarray, " b"]:
    """Tokens of the spans of some problems."""
    if self.split is None:
      return np.full(len(which), self.budget, np.int32)
    return self.split.budgets[np.asarray(which)]


def solve_to_file(
  recipe: solve_recipe.SolveRecipe,
  path: str | os.PathLike[str],
  *,
  progress: bool = True,
  mesh: jax.sharding.Mesh | None = None,
  ledger: ledger_lib.Ledger | None = None,
) -> list[dict[str, Any]]:
  """Solves a recipe's problems by thinking; resumes what is there.

  Args:
    recipe: what to run. Its decoder and verifier are not read, and of its
      sampling not what belongs to steps. `sampling.max_tokens` is of thought
      and answer together; a budget that some problem might exceed is refused.
    path: the file; its folder is made if need be.
    progress: whether to show a bar, on the standard error stream.
    mesh: None: thinking runs on one device.
    ledger: gets one entry, of phase "inference", with what this call spent.

  Returns:
    The rows of the file: of each problem its
      id, answer, correct (None if unknown), completion: as of a search; the
        completion is what stands behind the span, None if it never closed.
      thinking: the text of the span.
      thinking_tokens: of the span, its closing token included.
      answer_tokens: of what follows it.
      overhead_tokens: sampled beside these: trials, and thoughts given up.
      thinking_budget: tokens that the span was given; None if without limit.
      difficulty: tokens that it was expected to take, where budgets differ by
        that.
      thinking_finish: how it ended, one of `thoughts.FINISHES`.
      stop: "done", or "length" if the answer did not come to its end.
      cost: all fields; tokens read again, by ways of several runs, count again.

  Raises:
    ValueError: in one line, if the recipe cannot be run, or the file is of
      another recipe, is damaged before its last line, or cannot be written.
  """
  if mesh is not None or jax.process_count() > 1:
    raise ValueError(
      "thinking runs on one device of one process; expected neither a mesh nor "
      "other processes"
    )
  job = prepare(recipe)
  header = {
    "recipe": solve_recipe.described(recipe),
    "policy": job.policy.weights_fingerprint,
    "predictor": job.way.mark,
  }
  if job.split is not None:
    header["difficulty"] = job.split.mark
  path = pathlib.Path(path)
  ids = [problem.id for problem in job.problems]
  rows, offset = answer_file.kept(path, header, ids, in_order=True)
  kept = len(rows)
  solved = solve(job, recipe.seed, batch=recipe.batch, done=kept)
  with contextlib.closing(solved), answer_file.Lines(path, offset) as lines:
    if not offset:
      lines.append(header)
    try:
      for row in answer_rows.bar(solved, kept, len(ids), progress):
        lines.append(row)
        rows.append(row)
    finally:
      if ledger is not None and rows[kept:]:
        ledger.add_cost(
          costs.Cost.sum(costs.Cost.from_dict(r["cost"]) for r in rows[kept:]),
          "inference",
          queries=len(rows) - kept,
          note=f"{recipe.thinking} of {recipe.policy}",
        )
  return rows


def prepare(recipe: solve_recipe.SolveRecipe) -> Job:
  """Loads what a recipe names, and refuses what could never run.

  Raises:
    ValueError: in one line: what, where, and what was expected.
  """
  if recipe.batch < 1:
    raise ValueError(f"batch must be at least 1, got {recipe.batch}")
  if served_models.is_url(recipe.policy):
    raise ValueError(
      f"{recipe.policy}: a served model's thinking cannot be steered from "
      "here; expected a model file or the name of one that ships"
    )
  settings = dataclasses.replace(
    recipe.sampling, step_tokens=1, last_tokens=0, slots=0
  ).build()
  limits = budget_lib.Budget.parse(recipe.budget)
  policy, _ = loading.load_models(
    recipe.policy,
    "",
    dtype=recipe.dtype,
    attention=recipe.attention,
    width=recipe.width,
  )
  way = thinking_text.build(
    recipe.thinking,
    policy,
    limit=settings.max_tokens,
    sampler=settings.sampler,
  )
  if way.limited and way.budget is None:
    raise ValueError(
      f"thinking {recipe.thinking!r} needs the argument 'budget', such as "
      f"{way.name}(budget=120)"
    )
  budget = way.budget or settings.max_tokens
  problems = recipe.problems.load()
  source = recipe.problems
  if way.style != "free":
    source = dataclasses.replace(source, style=way.style)
  budgets, split = [budget] * len(problems), None
  if way.adaptive:
    plain = dataclasses.replace(way, words="")
    split = thinking_split.split(
      way,
      policy,
      way_prompts(plain, policy, budgets, problems, source.prompts),
      limit=settings.max_tokens,
    )
    budgets = split.budgets.tolist()
  prompts = way_prompts(way, policy, budgets, problems, source.prompts)
  job = Job(
    problems=problems,
    prompts=prompts,
    policy=policy,
    way=way,
    budget=budget,
    prices=settings_lib.prices(policy, None, settings),
    hardware=settings.hardware,
    split=split,
  )
  _check(job, limits)
  return job


def way_prompts(
  way: thinking_text.Way,
  policy: bundle_lib.Bundle,
  budgets: Sequence[int],
  problems: Sequence[problems_lib.Problem],
  put: Callable[[list[problems_lib.Problem]], list[str]],
) -> list[list[int]]:
  """Token ids up to where the model thinks, or answers.

  Args:
    way: how it thinks; its words stand behind the question.
    policy: the model.
    budgets: tokens of each span, as words tell them.
    problems: to ask.
    put: problems -> how they are asked, in the way's style.
  """
  asked = list(problems)
  if way.words:
    asked = [
      dataclasses.replace(
        problem,
        text=f"{problem.text}\n{way.words.replace('{budget}', str(budget))}",
      )
      for problem, budget in zip(problems, budgets, strict=True)
    ]
  return [
    thinking_span.prompt(policy.tokenizer, text, thinks=way.thinks)
    for text in put(asked)
  ]


def check_room(job: Job) -> None:
  """Refuses problems that do not fit the model.

  Raises:
    ValueError: naming the first of them.
  """
  think, most = job.way.think, job.policy.config.max_length
  for problem, prompt in zip(job.problems, job.prompts, strict=True):
    if len(prompt) + think.limit + think.beside > most:
      trial = f", trials of {think.beside}" if think.beside else ""
      raise ValueError(
        f"problem {problem.id!r}: its prompt of {len(prompt)} tokens{trial} "
        f"and sampling.max_tokens={think.limit} exceed the model's {most}"
      )


def _check(job: Job, limits: budget_lib.Budget) -> None:
  """Refuses problems that do not fit the model, or might exceed a budget."""
  check_room(job)
  think = job.way.think
  _, known = local_prices.local_tariff(job.policy, job.hardware, "policy")
  for name in limits.as_dict():
    if name not in known - {"seconds"}:
      raise ValueError(
        f"budget.{name} cannot be kept: it is not known before a problem is "
        "thought about (joules and dollars need sampling.hardware)"
      )
  meter = budget_lib.Meter.start(limits)
  for problem, prompt in zip(job.problems, job.prompts, strict=True):
    bound = price(job, think.most(len(prompt))) + estimate(job, len(prompt))
    field = meter.exhausted_by(bound)
    if field is not None:
      raise ValueError(
        f"problem {problem.id!r}: {job.way.name} may take up to "
        f"{field}={getattr(bound, field):g}, which exceeds the budget of "
        f"{getattr(limits, field):g}; lower sampling.max_tokens or raise it"
      )


def price(job: Job, work: thoughts.Work) -> costs.Cost:
  """The cost of one row's work, in host numbers."""
  work = thoughts.Work(*map(int, work))
  prompt = job.prices.prompt
  assert prompt is not None
  # The last token of a prompt is fed by the decoding loop.
  read = prompt.total(tokens=work.read - work.runs, attended=0)
  written = job.prices.policy.total(tokens=work.sampled, attended=work.attended)
  beside = costs.Cost(
    prompt_tokens=work.runs, flops=work.guided * job.way.guide_flops
  )
  return read + written + beside


def estimate(job: Job, prompt: int) -> costs.Cost:
  """The cost of seeing how hard a problem is, from a prompt of so many tokens.

  The whole prompt is read once more; nothing where budgets are equal. Of
  prompts with words about the budget a little more than is read.
  """
  if job.split is None or job.prices.prompt is None:
    return costs.Cost()
  read = job.prices.prompt.total(tokens=prompt, attended=0)
  return read + costs.Cost(flops=job.split.flops)


def solve(
  job: Job, seed: int, *, batch: int | None = None, done: int = 0
) -> Iterator[dict[str, Any]]:
  """The rows of `solve_to_file`, of the problems from the first not done.

  Args:
    job: as `prepare` makes it; one with another budget (`dataclasses.replace`)
      compiles nothing anew.
    seed: of all sampling.
    batch: problems thought about at once; None for all.
    done: problems to pass over.
  """
  batch = batch or len(job.problems)
  for first in range(done, len(job.problems), batch):
    part = range(first, min(first + batch, len(job.problems)))
    # As many rows every time, so that nothing is compiled anew.
    padded = np.resize(part, min(batch, len(job.problems)))
    keys = [search_lib.problem_key(seed, job.problems[i].id) for i in padded]
    found = job.way.think(
      [job.prompts[i] for i in padded],
      job.budgets(padded),
      jnp.stack(keys),
    )
    for row, index in enumerate(part):
      yield _row(job, index, found, row)


def _row(
  job: Job, index: int, found: thoughts.Thoughts, row: int
) -> dict[str, Any]:
  problem, length = job.problems[index], int(found.length[row])
  tokens = found.tokens[row, :length].tolist()
  spent = int(found.spent[row])
  if job.way.thinks:
    thought, answer = thinking_span.parts(job.policy.tokenizer, tokens)
  else:
    thought, answer = "", job.policy.tokenizer.decode(tokens)
  work = thoughts.Work(*(amount[row] for amount in found.work))
  cost = price(job, work) + estimate(job, len(job.prompts[index]))
  seen = {}
  if job.split is not None:
    seen = {"difficulty": float(job.split.difficulty[index])}
  return {
    "id": problem.id,
    "answer": problem_sets.answer_of(problem, answer),
    "correct": problem_sets.is_right(problem, answer),
    "completion": answer,
    "thinking": thought,
    "thinking_tokens": spent,
    "answer_tokens": length - spent,
    "overhead_tokens": int(found.overhead[row]),
    "thinking_budget": int(job.budgets([index])[0])
    if job.way.limited
    else None,
    **seen,
    "thinking_finish": found.finish[row],
    "stop": "done" if found.finished[row] else "length",
    "cost": cost.as_dict(),
  }


def table(rows: Sequence[dict[str, Any]]) -> rich_table.Table:
  """A printable table of how the rows of `solve_to_file` kept their budget."""
  found = rich_table.Table("", "a problem", title="Thinking")
  spent = np.array([row["thinking_tokens"] for row in rows])
  median, most = np.quantile(spent, [0.5, 0.95])
  budgets = [row["thinking_budget"] for row in rows]
  limited = None not in budgets
  shown = str(budgets[0]) if limited else "none"
  if len(set(budgets)) > 1:
    shown = f"{np.mean(budgets):.4g} ({min(budgets)} to {max(budgets)})"
  found.add_row("budget", shown)
  found.add_row(
    "thinking tokens",
    f"{spent.mean():.4g} (median {median:.4g}, 95% {most:.4g})",
  )
  for name, field in (
    ("answer tokens", "answer_tokens"),
    ("overhead tokens", "overhead_tokens"),
  ):
    found.add_row(name, f"{np.mean([row[field] for row in rows]):.4g}")
  finishes = collections.Counter(row["thinking_finish"] for row in rows)
  ended = ", ".join(f"{how} {n}" for how, n in finishes.most_common())
  found.add_row("spans ended", ended)
  found.add_row("no answer", str(sum(row["answer"] is None for row in rows)))
  if limited:
    forced = [row["thinking_finish"] == "forced" for row in rows]
    kept = length_control.adherence(spent, np.array(budgets), np.array(forced))
    found.add_row("over budget", f"{kept.overshoot:.1%}")
    found.add_row("distance from it, tokens", f"{kept.error:.4g}")
  return found
