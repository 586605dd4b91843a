# SPDX-License-Identifier: Apache-2.0
"""The comparison with trl compares what it says."""

import numpy as np
import pytest

pytest.importorskip("trl", reason="needs the extra bench")

from benchmarks import losses  # noqa: E402
from benchmarks import losses_trl as peer  # noqa: E402


def _gap(one, other):
  values = abs(one[0] - other[0])
  return max(values, float(np.abs(one[1] - other[1]).max()))


def test_equal_losses_are_equal_and_others_are_not():
  ((_, ours, theirs),) = losses._reward_cases(0)
  assert _gap(ours, theirs) < 1e-6
  logits = np.random.default_rng(0).normal(size=(6, 1)).astype(np.float32)
  assert _gap(ours, peer.rewards(logits, 0.2)) > 1e-2


def test_losses_of_tokens_are_those_of_trl_and_depend_on_the_batch():
  batch = losses._batch(0)
  seen = {}
  for cases in (
    losses._demonstration_cases,
    losses._overlong_cases,
    losses._pair_cases,
  ):
    for name, ours, theirs in cases(batch):
      assert _gap(ours, theirs) < 1e-5, name
      seen[name] = ours
  (_, other, _), *_ = losses._demonstration_cases(losses._batch(1))
  assert _gap(seen["demonstrations (SFT)"], other) > 1e-2
  # Smoothing is no small change.
  assert _gap(seen["conservative DPO"], seen["DPO"]) > 1e-2


def test_batches_have_answers_of_unlike_lengths():
  batch = losses._batch(0)
  lengths = batch.mask.sum(1)
  assert len(set(lengths.tolist())) > 1
  assert not batch.mask[:, : losses._PROMPT].any()
  assert np.abs(batch.old - batch.sampler).max() > 0.1
