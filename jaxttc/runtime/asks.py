# SPDX-License-Identifier: Apache-2.0
"""What a program may yield, and what it is sent for it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from jaxttc.cost import tariff as tariff_lib


class Ask(NamedTuple):
  """Text that a program wants.

  Attributes:
    prompt: to go on from.
    limit: most tokens of a sample.
    samples: how many.
    model: which engine.
    stage: under what name its tokens are counted.
  """

  prompt: str
  limit: int
  samples: int = 1
  model: str = "policy"
  stage: str = "answer"


class Measure(NamedTuple):
  """A number that a program wants read off a model's state after a text.

  Attributes:
    prompt: the text.
    gauge: which gauge.
    stage: under what name its tokens are counted.
  """

  prompt: str
  gauge: str = "probe"
  stage: str = "rating"


class Reply(NamedTuple):
  """One sample, or one number.

  Attributes:
    text: sampled; "" if it was not paid for, was lost, or is a number's.
    tokens: sampled.
    finished: whether it ended by itself.
    error: why there is neither text nor number, in one line; "" if there is.
    value: of a `Measure`; None for an `Ask`, or if there is none.
  """

  text: str
  tokens: int
  finished: bool
  error: str = ""
  value: float | None = None


Replies = list[Reply]


def refused(error: str, samples: int = 1) -> Replies:
  """Replies to what was not asked of anyone, and why."""
  return [Reply("", 0, False, error)] * samples


class GaveUp(ValueError):
  """A program cannot go on, and says why in one line.

  `serve` reports it of that program (`Done.error`) and goes on with the
  others; anything else that a program raises is a mistake, and is passed on.
  """


@runtime_checkable
class Gauge(Protocol):
  """Reads numbers off a model's states, many texts at once.

  Attributes:
    max_length: most tokens of a text.
    tariff: what reading a text costs.
    metered: the fields of `Cost` that the tariff knows.
  """

  max_length: int
  tariff: tariff_lib.Tariff
  metered: frozenset[str]

  def encode(self, text: str) -> tuple[int, ...]:
    """Token ids of a text, as many as it will be charged for."""
    ...

  def measure(self, texts: Sequence[str]) -> Sequence[float]:
    """A finite number for each text."""
    ...
