# SPDX-License-Identifier: Apache-2.0
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.tasks import routing
from jaxttc.tasks.routing import splits

_DATA = "../shared/data/llm_routing/nine_models_train.json"


def test_templates_share_a_group_and_strangers_do_not():
  prompts = [
    "Tom has 3 red apples and buys 14 more. How many apples has Tom?",
    "Who wrote the opera Carmen?",
    "Tom has 7 red apples and buys 25 more. How many apples has Tom?",
    "tom has 7 red apples and sells 25 more. How many apples has tom?",
  ]
  groups = splits.near_duplicate_groups(prompts, threshold=0.5)
  np.testing.assert_array_equal(groups, [0, 1, 0, 0])


def test_groups_agree_with_brute_force():
  rng = np.random.default_rng(0)
  words = np.array(["a", "b", "c", "d", "e"])
  prompts = [" ".join(rng.choice(words, 5)) for _ in range(40)]

  def shingles(text):
    parts = text.split()
    return {tuple(parts[i : i + 2]) for i in range(len(parts) - 1)}

  sets = [shingles(p) for p in prompts]
  near = np.array(
    [[len(a & b) / len(a | b) >= 0.6 for b in sets] for a in sets]
  )
  # Transitive closure by repeated squaring.
  for _ in range(6):
    near = (near.astype(int) @ near.astype(int)) > 0
  groups = splits.near_duplicate_groups(prompts, shingle=2, threshold=0.6)
  np.testing.assert_array_equal(groups[:, None] == groups[None, :], near)


@settings(deadline=None, max_examples=30)
@given(
  st.lists(st.integers(0, 12), min_size=8, max_size=60),
  st.integers(2, 4),
  st.integers(0, 9),
)
def test_folds_hold_each_question_out_once_and_never_split_a_group(
  groups, count, seed
):
  groups = np.array(groups)
  if len(np.unique(groups)) < count:
    with pytest.raises(ValueError, match="groups of near-duplicates"):
      list(splits.folds(groups, count, seed))
    return
  held = np.zeros(len(groups), int)
  for train, test in splits.folds(groups, count, seed):
    held[test] += 1
    assert len(train) + len(test) == len(groups)
    mask = np.zeros(len(groups), bool)
    mask[test] = True
    assert splits.crossings(groups, mask) == 0
  assert (held == 1).all()


def test_a_random_split_of_real_questions_leaks_and_folds_do_not():
  try:
    table = routing.load(_DATA)
  except ValueError:
    pytest.skip(f"{_DATA} is not there")
  table = table.take(np.arange(2000))
  groups = splits.near_duplicate_groups(table.prompts)
  random = np.random.default_rng(0).random(2000) < 0.2
  assert splits.crossings(groups, random) > 0
  train, test = next(splits.folds(groups, 5))
  fair = np.zeros(2000, bool)
  fair[test] = True
  assert splits.crossings(groups, fair) == 0
  assert 0.15 < fair.mean() < 0.25


def test_settings_out_of_range_are_refused():
  with pytest.raises(ValueError, match="at least one question"):
    splits.near_duplicate_groups([])
  with pytest.raises(ValueError, match="threshold"):
    splits.near_duplicate_groups(["a"], threshold=0.0)
