# SPDX-License-Identifier: Apache-2.0
"""Which machines a task may run on: constraints on their attributes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Bool
import numpy as np

OPERATORS = ("==", "!=", "<", ">", "<=", ">=", "present", "absent")
_ORDERS = {
  "<": np.less,
  ">": np.greater,
  "<=": np.less_equal,
  ">=": np.greater_equal,
}

Attributes = Mapping[str, str]


class Constraint(NamedTuple):
  """One condition on one attribute of a machine.

  Attributes:
    operator: one of `OPERATORS`.
    name: the attribute.
    value: what it is compared with; "" for "present" and "absent". "==" and
      "!=" compare text, the orders compare numbers.
  """

  operator: str
  name: str
  value: str = ""


def check(constraint: Constraint) -> Constraint:
  """Returns the constraint.

  Raises:
    ValueError: if its operator is unknown, or an order lacks a number.
  """
  if constraint.operator not in OPERATORS:
    raise ValueError(
      f"constraint on {constraint.name!r}: operator {constraint.operator!r} "
      f"is not one of {', '.join(OPERATORS)}"
    )
  if constraint.operator in _ORDERS and _number(constraint.value) is None:
    raise ValueError(
      f"constraint on {constraint.name!r}: {constraint.operator} needs a "
      f"number, got {constraint.value!r}"
    )
  return constraint


def satisfied(attributes: Attributes, constraint: Constraint) -> bool:
  """Whether a machine with these attributes meets the constraint.

  A machine without the attribute meets "!=" and "absent", and "==" only with
  the empty text; it meets no order.
  """
  operator, name, value = check(constraint)
  held = attributes.get(name)
  if operator in ("present", "absent"):
    return (held is not None) == (operator == "present")
  if operator in ("==", "!="):
    return ((held or "") == value) == (operator == "==")
  number = None if held is None else _number(held)
  if number is None:
    return False
  return bool(_ORDERS[operator](number, float(value)))


def eligibility(
  machines: Sequence[Attributes],
  kinds: Sequence[Iterable[Constraint]],
) -> Bool[np.ndarray, "G N"]:
  """Which machines meet all constraints of each kind of task.

  Args:
    machines: the attributes of each of `N` machines.
    kinds: `G` sets of constraints.

  Raises:
    ValueError: if a constraint is not valid.
  """
  rows = np.ones((len(kinds), len(machines)), bool)
  for row, kind in zip(rows, kinds, strict=True):
    for constraint in kind:
      check(constraint)
      row &= np.fromiter(
        (satisfied(attributes, constraint) for attributes in machines),
        bool,
        len(machines),
      )
  return rows


def _number(text: str) -> float | None:
  try:
    number = float(text)
  except ValueError:
    return None
  return None if np.isnan(number) else number
