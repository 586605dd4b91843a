# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.tasks import routing


def _table(scores=((1, 0), (0, 1), (1, 1)), costs=None, **more):
  scores = np.array(scores, float)
  costs = np.ones_like(scores) * (1, 5) if costs is None else np.array(costs)
  return routing.RoutingTable(
    prompts=tuple(f"q{i}" for i in range(len(scores))),
    models=("small", "large"),
    scores=scores,
    costs=costs,
    unit="dollars",
    **more,
  )


def test_rows_and_models_are_taken_together():
  table = _table(
    labels=("a", "b", "c"), answers=(("x", "y"), ("z", "w"), ("u", "v"))
  )
  part = table.take([2, 0]).only(["large", "small"])
  assert part.prompts == ("q2", "q0") and part.labels == ("c", "a")
  np.testing.assert_array_equal(part.scores, [[1, 1], [0, 1]])
  np.testing.assert_array_equal(part.costs[0], [5, 1])
  assert part.answers == (("v", "u"), ("y", "x"))
  assert len(table.take(np.array([True, False, True]))) == 2


@pytest.mark.parametrize(
  "arguments, message",
  [
    (dict(scores=np.zeros((0, 2)), costs=np.zeros((0, 2))), "one question"),
    (dict(scores=[[np.nan, 1], [np.nan, 0]]), "score of 'small'"),
    (dict(scores=[[1, 0]], costs=[[1.0, -2.0]]), "cost -2.0 of model 'large'"),
    (dict(scores=[[1, np.inf]]), "score inf of model 'large' on question 0"),
    (dict(costs=np.ones((2, 2))), r"costs of shape \[3, 2\]"),
    (dict(labels=("a",)), "1 rows of labels"),
  ],
)
def test_what_cannot_be_is_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    _table(**arguments)


def test_fewer_than_two_models_are_refused():
  with pytest.raises(ValueError, match="at least 2 models, got 1"):
    _table().only(["small"])


def test_an_unknown_model_is_named_with_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'small'"):
    _table().index("smal")


def test_unknown_scores_are_allowed():
  assert np.isnan(_table(scores=[[1, np.nan], [0, 1]]).scores[0, 1])
