# SPDX-License-Identifier: Apache-2.0
"""The source's sheets are read; a bad cell is told by file, row and column."""

import pytest

from jaxttc.simulation.detectors import classifiers, complexity, spreadsheet

_DETECTORS = """\
Category,Detector,Data (bytes),Sample Rate,Compression,\
Link Efficiency (J/bit),Op Efficiency (J/op),PU 200
Tracking,Inner Tracker,1440000,40000000,0,2.22e-11,0,1.44
Tracking,Outer Tracker,720000,40000000,0.5,2.22e-11,0,0.72
"""
_PROCESSORS = """\
Name,Output,Data (bytes),Reduction Ratio,Classifier,Skill mean,Skill variance,\
Link Efficiency (J/bit),Op Efficiency (J/op),Compression
Tracking,Intermediate,0,1.0,Gaussian,0,0,2.5e-11,0,0
Intermediate,Global,260000,53.3,L1T,0,0,2.5e-11,0.003,0
Global,Disk,0,100.0,Gaussian,4,2,2.5e-11,16,0
Disk,NaN,0,1,Dummy,0,0,2.5e-11,0,0
"""
_KNOWN = {"L1T": classifiers.Gaussian(2.0)}


def _write(folder, detectors=_DETECTORS, processors=_PROCESSORS, year="2032"):
  (folder / "Detectors.csv").write_text(detectors)
  (folder / "Processors.csv").write_text(processors)
  (folder / "Global.csv").write_text(f"Year,Note\n{year},ours\n")
  return folder


def test_sheets_become_a_graph(tmp_path):
  graph = spreadsheet.read(
    _write(tmp_path),
    classifier=_KNOWN,
    complexity={"Global": complexity.Linear(3.0)},
  )
  numbers = graph.parameters()
  assert [stage.name for stage in graph.stages][-2:] == ["Global", "Disk"]
  assert graph.senders("Tracking") == ("Inner Tracker", "Outer Tracker")
  assert numbers["Inner Tracker.data_bytes"] == 1.44e6
  assert numbers["Outer Tracker.compression"] == 0.5
  assert numbers["Inner Tracker->Tracking.energy"] == 2.22e-11
  assert numbers["Intermediate.reduction"] == 53.3
  assert numbers["Intermediate.classifier.skill"] == 2.0
  assert numbers["Global.classifier.variance"] == 2.0
  assert numbers["Global.complexity.per_byte"] == 3.0
  assert numbers["year"] == 2032.0
  assert [x.name for x in graph.stages if x.active] == [
    "Intermediate",
    "Global",
  ]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      {"detectors": _DETECTORS.replace("720000", "many")},
      "Detectors.csv, row 3, column 'Data .bytes.': .*got 'many'",
    ),
    (
      {"detectors": _DETECTORS.replace("Sample Rate", "Rate")},
      "Detectors.csv: there is no column 'Sample Rate'",
    ),
    (
      {"processors": _PROCESSORS.replace("53.3", "")},
      "Processors.csv, row 3, column 'Reduction Ratio'",
    ),
    (
      {"processors": _PROCESSORS.replace("L1T", "Oracle")},
      "row 3, column 'Classifier': 'Oracle' is none of Dummy, Gaussian, L1T",
    ),
    (
      {"processors": _PROCESSORS.replace("Global,Disk", "Global,Moon")},
      "there is no stage 'Moon'",
    ),
    ({"processors": _PROCESSORS.split("\n")[0]}, "at least one row"),
    ({"year": "soon"}, "Global.csv, row 2, column 'Year'"),
  ],
)
def test_sheets_that_are_no_graph(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    spreadsheet.read(_write(tmp_path, **change), classifier=_KNOWN)


def test_missing_sheet_and_unknown_stage(tmp_path):
  with pytest.raises(ValueError, match="Detectors.csv: cannot be read"):
    spreadsheet.read(tmp_path)
  with pytest.raises(ValueError, match="there is no stage 'Moon'"):
    spreadsheet.read(
      _write(tmp_path),
      classifier=_KNOWN,
      complexity={"Moon": complexity.Linear()},
    )
