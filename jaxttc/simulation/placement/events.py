# SPDX-License-Identifier: Apache-2.0
"""What happens in a cell, as every reader of traces and the generator tell it.

A trace is an iterator of these, in order of time; nothing holds all of it.
Times are seconds since its start, what was there before has time 0. Resources
are CPU and memory, in shares of the largest machine.
"""

from collections.abc import Iterable, Iterator
import heapq
import operator
from typing import NamedTuple

from jaxttc.simulation.placement import constraints as constraints_lib

RESOURCES = ("cpu", "memory")

Task = tuple[int, int]  # job, and index in it


class MachineEvent(NamedTuple):
  """A machine comes, goes, or changes.

  Attributes:
    time: seconds.
    machine: its number.
    kind: "add", "remove" or "update".
    capacity: cpu and memory; None for "remove", and where nobody knows it.
    platform: its kind of hardware; "" if unknown.
  """

  time: float
  machine: int
  kind: str
  capacity: tuple[float, float] | None
  platform: str = ""


class AttributeEvent(NamedTuple):
  """An attribute of a machine gets a value; None takes it away."""

  time: float
  machine: int
  name: str
  value: str | None


class TaskEvent(NamedTuple):
  """A task is submitted, starts, ends, or asks for something else.

  Attributes:
    time: seconds.
    task: job and index.
    kind: "submit", "schedule", "end" or "update".
    machine: where it was recorded to run; None if nowhere.
    request: cpu and memory; None where nobody knows it.
    priority: larger is more important.
    apart: whether tasks of its job must be on different machines.
    constraints: what its machine must be like.
    reason: why it ended: "evict", "fail", "finish", "kill" or "lost".
  """

  time: float
  task: Task
  kind: str
  machine: int | None = None
  request: tuple[float, float] | None = None
  priority: int = 0
  apart: bool = False
  constraints: tuple[constraints_lib.Constraint, ...] = ()
  reason: str = ""


class UsageSample(NamedTuple):
  """What a task used on average over a stretch of time.

  Attributes:
    time: seconds at which the stretch begins.
    end: seconds at which it ends.
    task: job and index.
    machine: where it ran; None if unknown.
    usage: cpu and memory.
  """

  time: float
  end: float
  task: Task
  machine: int | None
  usage: tuple[float, float]


Event = MachineEvent | AttributeEvent | TaskEvent | UsageSample


def merge(*tables: Iterable[Event]) -> Iterator[Event]:
  """One stream from several, each in order of time.

  At one time events of an earlier table come first.
  """
  return heapq.merge(*tables, key=operator.itemgetter(0))
