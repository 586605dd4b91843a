# SPDX-License-Identifier: Apache-2.0
"""Teachers beside students: a geometric mean of the past, or as they were."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc.training import distillation_teacher

_PARAMS = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "b": jnp.ones(4)}


def _run(momentum, steps, tx=None):
  """Students of all steps, and the last teacher."""
  tx = distillation_teacher.following(tx or optax.sgd(0.1), momentum)
  params = distillation_teacher.init(_PARAMS)
  state = tx.init(params)
  seen = [np.asarray(params["b"])]

  @jax.jit
  def step(params, state):
    loss = lambda p: (p["b"] ** 2).sum() + (p["a"]["kernel"] ** 2).sum()  # noqa: E731
    grads = jax.grad(loss)(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  for _ in range(steps):
    params, state = step(params, state)
    seen.append(np.asarray(params["b"]))
  return np.array(seen), np.asarray(params[distillation_teacher.PARAMS]["b"])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_teachers_are_geometric_means_of_students(momentum):
  students, teacher = _run(momentum, 7)
  weights = (1 - momentum) * momentum ** np.arange(7)[::-1]
  expected = momentum**7 * students[0] + weights @ students[1:]
  np.testing.assert_allclose(teacher, expected, rtol=1e-5)
  assert not np.allclose(students[-1], students[0])


def test_frozen_teachers_stay_though_weights_decay():
  decaying = optax.adamw(0.1, weight_decay=0.5)
  students, teacher = _run(1.0, 5, decaying)
  np.testing.assert_array_equal(teacher, students[0])


def test_students_move_as_without_a_teacher():
  tx = optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.1))
  students, _ = _run(0.9, 4, tx)
  params, state = _PARAMS, tx.init(_PARAMS)
  for _ in range(4):
    grads = jax.tree.map(lambda x: 2 * x, params)
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(students[-1], params["b"], rtol=1e-6)


def test_students_are_what_is_left():
  params = distillation_teacher.init(_PARAMS)
  assert set(params) == {"a", "b", "teacher"}
  assert distillation_teacher.student(params).keys() == _PARAMS.keys()
  # Memory of its own: a step may write over the student's.
  teacher = params["teacher"]["b"]
  assert teacher.unsafe_buffer_pointer() != (
    params["b"].unsafe_buffer_pointer()
  )


def test_what_cannot_be_is_refused():
  params = distillation_teacher.init(_PARAMS)
  with pytest.raises(ValueError, match="have a 'teacher' already"):
    distillation_teacher.init(params)
  other = {"a": {"kernel": jnp.ones((2, 4))}, "b": jnp.ones(4)}
  with pytest.raises(
    ValueError, match=r"kernel.*\(2, 4\), the student's \(2, 3"
  ):
    distillation_teacher.init(_PARAMS, other)
  with pytest.raises(ValueError, match="'b'.* has shape None"):
    distillation_teacher.init(_PARAMS, {"a": _PARAMS["a"]})
  with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], got 2"):
    distillation_teacher.following(optax.sgd(0.1), 2.0)
