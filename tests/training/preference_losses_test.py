# SPDX-License-Identifier: Apache-2.0
"""Losses of preferences by hand, their identities, and their optima."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc.training import preference_losses

Config = preference_losses.PreferenceLossConfig
Responses = preference_losses.Responses
_CHOSEN = Responses(
  jnp.array([-4.0, -9.0]), jnp.array([2.0, 3.0]), jnp.array([-5.0, -7.0])
)
_REJECTED = Responses(
  jnp.array([-6.0, -8.0]), jnp.array([4.0, 2.0]), jnp.array([-6.5, -9.0])
)
# s: chosen 1, -2; rejected 0.5, 1; margins 0.5, -3; of means 0.375, -7/6.


def _nats(x):
  return math.log1p(math.exp(-x))


@pytest.mark.parametrize(
  "options, wanted",
  [
    ({}, [_nats(0.05), _nats(-0.3)]),
    (
      {"label_smoothing": 0.1},
      [
        0.9 * _nats(0.05) + 0.1 * _nats(-0.05),
        0.9 * _nats(-0.3) + 0.1 * _nats(0.3),
      ],
    ),
    ({"kind": "hinge", "beta": 1.0}, [0.5, 4.0]),
    ({"kind": "hinge", "beta": 3.0}, [0.0, 10.0]),
    ({"kind": "ipo", "beta": 0.5}, [0.25, 16.0]),
    (
      {"kind": "ipo", "beta": 0.5, "length_normalised": True},
      [(0.375 - 1) ** 2, (7 / 6 + 1) ** 2],
    ),
    ({"length_normalised": True, "beta": 2.0}, [_nats(0.75), _nats(-7 / 3)]),
    ({"anchor": 0.5}, [_nats(0.05) + 1.0, _nats(-0.3) + 1.5]),
  ],
)
def test_pairs_by_hand(options, wanted):
  found = preference_losses.preference_loss(
    Config(**options), _CHOSEN, _REJECTED
  )
  np.testing.assert_allclose(found.losses, wanted, rtol=1e-5)
  np.testing.assert_array_equal(found.metrics["agrees"], [1.0, 0.0])


def test_orpo_by_hand():
  chosen, rejected = (s._replace(reference=None) for s in (_CHOSEN, _REJECTED))
  found = preference_losses.preference_loss(
    Config(kind="orpo", beta=0.3), chosen, rejected
  )

  def odds(p):
    return math.log(p / (1 - p))

  wanted = [
    2 + 0.3 * _nats(odds(math.exp(-2)) - odds(math.exp(-1.5))),
    3 + 0.3 * _nats(odds(math.exp(-3)) - odds(math.exp(-4))),
  ]
  np.testing.assert_allclose(found.losses, wanted, rtol=1e-5)


def test_orpo_stays_finite_where_a_response_is_certain():
  def loss(x):
    side = Responses(jnp.full((1,), x), jnp.ones(1))
    other = Responses(jnp.full((1,), -1.0), jnp.ones(1))
    return preference_losses.preference_loss(
      Config(kind="orpo"), side, other
    ).losses.sum()

  assert all(np.isfinite(jax.value_and_grad(loss)(0.0)))


def _dpo(chosen, rejected, **options):
  return preference_losses.preference_loss(
    Config(**options),
    Responses(chosen, jnp.ones(1), jnp.zeros(1)),
    Responses(rejected, jnp.ones(1), jnp.zeros(1)),
  ).losses.sum()


def test_at_the_reference_the_loss_is_log_two_and_the_slope_half_beta():
  value, slopes = jax.value_and_grad(_dpo, (0, 1))(
    jnp.zeros(1), jnp.zeros(1), beta=0.3
  )
  assert float(value) == pytest.approx(math.log(2))
  assert [float(s[0]) for s in slopes] == pytest.approx([-0.15, 0.15])


@pytest.mark.parametrize("kind", ["dpo", "ipo", "hinge"])
def test_what_both_responses_share_changes_nothing(kind):
  a, b = jnp.array([0.7]), jnp.array([-0.4])
  found = float(_dpo(a, b, kind=kind))
  assert float(_dpo(a + 5, b + 5, kind=kind)) == pytest.approx(found, rel=1e-4)
  shared = jax.grad(lambda c: _dpo(a + c, b + c, kind=kind).sum())
  assert float(shared(jnp.zeros(1))[0]) == 0.0


def test_a_style_that_both_answers_share_has_no_gradient():
  """The cold start: a pair cannot teach what both its answers have."""

  def loss(params):
    style = jax.nn.log_softmax(params["style"])[1]
    answer = jax.nn.log_softmax(params["answer"])
    return _dpo(style + answer[:1], style + answer[1:2])

  slopes = jax.grad(loss)(
    {"style": jnp.array([3.0, -2.0]), "answer": jnp.arange(4.0)}
  )
  np.testing.assert_array_equal(slopes["style"], [0.0, 0.0])
  assert np.abs(slopes["answer"]).max() > 0.01


def test_the_minimiser_of_dpo_is_the_reward_over_beta():
  """Four answers, all ordered pairs, preferences of a Bradley-Terry judge."""
  rewards = jnp.array([0.3, -0.2, 0.1, 0.0])
  reference = jax.nn.log_softmax(jnp.array([0.5, 0.0, -0.5, 0.2]))
  i, j = (x.ravel() for x in np.indices((4, 4)))
  better = jax.nn.sigmoid(rewards[i] - rewards[j])

  def loss(logits):
    p = jax.nn.log_softmax(logits)
    sides = [Responses(p[k], jnp.ones(16), reference[k]) for k in (i, j)]
    found = preference_losses.preference_loss(Config(beta=0.5), *sides)
    return (better * found.losses).sum()

  tx = optax.lbfgs()

  @jax.jit
  def step(carry, _):
    logits, state = carry
    value, slope = optax.value_and_grad_from_state(loss)(logits, state=state)
    updates, state = tx.update(
      slope, state, logits, value=value, grad=slope, value_fn=loss
    )
    return (optax.apply_updates(logits, updates), state), None

  start = (reference, tx.init(reference))
  (logits, _), _ = jax.lax.scan(step, start, None, length=30)
  implied = 0.5 * (jax.nn.log_softmax(logits) - reference)
  np.testing.assert_allclose(
    implied - implied.mean(), rewards - rewards.mean(), atol=1e-3
  )


def test_kto_by_hand_and_its_reference_point():
  side = _CHOSEN._replace(log_probs=jnp.array([-4.0, -4.0]))  # s: 1, 3
  point = preference_losses.kto_reference_point(side)
  assert float(point) == 2.0
  low = side._replace(log_probs=jnp.array([-9.0, -9.0]))
  assert float(preference_losses.kto_reference_point(low)) == 0.0
  found = preference_losses.kto_loss(
    side,
    jnp.array([True, False]),
    point,
    beta=0.5,
    desirable_weight=2.0,
    undesirable_weight=3.0,
  )
  sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
  np.testing.assert_allclose(
    found, [2 * sigmoid(0.5), 3 * sigmoid(0.5)], rtol=1e-6
  )


def test_kto_of_pairs_judges_each_answer():
  far = _CHOSEN._replace(reference=_CHOSEN.log_probs - 0.6)
  config = Config(kind="kto", beta=0.4, anchor=0.1)
  found = preference_losses.preference_loss(config, _CHOSEN, _REJECTED, far)
  s = lambda side: np.asarray(side.log_probs - side.reference)  # noqa: E731
  wins = 1 / (1 + np.exp(0.4 * (s(_CHOSEN) - 0.6)))
  fails = 1 / (1 + np.exp(-0.4 * (s(_REJECTED) - 0.6)))
  anchor = 0.1 * np.asarray(_CHOSEN.log_probs / _CHOSEN.lengths)
  np.testing.assert_allclose(
    found.losses, (wins + fails) / 2 - anchor, rtol=1e-5
  )
  with pytest.raises(ValueError, match="responses are missing by 'kto'"):
    preference_losses.preference_loss(config, _CHOSEN, _REJECTED)
  with pytest.raises(ValueError, match="responses are ignored by 'dpo'"):
    preference_losses.preference_loss(Config(), _CHOSEN, _REJECTED, far)


def test_reward_loss_by_hand():
  found = preference_losses.reward_loss(
    jnp.array([1.0]), jnp.array([0.5]), least=jnp.array([0.2]), centring=0.1
  )
  assert float(found[0]) == pytest.approx(_nats(0.3) + 0.1 * 2.25)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"kind": "slic"}, "'slic' is not one of dpo"),
    ({"beta": 0.0}, "beta must be positive"),
    ({"label_smoothing": 0.5}, r"in \[0, 0.5\)"),
    ({"kind": "ipo", "label_smoothing": 0.1}, "ignored by 'ipo'"),
    ({"anchor": -1.0}, "anchor must not be negative"),
    ({"kind": "orpo", "anchor": 1.0}, "anchor would be ignored"),
    ({"kind": "orpo", "length_normalised": True}, "would be ignored"),
    ({"kind": "kto", "length_normalised": True}, "would be ignored by 'kto'"),
  ],
)
def test_bad_configs_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    Config(**options).validate()


def test_references_that_are_missing_or_ignored_are_refused():
  bare = _CHOSEN._replace(reference=None)
  with pytest.raises(ValueError, match="chosen.reference is missing by 'dpo'"):
    preference_losses.preference_loss(Config(), bare, _REJECTED)
  with pytest.raises(ValueError, match="rejected.reference is ignored"):
    preference_losses.preference_loss(Config(kind="orpo"), bare, _REJECTED)
  with pytest.raises(ValueError, match="responses.reference is missing"):
    preference_losses.kto_loss(bare, jnp.array([True, True]), jnp.float32(0))
  with pytest.raises(ValueError, match="mismatched.reference is missing"):
    preference_losses.kto_reference_point(bare)
  with pytest.raises(ValueError, match="centring must not be negative"):
    preference_losses.reward_loss(jnp.ones(1), jnp.ones(1), centring=-1.0)
