# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.allocators import width_prices
from jaxttc.cost import hardware
from jaxttc.models.slimmable import costs, network

_NET = network.NetworkSpec(
  encoder={"kind": "mlp", "hidden": (16, 16)},
  tasks=(("depth", 2, False), ("kind", 3, False)),
  input_shape=(5,),
  hidden=16,
  norm="none",
  quantum=4,
).build()
_EVERY = _NET.space.all_indices()


def test_units_follow_from_the_networks_costs():
  prices = width_prices.WidthPrices(_NET)
  found = costs.tabulate(_NET, _EVERY)
  for unit in ("macs", "parameters", "activations"):
    np.testing.assert_array_equal(prices(_EVERY, unit), getattr(found, unit))
  np.testing.assert_array_equal(prices(_EVERY, "flops"), 2 * found.macs)
  fraction = prices(_EVERY, "fraction")
  np.testing.assert_allclose(fraction, found.macs / found.macs[-1])
  assert prices(prices.ends["high"], "fraction") == [1.0]
  assert prices(prices.ends["low"], "fraction") == fraction.min()


def test_all_units_of_the_full_network_by_hand():
  prices = width_prices.WidthPrices(_NET)
  macs = 5 * 16 + 3 * 16 * 16 + 16 * 2 + 16 * 3
  numbers = macs + 4 * 16 + 2 + 3  # and a bias an output
  full = prices.ends["high"]
  assert prices(full, "macs") == [macs]
  assert prices(full, "parameters") == [numbers]
  assert prices(full, "activations") == [4 * 16 + 2 + 3]


def test_joules_are_the_time_at_peak_times_the_power():
  chip = hardware.lookup("h100-sxm")
  prices = width_prices.WidthPrices(_NET, hardware=chip, dtype="bfloat16")
  flops = prices(_EVERY, "flops")
  expected = flops / chip.peak("bfloat16") * chip.watts
  np.testing.assert_allclose(prices(_EVERY, "joules"), expected)


def test_latency_is_what_the_table_says():
  table = lambda indices: 1.5 + indices.sum(1)  # noqa: E731
  prices = width_prices.WidthPrices(_NET, latency_ms=table)
  np.testing.assert_array_equal(
    prices(np.array([[0, 1, 2, 3]]), "latency_ms"), [7.5]
  )


@pytest.mark.parametrize(
  ("unit", "message"),
  [
    ("latency_ms", "needs a table measured on this machine"),
    ("joules", "needs hardware"),
    ("stones", "'stones' is not one of macs, flops, fraction"),
  ],
)
def test_units_that_cannot_be_priced_are_refused(unit, message):
  prices = width_prices.WidthPrices(_NET)
  with pytest.raises(ValueError, match=message):
    prices(_EVERY, unit)


def test_prices_stay_right_when_many_questions_were_asked():
  prices = width_prices.WidthPrices(_NET)
  found = costs.tabulate(_NET, _EVERY).macs
  for _ in range(2):
    for i in range(80):  # more than are remembered
      assert prices(_EVERY[i : i + 1], "macs") == [found[i]]


@pytest.mark.parametrize(
  "budget", [0.0, -1.0, float("nan"), float("inf"), -float("inf")]
)
def test_budgets_that_cannot_be_are_refused(budget):
  with pytest.raises(
    ValueError, match="must be a positive number of macs, got"
  ):
    width_prices.check_budget(budget, "macs")


def test_units_are_checked_before_budgets():
  with pytest.raises(ValueError, match="budget unit 'tokens' is not one of"):
    width_prices.check_budget(-1.0, "tokens")
  assert width_prices.check_budget(0.5, "fraction") == 0.5


def test_bytes_are_of_all_numbers_that_are_read_and_written():
  found = costs.tabulate(_NET, _EVERY)
  for dtype, size in (("float32", 4), ("bfloat16", 2)):
    prices = width_prices.WidthPrices(_NET, dtype=dtype)
    np.testing.assert_array_equal(
      prices(_EVERY, "bytes"), size * (found.parameters + found.activations)
    )


@pytest.mark.parametrize(
  ("text", "unit", "expected"),
  [
    ("0.5", None, (0.5, "fraction")),
    ("50%", None, (0.5, "fraction")),
    ("200M", "flops", (2e8, "flops")),
    (" 1.5k ", "parameters", (1500.0, "parameters")),
    ("512MiB", None, (512 * 1024**2, "bytes")),
    ("512 MB", "bytes", (512e6, "bytes")),
    ("3", "bytes", (3.0, "bytes")),
    ("250us", None, (0.25, "latency_ms")),
    ("2ms", None, (2.0, "latency_ms")),
    ("1e-3J", None, (1e-3, "joules")),
    (".5e3", "macs", (500.0, "macs")),
  ],
)
def test_budgets_are_read_from_text(text, unit, expected):
  budget, found = width_prices.parse_budget(text, unit)
  assert (budget, found) == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize(
  ("text", "unit", "message"),
  [
    ("much", None, "'much' is not a number with a suffix, as 0.5"),
    ("", None, "'' is not a number"),
    ("nan", "macs", "'nan' is not a number"),
    ("1.2.3", "macs", "have no suffix '.3'"),
    ("200M", None, "'M' may be of macs, flops, parameters, activations; say"),
    ("3parsecs", None, "no unit has the suffix 'parsecs'; known are k, M"),
    ("512MiB", "macs", "macs have no suffix 'MiB'.*ends in k, M, G, T"),
    ("512M", "bytes", "bytes have no suffix 'M'.*ends in B, kB"),
    ("5m", "latency_ms", "no suffix 'm'.*us, ms, s"),
    ("1", "stones", "'stones' is not one of"),
    ("-1", None, "must be a positive number of fraction"),
    ("0MiB", None, "must be a positive number of bytes"),
    ("1e999", "macs", "must be a positive number of macs, got inf"),
  ],
)
def test_budgets_that_cannot_be_read_are_refused(text, unit, message):
  with pytest.raises(ValueError, match=message):
    width_prices.parse_budget(text, unit)
