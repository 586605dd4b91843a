# SPDX-License-Identifier: Apache-2.0
"""Whether many devices, and many processes, search as one device does.

    python -m benchmarks.sharding

Searches 32 problems with the embedded model and its reward model, on one
device, then on 8 simulated ones, over "data" alone and over "data" and
"tensor"; a sequence counts as equal if every node of its search tree has the
same tokens. Then runs scripts/solve.py once alone and once in two processes of
two devices each, which share problems and models, and compares the answers.
Everything is float32: sums come out in another order on another mesh, so an
equal share of 1 says that no near-tie was turned.

Writes docs/results/sharding.json.
"""

from collections.abc import Sequence
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags
import jax
import numpy as np

from jaxttc import mesh as mesh_lib
from jaxttc import results, script
from jaxttc.cost import budget as budget_lib
from jaxttc.runtime import search as search_lib
from jaxttc.solving import decoder_text, loading, problem_sets, solve_recipe
from jaxttc.testing import processes

DECODERS = (
  "sample",
  "best_of_n(n=4)",
  "astar(children=1, nodes=128, f_tolerance=0.2, reopen_penalty=0.4)",
  "prm_beam(num_survivors=2, num_expansions=2, max_steps=10)",
)
MESHES = ("data=4,tensor=2", "data=8")
_SPANNING = "data=2,tensor=2"
_TOKENS = 240
_PATIENCE = (
  "--xla_cpu_collective_call_terminate_timeout_seconds=1800",
  "--xla_cpu_collective_timeout_seconds=1800",
)
_ROOT = pathlib.Path(__file__).resolve().parents[1]


def across_devices(
  policy: str,
  verifier: str,
  decoders: Sequence[str],
  meshes: Sequence[str],
  problems: int,
) -> list[dict[str, Any]]:
  """Searches on each mesh, and compares with one device.

  Args:
    policy: a model file, or the name of one that ships.
    verifier: likewise.
    decoders: as in a recipe.
    meshes: as in the flag `--mesh`.
    problems: how many.

  Returns:
    A row a decoder and mesh: sequences, and how many had equal tokens, equal
    answers and equal costs.
  """
  source = problem_sets.ProblemSource(
    count=problems, steps=(4, 6, 8), style="terse"
  )
  found = source.load()
  models = loading.load_models(policy, verifier)
  sampling = solve_recipe.SamplingOptions(
    temperature=0.8, step_tokens=12, last_tokens=12, max_tokens=64
  ).build()
  rows = []
  for text in decoders:
    decoder = decoder_text.build(text)
    settings = loading.fit_slots(sampling, decoder, _TOKENS)

    def search(mesh, decoder=decoder, settings=settings):
      return list(
        search_lib.solve(
          source.prompts(found),
          [problem.id for problem in found],
          *models,
          decoder,
          budget=budget_lib.Budget(generated_tokens=_TOKENS),
          settings=settings,
          batch=32,
          mesh=mesh,
        )
      )

    alone = search(None)
    for name in meshes:
      start = time.perf_counter()
      pairs = list(zip(search(mesh_lib.parse(name)), alone, strict=True))
      rows.append(
        {
          "decoder": text,
          "mesh": name,
          "sequences": len(pairs),
          "equal_tokens": sum(a.tree.text == b.tree.text for a, b in pairs),
          "equal_answers": sum(a.completion == b.completion for a, b in pairs),
          "equal_costs": sum(a.cost == b.cost for a, b in pairs),
        }
      )
      seconds = time.perf_counter() - start
      print(f"{rows[-1]} ({seconds:.0f} s)", flush=True)
  return rows


def across_processes(options: Sequence[str], mesh: str) -> dict[str, Any]:
  """Runs scripts/solve.py alone, and in two processes of two devices each.

  Args:
    options: its flags, but for the mesh and the file.
    mesh: as in its flag.

  Returns:
    Problems, how many had equal answers (the chosen text, to the letter) and
    equal costs, what else differed, and how many files were written.

  Raises:
    RuntimeError: if a run fails; with the last line that it said.
  """
  script = [str(_ROOT / "scripts" / "solve.py"), "--noprogress", *options]
  with tempfile.TemporaryDirectory() as folder:
    alone, together = (pathlib.Path(folder) / x / "out.jsonl" for x in "ab")
    ran = [
      subprocess.run(
        [sys.executable, *script, f"--out={alone}"],
        capture_output=True,
        text=True,
      )
    ]
    ran += processes.run(
      [*script, f"--mesh={mesh}", f"--out={together}"], timeout_s=1800
    )
    for one in ran:
      if one.returncode:
        raise RuntimeError(f"solve.py failed: {one.stderr.strip()[-300:]}")
    files = list(together.parent.iterdir())
    rows, others = (
      [json.loads(line) for line in path.read_text().splitlines()][1:]
      for path in (alone, together)
    )
  pairs = list(zip(rows, others, strict=True))
  return {
    "mesh": mesh,
    "problems": len(rows),
    "equal_answers": sum(a["completion"] == b["completion"] for a, b in pairs),
    "equal_costs": sum(a["cost"] == b["cost"] for a, b in pairs),
    "differences": [
      {"id": a["id"], "field": field, "alone": a[field], "together": b[field]}
      for a, b in pairs
      for field in a
      if a[field] != b[field]
    ],
    "files": len(files),
  }


def claims(rows: Sequence[dict], spanning: dict) -> list[results.Claim]:
  """Shares of equal sequences and answers."""
  equal = np.array([row["equal_tokens"] for row in rows]).sum()
  total = np.array([row["sequences"] for row in rows]).sum()
  return [
    results.Claim("tokens_equal_8_devices", float(equal / total), bar=1.0),
    results.Claim(
      "answers_equal_2_processes",
      spanning["equal_answers"] / spanning["problems"],
      bar=1.0,
    ),
    results.Claim(
      "files_of_2_processes", spanning["files"], bar=1.0, comparison="<="
    ),
  ]


def main(argv: Sequence[str]) -> None:
  """Runs both parts and writes the file."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  spanning = across_processes(
    [f"--config.problems.count={flags.FLAGS.problems}"], _SPANNING
  )
  print(spanning, flush=True)
  rows: list[dict[str, Any]] = []
  for decoder in DECODERS:
    rows += across_devices(
      "arithmetic_lm", "arithmetic_prm", [decoder], MESHES, flags.FLAGS.problems
    )
    results.write(
      flags.FLAGS.out,
      command=results.command_line(),
      seeds=[0],
      data={"devices": rows, "processes": spanning},
      claims=claims(rows, spanning),
    )


if __name__ == "__main__":
  flags.DEFINE_integer("problems", 32, "Problems searched.", 1)
  flags.DEFINE_string("out", "docs/results/sharding.json", "Results file.")
  # Simulated devices take turns on few cores, and one may be waited for long.
  os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), *_PATIENCE]
  )
  jax.config.update("jax_num_cpu_devices", 8)
  script.run(main, __file__)
