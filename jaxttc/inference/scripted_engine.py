# SPDX-License-Identifier: Apache-2.0
"""An engine and a verifier that follow a script: exact, instant, no model.

The script is a function of the text so far and a seed that returns the next
step's text. Driver, meters and decoders run for real around it, so a test of
theirs can say in plain words what the model does. A token is a word with the
white space behind it.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
import re
import zlib

import numpy as np

from jaxttc.cost import costs
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import prefixes

ANSWER = "####"  # a step that holds this is a solution's last
_COUNTS = frozenset(costs.COUNTS)
_PIECES = re.compile(r"\S+\s*|\s+")


class ScriptedEngine:
  """Plays the policy; see `Engine`.

  Attributes:
    groups: searches served at once.
    max_length: most tokens of a prompt and its solution together.
    prompt_tariff: a prompt token a token.
    tariff: a generated token a token.
    metered: all counts, and no amounts.
    served: the requests that were answered, in order.
  """

  def __init__(
    self,
    script: Callable[[str, int], str],
    *,
    groups: int = 8,
    max_length: int = 4096,
    per_step: int | None = None,
  ):
    """An engine without open searches.

    Args:
      script: (prompt and solution so far, seed) -> the next step's text. Each
        step of a request that samples to the end gets a seed of its own.
      groups: searches served at once.
      max_length: most tokens of a prompt and its solution together.
      per_step: most requests answered by one `step`; all if None.

    Raises:
      ValueError: if a size is below 1.
    """
    sizes = {"groups": groups, "max_length": max_length, "per_step": per_step}
    for name, size in sizes.items():
      if size is not None and size < 1:
        raise ValueError(f"ScriptedEngine {name} must be >= 1, got {size}")
    self.groups, self.max_length = groups, max_length
    self.prompt_tariff = tariff_lib.Tariff(token=costs.Cost(prompt_tokens=1))
    self.tariff = tariff_lib.Tariff(token=costs.Cost(generated_tokens=1))
    self.metered = _COUNTS
    self.served: list[engine_lib.Request] = []
    self._script, self._per_step = script, per_step
    self._texts: prefixes.Prefixes[str] = prefixes.Prefixes()
    self._queue: collections.deque[engine_lib.Request] = collections.deque()

  def encode(self, text: str) -> tuple[int, ...]:
    """One number a word."""
    return _ids(text)

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    """Starts searches.

    Raises:
      ValueError: if a group is out of range or open already.
    """
    self._texts.open({g: p.text for g, p in prompts.items()}, self.groups)

  def submit(self, requests: Sequence[engine_lib.Request]) -> None:
    """Takes requests; `step` answers them in order.

    Raises:
      ValueError: for a group or a node that is not there, or a limit below 1.
    """
    for request in requests:
      self._texts.of(request.group, request.node)
      if request.limit < 1:
        raise ValueError(f"limit must be at least 1, got {request.limit}")
      self._queue.append(request)

  def step(self) -> list[engine_lib.Completion]:
    """Answers the next `per_step` requests.

    Raises:
      ValueError: if the script returns an empty step.
    """
    count = len(self._queue)
    if self._per_step is not None:
      count = min(count, self._per_step)
    return [self._answer(self._queue.popleft()) for _ in range(count)]

  def cancel(self, group: int) -> list[engine_lib.Completion]:
    """Forgets the group's waiting requests; none has cost anything."""
    gone = [r for r in self._queue if r.group == group]
    self._queue = collections.deque(r for r in self._queue if r.group != group)
    return [_completion(request, [], False) for request in gone]

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Makes spans nodes, by ticket; the group's other spans are forgotten."""
    self._texts.file(group, nodes)

  def release(self, group: int, keep: np.ndarray) -> None:
    """Forgets the nodes n with not `keep[n]`."""
    self._texts.release(group, keep)

  def close(self, group: int) -> None:
    """Ends a search; twice does no harm."""
    self.cancel(group)
    self._texts.close(group)

  def _answer(self, request: engine_lib.Request) -> engine_lib.Completion:
    self.served.append(request)
    prefix = self._texts.of(request.group, request.node)
    pieces: list[str] = []
    stopped, steps = False, 0
    while not stopped and len(pieces) <= request.limit:
      seed = zlib.crc32(repr((request.seed, steps)).encode())
      step = self._script(prefix + "".join(pieces), seed)
      if not step:
        raise ValueError("the script returned an empty step")
      pieces += _PIECES.findall(step)
      steps += 1
      stopped = request.until == engine_lib.STEP or ANSWER in step
    done = _completion(request, pieces, stopped)
    if done.stopped:
      self._texts.add(request.group, request.ticket, prefix + done.text)
    return done


class ScriptedVerifier:
  """Scores prefixes by a function of their text; see `Verifier`.

  Attributes:
    groups: searches served at once.
    tariff: a verifier token a token, a verifier call a span.
    metered: all counts, and no amounts.
    passes: how often `score` was called with anything.
  """

  def __init__(self, score: Callable[[str], float], *, groups: int = 8):
    """A verifier without open searches.

    Args:
      score: (prompt and solution so far) -> reward in [0, 1].
      groups: searches served at once.
    """
    self.groups, self.metered, self.passes = groups, _COUNTS, 0
    self.tariff = tariff_lib.Tariff(
      token=costs.Cost(verifier_tokens=1), call=costs.Cost(verifier_calls=1)
    )
    self._score = score
    self._texts: prefixes.Prefixes[str] = prefixes.Prefixes()

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    """Starts searches.

    Raises:
      ValueError: if a group is out of range or open already.
    """
    self._texts.open({g: p.text for g, p in prompts.items()}, self.groups)

  def score(self, spans: Sequence[engine_lib.Span]) -> list[float]:
    """Rewards of the prefixes that end with the spans.

    Raises:
      ValueError: for a group or a parent that is not there.
    """
    self.passes += bool(spans)
    rewards = []
    for span in spans:
      text = self._texts.of(span.group, span.parent) + span.text
      self._texts.add(span.group, span.ticket, text)
      rewards.append(float(self._score(text)))
    return rewards

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Makes spans nodes, by ticket; the group's other spans are forgotten."""
    self._texts.file(group, nodes)

  def release(self, group: int, keep: np.ndarray) -> None:
    """Forgets the nodes n with not `keep[n]`."""
    self._texts.release(group, keep)

  def close(self, group: int) -> None:
    """Ends a search; twice does no harm."""
    self._texts.close(group)


def _ids(text: str) -> tuple[int, ...]:
  pieces = _PIECES.findall(text)
  return tuple(zlib.crc32(p.encode()) & 0x7FFFFFFF for p in pieces)


def _completion(
  request: engine_lib.Request, pieces: list[str], stopped: bool
) -> engine_lib.Completion:
  stopped = stopped and len(pieces) <= request.limit
  text = "".join(pieces[: request.limit])
  finished = stopped and ANSWER in text
  answer = text.partition(ANSWER)[2].strip() if finished else ""
  tokens = _ids(text)
  return engine_lib.Completion(
    group=request.group,
    ticket=request.ticket,
    text=text,
    tokens=tokens,
    length=len(tokens),
    stopped=stopped,
    finished=finished,
    logprob=0.0,
    answer=zlib.crc32(answer.encode()) & 0x7FFFFFFF if answer else -1,
  )
