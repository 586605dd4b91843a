# SPDX-License-Identifier: Apache-2.0
"""Performance models read, fit, extrapolate and refuse as they say."""

import pathlib

import numpy as np
import pytest

from jaxttc.simulation import clusters

_REAL = (
  pathlib.Path(__file__).resolve().parents[4]
  / "shared/data/llm_serving/splitwise_perf_model.csv"
)
_HEADER = (
  "model,hardware,prompt_size,batch_size,token_size,peak_power,average_power,"
  "prompt_time,token_time,e2e_time,tensor_parallel"
)


def _row(prompt, batch, prompt_ms, token_ms, tokens=100):
  return f"m,h,{prompt},{batch},{tokens},1,1,{prompt_ms},{token_ms},1,8"


def _write(path, *rows):
  path.write_text("\n".join((_HEADER, *rows)) + "\n")
  return path


def test_table_takes_medians_and_straight_lines(tmp_path):
  rows = [
    _row(p, b, 10 + 0.1 * p * b + noise, 30 + b + 0.01 * b * (p + 50))
    for p, b in ((100, 1), (200, 1), (400, 1), (100, 2), (100, 4), (100, 8))
    for noise in (-1, 0, 30)
  ]
  table = clusters.load_table(
    _write(tmp_path / "t.csv", *rows), model="m", hardware="h", reach=2.0
  )
  seconds = table.prompt_s(np.array([1, 100, 150, 800, 1600]))
  np.testing.assert_allclose(seconds, [0.02, 0.02, 0.025, 0.09, 0.17])
  np.testing.assert_allclose(table.decode, (0.03, 0.001, 1e-5), rtol=1e-6)


def test_table_refuses_to_reach_further_than_asked(tmp_path):
  file = _write(tmp_path / "t.csv", _row(100, 1, 20, 30), _row(200, 2, 40, 40))
  table = clusters.load_table(file, model="m", hardware="h")
  with pytest.raises(ValueError, match=r"401 prompt tokens.*100 to 400; raise"):
    table.prompt_s(np.array([401]))


@pytest.mark.parametrize(
  ("rows", "message"),
  [
    ((_row(100, 1, 20, "x"), _row(200, 1, 20, 3)), "row 2, column token_time"),
    ((_row(100, 1, 20, 3), _row(200, 1, -1, 3)), "row 3, column prompt_time"),
    ((_row(100, 1, 20, 3),), r"no measurements of m/h/8; it holds m/h/8"),
  ],
)
def test_table_refuses_bad_files(tmp_path, rows, message):
  with pytest.raises(ValueError, match=message):
    clusters.load_table(
      _write(tmp_path / "t.csv", *rows), model="m", hardware="h"
    )


def test_table_names_what_is_missing(tmp_path):
  file = tmp_path / "t.csv"
  with pytest.raises(ValueError, match="no such file"):
    clusters.load_table(file, model="m", hardware="h")
  file.write_text("model,hardware\nm,h\n")
  with pytest.raises(ValueError, match="row 1: no column tensor_parallel"):
    clusters.load_table(file, model="m", hardware="h")


def test_roofline_is_bound_by_weights_then_by_arithmetic():
  roofline = clusters.RooflinePerformance(
    flops_per_s=1e15,
    bytes_per_s=2e12,
    parameters=70e9,
    layers=80,
    dimension=8192,
    kv_bytes_per_token=3e5,
  )
  short, long = roofline.prompt_s(np.array([1, 8192]))
  assert short == roofline.decode.base == pytest.approx(0.07)
  pairs = 2 * 80 * 8192 * 8192**2
  assert long == pytest.approx((2 * 70e9 * 8192 + pairs) / 1e15)
  with pytest.raises(ValueError, match="roofline: layers must be positive"):
    clusters.RooflinePerformance(
      flops_per_s=1.0,
      bytes_per_s=1.0,
      parameters=1.0,
      layers=0,
      dimension=1,
      kv_bytes_per_token=1.0,
    )


def test_linear_refuses_negative_times():
  with pytest.raises(ValueError, match="prompt seconds"):
    clusters.LinearPerformance(-1.0, 1.0, clusters.Decode(1.0, 0.0, 0.0))


def test_reads_the_real_table():
  if not _REAL.is_file():
    pytest.skip(f"{_REAL.name} is not at hand (splitwise-sim)")
  kinds = clusters.dgx(_REAL)
  tokens = np.array([512, 2048])
  h100, a100 = (kinds[k].performance.prompt_s(tokens) for k in ("H100", "A100"))
  np.testing.assert_allclose(h100, [0.0755, 0.2531], rtol=0.02)
  np.testing.assert_allclose(a100, [0.1738, 0.5404], rtol=0.02)
  capped = kinds["H100 capped"].performance.prompt_s(tokens)
  np.testing.assert_allclose(capped, 1.3 * h100, rtol=0.01)
  base, sequence, cached = kinds["H100"].performance.decode
  assert base == pytest.approx(0.0355, rel=0.02)
  assert sequence == pytest.approx(0.00035, rel=0.2)
  assert cached == pytest.approx(1.6e-7, rel=0.1)
  assert kinds["A100"].capacity_tokens(clusters.BLOOM_176B) == 89_234
