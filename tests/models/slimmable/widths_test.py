# SPDX-License-Identifier: Apache-2.0
import itertools
import json

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models.slimmable import widths

_MENU = (0.25, 0.5, 0.75, 1.0)
_SPACE = widths.WidthSpace(
  (widths.WidthGroup("first", 32), widths.WidthGroup("second", 64)),
  (("depth", widths.WidthGroup("decoder depth", 16, 4)),),
  _MENU,
)
_INDICES = st.tuples(*[st.integers(0, 3)] * 3)


@pytest.mark.parametrize(
  ("channels", "quantum", "ratio", "count"),
  [
    (64, 8, 0.25, 16),
    (64, 8, 0.75, 48),
    (24, 4, 0.25, 8),  # 6 lies between 4 and 8: upward
    (24, 4, 0.75, 20),  # 18 as well
    (32, 8, 0.3, 16),  # 9.6: 8 is more than a tenth below
    (64, 8, 0.3, 24),  # 19.2: 16 is too
    (160, 8, 0.35, 56),
    (16, 8, 0.25, 8),  # never less than a quantum
    (4, 8, 0.5, 4),  # nor more than there is
    (17, 8, 1.0, 17),  # ratio 1 is everything
  ],
)
def test_counts_by_hand(channels, quantum, ratio, count):
  group = widths.WidthGroup("group", channels, quantum)
  assert group.count(ratio) == count


@hypothesis.given(
  st.integers(1, 512),
  st.sampled_from([1, 2, 4, 8, 16]),
  st.lists(st.floats(0.01, 1.0), min_size=2, max_size=2),
)
def test_counts_are_quanta_near_the_ratio_and_rise_with_it(
  channels, quantum, ratios
):
  group = widths.WidthGroup("group", channels, quantum)
  low, high = sorted(ratios)
  assert group.count(low) <= group.count(high)
  for ratio in ratios:
    count, exact = group.count(ratio), channels * ratio
    assert count % quantum == 0 or count == channels
    assert min(quantum, channels) <= count <= channels
    assert count >= min(0.9 * exact, channels)
    if count > quantum:
      assert abs(count - exact) < quantum


@pytest.mark.parametrize(
  ("menu", "message"),
  [
    ((), "must ascend and end with 1"),
    ((0.5,), "must ascend and end with 1"),
    ((0.5, 0.25, 1.0), "must ascend and end with 1"),
    ((0.5, 0.5, 1.0), "must ascend and end with 1"),
    ((0.5, float("nan"), 1.0), "must ascend and end with 1"),
    ((0.5, 1.0, 1.5), "must ascend and end with 1"),
    ((0.0, 1.0), "positive, got 0.0"),
    ((-0.5, 1.0), "positive, got -0.5"),
    ((0.1, 0.2, 1.0), r"'first': 32 channels in steps of 8 .* \[8, 8, 32\]"),
  ],
)
def test_menus_that_cannot_be_are_refused(menu, message):
  with pytest.raises(ValueError, match=message):
    widths.WidthSpace((widths.WidthGroup("first", 32),), (), menu)


def test_two_tasks_of_one_name_are_refused():
  group = widths.WidthGroup("decoder", 32)
  with pytest.raises(ValueError, match="names of their own"):
    widths.WidthSpace((), (("depth", group), ("depth", group)))


def test_configurations_by_hand():
  config = _SPACE.config([0.25, 1, 0.5])
  assert config == widths.WidthConfig((0.25, 1.0), (("depth", 0.5),))
  assert config.ratios == (0.25, 1.0, 0.5)
  assert _SPACE.counts(config) == widths.Counts((8, 64), (8,))
  assert _SPACE.uniform(0.5) == _SPACE.config([0.5] * 3)
  assert _SPACE.counts(_SPACE.uniform()) == widths.Counts((32, 64), (16,))
  assert _SPACE.tasks == ("depth",)
  assert _SPACE.size() == 64
  np.testing.assert_array_equal(
    _SPACE.table(), [[8, 16, 24, 32], [16, 32, 48, 64], [4, 8, 12, 16]]
  )
  with pytest.raises(
    ValueError, match=r"expected 3 ratios \(first, second, decoder depth\)"
  ):
    _SPACE.config([1.0, 1.0])


