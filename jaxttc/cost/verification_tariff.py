# SPDX-License-Identifier: Apache-2.0
"""What a written verification costs: at most, before it is asked for; exactly.

A generative verifier reads the problem, the solution and a request, r tokens,
once; then it writes V verifications of n_1 .. n_V tokens behind them. All but
the last token of what it reads are prefilled; that one is fed by each
verification anew, and counts once. With the price list of its model
(`tariff.Tariff`, role "verifier") that is

    price(r - 1, 0) + 1 token + sum_v price(n_v, r - 1)

and V calls. Before a solution is there, no n_v exceeds the limit, and r is what
the solution may grow to: a bound, from which a budget is kept.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from jaxttc.cost import costs
from jaxttc.cost import tariff as tariff_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerificationTariff:
  """A price list of verifications, where `Tariff` is one of reading.

  Attributes:
    model: of the verifier's model; role "verifier".
    samples: V, verifications of a solution.
    limit: most tokens of a verification.
    beside: most tokens that are read beside problem and solution.

  Raises:
    ValueError: if there is no verification, or a size is negative.
  """

  model: tariff_lib.Tariff
  samples: int
  limit: int
  beside: int = 0

  def __post_init__(self) -> None:
    if self.samples < 1 or self.limit < 1 or self.beside < 0:
      raise ValueError(
        "VerificationTariff: expected samples and limit >= 1 and beside >= 0, "
        f"got {self.samples}, {self.limit} and {self.beside}"
      )

  def prompt(self, length: Any) -> costs.Cost:
    """Nothing: a problem is read together with its solution."""
    del length
    return costs.Cost()

  def price(self, tokens: Any, context: Any) -> costs.Cost:
    """The most that verifying a solution can cost.

    Args:
      tokens: of the solution; an int, or i32[...].
      context: tokens of the problem's prompt; likewise.
    """
    read = context + tokens + self.beside
    return self._reading(read) + self.samples * self.model.price(
      self.limit, read - 1
    )

  def spent(self, read: int, written: Sequence[int]) -> costs.Cost:
    """The exact cost of one solution's verifications.

    Args:
      read: tokens of problem, solution and request, at least 1.
      written: tokens of each verification.
    """
    return self._reading(read) + costs.Cost.sum(
      self.model.price(length, read - 1) for length in written
    )

  def total(self, *, tokens: int, attended: int, calls: int = 0) -> costs.Cost:
    """As `Tariff.total`, of what nobody billed: nothing, as all is billed.

    Raises:
      ValueError: if there is something.
    """
    if tokens or attended or calls:
      raise ValueError(
        f"{calls} verifications of {tokens} tokens came without a bill"
      )
    return costs.Cost()

  def _reading(self, read: Any) -> costs.Cost:
    prefilled = self.model.prompt(read - 1)
    return prefilled + costs.Cost(verifier_tokens=1)


# Of a verifier that reads, or of one that writes.
VerifierTariff = tariff_lib.Tariff | VerificationTariff
