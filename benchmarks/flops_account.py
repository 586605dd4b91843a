# SPDX-License-Identifier: Apache-2.0
"""A small model that searches against larger ones that do not: the account.

The models are the embedded one of four widths; each width is a model of its
own size, which got its own passes over the text. What they answer is read from
docs/results/slimmable_lm.json: one sampled answer of every width, and A* with
the embedded reward model at the smallest. A search is charged what its meter
says, reward model and prompts included. One answer is charged its prompt and a
solution of the reference's length.

Nothing is trained and nothing decoded. All that training took is in ledgers:
the widths' own passes, the base they go on from, the full width that taught the
narrow ones, and the reward model, which no threshold on the small model's
training counts.
"""

import functools
import math
import pathlib
from typing import Any

import numpy as np

from benchmarks import slimmable_lm_runs as runs
from jaxttc import results
from jaxttc.cost import effective_compute, transformer_flops
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import ledger as ledger_lib
from jaxttc.evaluation import model_accounts
from jaxttc.inference import bundle as bundle_lib
from jaxttc.tasks import arithmetic
from jaxttc.tasks import problems as problems_lib

SMALL, LARGE = 0.25, 1.0
SINGLE, SEARCH = "one answer", "A*"
_DAY = "2026-11-23"  # any: entries of one account have one day


def answers(source: pathlib.Path) -> list[dict[str, Any]]:
  """Accuracy and FLOP a query of single answers and searches.

  Args:
    source: the results file of `benchmarks.slimmable_lm`.

  Returns:
    Rows of width, decoder, budget (0 for none), accuracy, error (its standard
    error, binomial), flops (a query) and queries.

  Raises:
    ValueError: if the file is not what that benchmark writes.
  """
  data = results.read(source).data
  plan = runs.Plan(
    problems=data["plan"]["problems"],
    calibration=data["plan"]["calibration"],
    seeds=tuple(data["plan"]["seeds"]),
    steps=tuple(data["plan"]["steps"]),
  )
  queries = plan.problems * len(plan.seeds)
  policy = bundle_lib.load("nested_lm")
  lengths = _lengths(policy, plan)
  rows = []
  for row in data["answers"]:
    if (row["model"], row["decoder"]) == ("nested", "sample"):
      shape = bundle_lib.narrowed(policy, row["width"]).shape()
      each = [transformer_flops.prefill_flops(shape, n) for n in lengths]
      rows.append((row["width"], SINGLE, 0.0, row, float(np.mean(each))))
  rows += [
    (SMALL, SEARCH, row["budget"], row, row["flops"])
    for row in data["search"]
    if row["split"] == "evaluation" and row["width"] == SMALL
  ]
  return [
    {
      "width": width,
      "decoder": decoder,
      "budget": budget,
      "accuracy": row["accuracy"],
      "error": _error(row["accuracy"], queries),
      "flops": flops,
      "queries": queries,
    }
    for width, decoder, budget, row, flops in rows
  ]


def _lengths(policy: bundle_lib.Bundle, plan: runs.Plan) -> list[int]:
  """Tokens of each evaluation problem's prompt and reference solution."""
  encode = policy.tokenizer
  return [
    len(encode.encode_prompt(problems_lib.prompt(problem, "terse")))
    + len(encode.encode(arithmetic.solution(problem, "terse")))
    for seed in plan.seeds
    for problem in runs.problems(plan, seed, calibration=False)
  ]


def _error(share: float, count: int) -> float:
  """Standard error of a share; not 0 for shares of 0 and 1."""
  smooth = (share * count + 1) / (count + 2)
  return math.sqrt(smooth * (1 - smooth) / count)


def ledgers(rows: list[dict[str, Any]]) -> dict[float, ledger_lib.Ledger]:
  """A ledger a width: its own passes, its base, its helpers, its answers."""
  nested = bundle_lib.load("nested_lm")
  whole = model_accounts.of_recipe(nested.recipe, "nested_lm")
  passes = dict(zip(nested.recipe["widths"], whole.entries, strict=True))
  full = ledger_lib.Ledger("width 1", whole.parents)
  full.take(passes[LARGE])
  judge = model_accounts.of_recipe(
    bundle_lib.load("arithmetic_prm").recipe, "arithmetic_prm"
  )
  helpers = [
    ledger_lib.Parent(full, "teacher"),
    ledger_lib.Parent(judge, "verifier"),
  ]
  made = {LARGE: full}
  for width, entry in passes.items():
    if width != LARGE:
      parents = [*whole.parents, *helpers]
      made[width] = ledger_lib.Ledger(f"width {width:g}", parents)
      made[width].take(entry)
  for row in rows:
    made[row["width"]].add(
      "evaluation",
      flop=estimate_lib.Estimate.exact(
        row["flops"] * row["queries"], "FLOP", "metered"
      ),
      day=_DAY,
      note=f"{row['decoder']}, {row['queries']} queries",
    )
  return made


def multiples(
  rows: list[dict[str, Any]], own: dict[float, ledger_lib.Ledger]
) -> list[effective_compute.Multiple]:
  """What search is worth in the compute of a width's own passes.

  Search is told in single answers of the smallest width.
  """
  point = effective_compute.Point
  single = _row(rows, SMALL, SINGLE)["flops"]
  training = [
    point(
      compute=_training(own, row["width"], ()),
      quality=row["accuracy"],
      error=row["error"],
    )
    for row in rows
    if row["decoder"] == SINGLE
  ]
  search = [
    point(
      compute=row["flops"] / single,
      quality=row["accuracy"],
      error=row["error"],
    )
    for row in rows
    if row["decoder"] == SEARCH
  ]
  return effective_compute.train_multiples(
    search, training, base=_training(own, SMALL, ())
  )


def lives(
  rows: list[dict[str, Any]], own: dict[float, ledger_lib.Ledger]
) -> dict[str, Any]:
  """The small model with the least search that matches, and the large one.

  Returns:
    For "large", and for "small" if some search is as accurate as the large
    model's one answer: width, accuracy, per_query, own (passes over its text),
    training (with bases) and everything (teacher and verifier, too); the
    search in single answers; and at how many queries both have cost the same
    in training and queries, if they ever do.
  """
  large = _row(rows, LARGE, SINGLE)
  matching = [
    row
    for row in rows
    if row["decoder"] == SEARCH and row["accuracy"] >= large["accuracy"]
  ]
  small = min(matching, key=lambda row: row["flops"], default=None)
  total = functools.partial(_training, own)
  told: dict[str, Any] = {}
  for name, row in (("small", small), ("large", large)):
    if row is not None:
      told[name] = {
        "width": row["width"],
        "accuracy": row["accuracy"],
        "per_query": row["flops"],
        "own": total(row["width"], ()),
        "training": total(row["width"], ("base",)),
        "everything": total(row["width"], ("base", "teacher", "verifier")),
      }
  if small is not None:
    told["search"] = small["flops"] / _row(rows, SMALL, SINGLE)["flops"]
    dearer = small["flops"] - large["flops"]
    saved = told["large"]["training"] - told["small"]["training"]
    told["break_even_queries"] = saved / dearer if dearer > 0 else None
  return told


def _row(rows, width, decoder) -> dict[str, Any]:
  [row] = [r for r in rows if (r["width"], r["decoder"]) == (width, decoder)]
  return row


def _training(own, width, roles) -> float:
  return own[width].total(ledger_lib.TRAINING, roles=roles).estimate.value
