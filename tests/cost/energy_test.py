# SPDX-License-Identifier: Apache-2.0
import dataclasses
import datetime
import types

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.cost import carbon, energy, energy_counters
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import hardware as hardware_lib

H100 = hardware_lib.lookup("h100-sxm")
UTC = datetime.UTC


def exact(value, unit):
  return estimate_lib.Estimate.exact(value, unit, "test")


@pytest.fixture
def rapl(tmp_path):
  """A folder like the kernel's, and a function that sets its counters."""
  zones = {
    "intel-rapl:0": "package-0",
    "intel-rapl:0:0": "core",
    "intel-rapl:0:1": "dram",
  }
  for zone, kind in zones.items():
    (tmp_path / zone).mkdir()
    (tmp_path / zone / "name").write_text(f"{kind}\n")
    (tmp_path / zone / "max_energy_range_uj").write_text("1000000000\n")

  def put(**joules):
    for zone in zones:
      value = joules[zones[zone].split("-")[0]]
      (tmp_path / zone / "energy_uj").write_text(f"{value * 1e6:.0f}\n")

  put(package=990.0, core=5.0, dram=10.0)
  return tmp_path, put


def test_rapl_counts_packages_and_memory_and_wraps_around(rapl):
  folder, put = rapl
  counter = energy_counters.RaplCounter(folder)
  before = counter.read()
  assert set(before) == {"package-0 intel-rapl:0", "dram intel-rapl:0:1"}
  put(package=15.0, core=500.0, dram=12.5)
  after = counter.read()
  used = energy_counters.joules(before, after, counter.ranges())
  assert used == pytest.approx(25.0 + 2.5)
  with pytest.raises(ValueError, match="fell from 990.0 to 15.0 J"):
    energy_counters.joules(before, after, {})
  with pytest.raises(ValueError, match="in one reading only"):
    energy_counters.joules(before, {}, {})


def test_machines_without_counters_say_so(tmp_path, rapl):
  with pytest.raises(ValueError, match="no energy counter"):
    energy_counters.RaplCounter(tmp_path / "none")
  for name in ("intel-rapl:0", "intel-rapl:0:1"):
    (rapl[0] / name / "energy_uj").unlink()
  with pytest.raises(ValueError, match="no energy counter"):
    energy_counters.RaplCounter(rapl[0])
  assert all(counter.read() for counter in energy_counters.available())


def test_nvml_reads_every_card(monkeypatch):
  spent = {0: 5000, 1: 7000}
  nvml = types.SimpleNamespace(
    NVMLError=RuntimeError,
    nvmlInit=lambda: None,
    nvmlDeviceGetCount=lambda: 2,
    nvmlDeviceGetHandleByIndex=lambda i: i,
    nvmlDeviceGetTotalEnergyConsumption=lambda card: spent[card],
  )
  monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
  counter = energy_counters.NvmlCounter()
  assert counter.read() == {"gpu 0": 5.0, "gpu 1": 7.0}
  assert energy_counters.NvmlCounter([1]).read() == {"gpu 1": 7.0}
  before = counter.read()
  spent[1] += 1500
  assert energy_counters.joules(before, counter.read(), {}) == 1.5

  def broken():
    raise RuntimeError("driver not loaded")

  nvml.nvmlInit = broken
  with pytest.raises(ValueError, match="driver not loaded"):
    energy_counters.NvmlCounter()
  monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
  with pytest.raises(ValueError, match=r"jaxttc\[energy\]"):
    energy_counters.NvmlCounter()


@hypothesis.given(st.floats(1e-6, 1), st.floats(1e-3, 1e6))
def test_modelled_energy_lies_between_idle_and_the_limit(share, seconds):
  found = energy.modelled(H100, 4, seconds, share)
  limit = 4 * 700 * seconds
  idle = 0.1 * limit
  assert found.total.value == pytest.approx(idle + 0.9 * limit * share)
  assert found.total.value - found.marginal.value == pytest.approx(idle)
  assert found.total.low <= found.total.value <= found.total.high
  assert found.total.high == pytest.approx(limit)
  assert found.total.provenance == "modelled"


def test_constant_power_is_power_times_time_however_it_is_cut():
  whole = energy.constant(250, 3600.0).value
  parts = sum(energy.constant(250, part).value for part in (600.0, 3000.0))
  assert whole == parts == 250 * 3600
  assert energy.constant(1, 1).provenance == "assumed"


def test_money_of_energy_of_rent_and_of_purchase():
  prices = energy.Prices(
    dollars_per_kwh=0.1,
    pue=1.2,
    storage_dollars_per_gb_month=0.02,
    egress_dollars_per_gb=0.05,
  )
  assert prices.electricity(exact(3.6e6, "J")).value == pytest.approx(0.12)
  assert prices.kept(100, 3).value == pytest.approx(6.0)
  assert prices.sent(100).value == pytest.approx(5.0)
  hour = exact(3600.0, "s")
  assert energy.rent(H100, hour).value == pytest.approx(3.99)
  assert energy.purchased(30_000, 30_000, hour).value == pytest.approx(1.0)


