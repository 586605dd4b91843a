# SPDX-License-Identifier: Apache-2.0
"""The comparison that `make solve` runs: small enough for two cores.

    python scripts/compare.py --config=configs/solve_demo.py \
      --workdir=runs/solve

One setting a method, three budgets, one seed. `configs/compare.py` is the
experiment behind the figures of this project.
"""

from jaxttc.evaluation import comparison, problem_sets, solving


def get_config() -> comparison.CompareRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  methods = {
    "greedy": "greedy",
    "self_consistency": "self_consistency(n=8)",
    "adaptive_sc": "adaptive_sc(n=8)",
    "best_of_n": "best_of_n(n=8)",
    "weighted_best_of_n": "weighted_best_of_n(n=8)",
    "beam": "prm_beam(num_survivors=2, num_expansions=4, max_steps=12)",
    "dvts": "dvts(subtrees=2, expansions=4, max_steps=12)",
    "rebase": "rebase(width=8, max_steps=12)",
    "particle_filter": "particle_filter(particles=8, max_steps=12)",
    "particle_gibbs": "particle_gibbs(particles=4, iterations=2, max_steps=12)",
    "mcts": "puct(simulations=16, max_depth=12)",
    "astar": "astar(children=4, nodes=96, max_steps=12)",
  }
  return comparison.CompareRecipe(
    problems=problem_sets.ProblemSource(count=60, steps=(4, 6, 8)),
    budgets=(100, 200, 400),
    methods=tuple(
      comparison.MethodSpec(label=label, decoder=decoder)
      for label, decoder in methods.items()
    ),
    sampling=solving.SamplingOptions(step_tokens=24, max_tokens=96),
    batch=60,
    samples=0,
  )
