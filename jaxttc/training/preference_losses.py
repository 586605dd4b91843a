# SPDX-License-Identifier: Apache-2.0
"""Losses of preferences: pairs, single judgements, and rewards.

A pair is a prompt with a chosen and a rejected response. With s(y) the sum of
log p(y) - log p_ref(y) over a response's tokens, and the margin
m = s(chosen) - s(rejected), a pair's loss is

    dpo:    -(1 - e) log sigmoid(beta m) - e log sigmoid(-beta m)
    hinge:  max(0, 1 - beta m)
    ipo:    (m - 1 / (2 beta))^2
    orpo:   -mean log p(chosen) - beta log sigmoid(log odds ratio)
    kto:    mean of sigmoid(beta (z - s)) of the chosen response and
            sigmoid(beta (s - z)) of the rejected one

where e is the share of pairs that are thought to be the wrong way round. Sums
are DPO's own: means (`length_normalised`) shrink beta by a response's length.

References:
  Rafailov et al. (2023), DPO, arXiv:2305.18290; Mitchell (2023), its smoothed
    form (cDPO).
  Azar et al. (2023), IPO, arXiv:2310.12036.
  Zhao et al. (2023), SLiC-HF, arXiv:2305.10425 (hinge).
  Pang et al. (2024), arXiv:2404.19733 (the anchor).
  Hong et al. (2024), ORPO, arXiv:2403.07691.
  Ethayarajh et al. (2024), KTO, arXiv:2402.01306.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

KINDS = ("dpo", "ipo", "hinge", "orpo", "kto")


@dataclasses.dataclass(kw_only=True)
class PreferenceLossConfig:
  """Which loss of pairs; what would be ignored is refused.

  Attributes:
    kind: one of `KINDS`; see the module.
    beta: strength of the pull to the reference; of "orpo", the weight of the
      odds ratio.
    label_smoothing: e of "dpo", in [0, 0.5).
    length_normalised: whether s(y) is a mean over tokens; not for "orpo",
      which always takes means, nor for "kto".
    anchor: weight of -mean log p(chosen), which keeps the chosen response
      probable; not for "orpo", which has it.
  """

  kind: str = "dpo"
  beta: float = 0.1
  label_smoothing: float = 0.0
  length_normalised: bool = False
  anchor: float = 0.0

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be or is ignored."""
    if self.kind not in KINDS:
      raise ValueError(
        f"preference loss {self.kind!r} is not one of {', '.join(KINDS)}"
      )
    if not self.beta > 0:
      raise ValueError(f"beta must be positive, got {self.beta}")
    if not 0 <= self.label_smoothing < 0.5:
      raise ValueError(
        f"label_smoothing must be in [0, 0.5), got {self.label_smoothing}"
      )
    if self.label_smoothing and self.kind != "dpo":
      raise ValueError(f"label_smoothing would be ignored by {self.kind!r}")
    if not self.anchor >= 0:
      raise ValueError(f"anchor must not be negative, got {self.anchor}")
    ignored = {"orpo": ("length_normalised", "anchor")}
    ignored["kto"] = ("length_normalised",)
    for name in ignored.get(self.kind, ()):
      if getattr(self, name):
        raise ValueError(f"{name} would be ignored by {self.kind!r}")


class Responses(NamedTuple):
  """One response a prompt, as the policy sees it.

  Attributes:
    log_probs: f32[B], sums over the response's tokens, its end included.
    lengths: f32[B], how many those are, at least 1.
    reference: f32[B], the same sums under the reference; None if there is
      none.
  """

  log_probs: Float[Array, " B"]
  lengths: Float[Array, " B"]
  reference: Float[Array, " B"] | None = None

  @property
  def means(self) -> Float[Array, " B"]:
    """Mean log-probability of a token, f32[B]."""
    return self.log_probs / jnp.maximum(self.lengths, 1.0)

  @property
  def log_ratios(self) -> Float[Array, " B"]:
    """s(y), f32[B]; no gradient goes to the reference."""
    return self.log_probs - jax.lax.stop_gradient(self.reference)


class PairLoss(NamedTuple):
  """Losses of pairs, before they are averaged.

  Attributes:
    losses: f32[B].
    metrics: f32[B] each: `margin` (beta m, or the log odds ratio), `agrees` (1
      where it is positive), `chosen` and `rejected` (sums of log p).
  """

  losses: Float[Array, " B"]
  metrics: dict[str, Float[Array, " B"]]


