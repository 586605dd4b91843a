# SPDX-License-Identifier: Apache-2.0
"""Answers in a style: a task on which demonstrations and pairs teach apart.

A prompt is a vector of features. A policy first picks a style, direct or step
by step, then one of the answers; both are linear softmax choices, so every
probability is exact. A fixed linear teacher says which answer is right. The
base policy nearly always answers directly, and is a little better when it does
not.

Demonstrations are in the step style, and right most of the time. In a pair
both answers are in the step style: one is right, the other is one of the
base's mistakes, and a few pairs are the wrong way round. The style is a factor
of both answers of a pair, so a loss of their difference says nothing about it.

The task is modelled on the cold start of Raghavendra, Kang and Ritter (2025),
arXiv:2502.11284.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

DIRECT, STEP = 0, 1
_STYLES = 2


@flax.struct.dataclass
class Policy:
  """A linear softmax over styles, then over answers.

  Attributes:
    bias: f32[2], of the styles.
    style: f32[2, X], of the styles, a feature.
    answer: f32[2, A, X], of the answers in each style, a feature.
  """

  bias: jax.Array
  style: jax.Array
  answer: jax.Array


@flax.struct.dataclass
class Annotations:
  """A pool of prompts, each with both annotations; one is bought at most.

  Attributes:
    features: f32[N, X].
    right: i32[N], the right answer.
    demonstrated: i32[N], the demonstration's answer.
    chosen: i32[N], the better answer of the pair.
    rejected: i32[N], the worse one; another than `chosen`.
  """

  features: jax.Array
  right: jax.Array
  demonstrated: jax.Array
  chosen: jax.Array
  rejected: jax.Array


@dataclasses.dataclass(kw_only=True)
class StyledAnswers:
  """The task's settings.

  Attributes:
    features: of a prompt, standard normal.
    answers: to choose from.
    style_bias: the base's logit of the step style against the direct one.
    skill: how much of the teacher the base's heads hold, direct and step.
    noise: how much they hold beside it.
    demonstrator: share of demonstrations that are right.
    flipped: share of pairs that are the wrong way round.
  """

  features: int = 24
  answers: int = 8
  style_bias: float = -5.0
  skill: tuple[float, float] = (0.42, 0.58)
  noise: float = 0.3
  demonstrator: float = 0.75
  flipped: float = 0.05

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    if self.features < 1 or self.answers < 2:
      raise ValueError(
        f"expected at least 1 feature and 2 answers, got {self.features} and "
        f"{self.answers}"
      )
    for name in ("demonstrator", "flipped"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

  def draw(
    self, key: Key[Array, ""], pool: int, tested: int
  ) -> tuple[Policy, Annotations, Annotations]:
    """The base, a pool to buy from, and prompts to test on.

    Args:
      key: random key; consumed.
      pool: prompts to buy annotations of.
      tested: prompts held out, of the same distribution.
    """
    teacher_key, noise_key, pool_key, test_key = jax.random.split(key, 4)
    size = (self.answers, self.features)
    teacher = jax.random.normal(teacher_key, size) / self.features**0.5
    other = jax.random.normal(noise_key, (_STYLES, *size)) / self.features**0.5
    skill = jnp.array(self.skill)[:, None, None]
    base = Policy(
      bias=jnp.array([0.0, self.style_bias]),
      style=jnp.zeros((_STYLES, self.features)),
      answer=skill * teacher[None] + self.noise * other,
    )
    return (
      base,
      self._annotate(pool_key, pool, teacher, base),
      self._annotate(test_key, tested, teacher, base),
    )

  def _annotate(self, key, count, teacher, base) -> Annotations:
    keys = jax.random.split(key, 5)
    x = jax.random.normal(keys[0], (count, self.features))
    right = (x @ teacher.T).argmax(1)
    known = jax.random.bernoulli(keys[1], self.demonstrator, (count,))
    off = jax.random.randint(keys[2], (count,), 1, self.answers)
    mistakes = x @ base.answer[STEP].T
    mistakes = jnp.where(
      jnp.arange(self.answers)[None] == right[:, None], -jnp.inf, mistakes
    )
    wrong = jax.random.categorical(keys[3], mistakes)
    flip = jax.random.bernoulli(keys[4], self.flipped, (count,))
    return Annotations(
      features=x,
      right=right,
      demonstrated=jnp.where(known, right, (right + off) % self.answers),
      chosen=jnp.where(flip, wrong, right),
      rejected=jnp.where(flip, right, wrong),
    )


def log_probs(
  policy: Policy,
  features: Float[Array, "N X"],
  style: int,
  answers: Int[Array, " N"],
) -> Float[Array, "N 2"]:
  """Log-probabilities of a response's two tokens: its style, its answer."""
  styles = jax.nn.log_softmax(features @ policy.style.T + policy.bias[None])
  heads = jax.nn.log_softmax(features @ policy.answer[style].T)
  own = jnp.take_along_axis(heads, answers[:, None], axis=1)
  return jnp.concatenate([styles[:, style : style + 1], own], axis=1)


@flax.struct.dataclass
class Score:
  """How a policy does on held-out prompts; sampling, not greedy.

  Attributes:
    accuracy: f32[], expected share of right answers.
    step_rate: f32[], mean probability of the step style.
    step_accuracy: f32[], expected share of right answers within that style.
    chosen: f32[], mean log-probability of the pairs' chosen responses.
    rejected: f32[], of the rejected ones.
  """

  accuracy: jax.Array
  step_rate: jax.Array
  step_accuracy: jax.Array
  chosen: jax.Array
  rejected: jax.Array


def score(policy: Policy, tested: Annotations) -> Score:
  """Exact expectations over a policy's own samples, means over prompts."""
  x = tested.features
  by_style = [
    jnp.exp(log_probs(policy, x, style, tested.right))
    for style in (DIRECT, STEP)
  ]
  pairs = [
    log_probs(policy, x, STEP, answers).sum(1).mean()
    for answers in (tested.chosen, tested.rejected)
  ]
  return Score(
    accuracy=sum(p.prod(1) for p in by_style).mean(),
    step_rate=by_style[STEP][:, 0].mean(),
    step_accuracy=by_style[STEP][:, 1].mean(),
    chosen=pairs[0],
    rejected=pairs[1],
  )
