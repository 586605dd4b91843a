# SPDX-License-Identifier: Apache-2.0
"""Policy losses: each term by hand, and identities at ratio 1."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.training import policy_losses
from jaxttc.training import sequences as sequences_lib

Config = policy_losses.PolicyLossConfig
_ONE = sequences_lib.Sequences(jnp.ones((1, 1)))


def _one(ratio, advantage, **options):
  """Loss and slope in the log-probability of one token."""
  config = Config(**options)

  def of(log_prob):
    return policy_losses.policy_loss(
      config,
      jnp.reshape(log_prob, (1, 1)),
      jnp.zeros((1, 1)),
      jnp.full((1, 1), advantage),
      _ONE,
    ).fraction.value

  return jax.value_and_grad(of)(jnp.log(ratio))


@pytest.mark.parametrize(
  "ratio, advantage, options, value, slope",
  [
    (1.1, 2.0, {}, -2.2, -2.2),
    (1.5, 2.0, {}, -2.4, 0.0),  # clipped at 1.2
    (1.5, 2.0, {"clip_high": 0.28}, -2.56, 0.0),
    (0.5, 2.0, {}, -1.0, -1.0),  # clipping never makes it better
    (0.5, -2.0, {}, 1.6, 0.0),
    (1.5, -2.0, {}, 3.0, 3.0),
    (5.0, -2.0, {}, 10.0, 10.0),
    (5.0, -2.0, {"dual_clip": 3.0}, 6.0, 0.0),
    (2.0, -2.0, {"dual_clip": 3.0}, 4.0, 4.0),
    (5.0, 2.0, {"dual_clip": 3.0}, -2.4, 0.0),
    (5.0, -2.0, {"ratio_bound": 4.0}, 8.0, 0.0),
    (3.0, -2.0, {"ratio_bound": 4.0}, 6.0, 6.0),
    # cispo: -weight * A * log(ratio); the slope is -weight * A
    (1.5, 2.0, {"kind": "cispo", "cispo_cap": 4.0}, -3 * np.log(1.5), -3.0),
    (5.0, 2.0, {"kind": "cispo", "cispo_cap": 4.0}, -8 * np.log(5.0), -8.0),
  ],
)
def test_one_token_by_hand(ratio, advantage, options, value, slope):
  found = _one(ratio, advantage, **options)
  np.testing.assert_allclose(found, (value, slope), rtol=1e-5, atol=1e-6)


def _batch(seed=0, shape=(3, 4)):
  rng = np.random.default_rng(seed)
  new, old = (
    jnp.array(rng.normal(-1.0, 0.3, shape), jnp.float32) for _ in range(2)
  )
  mask = jnp.array(np.arange(shape[1]) < np.array([[4], [2], [3]]))
  advantages = jnp.array(rng.normal(size=(shape[0], 1)), jnp.float32)
  return new, old, advantages, sequences_lib.Sequences(mask)


@pytest.mark.parametrize("ratio", ["sequence", "sequence_token"])
def test_gspo_against_a_loop(ratio):
  new, old, advantages, sequences = _batch()
  config = Config(
    ratio=ratio,
    clip_low=0.3,
    clip_high=0.4,
    aggregation="seq_mean_token_mean",
  )

  def ours(new):
    return policy_losses.policy_loss(
      config, new, old, advantages, sequences
    ).fraction.value

  losses, slopes = [], np.zeros(new.shape)
  for i, length in enumerate([4, 2, 3]):
    rho = np.exp(np.mean(np.array(new - old)[i, :length]))
    a = float(advantages[i, 0])
    plain, clipped = rho * a, np.clip(rho, 0.7, 1.4) * a
    losses.append(-min(plain, clipped))
    if plain <= clipped:
      slopes[i, :length] = -rho * a / length / 3
  value, slope = jax.value_and_grad(ours)(new)
  assert float(value) == pytest.approx(np.mean(losses), rel=1e-5)
  np.testing.assert_allclose(slope, slopes, atol=1e-6)


def test_tokens_of_gspo_may_differ_in_advantage():
  new, old, _, sequences = _batch()
  advantages = jnp.linspace(-1, 1, 12).reshape(3, 4)
  config = Config(ratio="sequence_token", clip_low=0.9, clip_high=9.0)

  def ours(new):
    return policy_losses.policy_loss(
      config, new, old, advantages, sequences
    ).fraction.numerator

  rho = np.exp(sequences.spread(sequences.means(new - old)))
  expected = -rho * advantages * sequences.weights
  np.testing.assert_allclose(jax.grad(ours)(new), expected, rtol=1e-5)


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"ratio": "sequence_token"},
    {"kind": "cispo", "cispo_cap": 5.0},
    {"dual_clip": 3.0, "ratio_bound": 2.0},
  ],
)
def test_at_ratio_one_the_gradient_is_that_of_reinforce(options):
  new, _, advantages, sequences = _batch()

  def ours(new):
    return policy_losses.policy_loss(
      Config(aggregation="seq_mean_token_sum", **options),
      new,
      jax.lax.stop_gradient(new),
      advantages,
      sequences,
    ).fraction.value

  def reinforce(new):
    return -(sequences.sums(new) * advantages).sum() / 3

  np.testing.assert_allclose(
    jax.grad(ours)(new), jax.grad(reinforce)(new), rtol=1e-5
  )


def test_centred_groups_lose_nothing_a_sequence_but_something_a_token():
  new, _, _, sequences = _batch()
  advantages = jnp.array([[1.0], [-0.5], [-0.5]])
  by_mode = {
    mode: float(
      policy_losses.policy_loss(
        Config(aggregation=mode), new, new, advantages, sequences
      ).fraction.value
    )
    for mode in ("seq_mean_token_mean", "token_mean")
  }
  assert by_mode["seq_mean_token_mean"] == pytest.approx(0, abs=1e-6)
  assert by_mode["token_mean"] == pytest.approx(-(4 - 1 - 1.5) / 9)


def test_sampler_weights_kl_and_entropy_add_up():
  new, old, advantages, sequences = _batch()
  sampler, reference = old - jnp.log(1.5), new - 0.4
  entropy = jnp.full(new.shape, 2.0)
  given = {"reference_log_probs": reference, "entropy": entropy}
  plain = policy_losses.policy_loss(
    Config(), new, old, advantages, sequences
  ).fraction.value
  for cap, weight in ((3.0, 1.5), (1.25, 1.25)):
    found = policy_losses.policy_loss(
      Config(sampler_cap=cap, kl="k2", kl_weight=0.5, entropy_weight=0.1),
      new,
      old,
      advantages,
      sequences,
      sampler_log_probs=sampler,
      **given,
    )
    wanted = weight * float(plain) + 0.5 * 0.4**2 / 2 - 0.1 * 2.0
    assert float(found.fraction.value) == pytest.approx(wanted, rel=1e-5)
    assert float(found.metrics["sampler_weight"]) == pytest.approx(weight)
    assert float(found.metrics["kl"]) == pytest.approx(0.08)


@pytest.mark.parametrize("mode", sequences_lib.MODES)
def test_parts_of_a_step_have_the_gradient_of_the_whole(mode):
  new, old, advantages, sequences = _batch()
  config = Config(
    aggregation=mode, length=9 if mode == "fixed_length" else None
  )

  def fraction(new, rows):
    return policy_losses.policy_loss(
      config,
      new[rows],
      old[rows],
      advantages[rows],
      sequences_lib.Sequences(sequences.mask[rows]),
    ).fraction

  whole = jax.grad(lambda x: fraction(x, slice(None)).value)(new)
  parts = [slice(i, i + 1) for i in range(3)]
  above = sum(jax.grad(lambda x, r=r: fraction(x, r)[0])(new) for r in parts)
  below = sum(fraction(new, r)[1] for r in parts)
  np.testing.assert_allclose(above / below, whole, rtol=1e-5, atol=1e-7)


def test_what_stands_at_masked_tokens_is_not_read():
  new, old, advantages, sequences = _batch()
  for ratio in policy_losses.RATIOS:
    config = Config(ratio=ratio)
    clean = policy_losses.policy_loss(config, new, old, advantages, sequences)
    dirty = policy_losses.policy_loss(
      config,
      jnp.where(sequences.mask, new, 7.0),
      jnp.where(sequences.mask, old, jnp.nan),
      advantages,
      sequences,
    )
    np.testing.assert_allclose(dirty.fraction, clean.fraction)


def test_clip_fraction_counts_tokens_whose_gradient_is_cut():
  new = jnp.log(jnp.array([[1.5, 1.1, 0.5, 0.5]]))
  found = policy_losses.policy_loss(
    Config(),
    new,
    jnp.zeros((1, 4)),
    jnp.array([[1.0, 1.0, 1.0, -1.0]]),
    sequences_lib.Sequences(jnp.ones((1, 4))),
  )
  assert float(found.metrics["clip_fraction"]) == 0.5


@pytest.mark.parametrize(
  "options, message",
  [
    ({"kind": "ppo"}, "kind='ppo' is not one of clip, cispo"),
    ({"ratio": "word"}, "ratio='word'"),
    ({"clip_low": 0.2, "clip_high": 0.1}, "clip_high=0.1 not below"),
    ({"dual_clip": 0.5}, "dual_clip must be above 1"),
    ({"ratio_bound": 1.1}, "lies below 1"),
    ({"cispo_cap": 3.0}, "ignored by kind 'clip'"),
    ({"kind": "cispo"}, "needs a positive cispo_cap"),
    ({"kind": "cispo", "cispo_cap": 2.0, "clip_low": 0.2}, "ignored by kind"),
    ({"kind": "cispo", "cispo_cap": 2.0, "ratio": "sequence"}, "has ratio"),
    ({"sampler_cap": 0.0}, "sampler_cap must be positive"),
    ({"kl": "k1", "kl_weight": 0.1}, "no gradient on average"),
    ({"kl": "k2"}, "both kl and kl_weight"),
    ({"kl_weight": 0.1}, "both kl and kl_weight"),
    ({"kl": "k2", "kl_weight": -0.1}, "must not be negative"),
    ({"entropy_weight": -1.0}, "must not be negative"),
    ({"length": 3}, "length=3 would be ignored"),
  ],
)
def test_bad_configs_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    Config(**options).validate()


def test_inputs_that_are_missing_or_ignored_are_refused():
  new, old, advantages, sequences = _batch()

  def run(config, **given):
    policy_losses.policy_loss(config, new, old, advantages, sequences, **given)

  with pytest.raises(ValueError, match="reference_log_probs are missing"):
    run(Config(kl="k2", kl_weight=0.1))
  with pytest.raises(ValueError, match="reference_log_probs are ignored"):
    run(Config(), reference_log_probs=old)
  with pytest.raises(ValueError, match="sampler_log_probs are ignored"):
    run(Config(), sampler_log_probs=old)
  with pytest.raises(ValueError, match="entropy is missing"):
    run(Config(entropy_weight=0.1))


def test_overlong_penalty_by_hand():
  found = policy_losses.overlong_penalty(
    jnp.array([10, 60, 70, 80, 99]), longest=80, buffer=20
  )
  np.testing.assert_allclose(found, [0, 0, -0.5, -1, -1])
  with pytest.raises(ValueError, match="the buffer of 90 tokens"):
    policy_losses.overlong_penalty(jnp.array([1]), 80, 90)


@pytest.mark.parametrize(
  ("place", "shape", "message"),
  [
    (3, (3,), r"advantages have shape \(3,\); expected \(3, 3\) or \(3, 1\)"),
    (3, (1, 3), r"advantages have shape \(1, 3\)"),
    (2, (3, 1), r"old_log_probs have shape \(3, 1\); expected \(3, 3\)"),
  ],
)
def test_shapes_that_would_be_spread_wrong_are_refused(place, shape, message):
  """The loss itself says so, where no checker of types is about."""
  given = [Config(), *[jnp.zeros((3, 3))] * 2, jnp.ones((3, 1))]
  given[place] = jnp.ones(shape)
  plain = inspect.unwrap(policy_losses.policy_loss)
  with pytest.raises(ValueError, match=message):
    plain(*given, sequences_lib.Sequences(jnp.ones((3, 3))))