def test_carbon_of_a_constant_is_kwh_times_pue_times_intensity():
  flat = carbon.Intensity.constant(400, "test, location-based")
  found = carbon.emitted(exact(7.2e6, "J"), flat, pue=1.5)
  assert found.value == pytest.approx(2 * 1.5 * 400 / 1000)
  assert found.unit == "kgCO2e" and found.provenance == "modelled"


SERIES = """timestamp,g_per_kwh
2026-01-31T00:00:00Z,100
2026-01-31T02:00:00+01:00,300
2026-01-31T02:00:00Z,100
"""


def test_carbon_of_a_series_follows_the_hours(tmp_path):
  path = tmp_path / "grid.csv"
  path.write_text(SERIES)
  series = carbon.Intensity.read(path)
  start = datetime.datetime(2026, 1, 31, 0, 30, tzinfo=UTC)
  assert series.mean(start) == pytest.approx(200.0)
  # From 0:30 to 1:30: up to 300 at 1:00 and down again.
  assert series.mean(start, 3600) == pytest.approx(250.0)
  fine = [
    series.mean(start + datetime.timedelta(seconds=float(s)))
    for s in np.linspace(0, 3600, 3601)
  ]
  assert series.mean(start, 3600) == pytest.approx(np.mean(fine), rel=1e-3)
  found = carbon.emitted(exact(3.6e6, "J"), series, start=start, seconds=3600)
  assert found.value == pytest.approx(0.25)
  with pytest.raises(ValueError, match="not of 2026-01-31T00:30"):
    series.mean(start, 36_000)
  with pytest.raises(ValueError, match="need a start with its zone"):
    series.mean()
  with pytest.raises(ValueError, match="need a start with its zone"):
    series.mean(start.replace(tzinfo=None))


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("timestamp\n", "no column g_per_kwh"),
    ("timestamp,g_per_kwh\n", "no rows"),
    ("timestamp,g_per_kwh\nnow,3\n", "row 2, column timestamp: expected ISO"),
    ("timestamp,g_per_kwh\n2026-01-31T00:00:00,3\n", "has no zone"),
    (SERIES + "2026-01-31T01:00:00Z,1\n", "row 5, .* not after the row before"),
    (SERIES + "2026-01-31T03:00:00Z,-1\n", "row 5, column g_per_kwh"),
    (SERIES + "2026-01-31T03:00:00Z,nan\n", "row 5, column g_per_kwh"),
    (SERIES + "2026-01-31T03:00:00Z\n", "row 5, column g_per_kwh"),
  ],
)
def test_bad_series_are_named(text, message, tmp_path):
  path = tmp_path / "grid.csv"
  path.write_text(text)
  with pytest.raises(ValueError, match=f"grid.csv.*{message}"):
    carbon.Intensity.read(path)


def test_bad_input_is_refused():
  joules = exact(1.0, "J")
  flat = carbon.Intensity.constant(1, "test")
  unpowered = dataclasses.replace(H100, watts=None)
  for call, message in (
    (lambda: energy.modelled(unpowered, 1, 1.0, 0.5), "no known watts"),
    (lambda: energy.modelled(H100, 0, 1.0, 0.5), "devices >= 1"),
    (lambda: energy.modelled(H100, 1, -1.0, 0.5), "seconds >= 0"),
    (lambda: energy.modelled(H100, 1, 1.0, 1.5), "utilisation must be at most"),
    (lambda: energy.constant(-1, 1), "watts and seconds"),
    (lambda: energy.Prices(pue=0.9), "PUE is"),
    (lambda: energy.Prices(dollars_per_kwh=-1.0), "dollars_per_kwh must be"),
    (lambda: energy.Prices(egress_dollars_per_gb=-1.0), "egress"),
    (lambda: energy.Prices().electricity(joules), "which is not given"),
    (
      lambda: energy.rent(hardware_lib.lookup("t4"), exact(1, "s")),
      "no known dollars_per_hour",
    ),
    (lambda: energy.purchased(1, 0, exact(1, "s")), "lifetime > 0"),
    (lambda: carbon.emitted(joules, flat, pue=0.5), "PUE is"),
    (lambda: carbon.emitted(exact(1, "s"), flat), "must be in J, got s"),
    (lambda: carbon.Intensity.constant(-1, "x"), "intensity must be finite"),
    (lambda: carbon.Intensity.constant(1, ""), "needs a source"),
  ):
    with pytest.raises(ValueError, match=message):
      call()
