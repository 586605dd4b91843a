# SPDX-License-Identifier: Apache-2.0
"""Steps of plans thought about, each thought kept within the step's cap.

The cap of a `StepRequest` is of thought and answer together. A model that
thinks is told it inside the decoding loop, a budget a row: by budget guidance
the thought is written so that it ends in time; by a hard cap it is closed where
it stands (`inference.thinking_policies`). Either way the answer has room, and
nothing is overspent.

    decode = thought_steps.ThoughtSteps(think, policy, names, answer_tokens=4)
    executors.carry_out_together([executors.sequential(...), ...], decode)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.allocators import executors
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import thinking_span, thoughts
from jaxttc.runtime import search as search_lib


class ThoughtSteps:
  """Decodes the steps of many plans in one batch; give it to
  `executors.carry_out_together`."""

  def __init__(
    self,
    think: thoughts.Think,
    policy: bundle_lib.Bundle,
    names: Sequence[str],
    *,
    answer_tokens: int,
    seed: int = 0,
  ):
    """A decoder of steps.

    Args:
      think: how spans are kept within their budgets.
      policy: the model that thinks.
      names: a unique id a plan; with the seed and the step it determines what
        is sampled.
      answer_tokens: what an answer takes, set aside of every cap.
      seed: of all sampling.

    Raises:
      ValueError: if names are not unique, or answers have no tokens, or take
        all that the model may write.
    """
    if len(set(names)) < len(names):
      raise ValueError("two plans have one name; names decide random keys")
    if not 1 <= answer_tokens < think.limit:
      raise ValueError(
        f"answer_tokens is {answer_tokens}; expected 1..{think.limit - 1}"
      )
    self._think, self._policy = think, policy
    self._answer = answer_tokens
    self._keys = [search_lib.problem_key(seed, name) for name in names]

  def __call__(
    self, places: Sequence[int], requests: Sequence[executors.StepRequest]
  ) -> list[executors.StepOutcome]:
    """What came of some steps.

    Args:
      places: of their plans among the names.
      requests: a step each; one whose cap leaves no token for a thought is not
        decoded.

    Returns:
      Outcomes: texts behind the span, "" where it never closed.
    """
    caps = np.minimum([one.cap for one in requests], self._think.limit)
    asked = np.flatnonzero(caps > self._answer)
    found = [executors.StepOutcome("", 0, False)] * len(requests)
    if not asked.size:
      return found
    # As many rows every time, so that nothing is compiled anew.
    rows = np.resize(asked, len(self._keys))
    thought = self._think(
      [
        thinking_span.prompt(self._policy.tokenizer, requests[row].prompt)
        for row in rows
      ],
      caps[rows] - self._answer,
      jnp.stack(
        [
          jax.random.fold_in(self._keys[places[row]], requests[row].step + 1)
          for row in rows
        ]
      ),
      limits=caps[rows],
    )
    for at, row in enumerate(asked):
      length = int(thought.length[at])
      _, answer = thinking_span.parts(
        self._policy.tokenizer, thought.tokens[at, :length].tolist()
      )
      found[row] = executors.StepOutcome(
        answer or "",
        length + int(thought.overhead[at]),
        bool(thought.finished[at]) and answer is not None,
      )
    return found
