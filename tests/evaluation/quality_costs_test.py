# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.cost import cost_record
from jaxttc.cost import estimate as estimate_lib
from jaxttc.evaluation import hypervolume, quality_costs, record_tables

Curve = quality_costs.Curve


def logarithmic(scale=1.0, seeds=1, noise=0.0):
  """Quality 0.1 log2(cost / scale), measured at powers of two."""
  cost = np.tile(scale * 2.0 ** np.arange(9), (seeds, 1))
  shift = noise * np.arange(seeds)[:, None]
  return Curve(cost=cost, quality=0.1 * np.log2(cost / scale) + shift)


def test_targets_are_met_on_the_line_between_points():
  found = quality_costs.cost_to_target(logarithmic(), 0.25)
  assert found.cost.value == pytest.approx(2**2.5)
  assert found.cost.low == found.cost.high == found.cost.value
  assert quality_costs.cost_to_target(logarithmic(), -1.0).cost.value == 1.0
  never = quality_costs.cost_to_target(logarithmic(), 0.9)
  assert (never.cost, never.seeds) == (None, 0.0)
  some = quality_costs.cost_to_target(logarithmic(seeds=3, noise=0.1), 0.95)
  assert some.seeds == pytest.approx(1 / 3)


def test_the_first_crossing_counts():
  dips = Curve(
    cost=np.array([[1.0, 2.0, 4.0, 8.0]]),
    quality=np.array([[0.0, 0.6, 0.2, 0.9]]),
  )
  found = quality_costs.cost_to_target(dips, 0.5).cost.value
  assert found == pytest.approx(2 ** (0.5 / 0.6))


def test_quality_at_a_cost_and_area_on_a_logarithmic_scale():
  curve = logarithmic(seeds=3, noise=0.1)
  at = quality_costs.quality_at(curve, 2**2.5)
  assert at.value == pytest.approx(0.35)
  assert 0.25 <= at.low < at.value < at.high <= 0.45
  mean = quality_costs.area(logarithmic(), 2.0, 2**5.5)
  assert mean.value == pytest.approx(0.1 * (1 + 5.5) / 2)
  with pytest.raises(ValueError, match="reach outside"):
    quality_costs.area(logarithmic(), 0.5, 2.0)
  with pytest.raises(ValueError, match="reach outside"):
    quality_costs.quality_at(logarithmic(), 1e9)
  with pytest.raises(ValueError, match="low < high"):
    quality_costs.area(logarithmic(), 2.0, 2.0)


def test_speed_ups_are_reciprocal():
  slow, fast = logarithmic(4.0), logarithmic()
  up = quality_costs.speed_up(slow, fast, 0.3)
  assert up == pytest.approx(4.0)
  assert quality_costs.speed_up(fast, slow, 0.3) == pytest.approx(1 / up)
  assert quality_costs.speed_up(slow, fast, 5.0) is None


@pytest.mark.parametrize(
  ("cost", "quality", "message"),
  [
    ([[1.0, 2.0]], [[1.0]], "needs cost"),
    ([[2.0, 1.0]], [[0.0, 1.0]], "positive and rise"),
    ([[0.0, 1.0]], [[0.0, 1.0]], "positive and rise"),
    ([[1.0, 2.0]], [[0.0, np.nan]], "must be finite"),
  ],
)
def test_bad_curves_are_refused(cost, quality, message):
  with pytest.raises(ValueError, match=message):
    Curve(cost=np.array(cost), quality=np.array(quality))


def test_pareto_marks_what_nothing_beats():
  cost, score = np.array([1.0, 2, 2, 3]), np.array([0.2, 0.5, 0.4, 0.5])
  kept = quality_costs.pareto(np.stack([cost, score], 1), ("less", "more"))
  np.testing.assert_array_equal(kept, [True, True, False, False])


def test_fronts_are_those_of_brute_force():
  rng = np.random.default_rng(0)
  points = rng.integers(0, 12, (500, 3)).astype(float)  # ties and twins
  senses = ("less", "more", "less")
  signs = np.array([-1.0, 1.0, -1.0])

  def dominated(p):
    return any(
      (signs * q >= signs * p).all() and (signs * q > signs * p).any()
      for q in points
    )

  found = quality_costs.pareto(points, senses)
  assert found == [not dominated(p) for p in points]
  volume = lambda kept: hypervolume.hypervolume(  # noqa: E731
    signs * kept, signs * np.array([12.0, 0.0, 12.0]) - 1e-9
  )
  assert volume(points[np.array(found)]) == pytest.approx(volume(points))
  with pytest.raises(ValueError, match="NaN"):
    quality_costs.pareto([[1.0, np.nan]], ("more", "less"))
  with pytest.raises(ValueError, match="senses are"):
    quality_costs.pareto([[1.0]], ("max",))
  with pytest.raises(ValueError, match="expected points"):
    quality_costs.pareto([[1.0, 2.0]], ("more",))


def record(name, seconds, joules, provenance="measured", machine="box"):
  exact = estimate_lib.Estimate.exact
  return cost_record.CostRecord(
    name=name,
    machine=machine,
    figures={
      "seconds": exact(seconds, "s", "clock", "measured"),
      "joules": exact(joules, "J", "counter", provenance),
    },
  )


def test_records_are_compared_with_a_baseline():
  records = [record("dense", 4.0, 10.0), record("slim", 1.0, 5.0)]
  quality = {"dense": 0.8, "slim": 0.5}
  dense, slim = record_tables.compare(records, "dense", quality)
  assert dense.speed_up == 1.0 and slim.speed_up == 4.0
  assert slim.ratios == {"seconds": 0.25, "joules": 0.5}
  assert slim.per_quality == {"joules": 10.0}
  assert record_tables.table([dense, slim]).row_count == 2
  ranked = lambda target: [  # noqa: E731
    r.name
    for r in record_tables.leaderboard(
      records, "joules", quality, target=target
    )
  ]
  assert ranked(0.5) == ["slim", "dense"] and ranked(0.7) == ["dense"]


def test_unlike_records_are_compared_only_if_told():
  quality = {"a": 1.0, "b": 1.0}
  a = record("a", 1.0, 1.0)
  compare = record_tables.compare
  modelled = [a, record("b", 1.0, 1.0, "modelled")]
  with pytest.raises(ValueError, match="joules of 'b' is modelled, of 'a' mea"):
    compare(modelled, "a", quality)
  assert len(compare(modelled, "a", quality, allow=("provenance",))) == 2
  elsewhere = [a, record("b", 1.0, 1.0, machine="other")]
  with pytest.raises(ValueError, match="'b' ran on other, 'a' on box"):
    compare(elsewhere, "a", quality)
  assert len(compare(elsewhere, "a", quality, allow=("machine",))) == 2
  for call, message in (
    (lambda: compare([], "a", quality), "different names"),
    (lambda: compare([a, a], "a", quality), "different names"),
    (lambda: compare([a], "c", quality), "no record is called 'c'"),
    (lambda: compare([a], "a", {}), "needs a finite quality"),
    (lambda: compare([a], "a", quality, allow=("all",)), "allow may name"),
  ):
    with pytest.raises(ValueError, match=message):
      call()
