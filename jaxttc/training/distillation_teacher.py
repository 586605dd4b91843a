# SPDX-License-Identifier: Apache-2.0
"""Teachers that are parameters of their own, beside those of the student.

    params = init(student_params)                  # or init(.., taught_before)
    tx = following(loop.optimizer(config), momentum)

A step moves the student as the optimizer says, and the teacher to

  teacher <- momentum * teacher + (1 - momentum) * student

after it (mean teacher, Tarvainen & Valpola 2017, arXiv:1703.01780). A momentum
of 1 keeps the teacher as it was: trained before, and frozen. No gradient
reaches it, no decay of weights shrinks it, and it is in every checkpoint.
"""

from collections.abc import Mapping
from typing import Any

import jax
import optax

PARAMS = "teacher"


def init(params: Mapping[str, Any], teacher: Any = None) -> dict[str, Any]:
  """The student's parameters, and the teacher's under `PARAMS`.

  Args:
    params: the student's.
    teacher: the teacher's; equal to the student's if None.

  Raises:
    ValueError: if the teacher's parameters are of other names or shapes.
  """
  if PARAMS in params:
    raise ValueError(f"the parameters have a {PARAMS!r} already")
  if teacher is None:  # copies: a step may write over the student's memory
    teacher = jax.tree.map(lambda x: x + 0, dict(params))
  shapes = lambda tree: {  # noqa: E731
    jax.tree_util.keystr(path): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  own, other = shapes(dict(params)), shapes(teacher)
  wrong = sorted(
    name for name in own | other if own.get(name) != other.get(name)
  )
  if wrong:
    name = wrong[0]
    raise ValueError(
      f"the teacher's parameter {name} has shape {other.get(name)}, the "
      f"student's {own.get(name)}"
    )
  return {**params, PARAMS: teacher}


def student(params: Mapping[str, Any]) -> dict[str, Any]:
  """The parameters without a teacher's."""
  return {name: part for name, part in params.items() if name != PARAMS}


def following(
  tx: optax.GradientTransformation, momentum: float
) -> optax.GradientTransformation:
  """An optimizer of the student that drags the teacher along.

  Args:
    tx: of the student's parameters.
    momentum: share of itself that the teacher keeps a step, in [0, 1].

  Raises:
    ValueError: for another momentum.
  """
  if not 0 <= momentum <= 1:
    raise ValueError(f"momentum must be in [0, 1], got {momentum}")

  def update(updates, state, params=None):
    if params is None:
      raise ValueError("a teacher follows parameters; none were given")
    own = student(params)
    moved, state = tx.update(student(updates), state, own)
    after = optax.apply_updates(own, moved)
    teacher = params[PARAMS]
    followed = {name: after[name] for name in teacher}
    drag = jax.tree.map(
      lambda old, new: (1 - momentum) * (new - old), teacher, followed
    )
    return {**moved, PARAMS: drag}, state

  return optax.GradientTransformation(
    lambda params: tx.init(student(params)), update
  )
