# SPDX-License-Identifier: Apache-2.0
"""The two forms of a search: one compiled program, and the host's driver.

Both make the same decisions from the same keys, with the embedded policy and
reward model. The compiled form turns the rounds of a batch in step, without
the host; the driver lets every problem go at its own pace, at the price of a
round trip a segment.
"""

import operator
from typing import Any

from benchmarks import timing
from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import beam
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import driver, search
from jaxttc.runtime import settings as settings_lib
from jaxttc.tasks import arithmetic
from jaxttc.tasks import problems as problems_lib


def against_driver(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle,
  *,
  problems: int = 8,
  steps: int = 4,
  repeats: int = 3,
  seed: int = 0,
) -> dict[str, Any]:
  """Times both forms of a beam search on the same problems.

  Args:
    policy: the language model.
    verifier: the reward model.
    problems: how many, searched at once.
    steps: their difficulty.
    repeats: timed turns.
    seed: of problems and sampling.

  Returns:
    Seconds of both, the `ratio` of the driver's to the compiled form's, and
    `equal`, the share of searches with equal completions.
  """
  drawn = [
    arithmetic.problem(i, steps=steps, split="test", seed=seed)
    for i in range(problems)
  ]
  prompts = [problems_lib.prompt(problem) for problem in drawn]
  # A name decides the keys: every turn is a search of its own, in both forms.
  names = [
    [f"{problem.id}/{turn}" for problem in drawn] for turn in range(repeats + 1)
  ]
  decoder = beam.prm_beam(num_survivors=4, num_expansions=4, max_steps=12)
  settings = settings_lib.SearchSettings(step_tokens=32, max_tokens=128)
  free = budget_lib.Budget()
  found: dict[str, list[str | None]] = {"compiled": [], "driven": []}
  engines = driver.local_engines(
    policy, verifier, decoder, settings, slots=problems
  )

  compiled_names, driven_names = iter(names), iter(names)

  def compiled_form():
    got = search.solve(
      prompts,
      next(compiled_names),
      policy,
      verifier,
      decoder,
      budget=free,
      settings=settings,
      seed=seed,
      batch=problems,
    )
    found["compiled"] += [result.completion for result in got]

  def driven_form():
    got = driver.drive(
      *engines,
      decoder,
      prompts,
      next(driven_names),
      budget=free,
      settings=settings,
      seed=seed,
    )
    by_problem = {result.problem: result.completion for result in got}
    found["driven"] += [by_problem[i] for i in range(problems)]

  seconds = timing.by_turns(
    {"compiled": compiled_form, "driven": driven_form}, repeats
  )
  same = map(operator.eq, found["compiled"], found["driven"])
  return {
    "problems": problems,
    "seconds": seconds,
    "ratio": timing.ratio(seconds, "driven", "compiled"),
    "equal": sum(same) / len(found["driven"]),
  }
