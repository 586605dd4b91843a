# SPDX-License-Identifier: Apache-2.0
"""Tests of results files, their claims, and the documents that quote them."""

import json
import math
import os
import pathlib
import subprocess
import sys

import hypothesis
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import results

_FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
_CLAIM = results.Claim("accuracy", 0.5, 0.4, 0.6, bar=0.45)


def _write(path, **changes):
  arguments = {
    "command": "python scripts/compare.py",
    "seeds": [0, 1],
    "data": {"curve": [1.0, 2.0]},
    "claims": [_CLAIM],
  }
  results.write(path, **(arguments | changes))


def test_claim_holds_for_each_comparison():
  def holds(comparison):
    return [
      results.Claim("c", value, bar=2.0, comparison=comparison).holds
      for value in (1.0, 2.0, 3.0)
    ]

  assert holds(">=") == [False, True, True]
  assert holds(">") == [False, False, True]
  assert holds("<=") == [True, True, False]
  assert holds("<") == [True, False, False]
  assert results.Claim("c", 1.0).holds is None


@pytest.mark.parametrize(
  ("claim", "crosses"),
  [
    (results.Claim("c", 2.0, 1.0, 3.0, bar=1.5), True),
    (results.Claim("c", 1.0, 0.5, 3.0, bar=1.5), True),
    (results.Claim("c", 2.0, 1.5, 3.0, bar=1.5), False),
    (results.Claim("c", 2.0, 1.5, 3.0, bar=1.5, comparison=">"), True),
    (results.Claim("c", 2.0, 1.0, 3.0, bar=2.5, comparison="<="), True),
    (results.Claim("c", 2.0, 1.0, 3.0, bar=3.5, comparison="<"), False),
    (results.Claim("c", 2.0, 1.0, 3.0), False),
    (results.Claim("c", 2.0, bar=1.5), False),
  ],
)
def test_an_interval_crosses_a_bar_between_its_ends(claim, crosses):
  assert claim.crosses == crosses


def test_a_table_cuts_nothing_where_there_is_no_terminal(capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "40")
  name = "a_name_that_is_longer_than_any_terminal_" * 3
  results.show({"file.json": [results.Claim(name, 2.0, 1.0, 3.0, bar=1.5)]})
  row = [line for line in capsys.readouterr().out.splitlines() if name in line]
  assert len(row) == 1
  for cell in ("file.json", "2 [1, 3]", ">= 1.5", "yes, interval crosses"):
    assert cell in row[0]


@pytest.mark.parametrize(
  "claim,figure",
  [
    (results.Claim("c", 3.4), "3.4"),
    (results.Claim("c", 0.71234, 0.68, 0.7401), "0.712 [0.68, 0.74]"),
    (results.Claim("c", 0.0), "0"),
    (results.Claim("c", 100), "100"),
    (results.Claim("c", 12345.6), "12,346"),
    (results.Claim("c", -0.05), "-0.05"),
    (results.Claim("c", 2.5e-7), "2.5e-07"),
    (results.Claim("c", 1.5e12), "1.5e+12"),
  ],
)
def test_claim_figure(claim, figure):
  assert claim.figure == figure


@hypothesis.given(_FINITE)
@hypothesis.settings(max_examples=100)
def test_claim_figure_has_three_significant_digits(value):
  shown = float(results.Claim("c", value).figure.replace(",", ""))
  assert math.isclose(shown, value, rel_tol=5.1e-3)


@pytest.mark.parametrize(
  "arguments,message",
  [
    ({"name": "two words", "value": 1.0}, "two words"),
    ({"name": "", "value": 1.0}, "non-empty"),
    ({"name": "c", "value": math.nan}, "value is nan"),
    ({"name": "c", "value": 1.0, "bar": math.inf}, "bar is inf"),
    ({"name": "c", "value": None}, "value is None"),
    ({"name": "c", "value": "high"}, "value is 'high'"),
    ({"name": "c", "value": 1.0, "low": 0.5}, "both low and high"),
    ({"name": "c", "value": 1.0, "low": 2.0, "high": 3.0}, "outside"),
    ({"name": "c", "value": 1.0, "comparison": "=="}, "comparison '=='"),
  ],
)
def test_claim_refuses(arguments, message):
  # The import hook leaves constructors alone, so the class itself must check.
  with pytest.raises(ValueError, match=message):
    results.Claim(**arguments)


