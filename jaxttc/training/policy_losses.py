# SPDX-License-Identifier: Apache-2.0
"""Policy-gradient losses of sampled sequences, as pure functions.

With the ratio rho = exp(l - l_old) of a token's probabilities after and before
the step, and its sequence's advantage A, a token's loss is

    clip:   -min(rho A, clip(rho, 1 - low, 1 + high) A)
    cispo:  -stop(min(rho, cap)) A l

where `ratio` says whose ratio it is: each token's own, its sequence's geometric
mean (GSPO), or that mean by value and its own by gradient (GSPO-token). With
rho = 1, both have the gradient of REINFORCE.

References:
  Schulman et al. (2017), PPO, arXiv:1707.06347.
  Shao et al. (2024), DeepSeekMath, arXiv:2402.03300 (GRPO).
  Yu et al. (2025), DAPO, arXiv:2503.14476 (clip-higher, overlong shaping).
  Ye et al. (2020), arXiv:1912.09729 (dual clip).
  Zheng et al. (2025), GSPO, arXiv:2507.18071.
  MiniMax (2025), MiniMax-M1, arXiv:2506.13585 (CISPO).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxttc.training import kl_estimators
from jaxttc.training import sequences as sequences_lib

KINDS = ("clip", "cispo")
RATIOS = ("token", "sequence", "sequence_token")
_CLIP = 0.2
_FAR = 20.0  # nats that a log-ratio is kept within


@dataclasses.dataclass(kw_only=True)
class PolicyLossConfig:
  """Which loss; what would be ignored must be None.

  Attributes:
    kind: "clip" or "cispo"; see the module.
    ratio: "token", "sequence" or "sequence_token".
    clip_low: how far below 1 the ratio of "clip" goes; 0.2 if None.
    clip_high: how far above; `clip_low` if None. DAPO has 0.28.
    dual_clip: c > 1 bounds the loss of a token with A < 0 at -c A; None for
      no bound.
    ratio_bound: largest ratio in the branch of "clip" that is not clipped;
      None for no bound.
    cispo_cap: largest ratio of "cispo".
    sampler_cap: weighs each token by p_old / p_sampler, up to this, where the
      sampler's numbers differ from the trainer's; None for no weights.
    kl: estimator of the divergence from the reference, one of
      `kl_estimators.LOSS_KINDS`; None for no such term.
    kl_weight: its weight.
    entropy_weight: weight of the mean entropy, which is subtracted.
    aggregation: one of `sequences.MODES`.
    length: of aggregation "fixed_length", tokens.
  """

  kind: str = "clip"
  ratio: str = "token"
  clip_low: float | None = None
  clip_high: float | None = None
  dual_clip: float | None = None
  ratio_bound: float | None = None
  cispo_cap: float | None = None
  sampler_cap: float | None = None
  kl: str | None = None
  kl_weight: float | None = None
  entropy_weight: float = 0.0
  aggregation: str = "token_mean"
  length: int | None = None

  @property
  def clips(self) -> tuple[float, float]:
    """(low, high) of "clip"."""
    low = _CLIP if self.clip_low is None else self.clip_low
    return low, low if self.clip_high is None else self.clip_high

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be or is ignored."""
    for name, known in (("kind", KINDS), ("ratio", RATIOS)):
      if getattr(self, name) not in known:
        raise ValueError(
          f"{name}={getattr(self, name)!r} is not one of {', '.join(known)}"
        )
    sequences_lib.check_mode(self.aggregation, self.length)
    if self.kind == "cispo":
      self._validate_cispo()
    else:
      self._validate_clip()
    if self.sampler_cap is not None and not self.sampler_cap > 0:
      raise ValueError(f"sampler_cap must be positive, got {self.sampler_cap}")
    if not self.entropy_weight >= 0:
      raise ValueError(
        f"entropy_weight must not be negative, got {self.entropy_weight}"
      )
    self._validate_kl()

  def _validate_clip(self):
    low, high = self.clips
    if not 0 < low < 1 or not high >= low:
      raise ValueError(
        f"clip_low={low} must be in (0, 1) and clip_high={high} not below it"
      )
    for name in ("dual_clip", "ratio_bound"):
      value = getattr(self, name)
      if value is not None and not value > 1:
        raise ValueError(f"{name} must be above 1, got {value}")
    if self.ratio_bound is not None and self.ratio_bound < 1 + high:
      raise ValueError(
        f"ratio_bound={self.ratio_bound} lies below 1 + clip_high={1 + high}"
      )
    if self.cispo_cap is not None:
      raise ValueError("cispo_cap would be ignored by kind 'clip'")

  def _validate_cispo(self):
    for name in ("clip_low", "clip_high", "dual_clip", "ratio_bound"):
      if getattr(self, name) is not None:
        raise ValueError(f"{name} would be ignored by kind 'cispo'")
    if self.ratio != "token":
      raise ValueError(f"kind 'cispo' has ratio 'token', not {self.ratio!r}")
    if self.cispo_cap is None or not self.cispo_cap > 0:
      raise ValueError(
        f"kind 'cispo' needs a positive cispo_cap, got {self.cispo_cap}"
      )

  def _validate_kl(self):
    if self.kl == "k1":
      raise ValueError(
        "kl='k1' in the loss has no gradient on average: it would regularise "
        "nothing. Subtract it from the rewards, or take k2"
      )
    known = kl_estimators.LOSS_KINDS
    if self.kl is not None and self.kl not in known:
      raise ValueError(f"kl={self.kl!r} is not one of {', '.join(known)}")
    if (self.kl is None) != (self.kl_weight is None):
      raise ValueError(
        f"give both kl and kl_weight, or none; got kl={self.kl!r}, "
        f"kl_weight={self.kl_weight}"
      )
    if self.kl_weight is not None and not self.kl_weight >= 0:
      raise ValueError(f"kl_weight must not be negative, got {self.kl_weight}")


