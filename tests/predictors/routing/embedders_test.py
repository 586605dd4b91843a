# SPDX-License-Identifier: Apache-2.0
import importlib.util

import numpy as np
import pytest

from jaxttc.predictors.routing import embedders


def test_precomputed_vectors_are_looked_up():
  embed = embedders.Precomputed({"a": np.ones(3), "b": np.zeros(3)})
  np.testing.assert_array_equal(embed(["b", "a"]), [[0, 0, 0], [1, 1, 1]])
  with pytest.raises(ValueError, match="text 1 has no vector: 'c'"):
    embed(["a", "c"])


def test_precomputed_vectors_have_one_width():
  with pytest.raises(ValueError, match="one width"):
    embedders.Precomputed({"a": np.ones(3), "b": np.ones(2)})
  with pytest.raises(ValueError, match="one width"):
    embedders.Precomputed({})


@pytest.mark.skipif(
  importlib.util.find_spec("sentence_transformers") is not None,
  reason="sentence-transformers is installed",
)
def test_a_missing_package_names_the_extra():
  with pytest.raises(ImportError, match=r"jaxttc\[embed\]"):
    embedders.SentenceEncoder()
