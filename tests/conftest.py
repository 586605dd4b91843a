# SPDX-License-Identifier: Apache-2.0
"""Sets up JAX, type checks and property tests before any test is imported."""

from collections.abc import Iterator
import dataclasses
import gc
import os
import pathlib
from typing import Any

import beartype
from beartype import roar
import hypothesis
import jax
import jaxtyping
import pytest

_CACHE = pathlib.Path(__file__).resolve().parents[1] / ".cache" / "jax"

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiling is most of the tests' time, and the programs are small. Scripts that
# a test starts, and the benchmarks, run as users run them.
jax.config.update("jax_disable_most_optimizations", True)
jax.config.update(
  "jax_compilation_cache_dir",
  os.environ.get("JAX_COMPILATION_CACHE_DIR", str(_CACHE)),
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

hypothesis.settings.register_profile(
  "jaxttc", deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile("jaxttc")


def check_signature(fn: Any) -> Any:
  """Checks arguments and results of a function of the package.

  Constructors are let be: JAX rebuilds a dataclass of arrays around tracers,
  axis numbers, shardings and None. `typing.Self` is let be too, since the
  import hook shows the checker a function without its class.
  """
  if fn.__name__ == "__init__":
    return fn
  try:
    return beartype.beartype(fn)
  except roar.BeartypeDecorHintPep673Exception:
    return fn


jaxtyping.install_import_hook("jaxttc", f"{__name__}.check_signature")


# Linux lets a process have 65,530 memory maps, and XLA for CPU dies without a
# word when there are no more. A compiled program takes about ten.
_MAPS = pathlib.Path("/proc/self/maps")
_MANY_MAPS = 20_000


@pytest.fixture(autouse=True, scope="module")
def compiled_programs() -> Iterator[None]:
  """Lets compiled programs go before there are too many in one process."""
  yield
  if _MAPS.exists():
    with _MAPS.open("rb") as maps:
      many = sum(1 for _ in maps) > _MANY_MAPS
    if many:
      jax.clear_caches()
      gc.collect()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A folder with a tiny policy, of one width and of two, and a verifier."""
  # After the import hook, so that they are checked, too.
  from jaxttc.inference import bundle as bundle_lib
  from jaxttc.testing import tiny_models

  folder = tmp_path_factory.mktemp("models")
  policy, verifier = tiny_models.tiny_bundles()
  bundle_lib.save(str(folder / "policy.safetensors"), policy)
  nested = dataclasses.replace(policy, recipe={"widths": [0.5, 1.0]})
  bundle_lib.save(str(folder / "nested.safetensors"), nested)
  bundle_lib.save(str(folder / "verifier.safetensors"), verifier)
  return folder
