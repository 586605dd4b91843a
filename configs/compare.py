# SPDX-License-Identifier: Apache-2.0
r"""Twelve ways to spend a budget at test time, on the same problems.

    python scripts/compare.py --workdir=runs/compare \
      --out=docs/results/decoders

Budgets are generated tokens a problem. Every method is tried at several
settings, so that each enters at its best; claims are at equal accuracy. About
two hours on two CPU cores; a run that is stopped goes on where it was.
"""

from jaxttc.solving import comparing, problem_sets, solve_recipe


def get_config() -> comparing.CompareRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  methods = {
    "greedy": ("greedy", ("",)),
    "self_consistency": ("self_consistency(wave=1)", ("n=16",)),
    "adaptive_sc": ("adaptive_sc", ("n=16",)),
    "best_of_n": (
      "best_of_n(wave=1)",
      ("n=16, temperature=0.6", "n=16, temperature=1.0", "n=16"),
    ),
    "weighted_best_of_n": ("weighted_best_of_n(wave=1)", ("n=16",)),
    "beam": (
      "prm_beam(max_steps=14)",
      (
        "num_survivors=1, num_expansions=4",
        "num_survivors=2, num_expansions=2",
      ),
    ),
    "dvts": ("dvts(max_steps=14)", ("subtrees=2, expansions=2",)),
    "rebase": ("rebase(max_steps=14)", ("width=8", "width=4")),
    "particle_filter": (
      "particle_filter(max_steps=14)",
      (
        "particles=2",
        "particles=4",
        "particles=4, temperature=1.0",
        "particles=8",
      ),
    ),
    "particle_gibbs": (
      "particle_gibbs(max_steps=14)",
      ("particles=2, iterations=3",),
    ),
    "mcts": (
      "puct(max_depth=14, simulations=96, pb_c_init=0.2)",
      ("children=1, root_children=4",),
    ),
    "astar": (
      "astar(nodes=256, max_steps=14)",
      (
        "children=2, f_tolerance=0.1",
        "children=1, reopen_penalty=0.4, f_tolerance=0.2, temperature=1.0",
        "children=1, reopen_penalty=0.4, f_tolerance=0.2",
      ),
    ),
  }
  return comparing.CompareRecipe(
    problems=problem_sets.ProblemSource(
      count=300, steps=(4, 6, 8, 10), style="terse"
    ),
    budgets=(60, 120, 240, 480),
    seeds=(0, 1, 2),
    methods=tuple(
      comparing.MethodSpec(label=label, decoder=decoder, settings=settings)
      for label, (decoder, settings) in methods.items()
    ),
    sampling=solve_recipe.SamplingOptions(
      temperature=0.8, step_tokens=12, last_tokens=12, max_tokens=80
    ),
    batch=100,
    samples=4,
    controls=("constant", "random", "weak"),
    control_methods=("astar",),
  )