class PolicyLoss(NamedTuple):
  """A loss of a batch, or of a part of one.

  Attributes:
    fraction: the loss; sum both parts over a step before dividing.
    metrics: f32[] each, means over tokens: `policy_loss`, `ratio`,
      `clip_fraction` (share of tokens whose gradient is cut; for "cispo", whose
      weight is), `kl_old` (k3 between old and new policy), and `kl`, `entropy`
      and `sampler_weight` where there are such.
  """

  fraction: sequences_lib.Fraction
  metrics: dict[str, Float[Array, ""]]


def policy_loss(
  config: PolicyLossConfig,
  log_probs: Float[Array, "B T"],
  old_log_probs: Float[Array, "B T"],
  advantages: Float[Array, "B _"],
  sequences: sequences_lib.Sequences,
  *,
  reference_log_probs: Float[Array, "B T"] | None = None,
  sampler_log_probs: Float[Array, "B T"] | None = None,
  entropy: Float[Array, "B T"] | None = None,
) -> PolicyLoss:
  """The loss of sampled tokens.

  Args:
    config: which loss.
    log_probs: under the parameters that are trained.
    old_log_probs: under those that the step began with, by the trainer's own
      forward pass at the sampler's temperature.
    advantages: of each token, or f[B, 1] of each row.
    sequences: which tokens count, and whose they are.
    reference_log_probs: under the reference, if there is a `config.kl`.
    sampler_log_probs: as the sampler reported them, if there is a
      `config.sampler_cap`.
    entropy: of each token's distribution; needed with an entropy weight, else
      only reported.

  Raises:
    ValueError: if the config cannot be, an input is missing or would be
      ignored, or has another shape: advantages f[B] are not f[B, 1].
  """
  config.validate()
  shape = sequences.mask.shape
  for name, given, shapes in (
    ("log_probs", log_probs, (shape,)),
    ("old_log_probs", old_log_probs, (shape,)),
    ("advantages", advantages, (shape, (shape[0], 1))),
    ("reference_log_probs", reference_log_probs, (shape,)),
    ("sampler_log_probs", sampler_log_probs, (shape,)),
    ("entropy", entropy, (shape,)),
  ):
    if given is not None and given.shape not in shapes:
      raise ValueError(
        f"{name} have shape {given.shape}; expected "
        f"{' or '.join(map(str, shapes))}, as the mask of the sequences"
      )
  for name, given, used in (
    ("reference_log_probs", reference_log_probs, config.kl),
    ("sampler_log_probs", sampler_log_probs, config.sampler_cap),
  ):
    if (given is None) != (used is None):
      raise ValueError(
        f"{name} are {'missing' if given is None else 'ignored'} by {config}"
      )
  if config.entropy_weight and entropy is None:
    raise ValueError("entropy is missing, and entropy_weight is not 0")
  stop = jax.lax.stop_gradient
  old = stop(old_log_probs)
  log_ratio = jnp.clip(log_probs - old, -_FAR, _FAR)
  # What stands at tokens that do not count must not reach their sequence.
  log_ratio = jnp.where(sequences.weights > 0, log_ratio, 0.0)
  ratio = jnp.exp(_levelled(config.ratio, log_ratio, log_probs, sequences))
  if config.kind == "cispo":
    losses, cut = _cispo(config, ratio, advantages, log_probs)
  else:
    losses, cut = _clip(config, ratio, advantages)
  found = {
    "policy_loss": losses,
    "ratio": ratio,
    "clip_fraction": cut.astype(jnp.float32),
    "kl_old": kl_estimators.kl("k3", log_probs, old),
  }
  if sampler_log_probs is not None:
    gap = jnp.clip(old - stop(sampler_log_probs), -_FAR, _FAR)
    weight = jnp.minimum(jnp.exp(gap), config.sampler_cap)
    losses, found["sampler_weight"] = losses * weight, weight
  if reference_log_probs is not None:
    found["kl"] = kl_estimators.kl(
      config.kl,
      log_probs,
      reference_log_probs,
      old if config.kl == "k3_corrected" else None,
    )
    losses = losses + config.kl_weight * found["kl"]
  if entropy is not None:
    found["entropy"] = entropy
    losses = losses - config.entropy_weight * entropy
  return PolicyLoss(
    sequences_lib.aggregate(
      losses, sequences, config.aggregation, length=config.length
    ),
    {
      name: stop(sequences_lib.aggregate(values, sequences).value)
      for name, values in found.items()
    },
  )


