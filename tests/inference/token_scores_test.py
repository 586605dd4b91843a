# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest

from jaxttc.inference import engine as engine_lib
from jaxttc.inference import local_engine, token_scores
from jaxttc.testing import tiny_models


@functools.lru_cache
def _scorer():
  return token_scores.TokenScorer(tiny_models.tiny_bundles(0)[0], top=5)


def test_scores_add_up_to_what_the_engine_says_it_drew():
  policy = _scorer().policy
  engine = local_engine.LocalEngine(policy, groups=1, rows=1)
  prompt = engine.encode("Solve 3 + 4 .\n")
  engine.open({0: engine_lib.Prompt(text="", tokens=prompt)})
  engine.submit(
    [
      engine_lib.Request(
        group=0, ticket=0, node=0, until=engine_lib.END, limit=9, seed=(0, 1)
      )
    ]
  )
  done = []
  while not done:
    done = engine.step()
  scores = _scorer().score(prompt, done[0].tokens)
  assert [score.token for score in scores] == list(done[0].tokens)
  total = sum(score.logprob for score in scores)
  assert total == pytest.approx(done[0].logprob, abs=1e-4)


def test_chain_rule_holds_over_any_split():
  whole = [1, 300, 42, 500, 17, 301]
  at_once = _scorer().score(whole[:2], whole[2:])
  for cut in range(2, len(whole)):
    parts = _scorer().score(whole[:2], whole[2:cut])
    parts += _scorer().score(whole[:cut], whole[cut:])
    assert [p.token for p in parts] == whole[2:]
    np.testing.assert_allclose(
      [p.logprob for p in parts], [p.logprob for p in at_once], atol=1e-5
    )


def test_top_is_the_head_of_the_distribution_best_first():
  policy = _scorer().policy
  everyone = token_scores.TokenScorer(policy, top=policy.config.vocab_size)
  score = everyone.score([1, 300], [42])[0]
  logprobs = dict(score.top)
  assert np.exp(list(logprobs.values())).sum() == pytest.approx(1, abs=1e-4)
  assert logprobs[42] == pytest.approx(score.logprob, abs=1e-6)
  values = [value for _, value in score.top]
  assert values == sorted(values, reverse=True)
  few = _scorer().score([1, 300], [42])[0]
  assert [token for token, _ in few.top] == [token for token, _ in score.top][
    :5
  ]


def test_bad_input_is_named():
  with pytest.raises(ValueError, match="the prefix is empty"):
    _scorer().score([], [3])
  assert _scorer().score([3], []) == []
  with pytest.raises(ValueError, match="top is 0; expected 1.."):
    token_scores.TokenScorer(_scorer().policy, top=0)