def preference_loss(
  config: PreferenceLossConfig,
  chosen: Responses,
  rejected: Responses,
  mismatched: Responses | None = None,
) -> PairLoss:
  """The loss of each pair.

  Args:
    config: which loss.
    chosen: the better responses.
    rejected: the worse ones, in the same order.
    mismatched: of "kto", answers to other prompts than their own.

  Raises:
    ValueError: if the config cannot be, or a reference or the mismatched
      responses are missing or would be ignored.
  """
  config.validate()
  if (config.kind == "kto") != (mismatched is not None):
    raise ValueError(
      f"mismatched responses are {'ignored' if mismatched else 'missing'} by "
      f"{config.kind!r}"
    )
  wants = config.kind != "orpo"
  for name, side in (("chosen", chosen), ("rejected", rejected)):
    if (side.reference is not None) != wants:
      raise ValueError(
        f"{name}.reference is {'missing' if wants else 'ignored'} by "
        f"{config.kind!r}"
      )
  if config.kind == "orpo":
    margin = _log_odds(chosen.means) - _log_odds(rejected.means)
    losses = -chosen.means - config.beta * jax.nn.log_sigmoid(margin)
  else:
    margin, losses = _referred(config, chosen, rejected, mismatched)
    losses = losses - config.anchor * chosen.means
  metrics = {
    "margin": margin,
    "agrees": (margin > 0).astype(jnp.float32),
    "chosen": chosen.log_probs,
    "rejected": rejected.log_probs,
  }
  return PairLoss(losses, jax.lax.stop_gradient(metrics))


def _referred(config, chosen, rejected, mismatched):
  """Scaled margins and losses f32[B] of the kinds that have a reference."""

  def score(side):
    share = jnp.maximum(side.lengths, 1.0) if config.length_normalised else 1.0
    return side.log_ratios / share

  m = score(chosen) - score(rejected)
  margin = config.beta * m
  if config.kind == "kto":
    point = kto_reference_point(mismatched)
    of_side = lambda side, good: kto_loss(  # noqa: E731
      side, jnp.full(m.shape, good), point, beta=config.beta
    )
    return margin, (of_side(chosen, True) + of_side(rejected, False)) / 2
  if config.kind == "ipo":
    return margin, (m - 1 / (2 * config.beta)) ** 2
  if config.kind == "hinge":
    return margin, jax.nn.relu(1 - margin)
  wrong = config.label_smoothing
  right = -jax.nn.log_sigmoid(margin)
  return margin, (1 - wrong) * right - wrong * jax.nn.log_sigmoid(-margin)


def _log_odds(log_prob):
  """log(p / (1 - p)); a p that rounds to 1 is kept just below it."""
  log_prob = jnp.minimum(log_prob, -1e-7)
  return log_prob - jnp.log(-jnp.expm1(log_prob))


def kto_loss(
  responses: Responses,
  desirable: Bool[Array, " B"],
  reference_point: Float[Array, ""],
  *,
  beta: float = 0.1,
  desirable_weight: float = 1.0,
  undesirable_weight: float = 1.0,
) -> Float[Array, " B"]:
  """Losses of responses that were judged one by one (KTO, equation 8).

  Args:
    responses: with their reference.
    desirable: which were judged good.
    reference_point: from `kto_reference_point`.
    beta: strength of the pull to the reference.
    desirable_weight: of good ones. Keep the two weights, each times the number
      of its examples, within a third of each other.
    undesirable_weight: of bad ones.

  Raises:
    ValueError: if beta or a weight is not positive, or the reference is
      missing.
  """
  for name, value in (
    ("beta", beta),
    ("desirable_weight", desirable_weight),
    ("undesirable_weight", undesirable_weight),
  ):
    if not value > 0:
      raise ValueError(f"{name} must be positive, got {value}")
  if responses.reference is None:
    raise ValueError("responses.reference is missing")
  gain = beta * (responses.log_ratios - reference_point)
  return jnp.where(
    desirable,
    desirable_weight * jax.nn.sigmoid(-gain),
    undesirable_weight * jax.nn.sigmoid(gain),
  )


def kto_reference_point(mismatched: Responses) -> Float[Array, ""]:
  """How far the policy is from the reference, f32[], without a gradient.

  Args:
    mismatched: responses to other prompts than their own, e.g. the batch's
      rolled by one. Their mean log-ratio, kept at 0 or more, stands for the KL
      divergence.

  Raises:
    ValueError: if the reference is missing.
  """
  if mismatched.reference is None:
    raise ValueError("mismatched.reference is missing")
  return jax.lax.stop_gradient(jnp.maximum(mismatched.log_ratios.mean(), 0.0))


def reward_loss(
  chosen: Float[Array, " B"],
  rejected: Float[Array, " B"],
  *,
  least: Float[Array, " B"] | None = None,
  centring: float = 0.0,
) -> Float[Array, " B"]:
  """Bradley-Terry losses of pairs of rewards.

  Args:
    chosen: reward logits of the better responses.
    rejected: of the worse ones.
    least: by how much each should differ; 0 if None.
    centring: weight of (chosen + rejected)^2, which ties down the constant
      that the loss of differences leaves open.

  Raises:
    ValueError: if `centring` is negative.
  """
  if not centring >= 0:
    raise ValueError(f"centring must not be negative, got {centring}")
  margin = chosen - rejected - (0.0 if least is None else least)
  return -jax.nn.log_sigmoid(margin) + centring * (chosen + rejected) ** 2
