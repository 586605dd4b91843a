# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.cost import costs
from jaxttc.decoders import tree as tree_lib
from jaxttc.evaluation import looks
from jaxttc.runtime import search


def _result(completion, chosen, answers, rewards):
  whole, count = tree_lib.Status.FINISHED, len(answers) + 1
  tree = search.TreeRecord(
    parent=np.zeros(count, np.int32),
    reward=np.array([0.0, *rewards], np.float32),
    status=np.array([tree_lib.Status.OPEN] + [whole] * len(answers), np.int8),
    answer=np.array([-1, *answers], np.int32),
    expanded_at=np.zeros(count, np.int32),
    weight=np.zeros(count, np.float32),
    text=[""] * count,
    chosen=chosen,
  )
  return search.SearchResult(0, completion, costs.Cost(), "done", 1, tree)


def test_a_look_is_score_agreement_and_count():
  found = looks.look(_result("#### 3", 2, [5, 3, 3, -1], [0.9, 0.7, 0.2, 0.1]))
  assert found.reward == pytest.approx(0.7)
  assert found[1:] == (0.5, 4.0, 1.0)


def test_without_an_answer_there_is_nothing_to_trust():
  assert looks.look(_result(None, -1, [], [])) == (0.0, 0.0, 0.0, 0.0)
  assert looks.look(_result(None, -1, [-1], [0.4])) == (0.0, 0.0, 1.0, 0.0)
  # An answer that the tokens do not tell agrees with nothing.
  found = looks.look(_result("so be it", 1, [-1], [0.4]))
  assert found.share == 0.0 and found.answered == 1.0
  assert looks.look(_result("x", 1, [2], [np.nan])).reward == 0.0
