# SPDX-License-Identifier: Apache-2.0
"""What an arm costs on other fields than generated tokens.

A search's verifier calls, verifier tokens and FLOPs rise with the tokens that
it generates, nearly in proportion. A law per arm and field says how, fitted by
least squares; and the most that any search of the fit took becomes the arm's
limit, which its searches are held to.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

_TOKENS = "generated_tokens"


class CostLaws(NamedTuple):
  """Laws of K arms on F fields.

  Attributes:
    fields: names of the fields of `cost.Cost`.
    base: f64[K, F].
    rate: f64[K, F], of a generated token, not negative.
    limits: f64[K, F], positive; whole numbers of what is counted.
  """

  fields: tuple[str, ...]
  base: Float[np.ndarray, "K F"]
  rate: Float[np.ndarray, "K F"]
  limits: Float[np.ndarray, "K F"]

  def take(self, arms: np.ndarray) -> "CostLaws":
    """The laws of some arms."""
    return CostLaws(
      self.fields, self.base[arms], self.rate[arms], self.limits[arms]
    )


def fit(
  fields: Sequence[str],
  tokens: Float[np.ndarray, "M K"],
  spent: Float[np.ndarray, "M K F"],
) -> CostLaws:
  """Fits laws to what M searches of each arm generated and spent."""
  arms, count = spent.shape[1:]
  base, rate = np.zeros((arms, count)), np.zeros((arms, count))
  for arm in range(arms):
    centred = tokens[:, arm] - tokens[:, arm].mean()
    spread = (centred**2).sum()
    mean = spent[:, arm].mean(0)
    if spread > 0:
      slope = centred @ (spent[:, arm] - mean) / spread
      rate[arm] = np.maximum(slope, 0.0)
    base[arm] = mean - rate[arm] * tokens[:, arm].mean()
  # An arm that never uses a field may still be asked: its limit is one unit.
  return CostLaws(tuple(fields), base, rate, np.maximum(spent.max(0), 1.0))


def expected(
  laws: CostLaws | None,
  fields: Sequence[str],
  tokens: Float[np.ndarray, "n K"],
  caps: np.ndarray,
) -> Float[np.ndarray, "n K F"]:
  """Expected costs on some fields, given expected tokens; positive.

  Raises:
    ValueError: if there is no law of a field.
  """
  columns = []
  for name in fields:
    if name == _TOKENS:
      columns.append(np.clip(tokens, 1.0, caps))
      continue
    place = _place(laws, name)
    assert laws is not None
    value = laws.base[:, place] + laws.rate[:, place] * tokens
    most = laws.limits[:, place]
    columns.append(np.clip(value, 1e-3 * most, most))
  return np.stack(columns, -1)


def limits(
  laws: CostLaws | None, fields: Sequence[str], caps: np.ndarray
) -> Float[np.ndarray, "K F"]:
  """The most that arms can cost on some fields.

  Raises:
    ValueError: if there is no law of a field.
  """
  return np.stack(
    [
      np.asarray(caps, float) if name == _TOKENS else _limits_of(laws, name)
      for name in fields
    ],
    -1,
  )


def _limits_of(laws: CostLaws | None, name: str) -> np.ndarray:
  place = _place(laws, name)
  assert laws is not None  # or there would be no such place
  return laws.limits[:, place]


def _place(laws: CostLaws | None, name: str) -> int:
  known = () if laws is None else laws.fields
  if name not in known:
    expected_fields = ", ".join((_TOKENS, *known))
    raise ValueError(
      f"budget: the policy knows nothing of {name}; expected limits on "
      f"{expected_fields}"
    )
  return known.index(name)


def pack(laws: CostLaws) -> tuple[list[str], dict[str, np.ndarray]]:
  """Names of the fields, and arrays by name, for a file."""
  return list(laws.fields), {
    name: getattr(laws, name) for name in ("base", "rate", "limits")
  }


def unpack(fields: Sequence[str], arrays: Mapping[str, np.ndarray]) -> CostLaws:
  """Inverse of `pack`.

  Raises:
    KeyError: if an array is missing.
  """
  return CostLaws(
    tuple(fields), *(arrays[name] for name in ("base", "rate", "limits"))
  )
