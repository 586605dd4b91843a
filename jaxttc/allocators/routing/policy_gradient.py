# SPDX-License-Identifier: Apache-2.0
"""A router of several steps: ask a model, look, ask another one, or stop.

The decision process: the state is the question's vector, which models were
asked, and how far their answers are trusted; an action asks one more model or
stops, which returns the most trusted answer. The reward is its score less the
price of all models asked. A policy, linear in the state, is trained on logged
answers by REINFORCE; the other attempts at the same question are the baseline.

References:
  Williams (1992), Simple statistical gradient-following algorithms.
  Kool et al. (2019), Buy 4 REINFORCE samples, get a baseline for free!
"""

import functools
from typing import Any, NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import optax

from jaxttc.allocators.routing import cascades

_ATTEMPTS = 8  # of each question in a step, for the baseline


@struct.dataclass
class Policy:
  """Logits of actions, linear in the state.

  Attributes:
    weights: f32[D + 3 K, K + 1]; the last action stops.
    bias: f32[K + 1].
  """

  weights: Float[Array, "S A"]
  bias: Float[Array, " A"]


class Served(NamedTuple):
  """What a policy did.

  Attributes:
    score: f32[n], of the answer that is returned.
    cost: f32[n], of all models asked.
    asked: i32[n], how many they were.
    log_probability: f32[n], of the actions taken.
  """

  score: Float[Array, " n"]
  cost: Float[Array, " n"]
  asked: Int[Array, " n"]
  log_probability: Float[Array, " n"]


def serve(
  policy: Policy,
  x: Float[Array, "n D"],
  logged: cascades.Logged,
  key: jax.Array | None = None,
) -> Served:
  """Runs a policy on logged answers; pure, for use under jit.

  Args:
    policy: the policy.
    x: f32[n, D].
    logged: answers of all models; confidence in [0, 1].
    key: draws actions; None: the likeliest action.
  """
  rows, models = logged.scores.shape
  everyone = jnp.arange(rows)
  drawn = None if key is None else jax.random.split(key, models)

  def step(carried, number):
    asked, stopped, log_probability = carried
    logits = _logits(policy, x, asked, logged.confidence)
    if drawn is None:
      action = jnp.argmax(logits, 1)
    else:
      action = jax.random.categorical(drawn[number], logits)
    share = jax.nn.log_softmax(logits)[everyone, action]
    log_probability = log_probability + jnp.where(stopped, 0.0, share)
    stopped = stopped | (action == models)
    asks = jax.nn.one_hot(action, models, dtype=bool) & ~stopped[:, None]
    return (asked | asks, stopped, log_probability), None

  start = (
    jnp.zeros((rows, models), bool),
    jnp.zeros(rows, bool),
    jnp.zeros(rows),
  )
  (asked, _, share), _ = jax.lax.scan(step, start, jnp.arange(models))
  shown = jnp.argmax(jnp.where(asked, logged.confidence, -jnp.inf), 1)
  cost = jnp.where(asked, logged.costs, 0).sum(1)
  return Served(logged.scores[everyone, shown], cost, asked.sum(1), share)


def fit(
  x: Float[Array, "n D"],
  logged: cascades.Logged,
  price: float,
  key: jax.Array,
  *,
  steps: int = 500,
  batch: int = 256,
  rate: float = 0.03,
) -> Policy:
  """Trains a policy for one price.

  Args:
    x: f32[n, D], vectors of about unit scale.
    logged: answers on the same questions; confidence in [0, 1].
    price: score that a unit of cost is worth.
    key: draws batches and actions.
    steps: of Adam.
    batch: questions of a step, each attempted eight times.
    rate: learning rate.

  Raises:
    ValueError: if the price is negative, or a setting not positive.
  """
  if not price >= 0 or min(steps, batch, rate) <= 0:
    raise ValueError(
      "policy gradient: expected price >= 0 and positive steps, batch and "
      f"rate, got {price}, {steps}, {batch} and {rate}"
    )
  return _fit(jnp.asarray(x), logged, price, key, steps, batch, rate)


@functools.partial(jax.jit, static_argnames=("steps", "batch"))
def _fit(x, logged, price, key, steps, batch, rate):
  models = logged.scores.shape[1]
  optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps))
  policy = Policy(
    jnp.zeros((x.shape[1] + 3 * models, models + 1)), jnp.zeros(models + 1)
  )

  def loss(policy, rows, key):
    rows = jnp.repeat(rows, _ATTEMPTS)
    some = jax.tree.map(lambda a: a[rows], logged)
    served = serve(policy, x[rows], some, key)
    reward = (served.score - price * served.cost).reshape(-1, _ATTEMPTS)
    others = (reward.sum(1, keepdims=True) - reward) / (_ATTEMPTS - 1)
    advantage = jax.lax.stop_gradient(reward - others)
    return -(advantage * served.log_probability.reshape(-1, _ATTEMPTS)).mean()

  def step(carried: Any, number):
    policy, state = carried
    draw, act = jax.random.split(jax.random.fold_in(key, number))
    rows = jax.random.randint(draw, (batch,), 0, len(x))
    slope = jax.grad(loss)(policy, rows, act)
    update, state = optimiser.update(slope, state, policy)
    return (optax.apply_updates(policy, update), state), None

  start = policy, optimiser.init(policy)
  return jax.lax.scan(step, start, jnp.arange(steps))[0][0]


def _logits(policy, x, asked, confidence):
  """f32[n, K + 1]; models that were asked, and stopping at once, are barred."""
  seen = jnp.where(asked, confidence, 0.0)
  best = jnp.where(seen == seen.max(1, keepdims=True), seen, 0.0)
  state = jnp.concatenate([x, asked.astype(x.dtype), seen, best], 1)
  logits = state @ policy.weights + policy.bias[None]
  barred = jnp.concatenate([asked, ~asked.any(1, keepdims=True)], 1)
  return jnp.where(barred, -1e9, logits)
