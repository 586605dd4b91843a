# SPDX-License-Identifier: Apache-2.0
"""Tariff: what a request will cost, before it is sent.

A tariff is the linear price list of one model on one engine. Extending a
prefix of c tokens by n tokens costs

    call + c * prefix + n * token + (n * c + n * (n + 1) / 2) * context

because token j of the extension attends to c + j + 1 positions, itself
included. Prices grow with n and c, so the price of the longest extension
allowed bounds that of any other, and every counted field of a request is
known before it is sent, whoever shares its batch.
"""

from collections.abc import Iterator
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs, rounding, transformer_flops
from jaxttc.cost import hardware as hardware_lib

# The field that a token of each role counts in.
_TOKEN_FIELD = {
  "prompt": "prompt_tokens",
  "policy": "generated_tokens",
  "verifier": "verifier_tokens",
}
_PEAK_DTYPE = {4: "float32", 2: "bfloat16", 1: "int8"}
_LONGEST_BITS = 24  # extensions are shorter than 2^24 tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tariff:
  """A linear price list; see the module docstring. All fields on the host.

  Attributes:
    token: per processed token.
    context: per attended position; amounts only, no counts.
    prefix: per token of the prefix, each call: what an endpoint bills for a
      prompt sent again. Nothing for an engine that keeps its cache.
    call: per call.
  """

  token: costs.Cost
  context: costs.Cost = costs.Cost()
  prefix: costs.Cost = costs.Cost()
  call: costs.Cost = costs.Cost()

  def __post_init__(self):
    for part in dataclasses.fields(self):
      getattr(self, part.name).validate()
    if any(getattr(self.context, name) for name in costs.COUNTS):
      raise ValueError("Tariff.context must price amounts only, no counts")

  @classmethod
  def local(
    cls,
    shape: transformer_flops.TransformerShape,
    hardware: hardware_lib.Hardware | None = None,
    role: str = "policy",
    dtype_bytes: int = 4,
    value_bytes: int | None = None,
  ) -> "Tariff":
    """A transformer on an engine of ours, priced as if alone at batch 1.

    FLOPs are exact. Bytes are those of reading all weights for every token,
    an upper bound that does not depend on batch mates; scales of int8 weights
    are left out, as norms are. Joules are FLOPs at
    the peak rate and the board's power; dollars the hourly price of the
    roofline time. Seconds are measured, so they have no tariff.

    Args:
      shape: sizes of the transformer.
      hardware: what it runs on; None leaves joules and dollars at zero.
      role: "policy" (tokens count as generated), "verifier" (tokens and
        calls of a verifier) or "prompt" (prefill of a policy).
      dtype_bytes: size of weights and cached values: 4 is float32, 2
        bfloat16, 1 int8.
      value_bytes: size of cached values, and of what is computed with, where
        that is another: int8 weights under floats.

    Raises:
      ValueError: for an unknown role or size, or hardware without a peak,
        power or price (a budget on a field that costs nothing would never
        bind).
    """
    if role not in _TOKEN_FIELD:
      raise ValueError(
        f"Tariff role must be one of {sorted(_TOKEN_FIELD)}, got {role!r}"
      )
    if value_bytes is None:
      value_bytes = dtype_bytes
    for name, size in (
      ("dtype_bytes", dtype_bytes),
      ("value_bytes", value_bytes),
    ):
      if size not in _PEAK_DTYPE:
        raise ValueError(
          f"Tariff {name} must be one of {sorted(_PEAK_DTYPE)}, got {size!r}"
        )
    # Of its attended positions a token reads all but its own, and writes that.
    cached = transformer_flops.kv_bytes_per_token(shape, value_bytes)
    weights = transformer_flops.matmul_weights(shape) * dtype_bytes
    token = _work(
      transformer_flops.token_flops(shape), weights, hardware, value_bytes
    )
    context = _work(
      transformer_flops.context_flops(shape), cached, hardware, value_bytes
    )
    calls = 1 if role == "verifier" else 0
    return cls(
      token=token + costs.Cost(**{_TOKEN_FIELD[role]: 1}),
      context=context,
      call=costs.Cost(verifier_calls=calls),
    )

  @classmethod
  def per_token(
    cls, prompt_dollars: int | float, generated_dollars: int | float
  ) -> "Tariff":
    """An endpoint that bills every call's prompt and generated tokens.

    Args:
      prompt_dollars: dollars a prompt token, without cache discounts.
      generated_dollars: dollars a generated token.

    Raises:
      TypeError, ValueError: if a price is not a number, negative, or not
        finite.
    """
    return cls(
      token=costs.Cost(generated_tokens=1, dollars=generated_dollars),
      prefix=costs.Cost(prompt_tokens=1, dollars=prompt_dollars),
    )

  def price(self, tokens: Any, context: Any) -> costs.Cost:
    """The cost of one call that extends `context` tokens by `tokens`.

    Args:
      tokens: tokens added; an int, or i32[...].
      context: tokens of the prefix; an int, or i32[...].

    Returns:
      A host cost for host arguments: exact for ints, within float64
      rounding for the rest. Else int32 counts and float32 amounts, which are
      the exact price rounded up by at most 2e-6 of it.

    Raises:
      ValueError: if a host number of tokens is negative.
    """
    if rounding.is_host(tokens) and rounding.is_host(context):
      return self._host_price(tokens, context)
    return self._array_price(tokens, context)

  def prompt(self, length: Any) -> costs.Cost:
    """The cost of reading a prompt of `length` tokens; no call is counted."""
    return dataclasses.replace(self.price(length, 0), verifier_calls=0)

  def total(self, *, tokens: int, attended: int, calls: int = 0) -> costs.Cost:
    """The exact price of many calls at once, from their counts.

    Args:
      tokens: processed by all calls together.
      attended: positions that those tokens attended to, each its own
        included.
      calls: how many.

    Returns:
      The sum of the calls' `price`, for a tariff without `prefix`.
    """
    return costs.Cost(
      **{
        name: calls * call + tokens * token + attended * position
        for name, (call, _, token, position) in self._rows()
      }
    )

  def bound(self, tokens: Any, context: Any) -> costs.Cost:
    """The most that a call can cost which adds at most `tokens` tokens.

    Prices never fall with the number of tokens, so it is the price of the
    longest extension; named apart because callers mean different things.
    """
    return self.price(tokens, context)

  def affordable_tokens(
    self, meter: budget_lib.Meter, context: Any, wanted: Any
  ) -> Any:
    """The longest extension, of at most `wanted` tokens, that a meter affords.

    This is how a request is shortened to fit before it is sent. Bisection,
    24 rounds, as the price is quadratic in the length.

    Args:
      meter: host numbers or arrays.
      context: tokens of the prefix; an int, or i32[...].
      wanted: tokens wanted, below 2^24; an int, or i32[...].

    Returns:
      The largest n of 0..wanted such that `meter.affords(bound(n, context))`;
      0 also if not even an empty call is affordable. An int on the host.
    """
    empty = meter.affords(self.bound(0, context)) & (wanted >= 0)
    if isinstance(empty, jax.Array):
      return self._search_arrays(meter, context, wanted, empty.shape)
    if meter.affords(self.bound(wanted, context)):
      return wanted
    length = 0
    for bit in reversed(range(wanted.bit_length())):
      longer = length + (1 << bit)
      if longer < wanted and meter.affords(self.bound(longer, context)):
        length = longer
    return length

  def _search_arrays(
    self, meter: budget_lib.Meter, context: Any, wanted: Any, shape: Any
  ) -> jax.Array:
    def add_bit(i: jax.Array, length: jax.Array) -> jax.Array:
      longer = length + (jnp.int32(1) << (_LONGEST_BITS - 1 - i))
      fits = meter.affords(self.bound(longer, context)) & (longer <= wanted)
      return jnp.where(fits, longer, length)

    start = jnp.zeros(shape, jnp.int32)
    return jax.lax.fori_loop(0, _LONGEST_BITS, add_bit, start)

  def _host_price(self, tokens: int, context: int) -> costs.Cost:
    attended = transformer_flops.attended_positions(tokens, context)
    return costs.Cost(
      **{
        name: call + context * prefix + tokens * token + attended * position
        for name, (call, prefix, token, position) in self._rows()
      }
    )

  def _array_price(self, tokens: Any, context: Any) -> costs.Cost:
    tokens = jnp.asarray(tokens, jnp.int32)
    context = jnp.asarray(context, jnp.int32)
    n, c = tokens.astype(jnp.float32), context.astype(jnp.float32)
    attended = n * (c + (n + 1) / 2)
    fields = {}
    for name, row in self._rows():
      if name in costs.COUNTS:
        call, prefix, token, _ = row
        fields[name] = call + context * prefix + tokens * token
      else:
        call, prefix, token, position = map(rounding.float32_up, row)
        fields[name] = rounding.price_up(
          call + c * prefix + (n * token + attended * position)
        )
    return costs.Cost(**fields)

  def _rows(self) -> Iterator[tuple[str, tuple[Any, Any, Any, Any]]]:
    """(call, prefix, token, context) of every field."""
    parts = (self.call, self.prefix, self.token, self.context)
    rows = zip(*map(costs.quantities, parts), strict=True)
    return zip(costs.FIELDS, rows, strict=True)


def _work(
  flops: int,
  moved: int,
  hardware: hardware_lib.Hardware | None,
  dtype_bytes: int,
) -> costs.Cost:
  """FLOPs, bytes, joules and dollars of one token or one position."""
  if hardware is None:
    return costs.Cost(flops=flops, bytes=moved)
  dtype = _PEAK_DTYPE[dtype_bytes]
  seconds = hardware_lib.roofline_seconds(hardware, flops, moved, dtype)
  return costs.Cost(
    flops=flops,
    bytes=moved,
    joules=hardware.joules(flops / hardware.peak(dtype)),
    dollars=hardware.dollars(seconds),
  )
