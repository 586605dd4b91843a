# SPDX-License-Identifier: Apache-2.0
r"""Tries to make searches overspend, and counts how often it could.

    python -m benchmarks.budgets --draws=5000

Draws random budgets, from nothing to plenty on one to three random fields, for
every decoder of the table below in the compiled form and, a tenth of the
draws, in the host-driven form; on tiny models of random weights. Writes
docs/results/budgets.json with the claim `overspends` (bar <= 0).
"""

from collections.abc import Sequence
import time

from absl import app, flags

from jaxttc import results, script
from jaxttc.runtime import audit
from jaxttc.runtime import settings as settings_lib
from jaxttc.testing import tiny_models

FLAGS = flags.FLAGS

DECODERS = {
  "astar": {"children": 3, "nodes": 48, "max_steps": 5},
  "best_of_n": {"n": 8},
  "dvts": {"subtrees": 2, "expansions": 2, "max_steps": 5},
  "particle_filter": {"particles": 4, "max_steps": 5},
  "particle_gibbs": {"particles": 3, "iterations": 2, "max_steps": 4},
  "prm_beam": {"num_survivors": 2, "num_expansions": 3, "max_steps": 5},
  "puct": {"simulations": 12, "children": 2},
  "rebase": {"width": 6, "max_steps": 5},
  "self_consistency": {"n": 8, "stop": "majority", "wave": 2},
}
SETTINGS = settings_lib.SearchSettings(
  step_tokens=12, max_tokens=36, hardware="a100-sxm-40gb"
)
_DRIVEN = 10  # one draw in so many is host-driven


def run(*, draws: int, seed: int) -> tuple[audit.Audit, list[dict]]:
  """Audits all decoders, in both forms.

  Args:
    draws: searches, over all decoders.
    seed: of models, problems and budgets.

  Returns:
    All audits together, and one row a decoder and form.
  """
  models = tiny_models.tiny_bundles(seed)
  each = -(-draws // len(DECODERS))
  total, rows = audit.examine([], []), []
  for name, config in DECODERS.items():
    for form, count in (
      ("driven", each // _DRIVEN),
      ("compiled", each - each // _DRIVEN),
    ):
      if not count:
        continue
      start = time.perf_counter()
      measure = getattr(audit, f"{form}_audit")
      seen = measure(
        *models, name, config, SETTINGS, draws=count, seed=seed + 1
      )
      total += seen
      rows.append({"decoder": name, "form": form, **vars(seen)})
      print(
        f"{name} {form}: {seen.draws} draws, {seen.binding} ended by a budget,"
        f" {seen.overspends} overspends"
        f" ({time.perf_counter() - start:.0f} s)",
        flush=True,
      )
  return total, rows


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  total, rows = run(draws=FLAGS.draws, seed=FLAGS.seed)
  results.write(
    FLAGS.out,
    command=results.command_line(),
    seeds=[FLAGS.seed],
    data={"overspends": rows, "worst": total.worst},
    claims=[
      results.Claim("overspends", total.overspends, bar=0.0, comparison="<="),
      results.Claim("draws", total.draws),
      results.Claim("ended_by_budget", total.binding),
    ],
  )


def _define_flags() -> None:
  """Only of a program that runs: others may import it beside each other."""
  flags.DEFINE_integer("draws", 5000, "Searches, over all decoders.", 1)
  flags.DEFINE_integer("seed", 0, "Seed of models, problems and budgets.")
  flags.DEFINE_string("out", "docs/results/budgets.json", "Results file.")


if __name__ == "__main__":
  _define_flags()
  script.run(main, __file__)
