# SPDX-License-Identifier: Apache-2.0
"""A language model that writes verifications, behind the `Verifier` protocol.

Each whole solution is verified V times: the engine samples V texts that end in
a verdict, and the reward is the mean of those that have one. Any engine will
do: a model in this process, or a served one. What is not finished has reward 0
and costs nothing, so a generative verifier is for decoders that rank whole
solutions (best-of-N, weighted votes), not for step-wise search.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import zlib

import jax
import numpy as np

from jaxttc.cost import costs
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import prefixes
from jaxttc.verifiers import verdicts

# From (prompt, solution) to what the verifier continues.
Ask = Callable[[str, str], str]

_FREE = engine_lib.Bill(spent=costs.Cost())


class GenerativeVerifier:
  """Sampled verifications behind the `Verifier` protocol.

  Attributes:
    engine: who writes them; used by nobody else.
    groups: searches served at once.
    samples: V.
    tariff: V calls a solution. Tokens depend on what is written; they are in
      the bills.
    metered: all counts but the verifier's tokens.
  """

  def __init__(
    self,
    engine: engine_lib.Engine,
    ask: Ask,
    *,
    samples: int,
    limit: int,
    read: Callable[[str], bool | None] = verdicts.parse,
    seed: int = 0,
    groups: int = 8,
  ):
    """A verifier without open searches.

    Args:
      engine: who writes; its sampler should have a temperature above 0 if V
        is above 1.
      ask: from prompt and solution to the text that a verification continues.
      samples: V, at least 1.
      limit: most tokens of a verification, at least 1.
      read: a verification's verdict; None if it has none.
      seed: of all sampling. Equal solutions are verified alike.
      groups: searches served at once.

    Raises:
      ValueError: if a size is below 1.
    """
    for name, size in (
      ("samples", samples),
      ("limit", limit),
      ("groups", groups),
    ):
      if size < 1:
        raise ValueError(f"GenerativeVerifier {name} must be >= 1, got {size}")
    self.engine, self.samples, self.groups = engine, samples, groups
    self.tariff = tariff_lib.Tariff(
      token=costs.Cost(), call=costs.Cost(verifier_calls=samples)
    )
    self.metered = frozenset(costs.COUNTS) - {"verifier_tokens"}
    self._ask, self._read, self._limit, self._seed = ask, read, limit, seed
    self._prompts: dict[int, str] = {}
    self._solutions: prefixes.Prefixes[str] = prefixes.Prefixes()

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    """Starts searches; nothing is read yet.

    Raises:
      ValueError: if a group is out of range or open already.
    """
    self._solutions.open(dict.fromkeys(prompts, ""), self.groups)
    for group, prompt in prompts.items():
      self._prompts[group] = prompt.text

  def score(self, spans: Sequence[engine_lib.Span]) -> list[engine_lib.Verdict]:
    """Mean verdict of each solution; 0 where none was written.

    Raises:
      ValueError: for a group that is not open, or a parent it does not have.
    """
    texts = []
    for span in spans:
      whole = self._solutions.of(span.group, span.parent) + span.text
      self._solutions.add(span.group, span.ticket, whole)
      texts.append(self._ask(self._prompts[span.group], whole))
    wanted = dict.fromkeys(
      text for text, span in zip(texts, spans, strict=True) if span.finished
    )
    told: dict[str, engine_lib.Verdict] = {}
    names = list(wanted)
    for start in range(0, len(names), self.engine.groups):
      told |= self._verified(names[start : start + self.engine.groups])
    scored = []
    for text, span in zip(texts, spans, strict=True):
      verdict = told[text] if span.finished else engine_lib.Verdict(bill=_FREE)
      scored.append(verdict)
      # Another span of this text is told the same, and does not pay again.
      told[text] = dataclasses.replace(verdict, bill=_FREE)
    return scored

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

  def _verified(self, texts: list[str]) -> dict[str, engine_lib.Verdict]:
    """Verifies as many texts as the engine has groups."""
    engine, waiting = self.engine, len(texts) * self.samples
    prompts = {
      g: engine_lib.Prompt(text=text, tokens=engine.encode(text))
      for g, text in enumerate(texts)
    }
    got: dict[int, list[engine_lib.Completion]] = {g: [] for g in prompts}
    try:
      engine.open(prompts)
      engine.submit(list(self._requests(texts)))
      while waiting:
        for done in engine.step():
          got[done.group].append(done)
          waiting -= 1
    finally:
      for group in prompts:
        engine.close(group)
    return {
      text: self._verdict(len(prompts[g].tokens), got[g])
      for g, text in enumerate(texts)
    }

  def _requests(self, texts: list[str]) -> Iterator[engine_lib.Request]:
    key = jax.random.key(self._seed)
    for group, text in enumerate(texts):
      own = jax.random.fold_in(key, zlib.crc32(text.encode()) & 0x7FFFFFFF)
      words = np.asarray(
        jax.random.key_data(jax.random.split(own, self.samples))
      )
      for ticket, seed in enumerate(words):
        yield engine_lib.Request(
          group=group,
          ticket=ticket,
          node=0,
          until=engine_lib.END,
          limit=self._limit,
          seed=tuple(map(int, seed)),
        )

  def _verdict(self, read: int, written) -> engine_lib.Verdict:
    """Reward and bill of one solution, its prompt read once."""
    failures = [done.failure for done in written if done.failure is not None]
    said = [self._read(done.text) for done in written if done.finished]
    known = [float(verdict) for verdict in said if verdict is not None]
    tokens = read + sum(done.length for done in written)
    bill = engine_lib.Bill(
      spent=costs.Cost(verifier_calls=len(written), verifier_tokens=tokens)
    )
    if failures and not known:
      return engine_lib.Verdict(bill=bill, failure=failures[0])
    reward = float(np.mean(known)) if known else 0.0
    return engine_lib.Verdict(reward=reward, bill=bill)
