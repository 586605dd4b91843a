# SPDX-License-Identifier: Apache-2.0
"""The experiment's graph, from the published inputs of configs/daq.py."""

import dataclasses

import jax
import numpy as np
import pytest

from configs import daq
from jaxttc.simulation.detectors import cms, performance


def _report(inputs, **options):
  with jax.enable_x64(True):
    return jax.tree.map(
      np.asarray, performance.evaluate(cms.build(inputs, **options))
    )


def test_upgrade_is_of_the_release_s_size():
  report = _report(daq.get_config().upgrade)
  # Executed cells of the release: bytes, operations and watts of Level-1.
  assert report.message_bytes[cms.LEVEL1] == pytest.approx(8.425e6)
  assert report.ops[cms.LEVEL1] == pytest.approx(4.2125)
  better = float(performance.technology(2032.0))
  watts = report.power_by_node[cms.LEVEL1] * better
  assert watts == pytest.approx(505_500, rel=1e-4)
  # Its cubic went through more points than were published: 27.88 there.
  assert report.ops[cms.HIGH_LEVEL] == pytest.approx(27.88, rel=0.05)
  assert report.confusion.sum() == pytest.approx(4e7, rel=1e-12)


def test_gains_are_of_the_paper_s_size():
  upgrade = daq.get_config().upgrade
  base = _report(upgrade)
  best = _report(upgrade, gpu=True, tracks=True, smart_sensors=True)
  assert 0.36 < best.power / base.power < 0.44
  assert 3.5 < best.productivity / base.productivity < 5.5


def test_each_technology_does_what_it_says():
  upgrade = daq.get_config().upgrade
  base = _report(upgrade)
  gpu = _report(upgrade, gpu=True)
  tracks = _report(upgrade, tracks=True)
  smart = _report(upgrade, smart_sensors=True)
  assert gpu.ops[cms.HIGH_LEVEL] == pytest.approx(
    float(base.ops[cms.HIGH_LEVEL]) / 2
  )
  assert gpu.f1 == pytest.approx(float(base.f1))
  assert tracks.f1 > base.f1 + 0.2
  assert tracks.power == pytest.approx(float(base.power))
  less = base.message_bytes[cms.LEVEL1] - smart.message_bytes[cms.LEVEL1]
  assert less == pytest.approx(0.54 * 1.44e6)


def test_today_s_pile_up_is_lighter():
  config = daq.get_config()
  assert sum(x for _, x in config.today.detectors.values()) == pytest.approx(
    1.741e6, rel=1e-3
  )
  assert _report(config.today).power < 0.01 * _report(config.upgrade).power


def test_smart_detector_must_be_there():
  inputs = dataclasses.replace(
    daq.get_config().upgrade, smart_detector="Telescope"
  )
  with pytest.raises(ValueError, match="no detector 'Telescope'"):
    cms.build(inputs, smart_sensors=True)
