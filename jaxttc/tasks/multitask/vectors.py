# SPDX-License-Identifier: Apache-2.0
"""Vector tasks: three regressions that share hidden features.

A fixed teacher makes the targets of x ~ N(0, I_24):

  h   = tanh(W2 tanh(W1 x))                  six features, shared by all
  y_t = A_t sin(F_t h + p_t), t = 0, 1, 2    sixteen sines, four numbers each

and every output is scaled to mean 0 and variance 1, so that 1 - MSE is the
share of variance that a prediction explains. Examples are drawn afresh every
step: nothing can be learned by heart, and what a network gets wrong is what it
is too small (or too little trained) for. The best linear map leaves about 0.6
of the variance. Finding the features takes width in the encoder, and every task
bends them by sines of its own, which takes width in its decoder: the tasks
share an input, yet no decoder is of use to another.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key
import numpy as np

from jaxttc.tasks.multitask import base, streams

INPUTS = 24
TASKS = 3
OUTPUTS = 4

_HIDDEN = 16
_FEATURES = 6
_SINES = 16
_FREQUENCY = 2.5  # standard deviation of the phase that unit features turn
_STANDARDISING_DRAWS = 65_536


class Vectors:
  """The vector tasks of one teacher.

  Attributes:
    tasks: `task_0`, `task_1`, `task_2`, of kind "regression".
    input_shape: (24,).
    seed: other seeds give other tasks of the same make.
    noise: standard deviation of what is added to training targets.
  """

  input_shape = (INPUTS,)

  def __init__(self, seed: int = 0, noise: float = 0.0):
    """Draws the teacher.

    Args:
      seed: of the teacher and of what is held out.
      noise: standard deviation of what is added to training targets (which
        have variance 1); targets that are held out stay exact.

    Raises:
      ValueError: if the seed or the noise is out of range.
    """
    streams.check_seed(seed)
    if not 0 <= noise < np.inf:
      raise ValueError(f"noise must be finite and not negative, got {noise}")
    self.seed = seed
    self.noise = noise
    self.tasks = tuple(
      base.Task(f"task_{t}", "regression", OUTPUTS) for t in range(TASKS)
    )
    self._teacher = _draw_teacher(np.random.default_rng(seed))

  def targets(self, inputs: Float[Array, "B 24"]) -> Float[Array, "B 3 4"]:
    """What the teacher says, one row a task; mean 0 and variance 1."""
    return _answer(self._teacher, inputs, jnp)

  def sample(self, key: Key[Array, ""], batch: int) -> base.Examples:
    """Draws training examples.

    Args:
      key: random key; consumed.
      batch: examples to draw, a Python integer.

    Returns:
      inputs f32[batch, 24] and a label f32[batch, 4] a task, all valid.
    """
    return _draw_all(self, streams.training(key, batch), self.noise)

  def held_out(self, count: int) -> base.Examples:
    """The first `count` test examples, without noise.

    They depend on the seed alone, and no training key leads to them.

    Raises:
      ValueError: if `count` is not positive.
    """
    return _draw_all(self, streams.held_out(self.seed, count), 0.0)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _draw_all(data: Vectors, keys, noise: float) -> base.Examples:
  """An example a key."""
  inputs_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
  normal = lambda keys, *shape: jax.vmap(  # noqa: E731
    lambda key: jax.random.normal(key, shape)
  )(keys)
  inputs = normal(inputs_keys, INPUTS)
  targets = data.targets(inputs)
  if noise:
    targets += noise * normal(noise_keys, TASKS, OUTPUTS)
  valid = jnp.ones(inputs.shape[:1], bool)
  labels = {
    task.name: base.Label(targets[:, t], valid)
    for t, task in enumerate(data.tasks)
  }
  return base.Examples(inputs, labels)


class _Teacher(NamedTuple):
  """Weights of the teacher, f32."""

  hidden: np.ndarray  # [24, hidden]
  features: np.ndarray  # [hidden, features]
  turn: np.ndarray  # [features, tasks, sines]
  phase: np.ndarray  # [tasks, sines]
  mix: np.ndarray  # [tasks, sines, 4]
  shift: np.ndarray  # [tasks, 4]
  scale: np.ndarray  # [tasks, 4]


def _draw_teacher(rng: np.random.Generator) -> _Teacher:
  """A teacher whose outputs have mean 0 and variance 1."""

  def normal(*shape, inputs):
    return rng.normal(scale=inputs**-0.5, size=shape).astype(np.float32)

  teacher = _Teacher(
    hidden=normal(INPUTS, _HIDDEN, inputs=INPUTS),
    features=normal(_HIDDEN, _FEATURES, inputs=_HIDDEN),
    turn=_FREQUENCY * normal(_FEATURES, TASKS, _SINES, inputs=_FEATURES),
    phase=rng.uniform(0, 2 * np.pi, (TASKS, _SINES)).astype(np.float32),
    mix=normal(TASKS, _SINES, OUTPUTS, inputs=_SINES),
    shift=np.zeros((TASKS, OUTPUTS), np.float32),
    scale=np.ones((TASKS, OUTPUTS), np.float32),
  )
  draws = rng.normal(size=(_STANDARDISING_DRAWS, INPUTS)).astype(np.float32)
  answers = np.asarray(_answer(teacher, draws, np))
  return teacher._replace(
    shift=answers.mean(0), scale=answers.std(0, dtype=np.float32)
  )


def _answer(teacher: _Teacher, inputs: Any, xp: Any) -> Any:
  """The teacher's outputs [B, tasks, 4], in NumPy or in JAX."""
  features = xp.tanh(xp.tanh(inputs @ teacher.hidden) @ teacher.features)
  turned = xp.tensordot(features, teacher.turn, 1) + teacher.phase[None]
  mixed = xp.einsum("btk,tko->bto", xp.sin(turned), teacher.mix)
  return (mixed - teacher.shift[None]) / teacher.scale[None]
