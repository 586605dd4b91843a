# SPDX-License-Identifier: Apache-2.0
"""A small model that searches against larger ones that do not: the account.

The models are the embedded one of four widths; each width is a model of its
own size, which got its own passes over the text. The small one samples k
answers and keeps the one that the embedded reward model likes best.
Nothing is trained here. All that training took is in ledgers: the widths' own
passes, the base they go on from, the full width that taught the narrow ones,
and the reward model, which no threshold on the small model's training counts.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math
from typing import Any

import numpy as np

from benchmarks import slimmable_lm_runs as runs
from jaxttc.cost import effective_compute
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import ledger as ledger_lib
from jaxttc.evaluation import model_accounts
from jaxttc.inference import bundle as bundle_lib

SMALL, LARGE = 0.25, 1.0
SEARCH = "best of k"
_DAY = "2026-11-23"  # any: entries of one account have one day


@dataclasses.dataclass(frozen=True, kw_only=True)
class Models:
  """The widths of one policy, and the reward model."""

  widths: dict[float, bundle_lib.Bundle]
  verifier: bundle_lib.Bundle


def load() -> Models:
  """The embedded models."""
  whole = bundle_lib.load("nested_lm")
  menu = whole.recipe["widths"]
  return Models(
    widths={w: bundle_lib.narrowed(whole, w) for w in menu},
    verifier=bundle_lib.load("arithmetic_prm"),
  )


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
      note=f"{row['decoder']}, k = {row['k']}",
    )
  return made


def asked(
  models: Models, ks: Sequence[int]
) -> list[tuple[float, str, str, int]]:
  """(width, label, decoder, k) of all that must be answered."""
  single = [(width, "sample", "sample", 1) for width in models.widths]
  return single + [(SMALL, SEARCH, f"best_of_n(n={k})", k) for k in ks]


def answer(
  models: Models, plan: runs.Plan, width: float, label: str, text: str, k: int
) -> dict[str, Any]:
  """Accuracy and FLOP a query of one model and decoder.

  Returns:
    width, decoder, k, accuracy, error (its standard error), flops (a query,
    reward model included) and queries.
  """
  each = [
    runs.solve(
      models.widths[width],
      models.verifier,
      text,
      runs.problems(plan, seed, calibration=False),
      plan,
      seed=seed,
    )
    for seed in plan.seeds
  ]
  right = np.stack([solved.right for solved in each])
  accuracy = float(right.mean())
  print(f"width {width:g}, {text}: {accuracy:.3f}", flush=True)
  return {
    "width": width,
    "decoder": label,
    "k": k,
    "accuracy": accuracy,
    "error": _error(right),
    "flops": float(np.concatenate([s.flops for s in each]).mean()),
    "queries": int(right.size),
  }


def _error(right: np.ndarray) -> float:
  """Standard error of the mean over seeds and problems; never quite 0."""
  share = (right.sum() + 1) / (right.size + 2)
  return math.sqrt(share * (1 - share) / right.size)


def multiples(
  rows: list[dict[str, Any]],
  own: dict[float, ledger_lib.Ledger],
  decoder: str,
) -> list[effective_compute.Multiple]:
  """What k-fold search is worth in the compute of a width's own passes."""
  passes = {
    width: ledger.total(ledger_lib.TRAINING, roles=()).estimate.value
    for width, ledger in own.items()
  }
  point = effective_compute.Point
  training = [
    point(
      compute=passes[row["width"]], quality=row["accuracy"], error=row["error"]
    )
    for row in rows
    if row["decoder"] == "sample"
  ]
  search = [
    point(compute=row["k"], quality=row["accuracy"], error=row["error"])
    for row in rows
    if row["width"] == SMALL and row["decoder"] in ("sample", decoder)
  ]
  return effective_compute.train_multiples(search, training, base=passes[SMALL])


def lives(
  rows: list[dict[str, Any]],
  own: dict[float, ledger_lib.Ledger],
  decoder: str,
) -> dict[str, Any]:
  """The small model with the least search that matches, and the large one.

  Returns:
    `k`, None if no search matches the large model's one answer; for "small"
    and "large" accuracy, per_query, own (passes over its text), training
    (with bases) and everything (teacher and verifier, too); and at how many
    queries both have cost the same in training and queries.
  """
  large = _row(rows, LARGE, "sample")
  matching = [
    row
    for row in rows
    if row["decoder"] == decoder and row["accuracy"] >= large["accuracy"]
  ]
  small = min(matching, key=lambda row: row["k"], default=None)
  told: dict[str, Any] = {"decoder": decoder, "k": small and small["k"]}
  total = functools.partial(_training, own)
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
    dearer = small["flops"] - large["flops"]
    saved = told["large"]["training"] - told["small"]["training"]
    told["break_even_queries"] = saved / dearer if dearer > 0 else None
  return told


def _row(rows, width, decoder) -> dict[str, Any]:
  [row] = [r for r in rows if (r["width"], r["decoder"]) == (width, decoder)]
  return row


def _training(own, width, roles) -> float:
  return own[width].total(ledger_lib.TRAINING, roles=roles).estimate.value
