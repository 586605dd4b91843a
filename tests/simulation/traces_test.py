# SPDX-License-Identifier: Apache-2.0
"""Traces are read as they are written, and bad ones are refused by place."""

import gzip
import pathlib

import numpy as np
import pytest

from jaxttc.simulation import traces

_REAL = (
  pathlib.Path(__file__).resolve().parents[3]
  / "shared/data/llm_serving/azure_llm_trace_conv.csv"
)
_AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"


def _write(path, *rows):
  path.write_text("\n".join(rows) + "\n")
  return path


def test_azure_keeps_a_hundred_nanoseconds(tmp_path):
  file = _write(
    tmp_path / "a.csv",
    _AZURE,
    "2023-11-16 18:15:46.6805900,374,44",
    "2023-11-16 18:15:46.6805901,5,1",
    "2023-11-16 18:15:50.9951690,396,109",
  )
  trace = traces.load(file)
  np.testing.assert_allclose(trace.arrival_s, [0, 1e-7, 4.314579], rtol=1e-12)
  assert trace.prompt_tokens.tolist() == [374, 5, 396]
  assert trace.output_tokens.tolist() == [44, 1, 109]
  assert trace.start == np.datetime64("2023-11-16T18:15:46.6805900", "ns")


@pytest.mark.parametrize("zone", ["Z", "+00:00", "+0000"])
def test_later_azure_files_have_zones_and_images(tmp_path, zone):
  file = _write(
    tmp_path / "a.csv",
    "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens",
    f"2024-05-10 00:00:00.009930{zone},0,2162,5",
    f"2024-05-10T00:00:01{zone},3,7,5",
  )
  trace = traces.load(file)
  np.testing.assert_allclose(trace.arrival_s, [0, 0.99007])
  assert trace.prompt_tokens.tolist() == [2162, 7]


def test_formats_that_count_seconds(tmp_path):
  vidur = _write(
    tmp_path / "v.csv",
    "arrived_at,num_prefill_tokens,num_decode_tokens",
    "2.5,10,3",
    "",
    "4.0,20,4",
  )
  simulator = tmp_path / "s.csv.gz"
  simulator.write_bytes(
    gzip.compress(
      b"request_id,request_type,application_id,arrival_timestamp,batch_size,"
      b"prompt_size,token_size\r\n0,2,0,2.5,1,10,3\r\n1,2,0,4.0,1,20,4\r\n"
    )
  )
  for trace in (traces.load(vidur), traces.load(simulator)):
    assert trace.arrival_s.tolist() == [0, 1.5]
    assert trace.prompt_tokens.tolist() == [10, 20]
    assert trace.output_tokens.tolist() == [3, 4]
    assert trace.start is None


@pytest.mark.parametrize("start", [None, "2023-11-16T18:15:46.680590"])
def test_written_traces_read_equal(tmp_path, start):
  start = start and np.datetime64(start, "ns")
  trace = traces.Trace([0.0, 0.1234567, 7e4], [1, 2, 3], [4, 5, 6], start)
  traces.save(trace, tmp_path / "folder" / "t.csv")
  read = traces.load(tmp_path / "folder" / "t.csv")
  np.testing.assert_array_equal(read.arrival_s, trace.arrival_s)
  np.testing.assert_array_equal(read.prompt_tokens, trace.prompt_tokens)
  np.testing.assert_array_equal(read.output_tokens, trace.output_tokens)
  assert read.start == trace.start


