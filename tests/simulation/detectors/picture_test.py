# SPDX-License-Identifier: Apache-2.0
"""The picture is drawn from the data, also where the release is silent."""

import numpy as np
import pytest

from jaxttc.simulation.detectors import cms, picture


def _data(released):
  told = {"released_samples_per_kj": 0.1} if released else {}
  rows = [
    {"system": name, "samples_per_kj": 0.1 * i, "megawatts": 50.0} | told
    for i, name in enumerate(("today", "upgrade", "GPU"), 1)
  ]
  line = np.linspace(0.1, 0.7, 5).tolist()
  curve = {
    "level1_reduction": [40.0, 53.3, 100.0, 200.0, 400.0],
    "megawatts": [60.0, 50.0, 30.0, 15.0, 7.0],
    "f1": line,
  }
  trained = {
    "flops": {"network": 100},
    "recall_of_network_alone": 0.7,
    "curve": {
      "flops": [80.0, 40.0, 20.0, 10.0, 5.0],
      "independent_recall": line,
      "copula_recall": line,
      "recall": line,
    },
  }
  return {
    "scenarios": rows,
    "early_or_late": {
      "added_skill": line,
      cms.LEVEL1: line,
      cms.HIGH_LEVEL: line,
    },
    "rejection_moved": [curve | {"tracks": x} for x in (False, True)],
    "trained": [trained],
  }


@pytest.mark.parametrize("released", [False, True])
def test_picture_is_written(tmp_path, released):
  picture.draw(_data(released), tmp_path / "daq.svg")
  text = (tmp_path / "daq.svg").read_text()
  assert text.count("<path") > 50
