# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

from jaxttc.studies import line_law

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
  accuracy, over, _ = line_law.guided(_LAW, 6, 66)
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
    lambda logits, chance, strength: plain(logits, chance, strength=2.0),
  )
  assert line_law.exact_law_error(_LAW, 3) > 1e-3


@pytest.mark.parametrize("every_token", [False, True])
@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_guided_lines_agree_with_listing_all_traces(every_token, strength):
  lines, budget = 3, 21
  fits = line_law.fitting(_LAW, lines, budget)

  def fitting(n, left):
    return fits[n, left] if left >= 0 else 0.0

  def choose(n, left):
    chance = np.array([fitting(n - 1, left - x) for x in _LAW.lengths])
    if not every_token:
      chance[1:] = chance[1:].mean()
    weight = np.array(_LAW.shares) * chance**strength
    return weight / weight.sum()

  accuracy = spent = 0.0
  for kinds in itertools.product(range(5), repeat=lines):
    share, left = 1.0, budget
    for n, kind in zip(range(lines, 0, -1), kinds, strict=True):
      share *= choose(n, left)[kind] if share and fitting(n, left) else 0.0
      left -= _LAW.lengths[kind]
      if left < 0 or not fitting(n - 1, left):
        break  # lines follow in vain: what is drawn here is all that counts
    else:
      accuracy += share * np.prod(np.array(_LAW.right)[list(kinds)])
      spent += share * (budget - left)
  found = line_law.guided(
    _LAW, lines, budget, every_token=every_token, strength=strength
  )
  assert found.accuracy[lines, budget] == pytest.approx(accuracy, rel=1e-9)
  if every_token:
    assert found.spent[lines, budget] == pytest.approx(spent, rel=1e-9)
    assert found.over.max() == 0
  else:
    # A way was left to chance: some traces overspend, and are cut.
    assert found.spent[lines, budget] > spent


def test_what_only_short_lines_fit_is_safe_at_line_starts():
  least = 3 * min(_LAW.lengths)
  found = line_law.guided(_LAW, 3, least, every_token=False)
  assert found.accuracy[3, least] == pytest.approx(0.97**3)
  assert found.spent[3, least] == pytest.approx(least)
  # With room for some long lines and not for all, strength makes up for it.
  at = least + 4
  sure = line_law.guided(_LAW, 3, at, every_token=False, strength=8.0)
  loose = line_law.guided(_LAW, 3, at, every_token=False)
  assert sure.accuracy[3, at] > loose.accuracy[3, at] + 0.05
