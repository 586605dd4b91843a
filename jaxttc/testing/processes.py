# SPDX-License-Identifier: Apache-2.0
"""Programs run as several JAX processes on this machine's CPU.

What a pod does over its network, processes on one machine do over loopback: the
same `jax.distributed`, the same collectives, the same program in each.
"""

from collections.abc import Sequence
import os
import socket
import subprocess
import sys

import jax

# What is compiled is kept where this process keeps it.
_SHARED = (
  "jax_compilation_cache_dir",
  "jax_persistent_cache_min_compile_time_secs",
  "jax_persistent_cache_min_entry_size_bytes",
)


def run(
  program: Sequence[str],
  *,
  count: int = 2,
  devices: int = 2,
  timeout_s: float = 300.0,
) -> list[subprocess.CompletedProcess[str]]:
  """Runs a program that takes `--processes` (`jaxttc.mesh.join`).

  Args:
    program: arguments of the Python interpreter: a script and its flags.
    count: processes.
    devices: simulated devices of each.
    timeout_s: after which all are killed.

  Returns:
    What came of each process, in order of their index; text.

  Raises:
    subprocess.TimeoutExpired: if they take longer.
  """
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
  environment = os.environ | {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": str(devices),
  }
  for name in _SHARED:
    if (value := getattr(jax.config, name)) is not None:
      environment[name.upper()] = str(value)
  started = [
    subprocess.Popen(
      [
        sys.executable,
        *program,
        f"--processes=127.0.0.1:{port},{count},{index}",
      ],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(count)
  ]
  try:
    said = [process.communicate(timeout=timeout_s) for process in started]
  finally:
    for process in started:
      process.kill()
  return [
    subprocess.CompletedProcess(process.args, process.returncode, *texts)
    for process, texts in zip(started, said, strict=True)
  ]
