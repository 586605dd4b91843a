# SPDX-License-Identifier: Apache-2.0
"""Objectives on preference pairs: of language models, and of reward models."""

from collections.abc import Callable, Sequence
import hashlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from jaxttc.models import reward_model, transformer
from jaxttc.training import (
  accumulation,
  log_probs,
  preference_losses,
  sequences,
  tuning_batches,
)

_BATCH = 16  # pairs whose reference is computed at once


def answer_log_probs(
  model: transformer.Transformer,
  params: Any,
  batch: tuning_batches.PairBatch,
  chunk: int | None = None,
) -> Float[Array, "B 2"]:
  """Sums of the answers' log-probabilities, chosen first.

  Args:
    model: the language model.
    params: its parameters.
    batch: pairs.
    chunk: columns of logits at once, as `log_probs.of_model` has it.
  """
  tokens, positions, segments = _rows(batch)
  found = log_probs.of_model(
    model,
    params,
    tokens,
    segments,
    positions,
    _flat(batch.targets),
    chunk=chunk,
  )
  sums = sequences.Sequences(_flat(batch.mask)).sums(found.log_probs)
  return sums.reshape(batch.tokens.shape[:2])


def objective(
  model: transformer.Transformer,
  config: preference_losses.PreferenceLossConfig,
  chunk: int | None = None,
) -> Callable:
  """The mean loss of pairs.

  Args:
    model: the language model.
    config: which loss.
    chunk: columns of logits at once.

  Returns:
    loss(params, batch, key) -> (f32[], metrics), with `PairBatch` batches, of
    "kto" `JudgedBatch`. Metrics are `loss`, `weight` (pairs) and means of
    `preference_losses.PairLoss.metrics`.

  Raises:
    ValueError: if the config cannot be.
  """
  config.validate()

  def sides(params, batch: tuning_batches.PairBatch):
    sums = answer_log_probs(model, params, batch, chunk)
    lengths = batch.mask.sum(-1)
    reference = None if config.kind == "orpo" else batch.reference
    return preference_losses.Responses(sums, lengths, reference)

  def loss(params, batch, key: jax.Array):
    del key
    others = None
    if config.kind == "kto":
      batch, mismatched = batch
      found = sides(jax.lax.stop_gradient(params), mismatched)
      others = jax.tree.map(jnp.ravel, found)
    both = sides(params, batch)
    chosen, rejected = (
      jax.tree.map(lambda x, i=i: x[:, i], both) for i in (0, 1)
    )
    found = preference_losses.preference_loss(config, chosen, rejected, others)
    mean = found.losses.mean()
    return mean, {
      "loss": mean,
      accumulation.WEIGHT: jnp.float32(len(found.losses)),
    } | jax.tree.map(jnp.mean, found.metrics)

  return loss


def reward_objective(
  model: reward_model.ProcessRewardModel, centring: float = 0.0
) -> Callable:
  """The Bradley-Terry loss of rewards at the answers' last tokens.

  Args:
    model: the reward model.
    centring: as in `preference_losses.reward_loss`.

  Returns:
    loss(params, batch, key) -> (f32[], metrics), with `PairBatch` batches.
    Metrics: `loss`, `agrees` (share of pairs whose chosen answer has the
    greater reward), `margin`, `reward`, `weight` (pairs).
  """

  def loss(params, batch: tuning_batches.PairBatch, key: jax.Array):
    del key
    tokens, positions, segments = _rows(batch)
    found = transformer.forward(model, params, tokens, segments, positions)
    last = batch.lengths.reshape(-1, 1) - 1
    rewards = jnp.take_along_axis(found, last, axis=1).reshape(-1, 2)
    chosen, rejected = rewards[:, 0], rewards[:, 1]
    mean = preference_losses.reward_loss(
      chosen, rejected, centring=centring
    ).mean()
    return mean, {
      "loss": mean,
      "agrees": (chosen > rejected).mean(dtype=jnp.float32),
      "margin": (chosen - rejected).mean(),
      "reward": rewards.mean(),
      accumulation.WEIGHT: jnp.float32(len(rewards)),
    }

  return loss


def reference_log_probs(
  model: transformer.Transformer,
  params: Any,
  pairs: Sequence[tuning_batches.TokenPair],
  length: int,
  path: str | pathlib.Path,
) -> Float[np.ndarray, "N 2"]:
  """What the reference says of all pairs, computed once and kept in a file.

  Args:
    model: the reference.
    params: its parameters.
    pairs: all pairs.
    length: tokens of a row.
    path: the file, .npz. It carries a fingerprint of parameters and pairs, and
      is made anew if that is another.

  Returns:
    Sums of the answers' log-probabilities, chosen first: f32[N, 2].
  """
  path = pathlib.Path(path)
  stamp = fingerprint(params, pairs)
  if path.exists():
    with np.load(path, allow_pickle=False) as held:
      if str(held["fingerprint"]) == stamp:
        return held["log_probs"]
  score = jax.jit(lambda p, b: answer_log_probs(model, p, b))
  found = []
  for start in range(0, len(pairs), _BATCH):
    part = list(pairs[start : start + _BATCH])
    filled = part + [part[-1]] * (_BATCH - len(part))  # one shape for all
    batch = tuning_batches.lay_pairs(filled, length)
    found.append(np.asarray(score(params, batch))[: len(part)])
  log_probs_all = np.concatenate(found).astype(np.float32)
  path.parent.mkdir(parents=True, exist_ok=True)
  part_path = path.with_suffix(".part.npz")
  np.savez(part_path, log_probs=log_probs_all, fingerprint=np.array(stamp))
  part_path.replace(path)
  return log_probs_all


def fingerprint(params: Any, pairs: Sequence[tuning_batches.TokenPair]) -> str:
  """A hash of parameters and pairs."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(params):
    digest.update(np.ascontiguousarray(leaf).tobytes())
  for pair in pairs:
    for side in pair:
      digest.update(np.array(side.tokens, np.int32).tobytes())
      digest.update(np.array(side.weights, np.float32).tobytes())
  return digest.hexdigest()


def _flat(x):
  """[B, 2, T] as [2B, T]."""
  return x.reshape(-1, x.shape[-1])


def _rows(batch: tuning_batches.PairBatch):
  """Tokens, positions and segments [2B, T]; one text a row."""
  tokens = _flat(batch.tokens)
  steps = tokens.shape[1]
  positions = jnp.broadcast_to(jnp.arange(steps)[None], tokens.shape)
  segments = (positions < batch.lengths.reshape(-1, 1)).astype(jnp.int32)
  return tokens, positions * segments, segments