def test_write_then_read(tmp_path):
  path = tmp_path / "deep" / "decoders.json"
  data = {
    "curve": [{"tokens": np.int64(3), "accuracy": np.float32(0.25)}],
    "array": np.arange(3),
    "jax": jnp.ones((1, 2)),
    "none": None,
    "flag": np.bool_(True),
  }
  claims = [_CLAIM, results.Claim("missed", 1.0, bar=2.0)]
  _write(path, data=data, claims=claims, seeds=range(2))
  found = results.read(path)
  assert found.command == "python scripts/compare.py"
  assert found.seeds == (0, 1)
  assert found.claims == tuple(claims)
  assert [claim.holds for claim in found.claims] == [True, False]
  assert found.data == {
    "curve": [{"tokens": 3, "accuracy": 0.25}],
    "array": [0, 1, 2],
    "jax": [[1.0, 1.0]],
    "none": None,
    "flag": True,
  }
  assert found.environment["python"] == sys.version.split()[0]
  assert found.environment["accelerator"] == "8 x cpu"
  assert found.environment["processor"] == results.environment()["processor"]
  assert os.listdir(path.parent) == ["decoders.json"]


@pytest.mark.parametrize(
  "data,place",
  [
    ({"a": [1.0, math.nan]}, r"r.json: data.a\[1\] is nan"),
    ({"a": {"b": np.float32(np.inf)}}, "data.a.b is inf"),
    ({"a": np.array([[0.0, np.nan]])}, r"data.a\[0\]\[1\] is nan"),
    ({"a": {1, 2}}, "data.a: cannot write a set"),
  ],
)
def test_write_refuses_and_leaves_the_file_as_it_was(tmp_path, data, place):
  path = tmp_path / "r.json"
  _write(path)
  before = path.read_bytes()
  with pytest.raises(ValueError, match=place):
    _write(path, data=data)
  assert path.read_bytes() == before
  assert os.listdir(tmp_path) == ["r.json"]


def test_write_refuses_two_claims_of_one_name(tmp_path):
  with pytest.raises(ValueError, match="more than one claim .* 'accuracy'"):
    _write(tmp_path / "r.json", claims=[_CLAIM, _CLAIM])


def test_write_that_dies_leaves_no_litter(tmp_path, monkeypatch):
  path = tmp_path / "r.json"
  _write(path)
  before = path.read_bytes()

  def die(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, "replace", die)
  with pytest.raises(KeyboardInterrupt):
    _write(path, seeds=[9])
  assert path.read_bytes() == before
  assert os.listdir(tmp_path) == ["r.json"]


@pytest.mark.parametrize(
  "text,message",
  [
    ("", "expected a JSON results file"),
    ("[]", "expected a JSON object"),
    ('{"command": "x"}', "lack environment, seeds, data, claims"),
  ],
)
def test_read_refuses_other_files(tmp_path, text, message):
  path = tmp_path / "r.json"
  path.write_text(text)
  with pytest.raises(ValueError, match=message):
    results.read(path)
  with pytest.raises(ValueError, match="absent.json: expected a JSON"):
    results.read(tmp_path / "absent.json")


@pytest.mark.parametrize(
  "change,message",
  [
    ({"holds": False}, "says holds=False"),
    ({"value": 0.41}, "says holds=True"),
    ({"extra": 1}, "must have exactly"),
  ],
)
def test_read_refuses_claims_edited_by_hand(tmp_path, change, message):
  path = tmp_path / "r.json"
  _write(path)
  content = json.loads(path.read_text())
  content["claims"][0] |= change
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=message):
    results.read(path)


def test_claims_collects_a_folder(tmp_path):
  _write(tmp_path / "b.json")
  _write(tmp_path / "a.json", claims=[])
  (tmp_path / "plot.svg").write_text("")
  assert results.claims(tmp_path) == {"a.json": (), "b.json": (_CLAIM,)}
  with pytest.raises(ValueError, match="expected a folder"):
    results.claims(tmp_path / "absent")


