# SPDX-License-Identifier: Apache-2.0
"""Tests that memory stays with the process, where the C library allows it."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from jaxttc import host_memory

_PROGRAM = """
import ctypes, resource, sys
from jaxttc import host_memory

kept = sys.argv[1] == "keep" and host_memory.keep()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
size, faults = 128 << 20, 0
for turn in range(3):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  block = library.malloc(size)
  ctypes.memset(block, 1, size)
  library.free(block)
  faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(int(kept), faults)
"""


def _run(how):
  """(whether memory is kept, page faults of the third of three turns)."""
  done = subprocess.run(
    [sys.executable, "-c", _PROGRAM, how],
    env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    capture_output=True,
    text=True,
    check=True,
  )
  return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt's options"
)
def test_a_large_block_is_mapped_anew_unless_it_is_kept():
  kept, faults = _run("keep")
  assert kept == 1 and faults < 100
  kept, faults = _run("leave")
  assert kept == 0 and faults > 100


def test_a_library_without_the_option_is_left_alone(monkeypatch):
  monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
  assert host_memory.keep() is False
