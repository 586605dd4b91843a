# SPDX-License-Identifier: Apache-2.0
"""Power and phase times from a serving profile."""

import pathlib

import numpy as np
import pytest

from jaxttc.simulation import traces
from jaxttc.simulation.power import model, profile, services

REAL = (
  pathlib.Path(__file__).resolve().parents[4]
  / "shared/data/llm_serving/splitwise_perf_model.csv"
)
HEADER = (
  "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,"
  "prompt_time,token_time,e2e_time,tensor_parallel\n"
)
# A request of 1 s prompt at 0.9 and 4 s tokens at 0.5: 0.58 on average.
ROWS = (
  "m,h,100,1,11,0.9,0.58,1000,400,5000,8\n"
  "m,h,300,1,11,1.0,0.60,1000,400,5000,8\n"
  "m,h,300,1,21,0,0,1000,400,9000,8\n"
  "m,other,300,1,21,0,0,1000,400,9000,8\n"
)


def _load(tmp_path, text=HEADER + ROWS, **changes):
  path = tmp_path / "profile.csv"
  path.write_text(text)
  which = {"model": "m", "hardware": "h", "tensor_parallel": 8} | changes
  return profile.load(path, **which)


def test_takes_the_prompt_out_of_the_mean(tmp_path):
  found = _load(tmp_path)
  assert found.tokens.tolist() == [100, 300]
  assert found.prompt_share.tolist() == [0.9, 1.0]
  np.testing.assert_allclose(found.token_share, [0.5])
  np.testing.assert_allclose(found.token_s, [0.4])
  watts = found.watts(gpu_w=400.0, gpus=8, other_w=1000.0)
  prompt, token = watts(np.array([100, 200]), np.array([1, 1]))
  np.testing.assert_allclose(prompt, [1000 + 3200 * 0.9, 1000 + 3200 * 0.95])
  np.testing.assert_allclose(token, 1000 + 3200 * 0.5)


def test_goes_beyond_what_was_measured_only_when_asked(tmp_path):
  found = _load(tmp_path)
  strict = found.watts(gpu_w=400.0, gpus=8, other_w=1000.0)
  with pytest.raises(ValueError, match="request 1: 400 prompt tokens; m on h"):
    strict(np.array([200, 400]), np.array([1, 1]))
  loose = found.watts(gpu_w=400.0, gpus=8, other_w=1000.0, extrapolate=True)
  assert loose(np.array([400]), np.array([1]))[0][0] == 4200
  power = model.PowerModel(900.0, loose)
  trace = traces.Trace(
    np.array([0.0, 1.0]), np.array([100, 500]), np.array([1, 11])
  )
  with pytest.raises(ValueError, match="request 1: 500 prompt tokens"):
    found.stream(trace, power)
  stream = found.stream(trace, power, extrapolate=True)
  np.testing.assert_allclose(stream.token_s, [0.0, 4.0])
  np.testing.assert_allclose(stream.prompt_s, [1.0, 1.0])


@pytest.mark.parametrize(
  "text, changes, message",
  [
    (HEADER + ROWS, {"hardware": "other"}, "which means not measured, in all"),
    (HEADER + ROWS, {"model": "x"}, "no rows for x on h x 8; it has m h 8"),
    (HEADER.replace("peak_power", "peak") + ROWS, {}, "no column peak_power"),
    (
      HEADER + "m,h,100,1,11,watt,0.58,1000,400,5000,8\n",
      {},
      "row 2, column peak_power: 'watt'",
    ),
    (
      HEADER + "m,h,100,1,11,0.9,0.58,1000,-4,5000,8\n",
      {},
      "row 2, column token_time: '-4'",
    ),
    (HEADER + ROWS.split("\n")[0] + "\n", {}, "one prompt size measured"),
  ],
)
def test_refuses_profiles_that_cannot_be(tmp_path, text, changes, message):
  with pytest.raises(ValueError, match=message):
    _load(tmp_path, text, **changes)


def test_refuses_servers_that_cannot_be(tmp_path):
  with pytest.raises(ValueError, match="gpu_w is 0.0"):
    _load(tmp_path).watts(gpu_w=0.0, gpus=8, other_w=1.0)
  with pytest.raises(ValueError, match="other_w is -1.0"):
    _load(tmp_path).watts(gpu_w=1.0, gpus=8, other_w=-1.0)


@pytest.mark.skipif(not REAL.exists(), reason=f"no {REAL.name}")
def test_the_measured_profile_has_power_on_one_machine_only():
  found = profile.load(
    REAL, model="bloom-176b", hardware="a100-80gb", tensor_parallel=8
  )
  assert found.prompt_share[0] == pytest.approx(0.69, abs=0.01)
  assert (np.diff(found.tokens) > 0).all()
  # Decoding draws far less than long prompts do.
  assert 0.5 < found.token_share[0] < 0.7 < found.prompt_share.max()
  with pytest.raises(ValueError, match="not measured"):
    profile.load(
      REAL, model="bloom-176b", hardware="h100-80gb", tensor_parallel=8
    )


def test_services_load_a_row_as_asked(tmp_path):
  found = _load(tmp_path)
  watts = found.watts(gpu_w=400.0, gpus=8, other_w=1000.0)
  power = model.PowerModel(900.0, watts)
  served = (
    services.Service("short", (100, 200), (2, 10), low=1.0, high=0.0),
    services.Service("long", (200, 300), (50, 90), low=0.0, high=1.0),
  )
  row = services.row(
    0,
    servers=21,
    horizon_s=20_000.0,
    profile=found,
    power=power,
    busy=(0.5, 0.5),
    services=served,
  )
  assert row.high.sum() == 10
  real = np.isfinite(row.arrival_s)
  work = np.where(real, row.prompt_s + row.token_s, 0).sum(1)
  assert work[row.high].mean() / 20_000 == pytest.approx(0.5, rel=0.1)
  assert work[~row.high].mean() / 20_000 == pytest.approx(0.5, rel=0.1)
  with pytest.raises(ValueError, match="no service has requests of high"):
    services.row(
      0,
      servers=4,
      horizon_s=10.0,
      profile=found,
      power=power,
      services=served[:1],
    )
  with pytest.raises(ValueError, match="lengths from 5 to 3"):
    services.Service("x", (5, 3), (1, 1), 1.0, 0.0)
  with pytest.raises(ValueError, match="shares 0.0 and 0.0"):
    services.Service("x", (1, 3), (1, 1), 0.0, 0.0)