def _levelled(level, log_ratio, log_probs, sequences):
  """Log-ratios f32[B, T] of tokens or of their sequences."""
  if level == "token":
    return log_ratio
  mean = sequences.spread(sequences.means(log_ratio))
  if level == "sequence":
    return mean
  stop = jax.lax.stop_gradient
  return stop(mean) + log_probs - stop(log_probs)


def _clip(config, ratio, advantages):
  """Losses, and where a bound is active, f32 and bool [B, T]."""
  low, high = config.clips
  free = ratio
  if config.ratio_bound is not None:
    free = jnp.minimum(ratio, config.ratio_bound)
  plain = -free * advantages
  clipped = -jnp.clip(ratio, 1 - low, 1 + high) * advantages
  losses = jnp.maximum(plain, clipped)
  cut = clipped > plain
  if config.ratio_bound is not None:
    cut |= (ratio > config.ratio_bound) & (advantages < 0)
  if config.dual_clip is not None:
    bound = -config.dual_clip * advantages
    over = (advantages < 0) & (losses > bound)
    losses, cut = jnp.where(over, bound, losses), cut | over
  return losses, cut


def _cispo(config, ratio, advantages, log_probs):
  """Losses, and where the weight is capped, f32 and bool [B, T]."""
  weight = jax.lax.stop_gradient(jnp.minimum(ratio, config.cispo_cap))
  return -weight * advantages * log_probs, ratio > config.cispo_cap


def overlong_penalty(
  lengths: Int[Array, " B"], longest: int, buffer: int
) -> Float[Array, " B"]:
  """What to add to the rewards of long responses (DAPO, equation 13).

  Args:
    lengths: tokens of each response.
    longest: tokens from which on a response gets -1.
    buffer: tokens before that over which the penalty grows from 0.

  Returns:
    f32[B] in [-1, 0].

  Raises:
    ValueError: unless 0 < buffer <= longest.
  """
  if not 0 < buffer <= longest:
    raise ValueError(
      f"the buffer of {buffer} tokens must be in 1..{longest}, the longest "
      "response"
    )
  return jnp.clip((longest - buffer - lengths) / buffer, -1.0, 0.0).astype(
    jnp.float32
  )