def test_sorts_only_when_asked(tmp_path):
  rows = ("3.0,1,1", "1.0,2,2", "3.0,3,3")
  file = _write(
    tmp_path / "v.csv", "arrived_at,num_prefill_tokens,num_decode_tokens", *rows
  )
  with pytest.raises(ValueError, match=r"row 3, column arrived_at.*sort=True"):
    traces.load(file)
  trace = traces.load(file, sort=True)
  assert trace.arrival_s.tolist() == [0, 2, 2]
  assert trace.prompt_tokens.tolist() == [2, 1, 3]


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ("2023-11-16 18:15:46.1,0,5", "row 3, column ContextTokens: 0 is below 1"),
    ("2023-11-16 18:15:46.1,5,0", "row 3, column GeneratedTokens: 0 is below"),
    (
      "2023-11-16 18:15:46.1,5,x",
      "row 3, column GeneratedTokens: 'x' is not a",
    ),
    (
      "2023-11-16 18:15:46.1,nan,5",
      "row 3, column ContextTokens: 'nan' is not",
    ),
    ("2023-11-16 18:15:46.1,5", "row 3, column GeneratedTokens: missing"),
    ("2023-11-16 18:15:46.1+02:00,5,5", r"row 3.*another time zone"),
    ("2023-11-16 18:15:46.1Z,5,5", r"row 3.*has a time zone, unlike"),
    ("2023-13-16 18:15:46.1,5,5", r"row 3, column TIMESTAMP.*is not a time"),
    ("16.11.2023,5,5", r"row 3, column TIMESTAMP.*is not a time"),
    ("2023-11-16 18:15:44,5,5", r"row 3, column TIMESTAMP.*before the row"),
  ],
)
def test_refuses_bad_rows_by_row_and_column(tmp_path, row, message):
  file = _write(tmp_path / "a.csv", _AZURE, "2023-11-16 18:15:45.5,9,9", row)
  with pytest.raises(ValueError, match=message) as error:
    traces.load(file)
  assert "\n" not in str(error.value)
  assert str(file) in str(error.value)


def test_refuses_bad_seconds(tmp_path):
  header = "arrived_at,num_prefill_tokens,num_decode_tokens"
  for time, why in (("-1", "negative"), ("nan", "not finite"), ("a", "not a")):
    file = _write(tmp_path / "v.csv", header, f"{time},1,1")
    with pytest.raises(ValueError, match=f"row 2, column arrived_at.*{why}"):
      traces.load(file)


def test_refuses_files_that_are_no_traces(tmp_path):
  with pytest.raises(ValueError, match="no such file"):
    traces.load(tmp_path / "absent.csv")
  with pytest.raises(ValueError, match="no requests"):
    traces.load(_write(tmp_path / "e.csv", _AZURE))
  with pytest.raises(ValueError, match="no known trace"):
    traces.load(_write(tmp_path / "h.csv", "a,b", "1,2"))
  with pytest.raises(ValueError, match="row 1: no column GeneratedTokens"):
    traces.load(_write(tmp_path / "h.csv", "TIMESTAMP,ContextTokens", "1,2"))


def test_rates_and_parts():
  trace = traces.Trace([1.0, 2.0, 5.0], [1, 2, 3], [1, 1, 1])
  assert trace.rate_per_s == 0.5
  assert trace.at_rate(2.0).rate_per_s == pytest.approx(2.0)
  assert trace.head(2).prompt_tokens.tolist() == [1, 2]
  assert trace.between(2.0, 5.0).prompt_tokens.tolist() == [2]
  with pytest.raises(ValueError, match="no request"):
    trace.between(6.0, 7.0)
  with pytest.raises(ValueError, match="rate_per_s must be positive"):
    trace.at_rate(0.0)
  with pytest.raises(ValueError, match="at once"):
    trace.head(1).at_rate(2.0)
  with pytest.raises(ValueError, match="request 1, column prompt"):
    traces.Trace([0.0, 1.0], [1, 0], [1, 1])


def test_reads_the_real_trace():
  if not _REAL.is_file():
    pytest.skip(f"{_REAL.name} is not at hand (Azure/AzurePublicDataset)")
  trace = traces.load(_REAL)
  assert len(trace) == 19_366
  assert trace.duration_s == pytest.approx(3502, abs=1)
  assert np.median(trace.prompt_tokens) == 1020
