# SPDX-License-Identifier: Apache-2.0
"""Thirteen ways to spend a budget at test time, on the same problems.

    python scripts/compare.py --workdir=runs/compare \
      --out=docs/results/decoders

Budgets are generated tokens a problem. Every method is tried at several
settings, so that each enters at its best; claims are at equal accuracy.
"""

from jaxttc.evaluation import comparing, problem_sets, solving

_N = ("n=2", "n=4", "n=8", "n=16")
_P = ("particles=2", "particles=4", "particles=8", "particles=16")


def get_config() -> comparing.CompareRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  method = comparing.MethodSpec
  return comparing.CompareRecipe(
    problems=problem_sets.ProblemSource(
      count=200, steps=(4, 6, 8, 10), style="terse"
    ),
    budgets=(50, 100, 200, 400, 800),
    seeds=(0, 1),
    methods=(
      method(label="greedy", decoder="greedy"),
      method(label="sample", decoder="sample"),
      method(label="self_consistency", decoder="self_consistency", settings=_N),
      method(
        label="adaptive_sc", decoder="adaptive_sc", settings=("n=8", "n=16")
      ),
      method(label="best_of_n", decoder="best_of_n", settings=_N),
      method(
        label="weighted_best_of_n", decoder="weighted_best_of_n", settings=_N
      ),
      method(
        label="beam",
        decoder="prm_beam(max_steps=16)",
        settings=(
          "num_survivors=1, num_expansions=4",
          "num_survivors=2, num_expansions=2",
          "num_survivors=2, num_expansions=4",
          "num_survivors=4, num_expansions=4",
        ),
      ),
      method(
        label="dvts",
        decoder="dvts(max_steps=16)",
        settings=("subtrees=2, expansions=2", "subtrees=4, expansions=4"),
      ),
      method(
        label="rebase",
        decoder="rebase(max_steps=16)",
        settings=("width=4", "width=8", "width=16"),
      ),
      method(
        label="particle_filter",
        decoder="particle_filter(max_steps=16)",
        settings=_P,
      ),
      method(
        label="particle_gibbs",
        decoder="particle_gibbs(max_steps=16)",
        settings=(
          "particles=2, iterations=2",
          "particles=4, iterations=2",
          "particles=4, iterations=4",
        ),
      ),
      method(
        label="mcts",
        decoder="puct(max_depth=16)",
        settings=(
          "simulations=16, children=2",
          "simulations=32, children=2",
          "simulations=48, children=4",
        ),
      ),
      method(
        label="astar",
        decoder="astar(nodes=256, max_steps=16)",
        settings=(
          "children=2",
          "children=2, f_tolerance=0.3",
          "children=4, f_tolerance=0.3",
          "children=4, f_tolerance=0.3, goals=4, select='vote'",
        ),
      ),
    ),
    sampling=solving.SamplingOptions(
      temperature=0.8, step_tokens=24, max_tokens=96
    ),
    batch=50,
    samples=16,
    controls=("constant", "random", "weak"),
    control_methods=("astar", "best_of_n", "particle_filter"),
  )
