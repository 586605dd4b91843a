# SPDX-License-Identifier: Apache-2.0
"""What an expansion can cost at most, and how much of it is paid for.

Both forms of the runtime, host-driven and compiled, decide by these
functions, so they cut the same expansions at the same children.
"""

import bisect
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs, verification_tariff
from jaxttc.cost import tariff as tariff_lib

# Cumulative float32 sums of at most 2^10 terms are off by less than this.
_SUM_MARGIN = 1.0 + 2.0**-13


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prices:
  """What the models of a search cost.

  Attributes:
    prompt: of the policy, for prompts; None if it keeps nothing of them, and
      each child pays for its whole prefix.
    policy: of the policy, for sampled tokens.
    verifier: of the verifier; None if the decoder asks for no rewards.
  """

  prompt: tariff_lib.Tariff | None
  policy: tariff_lib.Tariff
  verifier: verification_tariff.VerifierTariff | None = None

  def root(self, length: Any) -> costs.Cost:
    """Cost of reading a prompt of `length` tokens, by policy and verifier.

    The policy prefills all but the last token, which each child of the root
    feeds for itself; it counts as a prompt token nevertheless.
    """
    cost = costs.Cost()
    if self.prompt is not None:
      cost = self.prompt.price(length - 1, 0) + costs.Cost(prompt_tokens=1)
    if self.verifier is not None:
      cost = cost + self.verifier.prompt(length)
    return cost

  def child(self, tokens: Any, context: Any) -> costs.Cost:
    """Cost of a child of `tokens` tokens after `context` tokens, scored."""
    cost = self.sampled(tokens, context)
    if self.verifier is not None:
      cost = cost + self.verifier.price(tokens, context)
    return cost

  def longest(self, meter: budget_lib.Meter, context: int, wanted: int) -> int:
    """The longest child, of at most `wanted` tokens, that a meter affords.

    Args:
      meter: on the host.
      context: tokens before the child.
      wanted: at most so many tokens.
    """
    return bisect.bisect_left(
      range(1, wanted + 1),
      True,
      key=lambda n: not meter.affords(self.child(n, context)),
    )

  def sampled(self, tokens: Any, context: Any) -> costs.Cost:
    """Cost of sampling `tokens` tokens after `context` tokens."""
    return self.policy.price(tokens, context - (self.prompt is not None))


def fund(
  meter: budget_lib.Meter,
  prices: Prices,
  wanted: Bool[Array, " M"],
  context: Int[Array, " M"],
  cap: Int[Array, " M"],
) -> Int[Array, " M"]:
  """Token limits of the children that the budget can pay for.

  Children are paid for in order, each in full, as long as all fields allow.
  If not even the first can be paid in full, it is shortened to what is left.

  Args:
    meter: the problem's meter, as arrays.
    prices: of the models.
    wanted: which children were asked for.
    context: tokens before each child.
    cap: most tokens each child may have.

  Returns:
    i32[M], each child's token limit; 0 if it is not paid for.
  """
  bound = prices.child(cap, context)
  paid_alone = jax.tree.map(
    lambda x: jnp.where(wanted, x, jnp.zeros_like(x)), _arrays(bound, cap)
  )
  together = jax.tree.map(_cumulative, paid_alone)
  full = wanted & meter.affords(together)
  first = jnp.argmax(wanted)
  short = _longest(meter, prices, context[first], cap[first])
  is_first = jnp.arange(wanted.shape[0]) == first
  alone = jnp.where(is_first & wanted & ~full.any(), short, 0)
  return jnp.where(full, cap, alone).astype(jnp.int32)


def _arrays(cost: costs.Cost, like: Int[Array, " M"]) -> costs.Cost:
  return jax.tree.map(lambda x: jnp.broadcast_to(x, like.shape), cost)


def _cumulative(x):
  total = jnp.cumsum(x)
  if jnp.issubdtype(total.dtype, jnp.floating):
    total = total * _SUM_MARGIN
  return total


def _longest(meter, prices, context, cap):
  """The most tokens, up to cap, that one child can be paid for."""

  def add_bit(i, tokens):
    longer = tokens + (jnp.int32(1) << (15 - i))
    fits = meter.affords(prices.child(longer, context)) & (longer <= cap)
    return jnp.where(fits, longer, tokens)

  return jax.lax.fori_loop(0, 16, add_bit, jnp.int32(0))
