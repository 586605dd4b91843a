# SPDX-License-Identifier: Apache-2.0
r"""Compares decoders at equal budgets: a table, pictures and claims.

    python scripts/compare.py --config=configs/solve_demo.py \
      --workdir=runs/solve
    python scripts/compare.py --workdir=runs/compare \
      --out=docs/results/decoders

Finished cells are kept in --workdir: run the same command again after a stop,
or a kill, and it goes on. Override any field of the recipe:
--config.only=astar,best_of_n --config.problems.count=20.
"""

import pathlib
import shlex
import sys

from absl import app, flags
import rich

from jaxttc import arguments, results, script
from jaxttc import mesh as mesh_lib
from jaxttc.evaluation import tables
from jaxttc.solving import comparing, comparison_report

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = arguments.define_config(
  "config",
  str(_ROOT / "configs" / "compare.py"),
  "File with get_config() -> CompareRecipe.",
)
_WORKDIR = flags.DEFINE_string("workdir", "runs/compare", "Folder of cells.")
_OUT = flags.DEFINE_string(
  "out", None, "Where .json, .csv and .png go; default <workdir>/decoders."
)
_PROGRESS = flags.DEFINE_bool("progress", True, "Show a progress bar.")
_MESH = flags.DEFINE_string(
  "mesh", "", "Devices, such as data=4,tensor=2; one if empty."
)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  out = _OUT.value or str(pathlib.Path(_WORKDIR.value) / "decoders")
  try:
    found = comparing.run(
      _CONFIG.value,
      _WORKDIR.value,
      progress=_PROGRESS.value,
      mesh=mesh_lib.parse(_MESH.value),
    )
    paths = comparison_report.write(found, out, command=results.command_line())
  except ValueError as error:
    raise SystemExit(f"compare.py: {error}") from None
  except KeyboardInterrupt:
    print(
      f"\ncompare.py: stopped; {_WORKDIR.value} keeps the finished cells. To "
      f"go on:\n  {shlex.join(['python', *sys.argv])}",
      file=sys.stderr,
    )
    raise SystemExit(130) from None
  rich.print(comparison_report.table(tables.summarise(found.runs)))
  for path in paths:
    print(path)


if __name__ == "__main__":
  script.run(main, __file__)
