# SPDX-License-Identifier: Apache-2.0
"""What the driver asks of an engine and of a verifier: two small protocols.

A *group* is one problem's search, a number below `groups` that the driver
picks. A *node* is a prefix in that search: 0 is the prompt, the others are
numbered by the driver. A *ticket* is a span that has been asked for and is not
yet a node: a number that is the group's own and may be used again once the
span was filed or forgotten. One round of a search is

    engine.submit([Request(group=g, ticket=0, node=0, ..), ..])
    completions = engine.step()              until all tickets are back
    rewards = verifier.score([Span(group=g, ticket=0, parent=0, ..), ..])
    engine.file(g, {0: 1}); verifier.file(g, {0: 1})      ticket 0 is node 1
    engine.release(g, keep); verifier.release(g, keep)

Everything that passes is plain numbers, token ids and text, so what serves it
may be a model in this process, an endpoint that keeps no tree and is sent the
whole prefix again, or a script. `tokens` may be empty where an engine does not
know them; `text` and `length` never lie.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np

from jaxttc.cost import costs, verification_tariff
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import controllers

STEP, END = 0, 1  # how far a request samples, as in `generation`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
  """What a search starts from.

  Attributes:
    text: as the user gave it.
    tokens: its token ids, that which begins a text included.
  """

  text: str
  tokens: tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """One span to sample.

  Attributes:
    group: the search.
    ticket: what the span is called until it is filed.
    node: the prefix to extend.
    until: `STEP` or `END`.
    limit: most tokens to sample, at least 1.
    seed: uint32 words of randomness (the data of a JAX key). Equal seeds
      after equal prefixes give equal spans where the engine can promise it.
    sampler: how tokens are drawn; None for the engine's own way, which is the
      only one that an engine need know.
    attempt: how often it was asked before, and lost.
  """

  group: int
  ticket: int
  node: int
  until: int
  limit: int
  seed: tuple[int, ...]
  sampler: controllers.Sampler | None = None
  attempt: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bill:
  """What one request cost, where the tariff alone does not tell.

  Attributes:
    spent: its whole cost, at most what the tariff says of its `limit`.
    assumed: the part of `spent` that nobody confirmed: the most that a reply
      which was lost, or did not say, can have cost.
  """

  spent: costs.Cost
  assumed: costs.Cost = costs.Cost()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Failure:
  """A request that got no usable reply.

  Attributes:
    error: what went wrong, in one line.
    again: whether it may be asked again, if the budget can pay for that too;
      else the problem ends.
  """

  error: str
  again: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
  """What was sampled for a request.

  Attributes:
    group: of the request.
    ticket: of the request.
    text: of the span.
    tokens: of the span; empty if the engine does not know them.
    length: tokens sampled, at most the request's `limit`; 0 if it was
      cancelled before it began.
    stopped: whether it reached the end that was asked for.
    finished: whether it ended the solution.
    logprob: log-probability of the span, in nats.
    answer: class of the solution's answer, -1 for none.
    end: tokens of the prefix and the span, as a later request that extends
      it is charged for; None for the prefix's and `length`.
    bill: what it cost; None for what the tariff says of `length` tokens.
    failure: why nothing usable came; the length is 0 then.
  """

  group: int
  ticket: int
  text: str
  tokens: tuple[int, ...]
  length: int
  stopped: bool
  finished: bool
  logprob: float
  answer: int
  end: int | None = None
  bill: Bill | None = None
  failure: Failure | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Span:
  """A sampled span for a verifier to score.

  Attributes:
    group: the search.
    ticket: what the span is called until it is filed.
    parent: the node that it extends.
    text: of the span.
    tokens: of the span.
    finished: whether it ended the solution.
    attempt: how often its scoring was asked for before, and lost.
  """

  group: int
  ticket: int
  parent: int
  text: str
  tokens: tuple[int, ...]
  finished: bool
  attempt: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """A reward, where there is more to say than the number.

  Attributes:
    reward: in [0, 1].
    bill: what it cost; None for what the tariff says.
    failure: why there is no reward.
  """

  reward: float = 0.0
  bill: Bill | None = None
  failure: Failure | None = None


@runtime_checkable
class Engine(Protocol):
  """Samples spans; see the module docstring.

  Attributes:
    groups: how many searches it serves at once.
    max_length: most tokens of a prompt and its solution together.
    prompt_tariff: what reading a prompt costs; None if nothing is kept of
      it, so that every request pays for its whole prefix.
    tariff: what sampling costs. An engine that prices prefixes or calls
      bills each completion.
    metered: the fields of `Cost` that the tariffs know. A field that is not
      among them may cost something that nobody counts.
  """

  groups: int
  max_length: int
  prompt_tariff: tariff_lib.Tariff | None
  tariff: tariff_lib.Tariff
  metered: frozenset[str]

  def encode(self, text: str) -> tuple[int, ...]:
    """Token ids of a prompt, as many as it will be charged for."""
    ...

  def open(self, prompts: Mapping[int, Prompt]) -> None:
    """Starts searches: reads each group's prompt, as node 0."""
    ...

  def submit(self, requests: Sequence[Request]) -> None:
    """Takes requests; they run, or wait for a free row, from `step` to `step`.

    Raises:
      ValueError: for a group that is not open, a node that it does not have,
        a ticket that is taken, or a limit below 1.
    """
    ...

  def step(self) -> list[Completion]:
    """Runs one segment: returns what was completed, maybe nothing."""
    ...

  def cancel(self, group: int) -> list[Completion]:
    """Stops all that the group waits for, and returns what it had got."""
    ...

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Makes spans nodes, by ticket; the group's other spans are forgotten."""
    ...

  def release(self, group: int, keep: np.ndarray) -> None:
    """Forgets the nodes n with not `keep[n]` (bool[N]); never node 0."""
    ...

  def close(self, group: int) -> None:
    """Ends a search, whatever it still waits for. Twice does no harm."""
    ...


@runtime_checkable
class Verifier(Protocol):
  """Scores spans; see the module docstring.

  Attributes:
    groups: how many searches it serves at once.
    tariff: what scoring a span costs.
    metered: the fields of `Cost` that the tariff knows.
  """

  groups: int
  tariff: verification_tariff.VerifierTariff
  metered: frozenset[str]

  def open(self, prompts: Mapping[int, Prompt]) -> None:
    """Starts searches: reads each group's prompt, as node 0."""
    ...

  def score(self, spans: Sequence[Span]) -> Sequence[float | Verdict]:
    """Rewards in [0, 1] of the prefixes that end with the spans."""
    ...

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Makes spans nodes, by ticket; the group's other spans are forgotten."""
    ...

  def release(self, group: int, keep: np.ndarray) -> None:
    """Forgets the nodes n with not `keep[n]` (bool[N]); never node 0."""
    ...

  def close(self, group: int) -> None:
    """Ends a search. Twice does no harm."""
    ...
