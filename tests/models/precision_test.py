# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import inference
from jaxttc.models import precision


@pytest.mark.parametrize("name", precision.FLOATS)
def test_floats_are_stored_and_computed_with(name):
  found = precision.parse(name)
  assert found == precision.Precision(jnp.dtype(name))
  assert precision.parse(jnp.dtype(name)) == found


@pytest.mark.parametrize(
  ("platform", "dtype"), [("cpu", "float32"), ("gpu", "bfloat16")]
)
@pytest.mark.parametrize("given", ["int8", jnp.int8, np.dtype(np.int8)])
def test_int8_is_computed_with_in_what_suits_the_device(platform, dtype, given):
  found = precision.parse(given, platform)
  assert found.int8 and found.dtype == jnp.dtype(dtype)


@pytest.mark.parametrize("name", ["int4", "float64", jnp.int32, "auto", ""])
def test_other_dtypes_are_refused(name):
  with pytest.raises(ValueError, match="expected one of float32, .*, int8"):
    precision.parse(name)
  with pytest.raises(ValueError, match="dtype is '.*'; expected"):
    inference.load("arithmetic_lm", name)