@hypothesis.given(_INDICES)
def test_ratios_indices_json_and_counts_agree(indices):
  config = _SPACE.at(indices)
  assert tuple(_SPACE.indices(config)) == indices
  text = json.dumps(config.to_dict())
  assert widths.WidthConfig.from_dict(json.loads(text)) == config
  assert hash(config) == hash(widths.WidthConfig.from_dict(json.loads(text)))
  cut = _SPACE.counts(config)
  assert all(isinstance(n, int) for n in (*cut.encoder, *cut.decoders))
  found = _SPACE.table()[np.arange(3), list(indices)]
  assert (*cut.encoder, *cut.decoders) == tuple(found)


def test_traced_counts_are_those_of_the_table():
  every = _SPACE.all_indices()
  at = jax.jit(_SPACE.counts_at)
  found = at(jnp.asarray(every))
  assert found.encoder.shape == (64, 2) and found.decoders.shape == (64, 1)
  for row, indices in enumerate(every):
    encoder, decoders = _SPACE.counts(_SPACE.at(indices))
    assert tuple(found.encoder[row]) == encoder
    assert tuple(found.decoders[row]) == decoders


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (
      widths.WidthConfig((0.25, 0.3), (("depth", 1.0),)),
      r"'second': 0.3 is not one of the trained widths \(0.25, 0.5, 0.75, 1.0",
    ),
    (
      widths.WidthConfig((0.25, 1.0), (("depth", float("nan")),)),
      "'decoder depth': nan is not one",
    ),
    (
      widths.WidthConfig((0.25,), (("depth", 1.0),)),
      "expected 2 encoder widths and decoders depth; got 1 and depth",
    ),
    (
      widths.WidthConfig((0.25, 1.0), (("edges", 1.0),)),
      "expected 2 encoder widths and decoders depth; got 2 and edges",
    ),
  ],
)
def test_unknown_widths_are_named(config, message):
  for refuses in (_SPACE.check, _SPACE.counts, _SPACE.indices):
    with pytest.raises(widths.UnknownWidth, match=message):
      refuses(config)


@pytest.mark.parametrize(
  "fields",
  [
    None,
    3,
    [],
    {},
    {"encoder": [1.0]},
    {"decoders": {}},
    {"encoder": 1.0, "decoders": {}},
    {"encoder": "11", "decoders": {}},
    {"encoder": ["wide"], "decoders": {}},
    {"encoder": [None], "decoders": {}},
    {"encoder": [1.0], "decoders": [["depth", 1.0]]},
    {"encoder": [1.0], "decoders": {"depth": "wide"}},
    {"encoder": [1.0], "decoders": {}, "heads": 3},
    {("no", "json"): 1},
  ],
)
def test_json_that_is_no_configuration_is_refused(fields):
  with pytest.raises(ValueError, match="must be {encoder: .ratio, ..., deco"):
    widths.WidthConfig.from_dict(fields)


@pytest.mark.parametrize(
  ("places", "entries"), [(3, 4), (1, 5), (4, 1), (0, 3)]
)
def test_every_choice_is_listed_once_and_in_order(places, entries):
  found = widths.every_choice(places, entries)
  assert found.dtype == np.int32
  expected = list(itertools.product(range(entries), repeat=places))
  assert [tuple(row) for row in found] == expected


def test_the_first_groups_alone_can_be_listed():
  np.testing.assert_array_equal(
    _SPACE.all_indices(2), widths.every_choice(2, 4)
  )


def test_too_many_choices_are_not_listed():
  with pytest.raises(ValueError, match=r"4 \*\* 12 choices are too many"):
    widths.every_choice(12, 4)
