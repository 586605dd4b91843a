# SPDX-License-Identifier: Apache-2.0
r"""Measures how often the grader agrees with labels and references.

  python scripts/grade.py --data=<model_solutions.jsonl> \
    --gsm8k=<train.jsonl> --math500=<test.jsonl>

Prints a table and every disagreement; writes <out>.json and <out>.png. Only
--data is needed. docs/grading.md says where the files come from.
"""

from absl import app, flags
import rich
from rich import table as table_lib

from jaxttc import arguments, results
from jaxttc.evaluation import statistics
from jaxttc.tasks import jsonl
from jaxttc.verifiers import agreement

_DATA = flags.DEFINE_string(
  "data", None, "Labelled solutions: question, ground_truth, systems.",
  required=True,
)  # fmt: skip
_GSM8K = flags.DEFINE_string(
  "gsm8k", None, "GSM8K file: each worked answer is graded against its gold."
)
_MATH500 = flags.DEFINE_string(
  "math500", None, "MATH-500 file: each solution's box against its answer."
)
_OUT = flags.DEFINE_string(
  "out", "docs/results/grading", "Where .json and .png go, without suffix."
)
_PROCESSES = flags.DEFINE_integer("processes", 1, "math-verify workers.", 1)
_TIMEOUT_S = flags.DEFINE_float("timeout_s", 5.0, "Limit for one answer.", 0.1)


def _claim(name: str, found: agreement.Agreement) -> results.Claim:
  value, low, high = statistics.wilson_interval(found.agreeing, found.total)
  bar = 0.999 if name == "agreement_gsm8k" else None
  return results.Claim(name, value, low, high, bar)


def _print(measured: dict[str, agreement.Agreement]) -> None:
  table = table_lib.Table("check", "graded", "agree", "no answer", "timeouts")
  for name, a in measured.items():
    row = (a.total, a.agreeing, a.no_answer, a.timeouts)
    table.add_row(name, *map(str, row))
  rich.print(table)
  for name, a in measured.items():
    for d in a.disagreements:
      print(f"{name}: {agreement.describe(d)}")


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  try:
    checks = {"agreement_gsm8k": jsonl.load_labelled_solutions(_DATA.value)}
    if _GSM8K.value:
      checks["self_gsm8k"] = agreement.worked_gsm8k(_GSM8K.value)
    if _MATH500.value:
      checks["self_math500"] = agreement.worked_math500(_MATH500.value)
    measured = {
      name: agreement.measure(
        solutions, timeout_s=_TIMEOUT_S.value, processes=_PROCESSES.value
      )
      for name, solutions in checks.items()
    }
  except ValueError as error:
    raise SystemExit(f"grade.py: {error}") from None
  _print(measured)
  agreement.plot(measured, f"{_OUT.value}.png")
  results.write(
    f"{_OUT.value}.json",
    command=results.command_line(),
    seeds=[],
    data={name: agreement.summary(a) for name, a in measured.items()},
    claims=[_claim(name, a) for name, a in measured.items()],
  )


if __name__ == "__main__":
  arguments.run(main)
