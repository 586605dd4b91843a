# SPDX-License-Identifier: Apache-2.0
"""What multi-task data is made of: tasks, labels and examples."""

import dataclasses
from typing import Any, NamedTuple

import jax

KINDS = (
  "classes",
  "regression",
  "segmentation",
  "depth",
  "normals",
  "edges",
  "saliency",
)
DENSE = ("segmentation", "depth", "normals", "edges", "saliency")


class Label(NamedTuple):
  """What is known of one task.

  Attributes:
    value: class ids i32[B] or i32[B, H, W]; numbers f32[B, D] or
      f32[B, H, W, channels]. Finite, zero where not valid.
    valid: bool[B] or bool[B, H, W]; what is not valid counts for nothing.
  """

  value: Any
  valid: Any


class Examples(NamedTuple):
  """A batch of inputs with the labels of every task.

  Attributes:
    inputs: f32[B, D] vectors or f32[B, H, W, channels] images.
    labels: by task name.
  """

  inputs: jax.Array
  labels: dict[str, Label]


@dataclasses.dataclass(frozen=True)
class Task:
  """One question that a network answers about each input.

  Attributes:
    name: unique among the tasks of a data set.
    kind: one of `KINDS`; it decides head, loss and metric.
    outputs: numbers a prediction has, a position: classes, or channels.
    weight: of the task's loss in the sum.

  Raises:
    ValueError: if the kind is unknown, or a number is not positive.
  """

  name: str
  kind: str
  outputs: int
  weight: float = 1.0

  def __post_init__(self) -> None:
    if self.kind not in KINDS:
      raise ValueError(
        f"task {self.name!r}: kind {self.kind!r} is not one of "
        f"{', '.join(KINDS)}"
      )
    if not self.outputs >= 1:
      raise ValueError(
        f"task {self.name!r}: outputs must be at least 1, got {self.outputs}"
      )
    if not self.weight > 0:
      raise ValueError(
        f"task {self.name!r}: weight must be positive, got {self.weight}"
      )

  @property
  def dense(self) -> bool:
    """Whether there is a prediction at every pixel."""
    return self.kind in DENSE
