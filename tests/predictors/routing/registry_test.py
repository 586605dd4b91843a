# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from jaxttc.predictors.routing import base, registry

_SMALL = {
  "contrastive": "(epochs=1, dimension=4, clusters=2)",
  "factors": "(epochs=1, dimension=4)",
  "forest": "(trees=3)",
  "boosting": "(trees=3)",
  "graph": "(epochs=1, dimension=4)",
  "kmeans": "(clusters=3)",
  "knn": "(k=3)",
  "mlp": "(epochs=1, hidden=(4,))",
}


@pytest.mark.parametrize("name", registry.names())
def test_every_head_takes_any_number_of_models(name):
  if name in ("forest", "boosting", "svr"):
    pytest.importorskip("sklearn", reason="extra `trees` not installed")
  rng = np.random.default_rng(0)
  x = rng.normal(size=(40, 3)).astype(np.float32)
  scores = rng.integers(0, 2, (40, 4)).astype(np.float64)
  fit = registry.head(name + _SMALL.get(name, ""))
  head = fit(x, scores, jax.random.key(0))
  quality = base.predict(head, x[:7])
  assert quality.shape == (7, 4) and np.isfinite(quality).all()
  # A fitted head is a pytree of arrays: it can be saved.
  assert all(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(head))


@pytest.mark.parametrize(
  "text, message",
  [
    ("kn", "unknown head 'kn' .did you mean 'knn'"),
    ("knn(n=3)", "unknown setting 'n'"),
    ("mlp(key=3)", "unknown setting 'key'"),
    ("knn(3)", "expected name or name"),
    ("knn(k=open('x'))", "expected name or name"),
    ("knn(", "expected name or name"),
  ],
)
def test_bad_texts_are_refused(text, message):
  with pytest.raises(ValueError, match=message):
    registry.head(text)
