# SPDX-License-Identifier: Apache-2.0
"""A router over three models, by what a text says of its own difficulty."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.predictors import routing


@pytest.fixture(scope="session")
def router():
  """Of a hard text large scores 0.9 and middle 0.8, of an easy one all 0."""
  scores = jnp.array([[0.2, 0.9, 0.8], [0.0, 0.0, 0.0]])
  return routing.Router(
    quality=routing.linear.Linear(scores, jnp.zeros(3)),
    cost=routing.Constant(jnp.array([1.0, 10.0, 4.0])),
    models=("small", "large", "middle"),
    width=2,
    unit="FLOPs",
  )


@pytest.fixture(scope="session")
def embed():
  """The number that a text begins with, and a one."""

  def read(texts):
    hard = [float(text.split()[0]) for text in texts]
    return np.float32([[h, 1.0] for h in hard])

  return read
