# SPDX-License-Identifier: Apache-2.0
"""The probe is the ridge's maximum, and reads states after texts."""

import numpy as np
import pytest

from jaxttc.inference import bundle
from jaxttc.predictors import step_failure
from jaxttc.runtime import asks


def _data(rows=4000):
  rng = np.random.default_rng(0)
  states = rng.normal(size=(rows, 3)) * [1, 5, 0.1] + [0, 2, 1]
  odds = 1.5 * states[:, 0] - 0.4 * (states[:, 1] - 2) - 0.5
  return states, rng.random(rows) < 1 / (1 + np.exp(-odds)), odds


def test_finds_the_odds_and_is_calibrated():
  states, failed, odds = _data()
  probe = step_failure.fit(states, failed, penalty=1e-6)
  guess = probe.failure(states)
  assert np.abs(guess - 1 / (1 + np.exp(-odds))).mean() < 0.02
  assert guess.mean() == pytest.approx(failed.mean(), abs=1e-4)


def test_a_strong_ridge_leaves_the_base_rate():
  states, failed, _ = _data(400)
  guess = step_failure.fit(states, failed, penalty=1e6).failure(states)
  np.testing.assert_allclose(guess, failed.mean(), atol=1e-3)


def test_constant_features_do_no_harm():
  states, failed, _ = _data(400)
  states[:, 2] = 7.0
  assert np.isfinite(step_failure.fit(states, failed).failure(states)).all()


@pytest.mark.parametrize(
  ("states", "failed", "penalty", "said"),
  [
    (np.ones((3, 2)), [True, False], 1.0, "expected states"),
    (np.ones((2, 2)), [True, True], 1.0, "got one kind"),
    (np.full((2, 2), np.nan), [True, False], 1.0, "not finite"),
    (np.ones((2, 2)), [True, False], 0.0, "penalty is 0.0"),
  ],
)
def test_refused(states, failed, penalty, said):
  with pytest.raises(ValueError, match=said):
    step_failure.fit(states, np.array(failed), penalty)


def test_states_do_not_depend_on_company():
  read = step_failure.StateReader(bundle.load("arithmetic_lm"))
  texts = ["Modulo 11: start at 3.\n", "Modulo 13: start at 3, add 4.\n", "A"]
  together = read(texts)
  assert together.shape == (3, 128)
  for row, text in enumerate(texts):
    np.testing.assert_allclose(read([text])[0], together[row], atol=2e-4)
  with pytest.raises(ValueError, match="at least one text"):
    read([])


def test_gauge_is_the_probe_on_the_models_states_priced_as_a_prompt():
  policy = bundle.load("two_speed_lm")
  states = step_failure.StateReader(policy)
  texts = ["4+3\nAnswer only.\n", "4+3+2+9\nAnswer only.\n", "1+1\n"]
  width = policy.config.width
  probe = step_failure.Probe(
    np.linspace(-1, 1, width), 0.3, np.zeros(width), np.ones(width)
  )
  gauge = step_failure.Gauge(states, probe)
  assert isinstance(gauge, asks.Gauge)
  together = gauge.measure(texts)
  np.testing.assert_allclose(together, probe.failure(states(texts)))
  alone = [gauge.measure([text])[0] for text in texts]
  np.testing.assert_allclose(together, alone, rtol=1e-4)
  length = len(gauge.encode(texts[0]))
  cost = gauge.tariff.price(length, 0)
  assert cost.prompt_tokens == length and cost.generated_tokens == 0
  assert cost.flops > 0
  assert "flops" in gauge.metered and "dollars" not in gauge.metered
