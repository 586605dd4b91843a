# SPDX-License-Identifier: Apache-2.0
"""A reasoning trace as episodes: attempts and second looks, one after another.

A trace is split at blank lines; a block that begins with a marker, such as
"Wait", opens an episode unless one was opened just before. Joining the
episodes gives the trace back, character for character: offsets are kept, and
nothing is tokenised anew.

Reference:
  Qu et al. (2025), Optimizing Test-Time Compute via Meta Reinforcement
  Fine-Tuning, arXiv:2503.07572.
"""

from collections.abc import Sequence
import re

MARKERS = (
  "Wait",
  "But wait",
  "Alternatively",
  "Is there another way to think about this?",
  "But let me double-check",
  "But hold on",
)
"""The markers that were published."""

_BLOCK = re.compile(r".+?(?:\n\s*\n|\Z)", re.DOTALL)


def split(
  trace: str,
  markers: Sequence[str] = MARKERS,
  *,
  min_gap: int = 3,
  most: int = 50,
) -> list[str]:
  """The episodes of a trace.

  Args:
    trace: text.
    markers: with which a block opens an episode.
    min_gap: fewest blocks of an episode, but for the last.
    most: episodes; what is left over stays in the last one.

  Raises:
    ValueError: if the trace is blank, there are no markers, one is blank, or a
      number is below 1.
  """
  if not trace.strip():
    raise ValueError("the trace is blank")
  if not markers or not all(marker.strip() for marker in markers):
    raise ValueError(f"markers are {tuple(markers)}; expected text in each")
  for name, number in (("min_gap", min_gap), ("most", most)):
    if number < 1:
      raise ValueError(f"{name} is {number}; expected at least 1")
  episodes, held = [""], 0
  for block in _BLOCK.findall(trace):
    opens = block.lstrip().startswith(tuple(markers))
    if opens and held >= min_gap and len(episodes) < most:
      episodes.append("")
      held = 0
    episodes[-1] += block
    held += 1
  return episodes


def join(episodes: Sequence[str]) -> str:
  """The trace that was split."""
  return "".join(episodes)


def merge(episodes: Sequence[str], group: int) -> list[str]:
  """Every `group` episodes as one, the last maybe of fewer.

  Raises:
    ValueError: if `group` is below 1.
  """
  if group < 1:
    raise ValueError(f"group is {group}; expected at least 1")
  return [
    join(episodes[start : start + group])
    for start in range(0, len(episodes), group)
  ]
