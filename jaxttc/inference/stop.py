# SPDX-License-Identifier: Apache-2.0
"""Stop sequences over token ids, found while they are being written.

All sequences are compiled into one automaton (Knuth, Morris and Pratt 1977;
for several sequences at once, Aho and Corasick 1975). A row then carries a
single integer: how much of which sequence the end of its text has matched.
Each token costs one table look-up, a sequence may arrive over any number of
decode steps, and forking a row is copying its integer. The end-of-sequence
token is a stop sequence of one token.

Sequences are matched as token ids. Text that spells a stop string with other
tokens than the tokenizer's own does not match.
"""

import collections
from collections.abc import Sequence
import operator
from typing import NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int
import numpy as np


@runtime_checkable
class Tokenizer(Protocol):
  """What `from_strings` needs of a tokenizer."""

  def encode(self, text: str) -> Sequence[int]:
    """The token ids of a text, without special tokens."""
    ...

  def decode(self, ids: Sequence[int]) -> str:
    """The text of token ids."""
    ...


class Automaton(NamedTuple):
  """A compiled set of stop sequences; constant while decoding.

  C is the number of distinct tokens in the sequences, S the number of their
  distinct prefixes. State 0 has matched nothing.

  Attributes:
    alphabet: i32[C], the distinct tokens.
    table: i32[S, C + 1], the next state by state and by position of the token
      in `alphabet`; the last column is for every other token.
    length: i32[S], tokens of the longest sequence that is complete in this
      state, 0 where none is.
    sequence: i32[S], the index of that sequence, -1 where none is.
  """

  alphabet: Int[np.ndarray, " c"]
  table: Int[np.ndarray, "s c1"]
  length: Int[np.ndarray, " s"]
  sequence: Int[np.ndarray, " s"]


def build(sequences: Sequence[Sequence[int]]) -> Automaton:
  """Compiles stop sequences.

  Args:
    sequences: token ids of each sequence, at least one id in each. No
      sequences at all give an automaton that never matches.

  Returns:
    The automaton.

  Raises:
    ValueError: if a sequence is empty or holds a negative id.
    TypeError: if an id is not an integer.
  """
  patterns = [_check(i, ids) for i, ids in enumerate(sequences)]
  alphabet = sorted({token for ids in patterns for token in ids})
  children, ends = _trie(patterns)
  failure = _failures(children)
  table = np.zeros((len(children), len(alphabet) + 1), np.int32)
  length = np.zeros(len(children), np.int32)
  sequence = np.full(len(children), -1, np.int32)
  # A child is numbered after its parent, but its failure state may be
  # numbered after itself; breadth first, failures always come earlier.
  for node in _breadth_first(children):
    for column, token in enumerate(alphabet):
      missing = table[failure[node], column] if node else 0
      table[node, column] = children[node].get(token, missing)
    index = ends.get(node, sequence[failure[node]] if node else -1)
    sequence[node] = index
    length[node] = len(patterns[index]) if index >= 0 else 0
  return Automaton(np.asarray(alphabet, np.int32), table, length, sequence)


def from_strings(strings: Sequence[str], tokenizer: Tokenizer) -> Automaton:
  r"""Compiles stop strings, such as `["</think>", "\n\n"]`.

  Args:
    strings: the stop strings, none of them empty.
    tokenizer: turns each into token ids.

  Returns:
    The automaton over the tokenizer's ids for these strings.

  Raises:
    ValueError: if a string is empty, or the tokenizer cannot write it: it
      gives no ids, or ids that do not decode to the string.
  """
  sequences = []
  for text in strings:
    if not text:
      raise ValueError("stop string is empty; expected at least one character")
    ids = list(tokenizer.encode(text))
    if not ids or tokenizer.decode(ids) != text:
      raise ValueError(
        f"stop string {text!r} cannot be encoded: the tokenizer gave {ids},"
        f" which decode to {tokenizer.decode(ids)!r}"
      )
    sequences.append(ids)
  return build(sequences)


