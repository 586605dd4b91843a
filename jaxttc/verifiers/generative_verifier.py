# SPDX-License-Identifier: Apache-2.0
"""A language model that writes verifications, behind the `Verifier` protocol.

Each whole solution is verified V times: the engine samples V texts that end in
a verdict, and the reward is the mean of those that have one. Any engine will
do: a model in this process (`written_checks` makes the verifier of one), or a
served one. What is not finished has reward 0 and costs nothing, so a generative
verifier is for decoders that rank whole solutions (best-of-N, weighted votes),
not for step-wise search.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from typing import NamedTuple
import zlib

import jax
import numpy as np

from jaxttc.cost import costs, verification_tariff
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import prefixes
from jaxttc.verifiers import verdicts

# From (prompt, solution) to what the verifier continues.
Ask = Callable[[str, str], str]

_FREE = engine_lib.Bill(spent=costs.Cost())


class _Prefix(NamedTuple):
  """A partial solution: its text, and how many tokens the policy wrote."""

  text: str
  tokens: int


class GenerativeVerifier:
  """Sampled verifications behind the `Verifier` protocol.

  Attributes:
    engine: who writes them; used by nobody else.
    groups: searches served at once.
    samples: V.
    tariff: the most that a solution's verifications cost; where that is not
      known, V calls. What they did cost is in the bills.
    metered: what the tariff bounds; without one, all counts but the verifier's
      tokens.
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
    prices: verification_tariff.VerificationTariff | None = None,
    bounded: frozenset[str] = frozenset(),
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
      prices: of the verifier's model; None if only its calls and tokens are
        counted.
      bounded: the fields of `Cost` that `prices` bounds before a solution is
        verified: then one that reads longer than they say is not verified, and
        has reward 0. Empty where the verifier's tokens are not the policy's.

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
    self._prices, self._bounded = prices, prices is not None and bool(bounded)
    self.tariff: verification_tariff.VerifierTariff = tariff_lib.Tariff(
      token=costs.Cost(), call=costs.Cost(verifier_calls=samples)
    )
    self.metered = frozenset(costs.COUNTS) - {"verifier_tokens"}
    if prices is not None and bounded:
      self.tariff, self.metered = prices, bounded
    self._ask, self._read, self._limit, self._seed = ask, read, limit, seed
    self._prompts: dict[int, engine_lib.Prompt] = {}
    self._solutions: prefixes.Prefixes[_Prefix] = prefixes.Prefixes()

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    """Starts searches; nothing is read yet.

    Raises:
      ValueError: if a group is out of range or open already.
    """
    self._solutions.open(dict.fromkeys(prompts, _Prefix("", 0)), self.groups)
    self._prompts |= prompts

  def score(self, spans: Sequence[engine_lib.Span]) -> list[engine_lib.Verdict]:
    """Mean verdict of each solution; 0 where none was written.

    Raises:
      ValueError: for a group that is not open, or a parent it does not have.
    """
    texts, wanted = [], {}
    for span in spans:
      before = self._solutions.of(span.group, span.parent)
      whole = _Prefix(before.text + span.text, before.tokens + len(span.tokens))
      self._solutions.add(span.group, span.ticket, whole)
      prompt = self._prompts[span.group]
      texts.append(self._ask(prompt.text, whole.text))
      if span.finished:
        most = len(prompt.tokens) + whole.tokens
        # Equal texts may be paid for by any of the spans that have them.
        wanted[texts[-1]] = min(wanted.get(texts[-1], most), most)
    told: dict[str, engine_lib.Verdict] = {}
    asked = {text: self.engine.encode(text) for text in wanted}
    for text, tokens in list(asked.items()):
      if not self._can_verify(len(tokens), wanted[text]):
        told[text] = engine_lib.Verdict(bill=_FREE)
        del asked[text]
    names = list(asked)
    for start in range(0, len(names), self.engine.groups):
      some = names[start : start + self.engine.groups]
      told |= self._verified({text: asked[text] for text in some})
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

  def _can_verify(self, read: int, expected: int) -> bool:
    """Whether there is room for a verification, and it costs what was said."""
    if read >= self.engine.max_length:
      return False
    if not self._bounded or self._prices is None:
      return True
    return read <= expected + self._prices.beside

  def _verified(
    self, texts: Mapping[str, tuple[int, ...]]
  ) -> dict[str, engine_lib.Verdict]:
    """Verifies as many texts, with their tokens, as the engine has groups."""
    engine, waiting = self.engine, len(texts) * self.samples
    prompts = {
      g: engine_lib.Prompt(text=text, tokens=tokens)
      for g, (text, tokens) in enumerate(texts.items())
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

  def _requests(
    self, texts: Mapping[str, tuple[int, ...]]
  ) -> Iterator[engine_lib.Request]:
    key = jax.random.key(self._seed)
    for group, (text, tokens) in enumerate(texts.items()):
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
          limit=min(self._limit, self.engine.max_length - len(tokens)),
          seed=tuple(map(int, seed)),
        )

  def _verdict(self, read: int, written) -> engine_lib.Verdict:
    """Reward and bill of one solution, its prompt read once."""
    failures = [done.failure for done in written if done.failure is not None]
    said = [self._read(done.text) for done in written if done.finished]
    known = [float(verdict) for verdict in said if verdict is not None]
    lengths = [done.length for done in written]
    spent = costs.Cost(
      verifier_calls=len(written), verifier_tokens=read + sum(lengths)
    )
    if self._prices is not None:
      spent = self._prices.spent(read, lengths)
    bill = engine_lib.Bill(spent=spent)
    if failures and not known:
      return engine_lib.Verdict(bill=bill, failure=failures[0])
    reward = float(np.mean(known)) if known else 0.0
    return engine_lib.Verdict(reward=reward, bill=bill)
