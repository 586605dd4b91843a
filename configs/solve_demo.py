# SPDX-License-Identifier: Apache-2.0
r"""The comparison that `make solve` runs: small enough for two cores.

    python scripts/compare.py --config=configs/solve_demo.py \
      --workdir=runs/solve

One setting a method, two budgets, one seed. `configs/compare.py` is the
experiment behind the figures of this project.
"""

from jaxttc.solving import comparing, problem_sets, solve_recipe


def get_config() -> comparing.CompareRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  methods = {
    "greedy": "greedy",
    "self_consistency": "self_consistency(n=4)",
    "adaptive_sc": "adaptive_sc(n=4)",
    "best_of_n": "best_of_n(n=4)",
    "weighted_best_of_n": "weighted_best_of_n(n=4)",
    "beam": "prm_beam(num_survivors=2, num_expansions=2, max_steps=10)",
    "dvts": "dvts(subtrees=2, expansions=2, max_steps=10)",
    "rebase": "rebase(width=4, max_steps=10)",
    "particle_filter": "particle_filter(particles=4, max_steps=10)",
    "particle_gibbs": "particle_gibbs(particles=2, iterations=2, max_steps=10)",
    "mcts": (
      "puct(simulations=48, children=1, root_children=4, max_depth=10, "
      "pb_c_init=0.2)"
    ),
    "astar": (
      "astar(children=1, nodes=128, f_tolerance=0.2, reopen_penalty=0.4, "
      "max_steps=10)"
    ),
  }
  return comparing.CompareRecipe(
    problems=problem_sets.ProblemSource(
      count=60, steps=(4, 6, 8), style="terse"
    ),
    budgets=(80, 240),
    methods=tuple(
      comparing.MethodSpec(label=label, decoder=decoder)
      for label, decoder in methods.items()
    ),
    sampling=solve_recipe.SamplingOptions(
      temperature=0.8, step_tokens=12, last_tokens=12, max_tokens=64
    ),
    batch=60,
    samples=0,
  )
