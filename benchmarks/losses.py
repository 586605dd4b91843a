# SPDX-License-Identifier: Apache-2.0
r"""Compares the losses with trl's, and the engine's log-probs with a trainer's.

    python -m benchmarks.losses

Both sides get the same random logits, tokens and masks; compared are each
loss's value and its whole gradient in the logits. Then the embedded policy
samples, and what the engine reports of each span is compared with what
`log_probs.of_model` finds on the same tokens. Writes docs/results/losses.json
with the claims `max_difference_to_trl` and
`logprob_difference_engine_trainer` (both <= 1e-4). Needs the extra bench.
"""

from collections.abc import Callable, Iterator
import pathlib
from typing import Any, NamedTuple

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import losses_engine
from benchmarks import losses_trl as peer
from jaxttc import results
from jaxttc.training import (
  cross_entropy,
  log_probs,
  policy_losses,
  preference_losses,
  sequences,
)

_OUT = flags.DEFINE_string("out", "docs/results/losses.json", "File to write.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "Of random logits.", lower_bound=1)

_ROWS, _PROMPT, _ANSWER, _VOCAB = 6, 3, 7, 11


class Batch(NamedTuple):
  """Random tokens of prompts and answers, and what models say of them.

  Attributes:
    tokens: i32[B, T].
    mask: bool[B, T], answers; they have unlike lengths.
    logits: f32[B, T, V], of the policy.
    old: f32[B, T - 1], log-probabilities of the tokens that follow, earlier.
    sampler: f32[B, T - 1], as a sampler reported them.
    reference: f32[B, T - 1], under the reference.
    advantages: f32[B].
  """

  tokens: np.ndarray
  mask: np.ndarray
  logits: np.ndarray
  old: np.ndarray
  sampler: np.ndarray
  reference: np.ndarray
  advantages: np.ndarray


def _batch(seed: int) -> Batch:
  rng = np.random.default_rng(seed)
  steps = _PROMPT + _ANSWER
  tokens = rng.integers(_VOCAB, size=(_ROWS, steps)).astype(np.int32)
  lengths = rng.integers(2, _ANSWER + 1, size=_ROWS)
  place = np.arange(steps)[None] - _PROMPT
  mask = (place >= 0) & (place < lengths[:, None])
  logits = rng.normal(size=(_ROWS, steps, _VOCAB)).astype(np.float32)
  own = np.asarray(_scored(jnp.asarray(logits), tokens))

  def near(spread):
    return (own + rng.normal(size=own.shape) * spread).astype(np.float32)

  return Batch(
    tokens,
    mask,
    logits,
    near(0.3),
    near(0.5),
    near(0.5),
    rng.normal(size=_ROWS).astype(np.float32),
  )


def _scored(logits, tokens) -> jax.Array:
  """Log-probabilities f32[B, T - 1] of the tokens that follow."""
  return log_probs.of_logits(
    logits[:, :-1], jnp.asarray(tokens[:, 1:])
  ).log_probs


def _ours(
  batch: Batch, loss: Callable[[jax.Array, sequences.Sequences], jax.Array]
) -> tuple[float, np.ndarray]:
  """A loss of the tokens' log-probabilities, and its gradient in the logits."""
  counted = sequences.Sequences(jnp.asarray(batch.mask[:, 1:]))
  return _of_logits(
    batch, lambda logits: loss(_scored(logits, batch.tokens), counted)
  )


def _of_logits(
  batch: Batch, loss: Callable[[jax.Array], jax.Array]
) -> tuple[float, np.ndarray]:
  """A loss of the logits, and its gradient in them."""
  value, slope = jax.value_and_grad(loss)(jnp.asarray(batch.logits))
  return float(value), np.asarray(slope)


_POLICY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
  # name: (ours, trl's)
  "GRPO": ({"aggregation": "seq_mean_token_mean"}, {}),
  "DAPO": ({"clip_high": 0.28}, {"loss_type": "dapo", "epsilon_high": 0.28}),
  "Dr. GRPO": (
    {"aggregation": "fixed_length", "length": 20},
    {"loss_type": "dr_grpo", "max_completion_length": 20},
  ),
  "token mean": ({}, {"loss_type": "bnpo"}),
  "upper bound": (
    {"ratio_bound": 1.5, "aggregation": "seq_mean_token_mean"},
    {"delta": 1.5},
  ),
  "GSPO": (
    {"ratio": "sequence", "aggregation": "seq_mean_token_mean"},
    {"importance_sampling_level": "sequence"},
  ),
  "CISPO": (
    {"kind": "cispo", "cispo_cap": 1.2},
    {"loss_type": "cispo", "epsilon_high": 1.2},
  ),
  "k3 in the loss": (
    {"kl": "k3", "kl_weight": 0.3, "aggregation": "seq_mean_token_mean"},
    {"beta": 0.3},
  ),
  "k3, corrected": (
    {
      "kl": "k3_corrected",
      "kl_weight": 0.3,
      "aggregation": "seq_mean_token_mean",
    },
    {"beta": 0.3, "use_bias_correction_kl": True},
  ),
  "sampler weights": (
    {"sampler_cap": 2.0, "aggregation": "seq_mean_token_mean"},
    {"weights": True},
  ),
  "entropy bonus": (
    {"entropy_weight": 0.2},
    {"loss_type": "bnpo", "entropy_coef": 0.2},
  ),
}


