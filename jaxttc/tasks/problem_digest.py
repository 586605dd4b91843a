# SPDX-License-Identifier: Apache-2.0
"""What a problem is known by: a digest of what is asked and of its answer.

A place in a file is no name: files are sorted anew, grow and are corrected.
A digest stays with the problem, and a prompt or answer that was changed is
another problem. Where one comes twice, its second copy has a digest of its own.
"""

from collections.abc import Sequence
import hashlib
import json

from jaxtyping import Int, UInt32
import numpy as np

from jaxttc.tasks import problems as problems_lib


def digests(
  problems: Sequence[problems_lib.Problem],
) -> UInt32[np.ndarray, "p 2"]:
  """The first 64 bits of SHA-256 of each problem, as two numbers.

  Read are text, messages (`meta["messages"]`, where a chat is asked) and
  answer; ids, which may count lines, are not. They are the same on every
  machine.

  Args:
    problems: P problems.
  """
  seen: dict[str, int] = {}
  found = np.zeros((len(problems), 2), np.uint32)
  for row, problem in enumerate(problems):
    asked = [problem.text, problem.meta.get("messages"), problem.answer]
    text = json.dumps(asked, sort_keys=True, default=str)
    copy = seen[text] = seen.get(text, -1) + 1
    digest = hashlib.sha256(f"{copy}\0{text}".encode()).digest()
    found[row] = np.frombuffer(digest[:8], "<u4")
  return found


def places(
  known: UInt32[np.ndarray, "p 2"], wanted: UInt32[np.ndarray, "m 2"]
) -> Int[np.ndarray, " m"]:
  """Where in `known` each digest of `wanted` is, i32[M]; -1 if nowhere.

  Args:
    known: digests that differ.
    wanted: digests to look up.
  """
  known, wanted = _whole(known), _whole(wanted)
  order = np.argsort(known)
  at = np.searchsorted(known, wanted, sorter=order)
  row = order[np.minimum(at, known.size - 1)]
  return np.where(known[row] == wanted, row, -1).astype(np.int32)


def _whole(digest: np.ndarray) -> np.ndarray:
  """Digests as u64, one number each."""
  low, high = digest.astype(np.uint64).T
  return (high << np.uint64(32)) | low
