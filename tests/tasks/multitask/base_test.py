# SPDX-License-Identifier: Apache-2.0
"""Tests of tasks' descriptions."""

import pytest

from jaxttc.tasks.multitask import base


def test_only_kinds_of_pictures_are_dense():
  """A class of an image is one prediction; a depth is one a pixel."""
  assert base.Task("depth", "depth", 1).dense
  assert not base.Task("parity", "classes", 2).dense


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    (("a", "surface", 1), "task 'a': kind 'surface' is not one of classes"),
    (("a", "depth", 0), "outputs must be at least 1, got 0"),
    (("a", "depth", 1, 0.0), "weight must be positive, got 0.0"),
    (("a", "depth", 1, float("nan")), "weight must be positive, got nan"),
  ],
)
def test_a_task_that_cannot_be_is_refused(fields, said):
  """The message names the task and the field."""
  with pytest.raises(ValueError, match=said):
    base.Task(*fields)