def _policy_cases(batch: Batch) -> Iterator[tuple[str, Any, Any]]:
  answers = slice(_PROMPT - 1, None)
  weights = np.minimum(np.exp(batch.old - batch.sampler), 2.0)
  inputs = {
    "prompt_ids": batch.tokens[:, :_PROMPT].astype(np.int64),
    "prompt_mask": np.ones((_ROWS, _PROMPT), np.int64),
    "completion_ids": batch.tokens[:, _PROMPT:].astype(np.int64),
    "completion_mask": batch.mask[:, _PROMPT:].astype(np.int64),
    "advantages": batch.advantages,
    "old_per_token_logps": batch.old[:, answers],
    "ref_per_token_logps": batch.reference[:, answers],
    "importance_sampling_ratio": weights[:, answers],
    "num_items_in_batch": np.array(batch.mask.sum()),
  }
  following = batch.tokens[:, 1:]
  for name, (options, others) in _POLICY.items():
    config = policy_losses.PolicyLossConfig(**options)

    def loss(logits, config=config):
      new = log_probs.of_logits(logits[:, :-1], jnp.asarray(following))
      return policy_losses.policy_loss(
        config,
        new.log_probs,
        jnp.asarray(batch.old),
        jnp.asarray(batch.advantages)[:, None],
        sequences.Sequences(jnp.asarray(batch.mask[:, 1:])),
        entropy=new.entropy,
        reference_log_probs=(
          None if config.kl is None else jnp.asarray(batch.reference)
        ),
        sampler_log_probs=(
          None if config.sampler_cap is None else jnp.asarray(batch.sampler)
        ),
      ).fraction.value

    theirs = peer.policy(batch.logits, inputs, **others)
    yield name, _of_logits(batch, loss), theirs


_PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
  "DPO": ({"beta": 0.3}, {"loss_types": ["sigmoid"], "loss_weights": [1.0]}),
  "DPO, mean of tokens": (
    {"beta": 0.3, "length_normalised": True},
    {"loss_types": ["sigmoid_norm"], "loss_weights": [1.0]},
  ),
  "IPO, mean of tokens": (
    {"beta": 0.3, "kind": "ipo", "length_normalised": True},
    {"loss_types": ["ipo"], "loss_weights": [1.0]},
  ),
  "hinge": (
    {"beta": 0.3, "kind": "hinge"},
    {"loss_types": ["hinge"], "loss_weights": [1.0]},
  ),
}


