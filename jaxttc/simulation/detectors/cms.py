# SPDX-License-Identifier: Apache-2.0
"""The CMS experiment as a graph: today, its upgrade, and what may improve it.

Detectors send to four categories (tracking, timing, calorimetry, muons), these
to the Level-1 trigger, that to the high-level trigger, and that to disk. All
numbers are inputs; `configs/daq.py` holds the published ones.
"""

from collections.abc import Mapping
import dataclasses

from jaxttc.simulation.detectors import classifiers, complexity
from jaxttc.simulation.detectors import graph as graph_lib


@dataclasses.dataclass(kw_only=True)
class Trigger:
  """One level of selection.

  Attributes:
    reduction: it keeps one event in so many.
    skill: distance d' of the scores of relevant and other events.
    op_energy: J per operation.
    data_bytes: that it adds to each event.
  """

  reduction: float
  skill: float
  op_energy: float
  data_bytes: float = 0.0


@dataclasses.dataclass(kw_only=True)
class CmsInputs:
  """Everything that a scenario is made of.

  Attributes:
    event_rate: bunch crossings a second, Hz.
    year: of the technology.
    detectors: by name, its category and its bytes of an event.
    level1: the hardware trigger.
    level1_bytes_per_op: bytes that are one operation of it.
    high_level: the software trigger.
    wall_time: f[K] pairs of bytes and operations: its time on an event over
      that at pile-up 60, to which a cubic without constant is fitted.
    detector_link: J per bit from detectors.
    other_link: J per bit elsewhere.
    gpu_time: operations of the high-level trigger with GPUs, as a share.
    tracks_boost: what tracks add to Level-1's skill.
    smart_detector: name of the detector that smart sensors replace.
    smart_share: share of its bytes that they send.
  """

  event_rate: float
  year: float
  detectors: Mapping[str, tuple[str, float]]
  level1: Trigger
  level1_bytes_per_op: float
  high_level: Trigger
  wall_time: tuple[tuple[float, float], ...]
  detector_link: float
  other_link: float
  gpu_time: float
  tracks_boost: float
  smart_detector: str
  smart_share: float


LEVEL1, HIGH_LEVEL, DISK = "Level-1", "High-level", "Disk"


def build(
  inputs: CmsInputs,
  *,
  gpu: bool = False,
  tracks: bool = False,
  smart_sensors: bool = False,
) -> graph_lib.PipelineGraph:
  """The graph of one scenario.

  Args:
    inputs: what it is made of.
    gpu: whether the high-level trigger runs on GPUs.
    tracks: whether Level-1 sees tracks.
    smart_sensors: whether the smart detector reduces its own data.

  Raises:
    ValueError: if the inputs are not valid.
  """
  if smart_sensors and inputs.smart_detector not in inputs.detectors:
    raise ValueError(f"there is no detector {inputs.smart_detector!r}")
  stages, links = [], []
  for name, (category, size) in inputs.detectors.items():
    smart = smart_sensors and name == inputs.smart_detector
    stages.append(
      graph_lib.Stage(
        name=name,
        sample_rate=inputs.event_rate,
        data_bytes=size * (inputs.smart_share if smart else 1.0),
      )
    )
    links.append(_link(name, category, inputs.detector_link))
  for category in dict.fromkeys(x for x, _ in inputs.detectors.values()):
    stages.append(graph_lib.Stage(name=category))
    links.append(_link(category, LEVEL1, inputs.other_link))
  stages += [
    _level1(inputs, tracks),
    _high_level(inputs, gpu),
    graph_lib.Stage(name=DISK),
  ]
  links += [
    _link(LEVEL1, HIGH_LEVEL, inputs.other_link),
    _link(HIGH_LEVEL, DISK, inputs.other_link),
  ]
  return graph_lib.create(stages, links, year=inputs.year)


def _link(source: str, target: str, energy: float) -> graph_lib.Link:
  return graph_lib.Link(source=source, target=target, energy=energy)


def _level1(inputs: CmsInputs, tracks: bool) -> graph_lib.Stage:
  trigger = inputs.level1
  return graph_lib.Stage(
    name=LEVEL1,
    data_bytes=trigger.data_bytes,
    reduction=trigger.reduction,
    classifier=classifiers.Gaussian(
      skill=trigger.skill,
      skill_boost=inputs.tracks_boost if tracks else 0.0,
    ),
    complexity=complexity.Linear(1.0 / inputs.level1_bytes_per_op),
    op_energy=trigger.op_energy,
  )


def _high_level(inputs: CmsInputs, gpu: bool) -> graph_lib.Stage:
  trigger = inputs.high_level
  sizes, times = zip(*inputs.wall_time, strict=True)
  time = complexity.fit_polynomial(sizes, times, 3, constant=False)
  return graph_lib.Stage(
    name=HIGH_LEVEL,
    data_bytes=trigger.data_bytes,
    reduction=trigger.reduction,
    classifier=classifiers.Gaussian(skill=trigger.skill),
    complexity=time.replace(
      coefficients=time.coefficients * (inputs.gpu_time if gpu else 1.0)
    ),
    op_energy=trigger.op_energy,
  )
