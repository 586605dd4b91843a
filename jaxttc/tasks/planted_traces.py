# SPDX-License-Identifier: Apache-2.0
"""Traces of a tabular policy on the planted task, and what they sum up to.

A trace is kept as its counts: how often each token was emitted in each state
of the matcher before the solution. That is all that the likelihood of a table
depends on, so traces of any length cost the same memory.

Loops run to a bound of their own and mask what is beyond a trace's horizon.
The bound changes no result; mapped over many horizons, one bound keeps the
loop's condition, and so its cost, common to all.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxttc.tasks import planted

Scalar = Int[Array, ""] | int


class Traces(NamedTuple):
  """B sampled traces.

  Attributes:
    prompts: i32[B, k].
    opening: i32[B], the style of each.
    solved: i32[B], the solving token from 1; 0 if not within the horizon.
    counts: f32[B, k, V], tokens by state of the matcher, none after the
      solution.
  """

  prompts: jax.Array
  opening: jax.Array
  solved: jax.Array
  counts: jax.Array


@flax.struct.dataclass
class Counts:
  """Weighted sums over traces, in the shape of a policy.

  Attributes:
    opening: f32[S].
    emission: f32[S, R, V].
  """

  opening: jax.Array
  emission: jax.Array


def sample(
  instance: planted.Instance,
  policy: planted.Policy,
  key: Key[Array, ""],
  batch: int,
  horizon: Scalar,
  steps: Scalar,
) -> Traces:
  """Samples traces.

  Args:
    instance: the task.
    policy: what is sampled from.
    key: random key; consumed.
    batch: traces B, a Python integer.
    horizon: tokens H of a trace.
    steps: how far the loop runs, at least `horizon`; may be traced.
  """
  prompt_key, opening_key, token_key = jax.random.split(key, 3)
  prompts = instance.prompts(prompt_key, batch)
  opening = jax.random.categorical(opening_key, policy.opening, shape=(batch,))
  shares = jnp.cumsum(jax.nn.softmax(policy.emission), -1)
  shares = shares[opening[:, None], prompts]  # [B, k, V], by state

  def choose(t, states, moves):
    del t, moves
    return _at(shares, states)

  return _walk(instance, token_key, prompts, opening, choose, horizon, steps)


def sample_expert(
  instance: planted.Instance,
  policy: planted.Policy,
  key: Key[Array, ""],
  batch: int,
  horizon: Scalar,
  steps: Scalar,
  worth: Float[Array, " U"],
) -> Traces:
  """Samples traces of the expert whose chance of a trace is worth times base.

  Every choice is drawn with its chance under the policy, times what its trace
  is then worth on average (Doob's h-transform), so nothing is rejected, however
  rare the traces are that are worth something. Where prompts differ, the expert
  answers each as often as it is asked.

  Args:
    instance: the task.
    policy: the base of the expert.
    key: random key; consumed.
    batch: traces B, a Python integer.
    horizon: tokens H of a trace.
    steps: how far loops run, in `horizon`..T; may be traced.
    worth: f32[T + 1], of a trace by its solving token, at 0 of one that is not
      solved within the horizon; not negative, and T that of the longest trace.
  """
  prompt_key, opening_key, token_key = jax.random.split(key, 3)
  prompts = instance.prompts(prompt_key, batch)
  asked = prompts if instance.contextual else prompts[:1]
  which = jnp.arange(batch) if instance.contextual else jnp.zeros(batch, int)
  ahead = _worth_ahead(instance, policy, asked, horizon, steps, worth)
  logits = policy.opening[None] + jnp.log(ahead[0, ..., 0] + 1e-38)
  opening = jax.random.categorical(opening_key, logits[which])
  chances = jax.nn.softmax(policy.emission)[opening[:, None], prompts]

  def choose(t, states, moves):
    later = ahead[t + 1][which, opening]  # [B, k]
    now = jnp.broadcast_to(worth[t + 1], (batch, 1))
    worths = jnp.concatenate([later, now], -1)
    odds = _at(chances, states) * jnp.take_along_axis(worths, moves, 1)
    shares = jnp.cumsum(odds, -1)
    return shares / jnp.maximum(shares[:, -1:], 1e-38)

  return _walk(instance, token_key, prompts, opening, choose, horizon, steps)


def _worth_ahead(instance, policy, prompts, horizon, steps, worth):
  """Mean worth f32[T + 1, X, S, k] after t tokens, unsolved, in a state."""
  longest, length = instance.longest, instance.length
  chain = transitions(instance, policy, prompts)
  shape = (longest + 1, *chain.shape[:3])

  def back(i, ahead):
    t = steps - 1 - i
    onward = jnp.einsum("xsmn,xsn->xsm", chain[..., :length], ahead[t + 1])
    found = onward + chain[..., length] * worth[t + 1]
    return ahead.at[t].set(jnp.where(t < horizon, found, worth[0]))

  return jax.lax.fori_loop(0, steps, back, jnp.full(shape, worth[0]))


def transitions(
  instance: planted.Instance,
  policy: planted.Policy,
  prompts: Int[Array, "X k"],
) -> Float[Array, "X S k n"]:
  """Chances of the matcher's moves.

  Args:
    instance: the task.
    policy: whose tokens move it.
    prompts: i32[X, k].

  Returns:
    f32[X, S, k, k + 1], from each state to each; k is solved.
  """
  vocab, length = policy.emission.shape[-1], instance.length
  moves = _moves(instance, prompts, vocab)
  emission = jax.nn.softmax(policy.emission)[:, prompts]  # [S, X, k, V]
  target = jax.nn.one_hot(moves, length + 1)  # [X, k, V, k + 1]
  return jnp.einsum("sxmv,xmvn->xsmn", emission, target)


def _moves(instance, prompts, vocab):
  golds = instance.symbol_map[prompts]
  return jax.vmap(planted.automaton, (0, None))(golds, vocab)


def _at(by_state, states):
  """Rows [B, V] of [B, k, V] at the states i32[B]."""
  return jnp.take_along_axis(by_state, states[:, None, None], 1)[:, 0]


class _Carry(NamedTuple):
  state: jax.Array  # i32[B], of the matcher
  solved: jax.Array  # i32[B]
  counts: jax.Array  # f32[B, k, V]


def _walk(instance, key, prompts, opening, choose, horizon, steps) -> Traces:
  """Emits tokens until solved, by cumulative chances `choose` [B, V]."""
  batch, length = prompts.shape
  vocab = instance.base.emission.shape[-1]
  moves = _moves(instance, prompts, vocab)
  states, tokens = jnp.arange(length), jnp.arange(vocab)

  def step(t, carry):
    active = (carry.solved == 0) & (t < horizon)
    drawn = jax.random.uniform(jax.random.fold_in(key, t), (batch,))
    row = _at(moves, carry.state)
    shares = choose(t, carry.state, row)
    # The last share is 1 up to rounding: leaving it out keeps tokens valid.
    token = jnp.sum(drawn[:, None] >= shares[:, :-1], -1, dtype=jnp.int32)
    after = jnp.take_along_axis(row, token[:, None], 1)[:, 0]
    here = (carry.state[:, None] == states[None]) & active[:, None]
    new = here[:, :, None] & (token[:, None] == tokens[None])[:, None, :]
    done = active & (after == length)
    return _Carry(
      jnp.where(active & ~done, after, carry.state),
      jnp.where(done, t + 1, carry.solved),
      carry.counts + new,
    )

  start = _Carry(
    jnp.zeros(batch, jnp.int32),
    jnp.zeros(batch, jnp.int32),
    jnp.zeros((batch, length, vocab)),
  )
  end = jax.lax.fori_loop(0, steps, step, start)
  return Traces(prompts, opening, end.solved, end.counts)


def total(
  traces: Traces, weights: Float[Array, " B"], policy: planted.Policy
) -> Counts:
  """Sums traces with a weight each; the policy gives the shapes S, R, V."""
  styles, symbols, _ = policy.emission.shape
  opening = jax.nn.one_hot(traces.opening, styles) * weights[:, None]
  rows = jax.nn.one_hot(traces.prompts, symbols)
  by_row = jnp.einsum("bkr,bkv->brv", rows, traces.counts)
  emission = jnp.einsum("bs,brv->srv", opening, by_row)
  return Counts(opening.sum(0), emission)


def empty(policy: planted.Policy) -> Counts:
  """No traces."""
  return Counts(jnp.zeros_like(policy.opening), jnp.zeros_like(policy.emission))


def log_likelihood(policy: planted.Policy, counts: Counts) -> Float[Array, ""]:
  """The weighted sum of the traces' log-probabilities, in nats.

  Only choices of the policy count: the style and the tokens up to the solution.
  """
  opening = jax.nn.log_softmax(policy.opening) * counts.opening
  emission = jax.nn.log_softmax(policy.emission) * counts.emission
  return opening.sum() + emission.sum()