def _responses(batch, new, counted, reference=True) -> list[Any]:
  """The batch's first half as chosen, its second as rejected."""
  sums = counted.sums(new)[:, 0]
  known = counted.sums(jnp.asarray(batch.reference))[:, 0]
  half = _ROWS // 2
  return [
    preference_losses.Responses(
      sums[part],
      counted.lengths[part, 0],
      known[part] if reference else None,
    )
    for part in (slice(half), slice(half, None))
  ]


def _pair_cases(batch: Batch) -> Iterator[tuple[str, Any, Any]]:
  half = _ROWS // 2
  known = (batch.reference * batch.mask[:, 1:]).sum(1)
  inputs = {
    "input_ids": batch.tokens.astype(np.int64),
    "attention_mask": np.ones(batch.tokens.shape, np.int64),
    "completion_mask": batch.mask.astype(np.int64),
    "ref_chosen_logps": known[:half],
    "ref_rejected_logps": known[half:],
  }
  for name, (options, others) in _PAIRS.items():
    config = preference_losses.PreferenceLossConfig(**options)

    def loss(new, counted, config=config):
      sides = _responses(batch, new, counted)
      found = preference_losses.preference_loss(config, *sides)
      return found.losses.mean()

    theirs = peer.pairs(batch.logits, inputs, beta=0.3, **others)
    yield name, _ours(batch, loss), theirs

  def anchor(new, counted):
    first = jnp.arange(_ROWS)[:, None] < half
    counted = counted.replace(mask=counted.mask & first)
    return sequences.aggregate(-new, counted, "token_mean").value

  yield (
    "likelihood of the chosen",
    _ours(batch, anchor),
    peer.pairs(batch.logits, inputs, loss_types=["sft"], loss_weights=[1.0]),
  )

  def orpo(new, counted):
    sides = _responses(batch, new, counted, reference=False)
    config = preference_losses.PreferenceLossConfig(kind="orpo", beta=0.3)
    return preference_losses.preference_loss(config, *sides).losses.mean()

  labels = np.where(batch.mask, batch.tokens, -100).astype(np.int64)
  yield "ORPO", _ours(batch, orpo), peer.odds(batch.logits, labels, 0.3)

  def conservative(new, counted):
    sides = _responses(batch, new, counted)
    config = preference_losses.PreferenceLossConfig(
      beta=0.3, label_smoothing=0.1
    )
    return preference_losses.preference_loss(config, *sides).losses.mean()

  theirs = peer.smoothed_pairs(batch.logits, labels, known, 0.3, 0.1)
  yield "conservative DPO", _ours(batch, conservative), theirs


def _demonstration_cases(batch: Batch) -> Iterator[tuple[str, Any, Any]]:
  weights = jnp.asarray(batch.mask[:, 1:], jnp.float32)

  def loss(logits):
    nats = cross_entropy.nats(logits[:, :-1], jnp.asarray(batch.tokens[:, 1:]))
    return (nats * weights).sum() / weights.sum()

  inputs = {
    "input_ids": batch.tokens.astype(np.int64),
    "attention_mask": np.ones(batch.tokens.shape, np.int64),
    "labels": np.where(batch.mask, batch.tokens, -100).astype(np.int64),
  }
  theirs = peer.demonstrations(batch.logits, inputs)
  yield "demonstrations (SFT)", _of_logits(batch, loss), theirs


def _overlong_cases(batch: Batch) -> Iterator[tuple[str, Any, Any]]:
  """A reward of lengths: there is no gradient, so all values are compared."""
  lengths = np.append(batch.mask.sum(1), [0, 5, 8, 12]).astype(np.int32)
  found = policy_losses.overlong_penalty(jnp.asarray(lengths), 8, 5)
  ours, theirs = np.asarray(found), peer.overlong(lengths, 8, 5)
  yield (
    "penalty of long answers",
    (float(ours.sum()), ours),
    (float(theirs.sum()), theirs),
  )


