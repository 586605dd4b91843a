# SPDX-License-Identifier: Apache-2.0
"""Operations of a message, fitted and read off tables."""

import math

import numpy as np
import pytest

from jaxttc.simulation.detectors import complexity


def test_polynomial_is_fitted_with_and_without_constant():
  sizes = np.asarray([1e6, 2e6, 4e6, 7e6])
  cubic = 3 * (sizes / 1e6) + 0.5 * (sizes / 1e6) ** 3
  made = complexity.fit_polynomial(sizes, cubic, 3, constant=False)
  assert made.coefficients[0] == 0
  assert float(made.ops(8e6)) == pytest.approx(3 * 8 + 0.5 * 512, rel=1e-4)
  shifted = complexity.fit_polynomial(sizes, cubic + 7, 3)
  assert float(shifted.ops(0.0)) == pytest.approx(7, rel=1e-4)


def test_linear():
  assert float(complexity.Linear(2.0, 3.0).ops(5.0)) == 13


def test_table_is_linear_inside_and_nothing_outside():
  made = complexity.table([1, 2, 4], [10, 20, 60])
  assert float(made.ops(3.0)) == 40
  assert float(made.ops(1.0)) == 10
  assert float(made.ops(4.0)) == 60
  assert math.isnan(float(made.ops(5.0)))
  beyond = complexity.table([1, 2, 4], [10, 20, 60], extrapolate=True)
  assert float(beyond.ops(5.0)) == 80
  assert float(beyond.ops(0.0)) == 0


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: complexity.fit_polynomial([1, 2], [1, 2], 3), "4 coefficients"),
    (lambda: complexity.fit_polynomial([1, 2], [1, 2], 0), "at least 1"),
    (lambda: complexity.table([2, 1], [1, 2]), "increasing"),
    (lambda: complexity.table([1, 2], [1, -2]), "row 1: operation count -2"),
    (lambda: complexity.table([1, np.nan], [1, 2]), "row 1: size nan"),
    (lambda: complexity.table([1, 2], [1]), "one operation count a size"),
  ],
)
def test_points_that_fit_nothing(make, message):
  with pytest.raises(ValueError, match=message):
    make()
