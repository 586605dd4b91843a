# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import token_scores
from jaxttc.verifiers import verdicts


@pytest.mark.parametrize(
  ("text", "verdict"),
  [
    ("4+7=11 right\n#### yes\n", True),
    ("#### no", False),
    ("Is the answer correct (Yes/No)? Yes", True),
    ("Is it correct (Yes/No)? **No**", False),
    ("first (Yes/No)? Yes, but then\n(Yes/No)? No", False),
    ("Verdict: yes.", True),
    ("The final answer is No", False),
    ("some thought\n  Yes.\n", True),
    ("I know nothing", None),
    ("yesterday", None),
    ("", None),
  ],
)
def test_verdicts_are_read(text, verdict):
  assert verdicts.parse(text) is verdict


def test_a_probability_of_zero_is_not_missing():
  assert verdicts.score("#### yes", 0.0) == 0.0
  assert verdicts.score("#### no", None, 0.0) == 1.0
  assert verdicts.score("#### yes", 0.2, 0.7) == 0.2
  assert verdicts.score("#### yes", 0.2, how="text") == 1.0
  assert verdicts.score("#### yes") == 1.0
  assert verdicts.score("#### yes", how="probability") is None
  assert verdicts.score("hm") is None


def test_bad_scores_are_refused():
  with pytest.raises(ValueError, match="how='guess'"):
    verdicts.score("", how="guess")
  for bad in (-1.0, 1.5, float("nan")):
    with pytest.raises(ValueError, match=r"p\(no\)"):
      verdicts.score("", None, bad)


@pytest.fixture(scope="module", name="judge")
def _judge():
  return bundle_lib.load("arithmetic_lm")


def test_probabilities_are_the_models_own(judge):
  yes, no = (judge.tokenizer.id_of(word) for word in (" yes", " no"))
  scorer = verdicts.VerdictScorer(judge, yes, no)
  texts = [
    judge.tokenizer.encode_prompt(text)
    for text in ("4+7=11\n", "Check tersely.\n4+7=11 right\n####", "a\n")
  ]
  found = scorer.probabilities(texts)
  assert found.shape == (3, 2)
  single = token_scores.TokenScorer(judge)
  for text, row in zip(texts, found, strict=True):
    for token, value in zip((yes, no), row, strict=True):
      (score,) = single.score(text, [token])
      assert value == pytest.approx(np.exp(score.logprob), rel=1e-3)


def test_bad_texts_and_judges_are_refused(judge):
  with pytest.raises(ValueError, match="no=704, expected an id below 704"):
    verdicts.VerdictScorer(judge, 1, 704)
  scorer = verdicts.VerdictScorer(judge, 1, 2)
  with pytest.raises(ValueError, match="a text is empty"):
    scorer.probabilities([[1], []])
  assert scorer.probabilities([]).shape == (0, 2)
  prm = dataclasses.replace(judge, kind="process_reward")
  with pytest.raises(ValueError, match="expected language_model"):
    verdicts.VerdictScorer(prm, 1, 2)