def _judged_cases(batch: Batch, other: Batch) -> Iterator[tuple[str, Any, Any]]:
  """KTO; `other` plays the answers to other prompts."""
  desirable = np.arange(_ROWS) % 3 > 0
  known, strange = (
    (b.reference * b.mask[:, 1:]).sum(1) for b in (batch, other)
  )
  options = {
    "beta": 0.3,
    "desirable_weight": 1.2,
    "undesirable_weight": 0.8,
  }

  def loss(new, counted):
    counts = sequences.Sequences(jnp.asarray(other.mask[:, 1:]))
    sums = counts.sums(_scored(jnp.asarray(other.logits), other.tokens))[:, 0]
    point = preference_losses.kto_reference_point(
      preference_losses.Responses(
        sums, counts.lengths[:, 0], jnp.asarray(strange)
      )
    )
    return preference_losses.kto_loss(
      preference_losses.Responses(
        counted.sums(new)[:, 0], counted.lengths[:, 0], jnp.asarray(known)
      ),
      jnp.asarray(desirable),
      point,
      **options,
    ).mean()

  inputs = {"label": desirable, "ref_logps": known, "ref_KL_logps": strange}
  for prefix, b in (("", batch), ("KL_", other)):
    inputs |= {
      f"{prefix}input_ids": b.tokens.astype(np.int64),
      f"{prefix}attention_mask": np.ones(b.tokens.shape, np.int64),
      f"{prefix}completion_mask": b.mask.astype(np.int64),
    }
  yield (
    "KTO",
    _ours(batch, loss),
    peer.judged(batch.logits, other.logits, inputs, **options),
  )


def _reward_cases(seed: int) -> Iterator[tuple[str, Any, Any]]:
  found = np.random.default_rng(seed).normal(size=(_ROWS, 1))
  logits = found.astype(np.float32)

  def loss(x):
    chosen, rejected = jnp.split(x[:, 0], 2)
    return preference_losses.reward_loss(chosen, rejected, centring=0.1).mean()

  value, slope = jax.value_and_grad(loss)(jnp.asarray(logits))
  ours = float(value), np.asarray(slope)
  yield "reward model", ours, peer.rewards(logits, 0.1)


def compared(seeds: int) -> list[dict[str, Any]]:
  """The greatest differences to trl over seeds, a row a loss."""
  rows: dict[str, dict[str, Any]] = {}
  for seed in range(seeds):
    batch = _batch(seed)
    cases = (
      *_policy_cases(batch),
      *_pair_cases(batch),
      *_judged_cases(batch, _batch(1000 + seed)),
      *_demonstration_cases(batch),
      *_overlong_cases(batch),
      *_reward_cases(seed),
    )
    for name, (value, slope), (their_value, their_slope) in cases:
      row = rows.setdefault(
        name, {"loss": name, "value": 0.0, "gradient": 0.0, "size": 0.0}
      )
      row["value"] = max(row["value"], abs(value - their_value))
      gap = float(np.abs(slope - their_slope).max())
      row["gradient"] = max(row["gradient"], gap)
      row["size"] = max(row["size"], float(np.abs(their_slope).max()))
  return list(rows.values())


def main(argv: list[str]) -> None:
  """Compares and writes the results file."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  rows = compared(_SEEDS.value)
  engine = losses_engine.gaps()
  for row in rows:
    print(
      f"{row['loss']:28} value {row['value']:.1e}  gradient "
      f"{row['gradient']:.1e} of {row['size']:.1e}"
    )
  claims = [
    results.Claim(
      "max_difference_to_trl",
      max(max(row["value"], row["gradient"]) for row in rows),
      bar=1e-4,
      comparison="<=",
    ),
    results.Claim("losses_compared_with_trl", len(rows)),
    results.Claim(
      "logprob_difference_engine_trainer",
      float(max(engine["difference"].values())),
      bar=1e-4,
      comparison="<=",
    ),
  ]
  path = pathlib.Path(_OUT.value)
  results.write(
    path,
    command=results.command_line(),
    seeds=range(_SEEDS.value),
    data={"trl": peer.VERSION, "losses": rows, "engine": engine},
    claims=claims,
  )
  for claim in claims:
    print(f"{claim.name}: {claim.figure}")


if __name__ == "__main__":
  app.run(main)
