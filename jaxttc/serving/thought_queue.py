# SPDX-License-Identifier: Apache-2.0
"""Requests that a model thinks about, each within its own budget.

One thread takes what waits, a batch of rows at a time, and has them thought
about together by one compiled program; budgets, limits and samplers are data of
a row. A reply depends on its own order alone.
"""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import (
  controllers,
  generation,
  row_sampling,
  thinking_span,
)
from jaxttc.serving import handle as handle_lib
from jaxttc.serving import turn_queue
from jaxttc.solving import thinking_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThoughtOrder:
  """One question to think about.

  Attributes:
    prompt: token ids, the span's opening among the last.
    budget: tokens of the span, its closing token included.
    limit: most tokens of thought and answer together.
    sampler: how tokens are drawn.
    seed: words of randomness; equal orders give equal thoughts.
  """

  prompt: tuple[int, ...]
  budget: int
  limit: int
  sampler: controllers.Sampler
  seed: tuple[int, ...]


class Thought(NamedTuple):
  """What came of an order.

  Attributes:
    thinking: the text of the span.
    answer: the text behind it; "" if it never closed.
    reason: "stop", or "length" if the answer did not come to its end.
    budget: tokens that the span was given.
    thinking_tokens: of the span, its closing token included.
    overhead_tokens: sampled beside: trials, and thoughts given up.
    tokens: sampled in all.
    finish: how the span ended, one of `thoughts.FINISHES`.
  """

  thinking: str
  answer: str
  reason: str
  budget: int
  thinking_tokens: int
  overhead_tokens: int
  tokens: int
  finish: str

  def about(self) -> dict[str, Any]:
    """What a reply tells beside the texts."""
    return {
      "budget": self.budget,
      "tokens": self.thinking_tokens,
      "overhead": self.overhead_tokens,
      "finish": self.finish,
    }


class ThoughtQueue(turn_queue.TurnQueue[ThoughtOrder, Thought]):
  """Thinks about orders; see the module docstring.

  Attributes:
    way: how it thinks.
  """

  def __init__(
    self, policy: bundle_lib.Bundle, way: thinking_text.Way, *, rows: int
  ):
    """A queue whose thread has not begun.

    Args:
      policy: the language model.
      way: how it thinks, of the same model.
      rows: orders thought about at once.
    """
    super().__init__("thoughts")
    self.way, self._policy, self._rows = way, policy, rows

  def warm_up(self, tokens: int) -> None:
    """Compiles for prompts of up to `tokens` tokens, before `start`."""
    room = self._policy.config.max_length - self.way.think.limit
    size = generation.bucket(1)
    while size <= generation.bucket(tokens):
      order = ThoughtOrder(
        prompt=(self._policy.tokenizer.eos_id,) * max(1, min(size, room)),
        budget=1,
        limit=2,
        sampler=controllers.Sampler(),
        seed=(0,) * jax.random.key_data(jax.random.key(0)).shape[-1],
      )
      handle = handle_lib.Handle(order, lambda outcome: None)
      for _ in self._results([handle]):
        pass
      size *= 2

  def _turn(self, waiting: Sequence[ThoughtOrder]) -> list[int]:
    return list(range(min(len(waiting), self._rows)))

  def _results(
    self, batch: Sequence[handle_lib.Handle]
  ) -> Iterator[tuple[int, Thought]]:
    orders = [handle.order for handle in batch]
    # As many rows every time, so that nothing is compiled anew.
    rows = [orders[i % len(orders)] for i in range(self._rows)]
    words = np.array([order.seed for order in rows], np.uint32)
    found = self.way.think(
      [order.prompt for order in rows],
      np.array([order.budget for order in rows], np.int32),
      jax.random.wrap_key_data(jnp.asarray(words)),
      limits=np.array([order.limit for order in rows], np.int32),
      sampling=row_sampling.of([order.sampler for order in rows]),
    )
    for i, order in enumerate(orders):
      tokens = found.tokens[i, : found.length[i]].tolist()
      thinking, answer = thinking_span.parts(self._policy.tokenizer, tokens)
      yield (
        i,
        Thought(
          thinking=thinking,
          answer=answer or "",
          reason="stop" if found.finished[i] else "length",
          budget=order.budget,
          thinking_tokens=int(found.spent[i]),
          overhead_tokens=int(found.overhead[i]),
          tokens=int(found.length[i] + found.overhead[i]),
          finish=found.finish[i],
        ),
      )