def test_fill_changes_marked_figures_only():
  text = (
    "0.9 <!-- claim:b.json:accuracy -->0.9<!-- /claim --> and "
    "<!-- claim:b.json:accuracy --><!-- /claim -->, "
    "<!-- claim:later.json:speed -->7<!-- /claim -->"
  )
  filled = results.fill(text, {"b.json": [_CLAIM]})
  assert filled == (
    "0.9 <!-- claim:b.json:accuracy -->0.5 [0.4, 0.6]<!-- /claim --> and "
    "<!-- claim:b.json:accuracy -->0.5 [0.4, 0.6]<!-- /claim -->, "
    "<!-- claim:later.json:speed -->not measured yet<!-- /claim -->"
  )
  assert results.fill(filled, {"b.json": [_CLAIM]}) == filled


@pytest.mark.parametrize(
  "text,message",
  [
    (
      "<!-- claim:b.json:acuracy -->1<!-- /claim -->",
      "no claim 'acuracy'; did you mean 'accuracy'",
    ),
    ("<!-- claim:b.json:accuracy -->1", "1 claim markers, of which 0"),
    ("<!-- claim:accuracy -->1<!-- /claim -->", "of which 0"),
    (
      "<!-- claim:b.json:accuracy -->1 "
      "<!-- claim:b.json:accuracy -->2<!-- /claim -->",
      "2 claim markers, of which 1",
    ),
  ],
)
def test_fill_refuses_bad_markers(text, message):
  with pytest.raises(ValueError, match=message):
    results.fill(text, {"b.json": [_CLAIM]})


def test_command_line_has_no_paths_of_this_machine(tmp_path, monkeypatch):
  root = pathlib.Path(results.__file__).parents[1]
  monkeypatch.chdir(root / "tests")
  command = results.command_line(
    [
      "/opt/python3.11",
      "../setup.py",
      f"--config={root}/configs/a.py",
      f"--workdir={tmp_path}/runs/one",
      f"--files={root}/a.json,/home/someone/b.json",
      "--endpoint=http://localhost:8000/v1",
      "--text=two words",
      "--ratio=1/2",
    ]
  )
  assert command == (
    "python setup.py --config=configs/a.py --workdir=.../one "
    "--files=a.json,.../b.json --endpoint=http://localhost:8000/v1 "
    "'--text=two words' --ratio=1/2"
  )


def test_command_line_is_of_this_process():
  assert results.command_line().startswith("python ")


def test_claim_over_runs_spans_them():
  claim = results.claim_over("gain", [0.1, 0.4, 0.1], 0.3, "<=")
  assert (claim.value, claim.low, claim.high) == (pytest.approx(0.2), 0.1, 0.4)
  assert claim.holds
  same = results.claim_over("same", [0.1] * 3)  # whose mean rounds up
  assert same.low == same.value == same.high == 0.1
  middle = results.claim_over("ms", [1.0, 2.0, 9.0], middle=max)
  assert middle.value == 9.0


def test_the_script_shows_what_is_asked_for(tmp_path):
  missed = results.Claim("missed", 1.0, bar=2.0)
  _write(tmp_path / "one.json", claims=[_CLAIM, missed])
  _write(tmp_path / "two.json", claims=[_CLAIM])
  root = pathlib.Path(__file__).resolve().parents[1]

  def run(*given):
    return subprocess.run(
      [
        *(sys.executable, str(root / "scripts" / "claims.py")),
        *(f"--results={tmp_path}", f"--document={os.devnull}", *given),
      ],
      capture_output=True,
      text=True,
      check=False,
      env=os.environ | {"PYTHONPATH": str(root)},
    )

  shown = run("--missed").stdout
  assert "missed" in shown and "accuracy" not in shown
  shown = run("--file=two.json").stdout
  assert "two.json" in shown and "one.json" not in shown
  refused = run("--file=tow.json")
  assert refused.returncode == 1 and "did you mean two.json" in refused.stderr
