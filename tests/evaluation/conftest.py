# SPDX-License-Identifier: Apache-2.0
"""Fixtures that tests of whole runs share."""

import dataclasses

import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.testing import tiny_models


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """A folder with a tiny policy and a tiny verifier."""
  folder = tmp_path_factory.mktemp("models")
  policy, verifier = tiny_models.tiny_bundles()
  bundle_lib.save(str(folder / "policy.safetensors"), policy)
  nested = dataclasses.replace(policy, recipe={"widths": [0.5, 1.0]})
  bundle_lib.save(str(folder / "nested.safetensors"), nested)
  bundle_lib.save(str(folder / "verifier.safetensors"), verifier)
  return folder
