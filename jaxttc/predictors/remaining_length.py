# SPDX-License-Identifier: Apache-2.0
"""How much thinking is left: its count, its laws, their tails.

The count: R of a token inside a thinking span is the number of tokens from it
to the closing one, both included, so the closing token itself has R = 1. The
chance to finish within b tokens is Pr(R <= b). Training targets, decoding and
metrics all use this count.

The Gamma law says that z = log(R + 1) ~ Gamma(alpha, rate), so that
Pr(R <= b) = P(alpha, rate * log(b + 1)), with P the regularised lower
incomplete gamma function (Li et al. 2025, equation 4).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num
import numpy as np

from jaxttc.inference import guidance

Numbers = jax.Array | np.ndarray

SCALES = ("log", "linear", "sqrt", "identity")
_LINEAR = 1024.0
_TAIL = 1e-3  # below it, the series; above it, the library's function
_TERMS = 48


class TrustMask(NamedTuple):
  """When a Gamma of a candidate is believed.

  Heads learn of tokens that occur; what they say of others is arbitrary, and
  flat. Source: Li et al. 2025, released code.

  Attributes:
    min_rate: least rate.
    min_alpha: the shape must exceed it.
    min_mode: least mode of R, in tokens. (alpha - 1) / rate is the mode of z.
  """

  min_rate: float = 10.0
  min_alpha: float = 1.0
  min_mode: float = 0.9

  def __call__(
    self, alpha: Float[Numbers, "..."], rate: Float[Numbers, "..."]
  ) -> Bool[Array, "..."]:
    """Which candidates are believed; for the scale "log"."""
    mode = jnp.expm1((alpha - 1) / rate)
    return (
      (rate >= self.min_rate)
      & (alpha > self.min_alpha)
      & (mode >= self.min_mode)
    )


TRUST = TrustMask()


def length_targets(
  tokens: Int[np.ndarray, "B T"],
  think_start: Int[np.ndarray, " B"],
  think_end: Int[np.ndarray, " B"],
  *,
  end_id: int | None = None,
) -> tuple[Int[np.ndarray, "B T"], Bool[np.ndarray, "B T"]]:
  """R of every token inside a thinking span.

  Args:
    tokens: whole texts, in any padding.
    think_start: index of the span's first token, after the opening one.
    think_end: index of the closing token.
    end_id: the closing token's id, to be checked; None trusts `think_end`.

  Returns:
    R i32[B, T], 0 outside the span, and whether a token lies in it.

  Raises:
    ValueError: if a span is empty or beyond its text, or does not end with the
      closing token; names the row.
  """
  tokens = np.asarray(tokens)
  start, end = np.asarray(think_start), np.asarray(think_end)
  width = tokens.shape[1]
  for row in np.flatnonzero((end <= start) | (start < 0) | (end >= width)):
    raise ValueError(
      f"row {row}: think_start {start[row]}, think_end {end[row]}; expected "
      f"0 <= think_start < think_end < {width}"
    )
  if end_id is not None:
    closing = tokens[np.arange(len(tokens)), end]
    for row in np.flatnonzero(closing != end_id):
      raise ValueError(
        f"row {row}: token {closing[row]} at think_end {end[row]}; expected "
        f"the closing token {end_id}"
      )
  index = np.arange(width)[None]
  inside = (index >= start[:, None]) & (index <= end[:, None])
  left = np.where(inside, end[:, None] - index + 1, 0)
  return left.astype(np.int32), inside


def encode_length(
  remaining: Int[Numbers, "..."] | Float[Numbers, "..."] | int,
  scale: str = "log",
) -> Float[Array, "..."]:
  """z of R tokens: log(R + 1), R / 1024, sqrt(R), or R.

  Raises:
    ValueError: if the scale is unknown.
  """
  _check_scale(scale)
  r = jnp.asarray(remaining, jnp.float32)
  return {
    "log": jnp.log1p,
    "linear": lambda x: x / _LINEAR,
    "sqrt": jnp.sqrt,
    "identity": lambda x: x,
  }[scale](r)


def decode_length(
  z: Float[Numbers, "..."], scale: str = "log"
) -> Float[Numbers, "..."]:
  """The R whose `encode_length` is z.

  Raises:
    ValueError: if the scale is unknown.
  """
  _check_scale(scale)
  z = jnp.asarray(z, jnp.float32)
  return {
    "log": jnp.expm1,
    "linear": lambda x: x * _LINEAR,
    "sqrt": jnp.square,
    "identity": lambda x: x,
  }[scale](z)


def gamma_nll(
  alpha: Float[Numbers, "..."],
  rate: Float[Numbers, "..."],
  remaining: Int[Numbers, "..."] | Float[Numbers, "..."],
  scale: str = "log",
) -> Float[Numbers, "..."]:
  """Negative log-density of z = encode(R), in nats; no Jacobian.

  Args:
    alpha: shapes, positive.
    rate: rates, positive.
    remaining: R >= 1.
    scale: one of `SCALES`.

  Raises:
    ValueError: if the scale is unknown, or a shape or rate that is known (not
      traced) is not finite and positive: the density would be none.
  """
  for name, law in (("alpha", alpha), ("rate", rate)):
    _check_positive(name, law)
  z = encode_length(jnp.maximum(remaining, 1), scale)
  log_z = jnp.log(z)
  return -(
    alpha * jnp.log(rate)
    - jax.scipy.special.gammaln(alpha)
    + (alpha - 1) * log_z
    - rate * z
  )


def log_gamma_cdf(
  alpha: Float[Numbers, "..."], x: Float[Numbers, "..."]
) -> Float[Numbers, "..."]:
  """log P(alpha, x), where float32 has no P left, too.

  In the lower tail, P(alpha, x) = x^alpha e^-x / Gamma(alpha + 1) *
  sum_k x^k / ((alpha + 1) .. (alpha + k)). Its first factor is written with
  Stirling's series about x = alpha, so that large terms cancel on paper and
  not in float32.

  Args:
    alpha: shapes, positive.
    x: >= 0.

  Returns:
    Within 1e-3 of the truth for shapes from 1 to 500; -inf at x = 0.
  """
  alpha, x = jnp.broadcast_arrays(
    jnp.asarray(alpha, jnp.float32), jnp.asarray(x, jnp.float32)
  )
  body = jax.scipy.special.gammainc(alpha, x)
  term = total = jnp.ones_like(x)
  for k in range(1, _TERMS + 1):
    term = term * (x / (alpha + k))
    total = total + term
  tail = _log_front(alpha, x) + jnp.log(total)
  upper = jnp.log(jnp.maximum(body, 0.5 * _TAIL))
  return jnp.where((body > _TAIL) | (x >= alpha), upper, tail)


def _log_front(alpha, x):
  """log of x^alpha e^-x / Gamma(alpha + 1)."""
  ratio = jnp.maximum(x / alpha, jnp.finfo(jnp.float32).tiny)
  inverse = 1.0 / jnp.maximum(alpha, 8.0)
  series = inverse / 12 - inverse**3 / 360  # of log Gamma, alpha >= 8
  large = (
    alpha * (jnp.log(ratio) - (ratio - 1))
    - 0.5 * jnp.log(2 * jnp.pi * alpha)
    - series
  )
  small = (
    alpha * jnp.log(jnp.maximum(x, jnp.finfo(jnp.float32).tiny))
    - x
    - jax.scipy.special.gammaln(alpha + 1)
  )
  front = jnp.where(alpha >= 8, large, small)
  return jnp.where(x > 0, front, -jnp.inf)


def log_chance(
  alpha: Float[Numbers, "B C"],
  rate: Float[Numbers, "B C"],
  remaining: Int[Numbers, " B"],
  *,
  trust: TrustMask | None = TRUST,
  scale: str = "log",
) -> Float[Numbers, "B C"]:
  """log Pr(R <= remaining) of each candidate; -inf where it is not believed.

  Raises:
    ValueError: if the scale is unknown.
  """
  found = log_gamma_cdf(alpha, rate * encode_length(remaining, scale)[:, None])
  if trust is None:
    return found
  return jnp.where(trust(alpha, rate), found, -jnp.inf)


def guide_logits(
  logits: Float[Numbers, "B V"],
  alpha: Float[Numbers, "_ _"],
  rate: Float[Numbers, "_ _"],
  remaining: Num[Numbers, " B"],
  *,
  strength: float | int = 1.0,
  trust: TrustMask | None = TRUST,
  top_k: int | None = None,
) -> Float[Numbers, "B V"]:
  """Logits bent towards tokens from which thinking can finish in time.

  Args:
    logits: of the next token.
    alpha: shape of each token's Gamma, C = V.
    rate: its rate.
    remaining: tokens left, the closing one counted, at least 1.
    strength: power of the chance; 0 changes nothing.
    trust: which tokens are believed; None believes all.
    top_k: bends that many of the likeliest tokens and drops the others; None
      bends all.

  Returns:
    As `guidance.guide`.

  Raises:
    ValueError: for a negative strength or a budget below 1, shapes or rates
      that are not positive and finite, or another vocabulary than the logits'.
  """
  _check_laws(logits, alpha, rate)
  guidance.check_strength(strength)
  guidance.check_budget(remaining)
  candidates = guidance.likeliest(logits, top_k)
  if candidates is not None:
    alpha, rate = (
      jnp.take_along_axis(x, candidates, axis=1) for x in (alpha, rate)
    )
  chance = log_chance(alpha, rate, remaining, trust=trust)
  return guidance.guide(logits, chance, candidates, strength=strength)


def bin_edges(bins: int, longest: int) -> Int[np.ndarray, " bins"]:
  """Upper edges of bins of R: 1, 2, 3, .. then in equal ratios to `longest`.

  Raises:
    ValueError: unless 1 <= bins <= longest.
  """
  if not 1 <= bins <= longest:
    raise ValueError(f"{bins} bins of lengths to {longest}; expected 1 or more")
  edges = np.geomspace(1, longest, bins)
  whole = np.arange(1, bins + 1)
  return np.maximum(np.ceil(edges - 1e-9).astype(np.int64), whole)


def bin_nll(
  log_mass: Float[Numbers, "*s bins"],
  remaining: Int[Numbers, "*s"] | Float[Numbers, "*s"],
  edges: Int[np.ndarray, " bins"],
) -> Float[Numbers, "..."]:
  """Negative log-probability of R, whose bin's mass is spread evenly, in nats.

  Lengths beyond the last edge count as the last bin.
  """
  which = jnp.searchsorted(jnp.asarray(edges), remaining)
  which = jnp.minimum(which, len(edges) - 1)
  mass = jnp.take_along_axis(log_mass, which[..., None], axis=-1)[..., 0]
  widths = np.diff(edges, prepend=0)
  return -mass + jnp.log(jnp.asarray(widths, jnp.float32))[which]


def log_bin_cdf(
  log_mass: Float[Numbers, "B C bins"],
  remaining: Int[Numbers, " B"],
  edges: Int[np.ndarray, " bins"],
) -> Float[Numbers, "B C"]:
  """log Pr(R <= remaining); within a bin the mass is spread evenly."""
  widths = np.diff(edges, prepend=0)
  below = jnp.asarray(edges - widths)
  share = (remaining[:, None] - below[None]) / jnp.asarray(widths)[None]
  share = jnp.clip(share, 0.0, 1.0)[:, None]
  log_share = jnp.log(jnp.maximum(share, 1e-37))
  log_share = jnp.where(share > 0, log_share, -jnp.inf)
  return jax.nn.logsumexp(log_mass + log_share, axis=-1)


def _check_scale(scale: str) -> None:
  if scale not in SCALES:
    raise ValueError(f"scale is {scale!r}; expected one of {', '.join(SCALES)}")


def _check_positive(name, law):
  """Checks what is known on the host."""
  if isinstance(law, jax.core.Tracer):
    return
  law = np.asarray(law)
  bad = law[~(np.isfinite(law) & (law > 0))]
  if bad.size:
    raise ValueError(f"{name} is {bad.flat[0]}; expected finite and > 0")


def _check_laws(logits, alpha, rate):
  """Checks what is known on the host; traced arrays cannot be."""
  if alpha.shape != logits.shape or rate.shape != logits.shape:
    raise ValueError(
      f"alpha of shape {alpha.shape} and rate of shape {rate.shape} for "
      f"logits of shape {logits.shape}; expected one vocabulary"
    )
  for name, law in (("alpha", alpha), ("rate", rate)):
    if isinstance(law, jax.core.Tracer):
      continue
    bad = ~(np.isfinite(law) & (np.asarray(law) > 0))
    for row, token in np.argwhere(bad):
      raise ValueError(
        f"{name} of row {row}, token {token} is {law[row, token]}; expected "
        "finite and > 0"
      )
