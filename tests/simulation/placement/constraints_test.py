# SPDX-License-Identifier: Apache-2.0
"""Constraints on attributes mean what the traces' documents say."""

import numpy as np
import pytest

from jaxttc.simulation.placement import constraints

MACHINE = {"kernel": "3", "disk": "ssd"}


@pytest.mark.parametrize(
  ("operator", "name", "value", "met"),
  [
    ("==", "disk", "ssd", True),
    ("==", "disk", "hdd", False),
    ("==", "gpu", "", True),
    ("!=", "disk", "hdd", True),
    ("!=", "gpu", "a", True),
    ("<", "kernel", "4", True),
    ("<", "kernel", "3", False),
    ("<=", "kernel", "3", True),
    (">", "kernel", "2.5", True),
    (">", "gpu", "0", False),
    (">=", "disk", "1", False),
    ("present", "disk", "", True),
    ("absent", "gpu", "", True),
    ("absent", "disk", "", False),
  ],
)
def test_operators(operator, name, value, met):
  one = constraints.Constraint(operator, name, value)
  assert constraints.satisfied(MACHINE, one) == met


def test_eligibility_needs_all_constraints_of_a_kind():
  machines = [{"a": "1", "b": "1"}, {"a": "1"}, {}]
  kinds = [
    (),
    (constraints.Constraint("==", "a", "1"),),
    (
      constraints.Constraint("==", "a", "1"),
      constraints.Constraint("present", "b"),
    ),
  ]
  expected = [[True, True, True], [True, True, False], [True, False, False]]
  found = constraints.eligibility(machines, kinds)
  np.testing.assert_array_equal(found, expected)


def test_unknown_operator_and_order_without_number():
  with pytest.raises(ValueError, match="operator '~' is not one of"):
    constraints.eligibility([{}], [(constraints.Constraint("~", "a", "1"),)])
  with pytest.raises(ValueError, match="< needs a number, got 'new'"):
    constraints.check(constraints.Constraint("<", "kernel", "new"))
