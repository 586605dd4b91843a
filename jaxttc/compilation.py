# SPDX-License-Identifier: Apache-2.0
"""Where compiled programs are kept."""

import os
import pathlib

import jax


def keep(root: pathlib.Path) -> None:
  """Keeps compiled programs on disk: each is compiled once, not once a run.

  They lie in the folder that the environment's JAX_COMPILATION_CACHE_DIR names,
  or else in `.cache/jax` of `root`.

  Args:
    root: of the repository, or any other folder.
  """
  jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(root / ".cache" / "jax")),
  )
