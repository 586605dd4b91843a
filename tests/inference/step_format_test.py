# SPDX-License-Identifier: Apache-2.0
"""What a published reward model is shown of a solution."""

import pathlib

import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.inference import step_format
from jaxttc.tasks import pretrained_tokenizer

pytest.importorskip("tokenizers")

_FOLDER = pathlib.Path(__file__).parents[1] / "data" / "hf" / "tokenizer"
_TOKENIZER = pretrained_tokenizer.PretrainedTokenizer.from_directory(_FOLDER)
_FORMAT = step_format.StepFormat(separator="<|step|>", between=" / ")
_MARK = _TOKENIZER.id_of("<|step|>")


def _shown(text, first=True, form=_FORMAT):
  ids, ends = form.encode(_TOKENIZER, text, first)
  assert len(ids) == len(ends)
  return _TOKENIZER.decode(ids, specials=True), ids, ends


def test_steps_are_stripped_joined_and_marked():
  text, ids, ends = _shown("one\n\n two\n \nthree")
  assert text == "one<|step|> / two<|step|> / three<|step|>"
  assert [i for i, end in enumerate(ends) if end] == [
    i for i, token in enumerate(ids) if token == _MARK
  ]
  assert _shown("one\n\n", first=False)[0] == " / one<|step|>"


def test_a_solution_cannot_forge_a_separator():
  _, ids, ends = _shown("one<|step|>two")
  assert ids.count(_MARK) == sum(ends) == 1


def test_separators_may_be_text():
  form = step_format.StepFormat(separator=" ok")
  text, ids, ends = _shown("one\n\ntwo", form=form)
  assert text == "one oktwo ok"
  spelled = form.separator_ids(_TOKENIZER)
  assert ids[-len(spelled) :] == spelled and ends[-1] and sum(ends) == 2


def test_verdicts_are_single_tokens():
  good, bad = _FORMAT.verdict_ids(_TOKENIZER)
  assert _TOKENIZER.decode([good, bad]) == "+-"


@hypothesis.given(st.text("ab \n", max_size=30), st.booleans())
@hypothesis.settings(max_examples=100)
def test_every_span_has_a_reward_at_its_end(text, first):
  shown, _, ends = _shown(text, first)
  assert ends[-1] and sum(ends) == shown.count("<|step|>")
  steps = [step.strip() for step in text.split("\n\n") if step.strip()]
  for step in steps:
    assert all(line.strip() in shown for line in step.split("\n"))
