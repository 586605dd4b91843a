# SPDX-License-Identifier: Apache-2.0
"""Process rewards from a served model, behind the `Verifier` protocol.

Two interfaces are spoken, both vLLM's:

* `pooling`: POST /pooling {"model", "input"} answers, in data[0].data, a row
  of numbers for each step tag (step pooling, as of Qwen2.5-Math-PRM or
  Math-Shepherd), or for each token, of which the last counts; or one row for
  the text. A row's number at `positive` is the reward.
* `score`: POST /score {"model", "text_1", "text_2"}, the problem and the
  solution so far, answers one number, in data[0].score.

Numbers are probabilities, or logits that become such. The whole prefix is sent
each time, but the same text of one problem only once.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import re
from typing import Any

import numpy as np

from jaxttc.cost import costs
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import prefixes
from jaxttc.inference.endpoint import (
  billing,
  counting,
  replies,
  servers,
  transport,
)
from jaxttc.inference.endpoint import connection as connection_lib
from jaxttc.verifiers import process_reward

_APIS = ("pooling", "score")
_FIELD = re.compile(r"\{(problem|solution)\}")
_SLACK = 1e-3  # what half precision may add to a probability


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardSpec:
  """A served reward model, and how it is asked.

  Attributes:
    connection: to the server.
    model: as the server calls it.
    api: "pooling" or "score".
    template: what `pooling` reads, with {problem} and {solution} in it.
    step_end: what ends a step of a solution.
    step_tag: put behind each step, in place of `step_end`, for a model that
      says a reward there, e.g. "<extra_0>"; "" if it says one for all.
    positive: which number of a row is the reward; -1 is the last.
    logits: whether numbers are logits, else probabilities.
    aggregate: how step rewards become the reward of a prefix.
  """

  connection: connection_lib.Connection
  model: str
  api: str = "pooling"
  template: str = "{problem}{solution}"
  step_end: str = "\n\n"
  step_tag: str = ""
  positive: int = -1
  logits: bool = False
  aggregate: process_reward.Aggregate = process_reward.Aggregate.LAST

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    self.connection.validate()
    if not self.model:
      raise ValueError("model must name the served reward model, got ''")
    if self.api not in _APIS:
      raise ValueError(
        f"api must be one of {', '.join(_APIS)}, got {self.api!r}"
      )
    if sorted(_FIELD.findall(self.template)) != ["problem", "solution"]:
      raise ValueError(
        "template must hold {problem} and {solution} once each, got "
        f"{self.template!r}"
      )
    if self.step_tag and (self.api == "score" or not self.step_end):
      raise ValueError("step_tag needs the pooling interface and a step_end")
    whole = self.aggregate is not process_reward.Aggregate.LAST
    if whole and not self.step_tag:
      raise ValueError(
        f"aggregate {str(self.aggregate)!r} needs the rewards of all steps; "
        "give the model's step_tag, or use 'last'"
      )

  def payload(self, problem: str, solution: str) -> tuple[dict[str, Any], int]:
    """A request, and how many rewards are expected; 0 for any number."""
    if self.api == "score":
      return {"text_1": problem, "text_2": solution, "model": self.model}, 0
    steps = 0
    if self.step_tag:
      parts = [s for s in solution.split(self.step_end) if s.strip()]
      solution = "".join(part + self.step_tag for part in parts)
      steps = len(parts)
    values = {"problem": problem, "solution": solution}
    text = _FIELD.sub(lambda field: values[field[1]], self.template)
    return {"input": text, "model": self.model}, steps

  def reward(self, body: dict[str, Any], steps: int) -> float:
    """The reward of a prefix, in [0, 1], from a reply.

    Args:
      body: the JSON object.
      steps: how many rewards are expected; 0 for any number.

    Raises:
      MalformedReply: if it holds no such reward.
    """
    data = body.get("data")
    item = data[0] if isinstance(data, list) and len(data) == 1 else None
    if not isinstance(item, dict):
      raise _malformed(body, "'data' is no list of one object")
    if self.api == "score":
      return self._probability(body, item.get("score"))
    rows = item.get("data")
    if not isinstance(rows, list) or not rows:
      raise _malformed(body, "'data[0].data' is no list of rewards")
    if not steps:
      row = rows[-1] if isinstance(rows[-1], list) else rows
      return self._probability(body, self._positive(body, row))
    if len(rows) != steps:
      raise _malformed(body, f"{len(rows)} rewards for {steps} steps")
    found = [
      self._probability(
        body, self._positive(body, row) if isinstance(row, list) else row
      )
      for row in rows
    ]
    return _aggregated(found, self.aggregate)

  def _positive(self, body, row):
    try:
      return row[self.positive]
    except IndexError:
      raise _malformed(
        body, f"a row of {len(row)} numbers has none at {self.positive}"
      ) from None

  def _probability(self, body, value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
      raise _malformed(body, "a reward is no number")
    if self.logits:
      if not math.isfinite(value):
        raise _malformed(body, f"a reward of {value} is no logit")
      return 1 / (1 + math.exp(-max(min(value, 500.0), -500.0)))
    if not -_SLACK <= value <= 1 + _SLACK:
      raise _malformed(
        body, f"a reward of {value:g} is no probability; are they logits?"
      )
    return min(max(float(value), 0.0), 1.0)


class EndpointVerifier:
  """A served reward model behind the `Verifier` protocol.

  Attributes:
    spec: the model.
    groups: searches served at once.
    tariff: a call a call. Its tokens, by its own tokenizer, are known only
      from its replies; they are reported.
    metered: all counts but the verifier's tokens.
  """

  def __init__(
    self,
    spec: RewardSpec,
    *,
    groups: int = 8,
    line: transport.Transport | None = None,
  ):
    """Connects, and checks that the server has the model.

    Args:
      spec: the model.
      groups: searches served at once.
      line: the transport to use, closed with the verifier; by default a new
        one.

    Raises:
      ValueError: in one line, if the spec cannot be, the server cannot be
        reached, refuses the key, or does not serve the model.
    """
    spec.validate()
    if groups < 1:
      raise ValueError(f"EndpointVerifier groups must be >= 1, got {groups}")
    self.spec, self.groups = spec, groups
    self.tariff = tariff_lib.Tariff(
      token=costs.Cost(), call=costs.Cost(verifier_calls=1)
    )
    self.metered = frozenset(costs.COUNTS) - {"verifier_tokens"}
    self._line = line or transport.Transport(spec.connection)
    try:
      servers.probe(self._line, spec.model)
    except BaseException:
      self._line.close()
      raise
    self._prompts: dict[int, str] = {}
    self._solutions: prefixes.Prefixes[str] = prefixes.Prefixes()
    self._known: dict[int, dict[str, float]] = {}

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    """Starts searches; nothing is sent yet.

    Raises:
      ValueError: if a group is out of range or open already.
    """
    self._solutions.open(dict.fromkeys(prompts, ""), self.groups)
    for group, prompt in prompts.items():
      self._prompts[group], self._known[group] = prompt.text, {}

  def score(self, spans: Sequence[engine_lib.Span]) -> list[engine_lib.Verdict]:
    """Rewards of the prefixes that end with the spans, all asked at once.

    Raises:
      ValueError: for a group that is not open, or a parent it does not have.
    """
    asked: dict[tuple[int, str], Any] = {}
    named = []
    for span in spans:
      parent = self._solutions.of(span.group, span.parent)
      name = (span.group, parent + span.text)
      self._solutions.add(span.group, span.ticket, name[1])
      named.append(name)
      if name[1] not in self._known[span.group] and name not in asked:
        asked[name] = self._line.start(self._ask(*name, span.attempt))
    told = {name: future.result() for name, future in asked.items()}
    verdicts = []
    for group, text in named:
      known = self._known[group]
      verdict = told.get((group, text))
      if verdict is None:
        verdict = engine_lib.Verdict(reward=known[text], bill=billing.FREE)
      elif verdict.failure is None:
        known[text] = verdict.reward
      verdicts.append(verdict)
      # Another span of this text is told the same, and does not pay again.
      told[group, text] = dataclasses.replace(verdict, bill=billing.FREE)
    return verdicts

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Makes spans nodes, by ticket; the group's other spans are forgotten.

    Raises:
      ValueError: if the group is not open, or a ticket is no span's.
    """
    self._solutions.file(group, nodes)

  def release(self, group: int, keep: np.ndarray) -> None:
    """Forgets the nodes n with not `keep[n]`."""
    self._solutions.release(group, keep)

  def close(self, group: int) -> None:
    """Ends a search; twice does no harm."""
    self._solutions.close(group)
    self._prompts.pop(group, None)
    self._known.pop(group, None)

  def shutdown(self) -> None:
    """Ends the connection; twice does no harm."""
    self._line.close()

  async def _ask(
    self, group: int, solution: str, attempt: int
  ) -> engine_lib.Verdict:
    payload, steps = self.spec.payload(self._prompts[group], solution)
    if self.spec.step_tag and not steps:  # no step yet: as right as can be
      return engine_lib.Verdict(reward=1.0, bill=billing.FREE)
    size = sum(
      counting.byte_bound(text)
      for key, text in payload.items()
      if key != "model"
    )
    bill = _bill(tokens=size, known_tokens=0, known_calls=0)
    try:
      body = await self._line.post(
        f"//{self.spec.api}", payload, attempt=attempt
      )
      usage = body.get("usage")
      told = usage.get("prompt_tokens") if isinstance(usage, dict) else None
      tokens = replies.count(told)
      bill = (
        _bill(tokens=size, known_tokens=0, known_calls=1)
        if tokens is None
        else _bill(tokens=tokens, known_tokens=tokens, known_calls=1)
      )
      return engine_lib.Verdict(reward=self.spec.reward(body, steps), bill=bill)
    except transport.EndpointError as error:
      failure = engine_lib.Failure(error=str(error), again=error.again)
      return engine_lib.Verdict(
        bill=bill if error.spent else billing.FREE, failure=failure
      )
    except replies.MalformedReply as error:
      failure = engine_lib.Failure(
        error=f"/{self.spec.api}: {self._line.clean(str(error))}",
        again=attempt < self.spec.connection.retries,
      )
      return engine_lib.Verdict(bill=bill, failure=failure)


def _bill(
  *, tokens: int, known_tokens: int, known_calls: int
) -> engine_lib.Bill:
  """One call of so many tokens, and what of that the server has confirmed."""
  return engine_lib.Bill(
    spent=costs.Cost(verifier_calls=1, verifier_tokens=tokens),
    assumed=costs.Cost(
      verifier_calls=1 - known_calls, verifier_tokens=tokens - known_tokens
    ),
  )


def _malformed(body, line: str) -> replies.MalformedReply:
  error = body.get("error")
  message = error.get("message") if isinstance(error, dict) else error
  said = f" ({message[:160]})" if isinstance(message, str) else ""
  return replies.MalformedReply(line + said, None)


def _aggregated(rewards: list[float], how: process_reward.Aggregate) -> float:
  if how is process_reward.Aggregate.LAST:
    return rewards[-1]
  if how is process_reward.Aggregate.MIN:
    return min(rewards)
  if how is process_reward.Aggregate.PRODUCT:
    return math.prod(rewards)
  return math.fsum(rewards) / len(rewards)
