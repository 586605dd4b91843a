# SPDX-License-Identifier: Apache-2.0
import datetime
import math

import pytest

from jaxttc.cost import effective_compute as ec
from jaxttc.cost import estimate as estimate_lib

Estimate, Point = estimate_lib.Estimate, ec.Point
TODAY = datetime.date(2026, 1, 1)


def exact(value, unit="FLOP"):
  return Estimate.exact(value, unit, "test")


def test_effective_compute_doubles_with_its_doubling_time():
  later = TODAY + datetime.timedelta(days=365)
  year = 365 / (365.25 / 12)
  found = ec.effective(exact(1e24), later, TODAY, exact(year / 2, "1"))
  assert found.value == pytest.approx(4e24) and found.high == found.low
  earlier = ec.effective(exact(1e24), TODAY, later, exact(year, "1"))
  assert earlier.value == pytest.approx(5e23)
  unsure = ec.effective(exact(1e24), later, TODAY)
  assert unsure.value == pytest.approx(1e24 * 2 ** (year / 8))
  assert unsure.low == pytest.approx(1e24 * 2 ** (year / 14), rel=0.02)
  assert unsure.high == pytest.approx(1e24 * 2 ** (year / 5), rel=0.02)
  better = ec.effective(
    exact(1e24), TODAY, TODAY, quality=exact(1.5, "1"), seed=3
  )
  assert better.value == pytest.approx(1.5e24)


def test_a_life_is_training_and_queries():
  life = ec.lifetime(exact(10.0), exact(2.0), 5)
  assert life.value == 20.0
  with pytest.raises(ValueError, match="must be in FLOP"):
    ec.lifetime(exact(10.0), exact(2.0, "FLOP/s"), 5)


def test_multiples_invert_a_curve_that_is_known():
  """Accuracy a + b ln F, and search worth k^0.5 of training."""
  accuracy = lambda flop: 0.2 + 0.1 * math.log(flop)  # noqa: E731
  training = [Point(compute=f, quality=accuracy(f)) for f in (1, 3, 10, 100)]
  search = [
    Point(compute=k, quality=accuracy(10 * k**0.5)) for k in (1, 4, 16, 64)
  ]
  found = ec.train_multiples(search, training, base=10)
  assert [m.search for m in found] == [1, 4, 16, 64]
  for multiple in found:
    assert multiple.training == pytest.approx(multiple.search**0.5, rel=1e-6)
    assert multiple.low == pytest.approx(multiple.high)
    assert multiple.beyond == 0
  # The curve ends at 100: what is better than that is at least 10 times.
  [past] = ec.train_multiples(
    [Point(compute=1e4, quality=5.0)], training, base=10
  )
  assert past.training == pytest.approx(10) and past.high is None
  assert past.beyond == 1.0


def test_errors_of_the_curves_widen_the_interval():
  training = [
    Point(compute=f, quality=q, error=0.01) for f, q in ((1, 0.5), (4, 0.7))
  ]
  narrow, wide = (
    ec.train_multiples(
      [Point(compute=8, quality=0.6, error=error)], training, base=1, seed=1
    )[0]
    for error in (0.0, 0.03)
  )
  assert narrow.training == wide.training == pytest.approx(2.0)
  assert wide.low < narrow.low < 2.0 < narrow.high < wide.high
  dipping = [*training, Point(compute=2, quality=0.4)]
  [found] = ec.train_multiples([Point(compute=1, quality=0.6)], dipping, base=1)
  assert 2.0 < found.training < 4.0


def test_bad_input_is_refused():
  point = Point(compute=1, quality=1)
  for call, message in (
    (lambda: ec.train_multiples([], [point, point], 1), "needs a point"),
    (lambda: ec.train_multiples([point], [point], 1), "two of training"),
    (lambda: ec.train_multiples([point], [point] * 2, 1), "one compute"),
    (
      lambda: ec.train_multiples([point], [point] * 2, -1),
      "base must be positive",
    ),
    (lambda: Point(compute=0, quality=1), "compute must be positive"),
    (lambda: Point(compute=1, quality=math.nan), "quality must be finite"),
    (lambda: Point(compute=1, quality=1, error=-1), "error must be finite"),
    (
      lambda: ec.effective(exact(1), TODAY, TODAY, exact(0, "1")),
      "must be positive",
    ),
  ):
    with pytest.raises(ValueError, match=message):
      call()
