# SPDX-License-Identifier: Apache-2.0
"""Recipes for the benchmarks that people quote: GSM8K, MATH-500, AIME.

They follow the published protocols of step-wise search with instruction-tuned
models: steps end at blank lines, at most 40 of them, drawn at temperature 0.8
and scored by a process-reward model after each; the answer is the last box,
compared as mathematics.

Particle filtering: Puri et al. 2025 (arXiv:2502.01618), table 1, which uses
Llama-3.2-1B-Instruct with Qwen2.5-Math-PRM-7B and a budget of 64 particles or
samples. A*-decoding: Chatziveroglou 2025 (arXiv:2505.13672), with a Llama and
a Qwen3 model; how many children it samples we do not know, and ours is 4.
"""

import dataclasses

from jaxttc.solving import problem_sets, solve_recipe
from jaxttc.tasks import problems as problems_lib

_INSTRUCTION = (
  "Solve the problem below. Work in short steps, with a blank line after each. "
  "Put the final answer, and nothing else, into \\boxed{}."
)
_STEPS = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """A benchmark.

  Attributes:
    instruction: put before each problem.
    max_tokens: of a solution.
    budget: of a problem, for the methods that would go on without one.
  """

  instruction: str = _INSTRUCTION
  max_tokens: int
  budget: str


TASKS = {
  "gsm8k": Task(max_tokens=1024, budget="generated_tokens=16k"),
  "math500": Task(max_tokens=2048, budget="generated_tokens=32k"),
  "aime": Task(max_tokens=4096, budget="generated_tokens=128k"),
}

# Decoders at the budget of 64 of the particle-filtering paper.
METHODS = {
  "greedy": "greedy",
  "self_consistency": "self_consistency(n=64)",
  "best_of_n": "best_of_n(n=64, wave=16)",
  "weighted_best_of_n": "weighted_best_of_n(n=64, wave=16)",
  "dvts": f"dvts(subtrees=16, expansions=4, max_steps={_STEPS})",
  "particle_filter": f"particle_filter(particles=64, max_steps={_STEPS})",
  "astar": (
    f"astar(children=4, nodes=1024, f_tolerance=0.05, max_steps={_STEPS})"
  ),
}


def recipe(task: str, method: str = "astar") -> solve_recipe.SolveRecipe:
  """The recipe of a benchmark and a method, without models and problems.

  Args:
    task: one of `TASKS`.
    method: one of `METHODS`; "" for A*-decoding.

  Returns:
    A recipe; `problems.path`, `policy`, and for most methods `verifier` are
    still to be named, and `problems.chat` if the model is served.

  Raises:
    ValueError: if either is unknown; names the nearest.
  """
  method = method or "astar"
  problems_lib.require_name(task, tuple(TASKS), "task")
  problems_lib.require_name(method, tuple(METHODS), "method")
  setup = TASKS[task]
  return solve_recipe.SolveRecipe(
    problems=problem_sets.ProblemSource(
      path="PROBLEMS", count=0, instruction=setup.instruction
    ),
    policy="POLICY",
    verifier="VERIFIER",
    decoder=METHODS[method],
    budget=setup.budget if method == "astar" else "",
    sampling=solve_recipe.SamplingOptions(
      temperature=0.8, step_tokens=256, max_tokens=setup.max_tokens
    ),
    batch=8,
  )
