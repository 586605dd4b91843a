# SPDX-License-Identifier: Apache-2.0
import json

import jax
import numpy as np
import pytest

from jaxttc.predictors import routing
from jaxttc.predictors.routing import saved_heads


def _data():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(40, 3)).astype(np.float32)
  return x, (x[:, :2] > 0).astype(float)


@pytest.mark.parametrize(
  "text",
  ["means", "ridge", "knn(k=5)", "kmeans", "forest(trees=3)", "mlp(epochs=1)"],
)
def test_a_head_comes_back_through_json_and_arrays(text):
  x, scores = _data()
  head = routing.head(text)(x, scores, jax.random.key(0))
  described, arrays = saved_heads.pack(head)
  described = json.loads(json.dumps(described))
  again = saved_heads.unpack(described, arrays)
  np.testing.assert_array_equal(
    routing.predict(again, x), routing.predict(head, x)
  )


def test_a_head_in_a_head_comes_back():
  x, scores = _data()
  inner = routing.linear.fit_ridge(x, scores)
  head = routing.base.AtLeast(inner, np.float32([0.2, 0.4]))
  again = saved_heads.unpack(*saved_heads.pack(head))
  np.testing.assert_array_equal(
    routing.predict(again, x), routing.predict(head, x)
  )


def test_what_cannot_be_saved_or_read_is_refused():
  x, scores = _data()
  head = routing.head("elo")(x, scores, jax.random.key(0))
  kind = type(head).__name__
  with pytest.raises(ValueError, match=f"{kind} cannot be saved"):
    saved_heads.pack(head)
  perceptron = routing.head("mlp(epochs=1)")(x, scores, jax.random.key(0))
  described, arrays = saved_heads.pack(perceptron)
  del arrays["layers.1.0"]
  with pytest.raises(ValueError, match="Perceptron lacks its 'layers.1.0'"):
    saved_heads.unpack(described, arrays)
  with pytest.raises(ValueError, match="unknown head 'Oracle'"):
    saved_heads.unpack({"kind": "Oracle"}, {})
  with pytest.raises(ValueError, match="Linear lacks its weights"):
    saved_heads.unpack({"kind": "Linear"}, {})
