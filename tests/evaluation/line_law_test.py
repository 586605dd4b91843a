# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.evaluation import line_law

_LAW = line_law.LineLaw()


def test_guided_traces_have_the_conditional_law():
  assert line_law.exact_law_error(_LAW, 4) < 1e-9


@pytest.mark.parametrize("budget", [18, 25, 33, 50])
def test_tables_agree_with_listing_all_traces(budget):
  fits, right = line_law.by_enumeration(_LAW, 5, budget)
  table = line_law.fitting(_LAW, 5, budget)
  both = line_law.fitting(_LAW, 5, budget, _LAW.right)
  np.testing.assert_allclose(table[5, budget], fits, rtol=1e-12)
  np.testing.assert_allclose(both[5, budget] / fits, right, rtol=1e-12)


@pytest.mark.parametrize(
  ("fraction", "fits", "guided", "cut"),
  [
    (0.6, 0.005, 0.885, 0.104),
    (0.8, 0.099, 0.922, 0.181),
    (0.9, 0.240, 0.936, 0.300),
    (1.2, 0.901, 0.961, 0.876),
  ],
)
def test_six_lines_by_hand(fraction, fits, guided, cut):
  assert _LAW.mean == pytest.approx(7.0)
  budget = int(fraction * 42)
  table = line_law.fitting(_LAW, 6, 66)
  accuracy, over = line_law.guided(_LAW, 6, 66)
  capped = line_law.hard_cap(_LAW, 6, 66, 0.1)
  assert table[6, budget] == pytest.approx(fits, abs=1e-3)
  assert accuracy[6, budget] == pytest.approx(guided, abs=1e-3)
  assert capped[6, budget] == pytest.approx(cut, abs=1e-3)
  assert over.max() == 0.0


def test_a_weight_that_forgets_the_rest_breaks_the_law(monkeypatch):
  # Strength 2 is no conditional law: the check must notice.
  plain = line_law.guidance.guide
  monkeypatch.setattr(
    line_law.guidance,
    "guide",
    lambda logits, chance: plain(logits, chance, strength=2.0),
  )
  assert line_law.exact_law_error(_LAW, 3) > 1e-3
