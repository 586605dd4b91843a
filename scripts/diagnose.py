# SPDX-License-Identifier: Apache-2.0
r"""Says of recorded responses whether a verifier would pay for their model.

    python scripts/diagnose.py --data=responses.jsonl --out=runs/diagnosis

A line of the file is a problem: {"problem": "..", "responses": ["..", ..],
"rewards": [1, 0, ..]}, with three responses or more. Prints heterogeneity,
anti-concentration and advice for each --kappa; writes OUT.json and OUT.png.
docs/verifier_based.md tells what they mean.
"""

import pathlib

from absl import app, flags
import rich

from jaxttc import arguments, page, results
from jaxttc.evaluation import reward_report
from jaxttc.tasks import reward_rows

_DATA = flags.DEFINE_string(
  "data", None, "Recorded responses with rewards.", required=True
)
_OUT = flags.DEFINE_string(
  "out", "runs/diagnosis", "Where .json and .png go, without suffix."
)
_KAPPA = flags.DEFINE_list(
  "kappa", ["0.25", "1", "4"], "Radii of the chi-square ball."
)
_SKIP_BAD = flags.DEFINE_bool(
  "skip_bad", False, "Leave out rows that cannot be used, and say how many."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the intervals.", lower_bound=0)


def main(argv: list[str]) -> None:
  """Reads, diagnoses, prints and writes."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  try:
    kappas = [_number(text) for text in _KAPPA.value]
    page.check(f"{_OUT.value}.png")
    rows = reward_rows.load(_DATA.value, least=3, skip=_SKIP_BAD.value)
    report = reward_report.make(
      reward_rows.table(rows), kappas, seed=_SEED.value
    )
  except (ValueError, ImportError) as error:
    raise SystemExit(f"diagnose.py: {error}") from None
  if rows.skipped:
    print(f"left out {rows.skipped} rows; the first: {rows.first_skipped}")
  rich.print(reward_report.lines(report))
  pathlib.Path(_OUT.value).parent.mkdir(parents=True, exist_ok=True)
  reward_report.plot(report, f"{_OUT.value}.png")
  results.write(
    f"{_OUT.value}.json",
    command=results.command_line(),
    seeds=[_SEED.value],
    data=reward_report.data(report),
    claims=[],
  )
  print(f"wrote {_OUT.value}.json and {_OUT.value}.png")


def _number(text: str) -> float:
  try:
    return float(text)
  except ValueError:
    raise ValueError(f"--kappa: {text!r} is no number") from None


if __name__ == "__main__":
  arguments.run(main)
