# SPDX-License-Identifier: Apache-2.0
"""What turns questions into vectors for a router.

Any function from texts to f32[N, D] is an embedder. `hashed_ngrams.fit` makes
the default one; here are a published sentence encoder and vectors computed
before.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import importlib
from typing import Protocol, runtime_checkable

from jaxtyping import Float
import numpy as np


@runtime_checkable
class Embedder(Protocol):
  """Turns texts into vectors."""

  def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
    """Vectors f32[N, D] of N texts."""
    ...


@dataclasses.dataclass(frozen=True)
class Precomputed:
  """Looks vectors up that were computed before.

  Attributes:
    vectors: f32[D] of each text; all of one width.

  Raises:
    ValueError: if there are none, or their widths differ.
  """

  vectors: Mapping[str, np.ndarray]

  def __post_init__(self) -> None:
    shapes = {np.shape(vector) for vector in self.vectors.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
      raise ValueError(
        f"precomputed vectors: expected one width, got shapes {sorted(shapes)}"
      )

  def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
    """Vectors of texts.

    Raises:
      ValueError: if one of them has none.
    """
    for place, text in enumerate(texts):
      if text not in self.vectors:
        raise ValueError(f"text {place} has no vector: {text[:60]!r}")
    return np.stack([self.vectors[t] for t in texts]).astype(np.float32)


class SentenceEncoder:
  """A model of the sentence-transformers package, on CPU or GPU."""

  def __init__(self, model: str = "sentence-transformers/all-MiniLM-L6-v2"):
    """Loads the model.

    Args:
      model: its name on the Hugging Face hub (downloaded once), or a folder.

    Raises:
      ImportError: if the package is not installed.
    """
    try:
      package = importlib.import_module("sentence_transformers")
    except ImportError as error:
      raise ImportError(
        "sentence encoders need sentence-transformers; install it with: "
        "pip install 'jaxttc[embed]'"
      ) from error
    self._model = package.SentenceTransformer(model)

  def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
    """Vectors of texts, of length one."""
    return np.asarray(
      self._model.encode(list(texts), normalize_embeddings=True), np.float32
    )
