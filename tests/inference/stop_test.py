# SPDX-License-Identifier: Apache-2.0
"""The automaton against looking at the end of the text."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import stop


class _Letters:
  """One token a letter, `a` to `z`; drops what it cannot write."""

  def encode(self, text):
    return [ord(c) - 97 for c in text if c.isalpha()]

  def decode(self, ids):
    return "".join(chr(97 + i) for i in ids)


def _run(automaton, streams, active=None):
  """The states after each token, i32[B, T]."""
  streams = jnp.asarray(streams, jnp.int32)
  if active is None:
    active = jnp.ones(streams.shape, bool)

  def step(state, inputs):
    state = stop.advance(automaton, state, *inputs)
    return state, state

  _, states = jax.lax.scan(
    step, stop.start(streams.shape[0]), (streams.T, active.T)
  )
  return states.T


def _longest_end(text, patterns):
  """(length, index) of the longest pattern that ends the text."""
  found = [
    (len(p), -i)
    for i, p in enumerate(patterns)
    if len(p) <= len(text) and list(text[len(text) - len(p) :]) == list(p)
  ]
  length, index = max(found, default=(0, 1))
  return length, -index


@hypothesis.given(
  st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=4
  ),
  st.lists(st.integers(0, 3), min_size=24, max_size=24),
)
@hypothesis.settings(max_examples=25)
def test_automaton_sees_every_end_that_the_text_has(patterns, text):
  automaton = stop.build(patterns)
  states = np.asarray(_run(automaton, [text]))[0]
  for end, state in enumerate(states, start=1):
    length, index = _longest_end(text[:end], patterns)
    assert (automaton.length[state], automaton.sequence[state]) == (
      length,
      index,
    )


def test_a_stop_split_over_steps_matches_and_overlaps_restart():
  automaton = stop.build([[5, 5, 7], [9]])
  states = _run(automaton, [[5, 5, 5, 7], [5, 7, 5, 5], [1, 2, 9, 9]])
  hits = jax.vmap(lambda s: stop.matched(automaton, s), 1, 1)(states)
  assert hits.tolist() == [
    [False, False, False, True],
    [False, False, False, False],
    [False, False, True, True],
  ]
  final = stop.match_length(automaton, states[:, -1])
  assert final.tolist() == [3, 0, 1]


def test_inactive_rows_and_missing_tokens_keep_their_state():
  automaton = stop.build([[1, 2]])
  states = _run(
    automaton,
    [[1, 8, 2], [1, -1, 2], [1, 8, 2]],
    jnp.asarray([[True, False, True], [True] * 3, [True] * 3]),
  )
  assert stop.matched(automaton, states[:, -1]).tolist() == [True, True, False]


def test_no_sequences_never_match():
  automaton = stop.build([])
  states = _run(automaton, [[0, 1, 2]])
  assert not stop.matched(automaton, states[:, -1]).any()


def test_from_strings_compiles_what_the_tokenizer_writes():
  automaton = stop.from_strings(["end", "stop"], _Letters())
  text = _Letters().encode("theendofthestop")
  states = np.asarray(_run(automaton, [text]))[0]
  hits = np.flatnonzero(automaton.length[states])
  assert hits.tolist() == [5, 14]
  assert automaton.sequence[states[hits]].tolist() == [0, 1]


@pytest.mark.parametrize(
  ("sequences", "message"),
  [
    ([[1], []], "stop sequence 1 is empty"),
    ([[3, -1]], "stop sequence 0: token id -1"),
  ],
)
def test_build_refuses_bad_sequences(sequences, message):
  with pytest.raises(ValueError, match=message):
    stop.build(sequences)


def test_build_refuses_ids_that_are_no_integers():
  with pytest.raises(TypeError):
    stop.build([[1.5]])


@pytest.mark.parametrize(
  ("text", "message"),
  [("", "is empty"), ("a b", "cannot be encoded"), ("...", "cannot be enc")],
)
def test_from_strings_refuses_what_cannot_be_written(text, message):
  with pytest.raises(ValueError, match=message):
    stop.from_strings(["ok", text], _Letters())


_SPELLINGS = ("a", "\n", "\n\n", ".\n", "\nb", ".\n\n", "\n\nc", "a\n\nb\n", "")


@hypothesis.given(
  st.lists(st.integers(0, len(_SPELLINGS) - 1), min_size=1, max_size=12)
)
@hypothesis.settings(max_examples=200)
def test_blank_lines_are_found_however_they_are_spelled(tokens):
  automaton = stop.blank_line(_SPELLINGS)
  state, since = stop.start(1), ""
  for token in tokens:
    state = stop.advance(
      automaton, state, jnp.asarray([token]), jnp.asarray([True])
    )
    since += _SPELLINGS[token]
    expected = "\n\n" in since
    assert bool(stop.matched(automaton, state)[0]) == expected
    if expected:  # the next search begins afresh
      since = ""
