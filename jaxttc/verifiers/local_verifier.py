# SPDX-License-Identifier: Apache-2.0
"""The process reward model in this process, behind the `Verifier` protocol.

It keeps its own tree cache, so every span is read once, in one parallel pass
over all spans that are to be scored, of however many searches. Only the
searches that have spans take part in a pass: their arenas are gathered, and
written back with the spans' keys and values. Shapes are powers of two;
`compilations` counts the programs traced.

A published reward model (one with a `step_format`) is shown the text of each
step in its own vocabulary, with its separators. What it reads is then another
number of tokens than the policy wrote, which no budget is told beforehand: it
meters calls, not tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import (
  generation,
  local_prices,
  node_table,
  prompt_batch,
  tree_cache,
)
from jaxttc.verifiers import process_reward

_CALLS_ONLY = frozenset(
  {"prompt_tokens", "generated_tokens", "verifier_calls", "tool_calls"}
)
# What is kept of a node's prefix, and where it ends.
_State = tuple[process_reward.Prefixes, int]


class _Pass(NamedTuple):
  """Spans of P groups, up to R each, in W tokens; NumPy arrays."""

  group: Any  # i32[P], G for padding
  parent: Any  # i32[P, R], -1 for no span
  ticket: Any  # i32[P, R]
  position: Any  # i32[P, R]
  tokens: Any  # i32[P, R, W], -1 beyond the span
  finished: Any  # bool[P, R]
  ends: Any  # bool[P, R, W], where rewards are read; None to look for them
  read: Any  # Prefixes [P, R] of the parents


class LocalVerifier:
  """A reward model behind the `Verifier` protocol.

  Attributes:
    verifier: the model.
    groups: G, searches served at once.
    tariff: what reading costs.
    metered: all fields; joules and dollars only on known hardware; of a model
      with a `step_format`, calls and what others spend.
    compilations: programs traced so far.
  """

  def __init__(
    self,
    verifier: bundle_lib.Bundle,
    *,
    aggregate: process_reward.Aggregate = process_reward.Aggregate.LAST,
    shown: Callable[[str], str] | None = None,
    hardware: str | None = None,
    groups: int = 8,
    nodes: int = 64,
    slots: int = 256,
  ):
    """A verifier without open searches.

    Args:
      verifier: the model.
      aggregate: how step rewards become the reward of a prefix.
      shown: of a model with a `step_format`: from the policy's prompt to what
        this model is shown before the steps; None for the prompt itself.
      hardware: a name of the hardware table, to price joules and dollars.
      groups: G.
      nodes: nodes a search to make room for at first.
      slots: cached tokens a search to make room for at first.

    Raises:
      ValueError: if the bundle is no reward model or is spread over devices,
        a size is below 1, or the hardware is unknown.
    """
    if verifier.kind != "process_reward":
      raise ValueError(
        f"the verifier is a {verifier.kind}; expected process_reward"
      )
    bundle_lib.check_one_device(verifier)
    sizes = {"groups": groups, "nodes": nodes, "slots": slots}
    for name, size in sizes.items():
      if size < 1:
        raise ValueError(f"LocalVerifier {name} must be >= 1, got {size}")
    self.verifier, self.groups, self._aggregate = verifier, groups, aggregate
    self.tariff, self.metered = local_prices.local_tariff(
      verifier, hardware, "verifier"
    )
    if verifier.step_format is not None:
      self.metered = _CALLS_ONLY
    self._shown = shown
    self.compilations = 0
    self._nodes: dict[int, dict[int, _State]] = {}
    self._loose: dict[int, dict[int, _State]] = {}
    self._table = node_table.NodeTable(groups, nodes, 16)
    self._cache = tree_cache.init(
      verifier.config, groups, generation.bucket(slots), verifier.dtype
    )
    self._prefill = jax.jit(self._traced_prefill, donate_argnums=1)
    self._read = jax.jit(self._traced_read, donate_argnums=1)
    self._resize = jax.jit(tree_cache.resize, static_argnums=1)

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    """Starts searches, their prompts read in one batch.

    Raises:
      ValueError: for a group out of range or already open, or an empty
        prompt.
    """
    if not prompts:
      return
    for group, prompt in prompts.items():
      prompt_batch.check_open(group, self.groups, self._nodes, prompt)
    prompts = {g: self._own(prompt) for g, prompt in prompts.items()}
    ids, length, group = prompt_batch.padded_prompts(prompts, self.groups)
    self._fit(ids.shape[1])
    self._cache, read = self._prefill(
      self.verifier.params, self._cache, ids, length, group
    )
    read = jax.device_get(read)
    for row, (g, prompt) in enumerate(prompts.items()):
      self._table.open(g, len(prompt.tokens))
      own = jax.tree.map(lambda x, row=row: x[row], read)
      self._nodes[g] = {0: (own, len(prompt.tokens))}
      self._loose[g] = {}

  def score(self, spans: Sequence[engine_lib.Span]) -> list[float]:
    """Rewards of the prefixes that end with the spans, in [0, 1].

    Raises:
      ValueError: for a group that is not open, a parent that it does not
        have, or a span without tokens.
    """
    if not spans:
      return []
    for span in spans:
      self._check(span)
      self._table.reserve(span.ticket)
    texts = [self._text(span) for span in spans]
    groups = sorted({span.group for span in spans})
    needed = {g: self._table.used(g) for g in groups}
    for span, (tokens, _) in zip(spans, texts, strict=True):
      needed[span.group] += len(tokens)
    self._fit(max(needed.values()))
    work, place = self._batched(spans, texts, groups)
    names = self._table.take()
    self._cache, reward, read = self._read(
      self.verifier.params, self._cache, names, work
    )
    reward, read = jax.device_get((reward, read))
    for span, (tokens, _), at in zip(spans, texts, place, strict=True):
      if not span.finished:
        own = jax.tree.map(lambda x, at=at: x[at], read)
        self._keep(span, own, len(tokens))
    return [float(reward[at]) for at in place]

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Makes spans nodes, by ticket; the group's other spans are forgotten.

    Raises:
      ValueError: if the group is not open, or a ticket is not that of an
        unfinished span which was scored.
    """
    known, loose = self._search(group), self._loose[group]
    for ticket, node in nodes.items():
      if ticket not in loose:
        raise ValueError(
          f"ticket {ticket} of group {group} is no span that was scored and "
          "can be extended"
        )
      known[node] = loose[ticket]
    loose.clear()
    self._table.file(group, nodes)

  def release(self, group: int, keep: np.ndarray) -> None:
    """Forgets the nodes n with not `keep[n]`.

    Raises:
      ValueError: if the group is not open.
    """
    known = self._search(group)
    self._table.release(group, keep)
    for node in [n for n in known if n and not keep[n]]:
      del known[node]

  def close(self, group: int) -> None:
    """Ends a search; twice does no harm."""
    self._nodes.pop(group, None)
    self._loose.pop(group, None)
    self._table.close(group)

  def _search(self, group: int) -> dict[int, _State]:
    if group not in self._nodes:
      raise ValueError(f"group {group} is not open")
    return self._nodes[group]

  def _check(self, span: engine_lib.Span) -> None:
    if span.parent not in self._search(span.group):
      raise ValueError(
        f"group {span.group} has no node {span.parent}; file a span under it "
        "first"
      )
    if not span.tokens:
      raise ValueError(
        f"ticket {span.ticket} of group {span.group} has no tokens to score"
      )

  def _own(self, prompt: engine_lib.Prompt) -> engine_lib.Prompt:
    """A prompt as the reward model reads it."""
    if self.verifier.step_format is None:
      return prompt
    text = prompt.text if self._shown is None else self._shown(prompt.text)
    ids = self.verifier.tokenizer.encode_prompt(text)
    return engine_lib.Prompt(text=text, tokens=tuple(ids))

  def _text(self, span: engine_lib.Span) -> tuple[Sequence[int], Any]:
    """A span's tokens, and where rewards are read; None to look for it."""
    form = self.verifier.step_format
    if form is None:
      return span.tokens, None
    return form.encode(self.verifier.tokenizer, span.text, span.parent == 0)

  def _keep(self, span, read, size) -> None:
    _, end = self._nodes[span.group][span.parent]
    self._loose[span.group][span.ticket] = (read, end + size)
    self._table.add(span.group, span.ticket, span.parent, size)

  def _fit(self, slots: int) -> None:
    slots = generation.bucket(slots)
    if slots > self._cache.capacity:
      self.compilations += 1
      self._cache = self._resize(self._cache, slots)

  def _batched(self, spans, texts, groups):
    """Spans as arrays, and where in them each span is."""
    column = dict.fromkeys(groups, 0)
    place = []
    for span in spans:
      place.append((groups.index(span.group), column[span.group]))
      column[span.group] += 1
    count = generation.bucket(len(groups), least=1)
    rows = generation.bucket(max(column.values()), least=1)
    width = generation.bucket(max(len(tokens) for tokens, _ in texts))
    by_text = self.verifier.step_format is not None
    work = _Pass(
      group=np.full((count,), self.groups, np.int32),
      parent=np.full((count, rows), -1, np.int32),
      ticket=np.zeros((count, rows), np.int32),
      position=np.zeros((count, rows), np.int32),
      tokens=np.full((count, rows, width), -1, np.int32),
      finished=np.zeros((count, rows), bool),
      ends=np.zeros((count, rows, width), bool) if by_text else None,
      read=jax.tree.map(
        lambda x: np.zeros((count, rows, *np.shape(x)), x.dtype),
        self._nodes[spans[0].group][spans[0].parent][0],
      ),
    )
    work.group[: len(groups)] = groups
    for span, (tokens, ends), at in zip(spans, texts, place, strict=True):
      read, end = self._nodes[span.group][span.parent]
      work.parent[at], work.position[at] = span.parent, end
      work.ticket[at], work.finished[at] = span.ticket, span.finished
      work.tokens[at][: len(tokens)] = tokens
      if by_text:
        work.ends[at][: len(ends)] = ends
      jax.tree.map(
        lambda whole, one, at=at: whole.__setitem__(at, one), work.read, read
      )
    return work, place

  def _traced_prefill(self, params, cache, ids, length, group):
    self.compilations += 1
    keys_values, judged = generation.prefill(
      self.verifier.model, params, ids, length
    )
    cache = tree_cache.write_prompt(cache, keys_values, length, group)
    return cache, process_reward.prompts(judged, length)

  def _traced_read(self, params, cache, names, work):
    """One pass: the cache with the spans in it, rewards, what is kept."""
    self.compilations += 1
    cache, shown = node_table.rename(cache, names)
    at = jnp.minimum(work.group, self.groups - 1)
    some = jax.tree.map(lambda x: x[at], cache)
    path = tree_cache.path_mask(shown[at], names.parent[at], work.parent)
    reward, hidden, keys_values = process_reward.score(
      self.verifier.model,
      params,
      some,
      path,
      work.position,
      work.tokens,
      work.read.hidden,
    )
    ends = work.ends
    if ends is None:
      rule = self.verifier.stop_rule
      ends = process_reward.step_ends(work.tokens, work.finished, rule.step_end)
    stepped = work.read.rewards.extended(reward, ends)
    length = (work.tokens >= 0).sum(-1)
    kept = (work.parent >= 0) & ~work.finished
    owner = jnp.where(kept, node_table.loose(work.ticket), -1)
    some = tree_cache.commit(
      some, keys_values, owner, jnp.zeros_like(length), length, work.position
    )
    cache = jax.tree.map(
      lambda whole, part: whole.at[work.group].set(part, mode="drop"),
      cache,
      some,
    )
    kept_of = process_reward.Prefixes(rewards=stepped, hidden=hidden)
    return cache, stepped.aggregate(self._aggregate), kept_of