def blank_line(texts: Sequence[str]) -> Automaton:
  r"""An automaton that matches where a text's tokens spell a blank line.

  Published vocabularies spell "\n\n" in many ways: as a token, within longer
  ones such as ".\n\n", or as the end of one token and the start of the next.
  All of them match, at the token that completes the blank line.

  Args:
    texts: what each token adds to a text, by id.

  Returns:
    The automaton. After a match, the search for the next one begins afresh.
  """
  alphabet = [i for i, text in enumerate(texts) if not text or "\n" in text]
  # States: nothing, the text ends with a line, matched by one token or by two.
  table = np.zeros((4, len(alphabet) + 1), np.int32)
  for column, token in enumerate(alphabet):
    text = texts[token]
    if not text:  # says nothing, such as a special token
      table[1, column] = 1
      continue
    fresh = 2 if "\n\n" in text else int(text.endswith("\n"))
    table[:, column] = fresh
    if fresh != 2 and text.startswith("\n"):
      table[1, column] = 3
  return Automaton(
    alphabet=np.asarray(alphabet, np.int32),
    table=table,
    length=np.asarray([0, 0, 1, 2], np.int32),
    sequence=np.asarray([-1, -1, 0, 0], np.int32),
  )


def start(batch: int) -> Int[Array, " b"]:
  """The state i32[B] of rows that have written nothing."""
  return jnp.zeros(batch, jnp.int32)


def advance(
  automaton: Automaton,
  state: Int[Array, " b"],
  token: Int[Array, " b"],
  active: Bool[Array, " b"],
) -> Int[Array, " b"]:
  """Reads one token a row.

  Args:
    automaton: the compiled sequences.
    state: i32[B].
    token: i32[B], the token written; -1 reads as none.
    active: bool[B], rows that wrote; the others keep their state.

  Returns:
    The new state, i32[B].
  """
  hit = token[:, None] == jnp.asarray(automaton.alphabet)[None, :]
  other = automaton.alphabet.shape[0]
  if other:
    column = jnp.where(hit.any(axis=-1), hit.argmax(axis=-1), other)
  else:
    column = jnp.zeros_like(token)
  following = jnp.asarray(automaton.table)[state, column]
  return jnp.where(active & (token >= 0), following, state)


def matched(automaton: Automaton, state: Int[Array, " b"]) -> Bool[Array, " b"]:
  """Whether the row's text ends with a stop sequence, bool[B]."""
  return match_length(automaton, state) > 0


def match_length(
  automaton: Automaton,
  state: Int[Array, " b"],
) -> Int[Array, " b"]:
  """Tokens to cut so that the text excludes its stop sequence, i32[B]."""
  return jnp.asarray(automaton.length)[state]


def _check(index: int, ids: Sequence[int]) -> list[int]:
  try:
    tokens = [operator.index(token) for token in ids]
  except TypeError as error:
    raise TypeError(
      f"stop sequence {index}: expected integer token ids, got {ids!r}"
    ) from error
  if not tokens:
    raise ValueError(f"stop sequence {index} is empty; expected token ids")
  if min(tokens) < 0:
    raise ValueError(
      f"stop sequence {index}: token id {min(tokens)}; expected ids >= 0"
    )
  return tokens


def _trie(
  patterns: Sequence[Sequence[int]],
) -> tuple[list[dict[int, int]], dict[int, int]]:
  """Children by token of every prefix, and the pattern ending at a prefix."""
  children: list[dict[int, int]] = [{}]
  ends: dict[int, int] = {}
  for index, ids in enumerate(patterns):
    node = 0
    for token in ids:
      if token not in children[node]:
        children[node][token] = len(children)
        children.append({})
      node = children[node][token]
    ends.setdefault(node, index)
  return children, ends


def _breadth_first(children: Sequence[dict[int, int]]) -> list[int]:
  order = [0]
  for node in order:
    order.extend(children[node].values())
  return order


def _failures(children: Sequence[dict[int, int]]) -> list[int]:
  """For each prefix, its longest proper suffix that is a prefix too."""
  failure = [0] * len(children)
  queue = collections.deque(children[0].values())
  while queue:
    node = queue.popleft()
    for token, child in children[node].items():
      state = failure[node]
      while state and token not in children[state]:
        state = failure[state]
      failure[child] = children[state].get(token, 0)
      queue.append(child)
  return failure
