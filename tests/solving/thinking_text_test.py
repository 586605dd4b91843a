# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import thinking_span
from jaxttc.solving import thinking_text
from jaxttc.tasks import digit_sums

_BUDGET = 12
# Every way, and arguments that are not its defaults.
_TEXTS = (
  "full",
  "no_thinking()",
  "hard_cap(budget=12)",
  "budget_forcing(budget=12, least_share=1, ignores=2, wait='Wait')",
  "prompt_hint(budget=12, words='Use {budget} tokens.')",
  "no_wait(budget=12)",
  "soft_close(budget=12, soft_ratio=0.5, slope=2, grace=3)",
  "rejection(budget=12, tries=2)",
  "early_exit(budget=12, threshold=0.5, trial_tokens=4)",
  "guided(budget=12, strength=2, top_k=8, capped=False)",
  "guided(budget=12, every_token=True, predictor='thinking_length_bins')",
)


@pytest.fixture(scope="module")
def policy():
  return bundle_lib.load("thinking_lm")


def _build(text, policy, limit=40):
  return thinking_text.build(text, policy, limit=limit)


@pytest.mark.parametrize("text", _TEXTS)
def test_every_way_thinks_within_what_it_promises(policy, text):
  way = _build(text, policy)
  assert way.budget == (_BUDGET if way.limited else None)
  asked = digit_sums.problem([3, 4, 7]).text + "\n"
  prompt = thinking_span.prompt(policy.tokenizer, asked, thinks=way.thinks)
  found = way.think(
    [prompt] * 4, np.full(4, way.budget or 40), jax.random.key(0)
  )
  if way.limited and way.grace is not None:
    assert (found.spent <= _BUDGET + way.grace).all()
  most = way.think.most(len(prompt))
  for took, bound in zip(found.work, most, strict=True):
    assert (took <= bound).all()
  if way.name == "guided":
    assert (found.guided > 0).all() and way.guide_flops > 1000 and way.mark
  else:
    assert not found.guided.any() and not way.guide_flops


def test_all_names_are_tried():
  assert {text.split("(")[0] for text in _TEXTS} == set(thinking_text.NAMES)


def test_hints_reach_the_prompt_by_words_or_style(policy):
  way = _build("prompt_hint(budget=9, words='In {budget} tokens')", policy)
  assert (way.words, way.style) == ("In {budget} tokens", "free")
  assert _build("prompt_hint(budget=9)", policy).style == "terse"


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("guidde(budget=9)", "unknown way of thinking .* did you mean 'guided'"),
    ("guided(budgte=9)", "did you mean"),
    ("hard_cap(budget=0)", "budget is 0; expected 1..39"),
    ("hard_cap(budget=40)", "budget is 40; expected 1..39"),
    ("hard_cap(budget=2.5)", "budget is 2.5; expected int"),
    ("full(budget=9)", "'full' has no argument 'budget'"),
    ("early_exit(budget=9, threshold=2.0)", "threshold is 2.0"),
    ("guided(budget=9, strength=-1)", "strength is -1"),
    ("guided(budget=9, top_k=0)", "top_k is 0"),
    ("guided(budget=9, predictor='nowhere')", "nowhere"),
    ("soft_close(budget=9, soft_ratio=0.0)", "soft_ratio is 0.0"),
    ("budget_forcing(budget=9, least_share=2)", "least_share is 2"),
    ("rejection(budget=9, tries=0)", "tries is 0"),
    ("prompt_hint(budget=9, style='curt')", "Unknown style 'curt'"),
  ],
)
def test_texts_that_cannot_be(policy, text, message):
  with pytest.raises(ValueError, match=message) as caught:
    _build(text, policy)
  assert "\n" not in str(caught.value)


def test_a_predictor_of_another_model_is_refused(policy):
  other = jax.tree.map(lambda x: 1.01 * x, policy.params)
  stranger = dataclasses.replace(policy, params=other)
  with pytest.raises(ValueError, match="trained over thinking_lm"):
    _build("guided(budget=9)", stranger)
