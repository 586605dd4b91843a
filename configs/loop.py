# SPDX-License-Identifier: Apache-2.0
r"""The loop closed: our own decoders as the load of a machine room.

    python scripts/simulate.py --config=configs/loop.py \
      --out=docs/results/loop

Records what eight decoders ask of their models on the same problems, and serves
that on simulated H100 clusters: joules and relative dollars a solved problem,
machines under a latency objective, servers under a power budget. The tokens are
those of the small embedded models; the prices those of Llama 2 70B. Recorded
traces are kept in runs/loop, so that a second run begins there. Needs
splitwise-sim's table of measured times; see docs/serving_clusters.md.
"""

from jaxttc.solving import comparing, problem_sets, solve_recipe
from jaxttc.studies import loop_study


def get_config() -> loop_study.LoopRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  methods = {
    "greedy": "greedy",
    "self_consistency": "self_consistency(n=16)",
    "best_of_n": "best_of_n(n=16, temperature=0.6)",
    "beam": "prm_beam(max_steps=14, num_survivors=2, num_expansions=2)",
    "dvts": "dvts(max_steps=14, subtrees=2, expansions=2)",
    "rebase": "rebase(max_steps=14, width=8)",
    "particle_filter": "particle_filter(max_steps=14, particles=4)",
    "astar": (
      "astar(nodes=256, max_steps=14, children=1, reopen_penalty=0.4, "
      "f_tolerance=0.2)"
    ),
  }
  return loop_study.LoopRecipe(
    problems=problem_sets.ProblemSource(
      count=48, steps=(4, 6, 8, 10), style="terse"
    ),
    methods=tuple(
      comparing.MethodSpec(label=label, decoder=decoder)
      for label, decoder in methods.items()
    ),
    sampling=solve_recipe.SamplingOptions(
      temperature=0.8, step_tokens=12, last_tokens=12, max_tokens=80
    ),
  )
