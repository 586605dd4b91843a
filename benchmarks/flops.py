# SPDX-License-Identifier: Apache-2.0
r"""Is what we say of FLOP true? Four ways to count, and one account.

    python -m benchmarks.flops --workdir=runs/flops

*  The closed forms against the traced counts, over all families of models, as
   they train and decode; what the compiler reports beside, and what it says of
   a scan.
*  Intervals: how often they hold the truth, on 200 random sizes for each of two
   distributions of utilisations that the estimator does not know.
*  An account: the embedded model's smallest width searching, against its full
   width answering once, from training to queries.

Nothing is trained, and what models answer is read from
docs/results/slimmable_lm.json. About three minutes on one CPU core, most of it
tracing. Writes docs/results/flops.json and .png.
"""

from collections.abc import Callable, Sequence
import dataclasses
import json
import pathlib
from typing import Any

from absl import app, flags
from rich import progress as rich_progress

from benchmarks import (
  flops_account,
  flops_calibration,
  flops_families,
  flops_picture,
)
from jaxttc import results, script
from jaxttc.evaluation import statistics as statistics_lib

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_ANSWERS = _ROOT / "docs" / "results" / "slimmable_lm.json"


def measure(
  workdir: pathlib.Path, *, examples: int, compiled: Sequence[str]
) -> dict[str, Any]:
  """The tidy data.

  Args:
    workdir: keeps the slow parts, so that a run that is stopped goes on.
    examples: random sizes.
    compiled: families that the compiler is asked about, too.
  """
  families = _kept(
    workdir / "families.json",
    lambda: [
      flops_families.measure(case, case.family in compiled)
      for case in rich_progress.track(
        list(flops_families.cases()), "counting families"
      )
    ],
  )
  calibration = _kept(
    workdir / "calibration.json",
    lambda: flops_calibration.rows(examples, seed=0),
  )
  answers = flops_account.answers(_ANSWERS)
  own = flops_account.ledgers(answers)
  return {
    "families": families,
    "scan": flops_families.scan_row(),
    "calibration": calibration,
    "calibration_summary": flops_calibration.summary(calibration),
    "answers": answers,
    "multiples": [
      dataclasses.asdict(m) for m in flops_account.multiples(answers, own)
    ],
    "lives": flops_account.lives(answers, own),
  }


def _kept(path: pathlib.Path, make: Callable[[], Any]) -> Any:
  """What a file holds, or else what is made and then kept there."""
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(make()), encoding="utf-8")
  return json.loads(path.read_text(encoding="utf-8"))


def claims(data: dict[str, Any]) -> list[results.Claim]:
  """The claims; only the first has a bar."""
  claim = results.Claim
  errors = [row["error"] for row in data["families"]]
  made = [
    claim("error_against_jaxpr", max(errors), bar=0.01, comparison="<="),
    claim("families_counted", len(errors)),
  ]
  reported = [
    row["compiled_over_traced"]
    for row in data["families"]
    if "compiled_over_traced" in row
  ]
  if reported:
    made += [
      claim("compiled_over_traced_least", min(reported)),
      claim("compiled_over_traced_most", max(reported)),
    ]
  scan = data["scan"]
  made += [
    claim("scan_reported_over_traced", scan["reported"] / scan["traced"]),
    claim("scan_put_right_over_traced", scan["put_right"] / scan["traced"]),
  ]
  for row in data["calibration_summary"]:
    name = f"{row['method'].replace(' ', '_')}_{row['hidden']}"
    if row["method"] == "hardware time":
      covered = statistics_lib.wilson_interval(row["inside"], row["examples"])
      made.append(claim(f"coverage_{name}", *covered))
    if row["hidden"] == "published":
      made += [
        claim(f"median_error_{name}", row["median_error"]),
        claim(f"decisions_right_{name}", row["agrees"]),
      ]
  return made + _account_claims(data)


def _account_claims(data: dict[str, Any]) -> list[results.Claim]:
  claim = results.Claim
  most = data["multiples"][-1]
  made = [claim("accuracy_of_large", data["lives"]["large"]["accuracy"])]
  if most["high"] is None:  # the curve of training ends below
    made.append(claim("train_multiple_of_most_search", most["low"]))
  else:
    made.append(
      claim(
        "train_multiple_of_most_search",
        most["training"],
        most["low"],
        most["high"],
      )
    )
  made.append(claim("search_beyond_largest_training", most["beyond"]))
  lives = data["lives"]
  if "small" in lives:
    small, large = lives["small"], lives["large"]
    made += [
      claim("search_that_matches_large", lives["search"]),
      claim("accuracy_of_small_searching", small["accuracy"]),
      claim("own_training_large_over_small", large["own"] / small["own"]),
      claim(
        "query_small_searching_over_large",
        small["per_query"] / large["per_query"],
      ),
      claim(
        "training_with_helpers_over_counted",
        small["everything"] / small["training"],
      ),
    ]
    if lives["break_even_queries"] is not None:
      made.append(claim("break_even_queries", lives["break_even_queries"]))
  return made


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  data = measure(
    pathlib.Path(flags.FLAGS.workdir),
    examples=flags.FLAGS.examples,
    compiled=flags.FLAGS.compiled,
  )
  out = pathlib.Path(flags.FLAGS.out)
  results.write(
    out,
    command=results.command_line(),
    seeds=[0],
    data=data,
    claims=claims(data),
  )
  flops_picture.draw(data, str(out.with_suffix(".png")))


def _define_flags() -> None:
  """Only of a program that runs: others may import it beside each other."""
  flags.DEFINE_integer("examples", 200, "Random sizes.", 1)
  flags.DEFINE_list(
    "compiled",
    ["embedded", "gemma2", "reward model"],
    "Families that are compiled, too.",
  )
  flags.DEFINE_string("workdir", "runs/flops", "Keeps parts that are done.")
  flags.DEFINE_string("out", "docs/results/flops.json", "Results file.")


if __name__ == "__main__":
  _define_flags()
  script.run(main, __file__)
