# SPDX-License-Identifier: Apache-2.0
import jax
import pytest

from jaxttc import compilation


@pytest.fixture
def kept():
  """Puts the setting back."""
  before = jax.config.jax_compilation_cache_dir
  yield
  jax.config.update("jax_compilation_cache_dir", before)


def test_the_environment_goes_before_the_folder(kept, monkeypatch, tmp_path):
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  compilation.keep(tmp_path)
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / ".cache/jax")
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
  compilation.keep(tmp_path)
  assert jax.config.jax_compilation_cache_dir == "/elsewhere"
