# SPDX-License-Identifier: Apache-2.0
"""Both stages against a plain loop; bounds and unused annotations are idle."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc.tasks import styled_answers
from jaxttc.training import preference_losses, staged_tuning

_STAGES = staged_tuning.StageSettings(rate=0.05, epochs=2, batch=4)
_DPO = preference_losses.PreferenceLossConfig()


@pytest.fixture(scope="module")
def drawn():
  task = styled_answers.StyledAnswers(features=5, answers=3)
  return task.draw(jax.random.key(0), 32, 8)


@pytest.fixture(scope="module")
def tune():
  def run(base, pool, sft, pairs, bounds, loss=_DPO):
    return jax.jit(
      lambda b, p, s, q, w: staged_tuning.tune(b, p, s, q, w, _STAGES, loss)
    )(base, pool, sft, pairs, staged_tuning.Bounds(*bounds))

  return run


def _close(one, other):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    one,
    other,
  )


def test_equals_a_plain_loop(drawn, tune):
  base, pool, _ = drawn
  style = styled_answers.STEP

  def train(loss, policy, rows):
    tx = optax.adam(0.05)
    state = tx.init(policy)
    slope_of = jax.jit(jax.grad(loss))
    for _ in range(2):
      for start in range(0, len(rows), 4):
        some = jnp.array(rows[start : start + 4])
        updates, state = tx.update(slope_of(policy, some), state, policy)
        policy = optax.apply_updates(policy, updates)
    return policy

  def sft(policy, rows):
    answers = pool.demonstrated[rows]
    x = pool.features[rows]
    return -styled_answers.log_probs(policy, x, style, answers).mean()

  start = train(sft, base, list(range(6)))

  def dpo(policy, rows):
    def total(of, answers):
      x = pool.features[rows]
      return styled_answers.log_probs(of, x, style, answers[rows]).sum(1)

    margin = (
      total(policy, pool.chosen)
      - total(start, pool.chosen)
      - total(policy, pool.rejected)
      + total(start, pool.rejected)
    )
    return -jax.nn.log_sigmoid(0.1 * margin).mean()

  wanted = train(dpo, start, [31 - i for i in range(9)])
  found = tune(base, pool, 6, 9, (20, 16))
  _close(found.policy, wanted)
  assert int(found.steps) == 2 * (2 + 3)
  assert int(found.forward_passes) == 2 * 6 + (2 * 2 + 2) * 9


def test_nothing_bought_changes_nothing(drawn, tune):
  base, pool, _ = drawn
  found = tune(base, pool, 0, 0, (12, 12))
  _close(found.policy, base)
  assert int(found.steps) == 0 == int(found.forward_passes)


def test_what_was_not_bought_is_not_read(drawn, tune):
  base, pool, _ = drawn
  spoilt = pool.replace(features=pool.features.at[8:20].set(1e6))
  _close(
    tune(base, pool, 8, 12, (16, 16)).policy,
    tune(base, spoilt, 8, 12, (16, 16)).policy,
  )


def test_pairs_alone_leave_the_style_where_it_is(drawn, tune):
  base, pool, _ = drawn
  found = tune(base, pool, 0, 20, (1, 20)).policy
  np.testing.assert_array_equal(found.bias, base.bias)
  np.testing.assert_array_equal(found.style, base.style)
  assert np.abs(found.answer - base.answer).max() > 0.01


def test_odds_ratios_need_no_reference_and_move_the_style(drawn, tune):
  base, pool, _ = drawn
  loss = preference_losses.PreferenceLossConfig(kind="orpo")
  found = tune(base, pool, 0, 20, (1, 20), loss)
  assert found.policy.bias[1] > base.bias[1]
  assert int(found.forward_passes) == 2 * 2 * 20
