# SPDX-License-Identifier: Apache-2.0
"""trl's own loss code on given logits.

A trainer of trl needs a model, a tokenizer, a data set and an accelerator
before it computes a loss. So its loss methods are called as they are, unbound,
on a stand-in for the trainer that holds the few fields they read, with a
stand-in for the model that returns the given logits through trl's own
log-softmax.
"""

import collections
from collections.abc import Callable, Mapping
import contextlib
import types
from typing import Any

import numpy as np
import torch
import trl
from trl import rewards as trl_rewards
from trl.experimental.cpo import cpo_trainer
from trl.experimental.orpo import orpo_trainer
from trl.trainer import (
  dpo_trainer,
  grpo_trainer,
  kto_trainer,
  reward_trainer,
  sft_trainer,
)
from trl.trainer import utils as trl_utils

VERSION = trl.__version__
_IGNORED = -100


class _Logits:
  """A model that says what it is told, whatever it is asked."""

  training = True

  def __init__(self, logits: torch.Tensor):
    self.logits = logits

  def __call__(self, labels, **_):
    following = labels[:, 1:]
    logits = self.logits[:, :-1]
    scored = following != _IGNORED
    found = trl_utils.selective_log_softmax(
      logits, torch.where(scored, following, 0)
    )
    return types.SimpleNamespace(
      log_probs=torch.where(scored, found, 0.0),
      label_mask=scored,
      entropy=trl_utils.entropy_from_logits(logits),
      mean_logits=logits.mean(-1),
      is_top1=logits.argmax(-1) == following,
    )


def _accelerator():
  same = lambda x, **_: x  # noqa: E731
  return types.SimpleNamespace(
    device=torch.device("cpu"),
    num_processes=1,
    is_main_process=False,
    sync_gradients=True,
    gather=same,
    gather_for_metrics=same,
    reduce=same,
    autocast=contextlib.nullcontext,
  )


def _stand_in(**fields) -> types.SimpleNamespace:
  metrics = collections.defaultdict(lambda: collections.defaultdict(list))
  return types.SimpleNamespace(
    model=types.SimpleNamespace(training=True),
    accelerator=_accelerator(),
    aux_loss_enabled=False,
    precompute_ref_logps=True,
    _metrics=metrics,
    _total_train_tokens=0,
    _tp_size=1,
    **fields,
  )


def _with_slope(
  logits: np.ndarray, loss: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[float, np.ndarray]:
  """A loss and its gradient in the logits."""
  leaf = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
  value = loss(leaf)
  value.backward()
  return float(value.detach()), leaf.grad.numpy()


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
  return {name: torch.tensor(array) for name, array in arrays.items()}


def policy(
  logits: np.ndarray, inputs: Mapping[str, np.ndarray], **options: Any
) -> tuple[float, np.ndarray]:
  """Loss and gradient of `GRPOTrainer._compute_loss`."""
  settings = {
    "loss_type": "grpo",
    "importance_sampling_level": "token",
    "epsilon_low": 0.2,
    "epsilon_high": 0.2,
    "delta": None,
    "beta": 0.0,
    "use_bias_correction_kl": False,
    "weights": False,
    "max_completion_length": 1,
    "entropy_coef": 0.0,
  } | options
  args = types.SimpleNamespace(
    report_to=[],
    delta=settings.pop("delta"),
    use_bias_correction_kl=settings.pop("use_bias_correction_kl"),
    steps_per_generation=1,
  )
  weights = settings.pop("weights")
  trainer = _stand_in(
    args=args,
    top_entropy_quantile=1.0,
    off_policy_mask_threshold=None,
    use_vllm=weights,
    vllm_importance_sampling_correction=weights,
    current_gradient_accumulation_steps=1,
    _entropy_bonus_enabled=settings["entropy_coef"] != 0,
    use_adaptive_entropy=False,
    **settings,
  )
  trainer._get_per_token_logps_and_entropies = types.MethodType(
    grpo_trainer.GRPOTrainer._get_per_token_logps_and_entropies, trainer
  )
  given = _tensors(inputs)
  return _with_slope(
    logits,
    lambda leaf: grpo_trainer.GRPOTrainer._compute_loss(
      trainer, _Logits(leaf), dict(given)
    ),
  )


def pairs(
  logits: np.ndarray, inputs: Mapping[str, np.ndarray], **options: Any
) -> tuple[float, np.ndarray]:
  """Loss and gradient of `DPOTrainer._compute_loss`."""
  settings = {"beta": 0.1, "label_smoothing": 0.0} | options
  trainer = _stand_in(
    ld_alpha=None,
    f_divergence_type="reverse_kl",
    use_weighting=False,
    **settings,
  )
  given = _tensors(inputs)
  return _with_slope(
    logits,
    lambda leaf: dpo_trainer.DPOTrainer._compute_loss(
      trainer, _Logits(leaf), dict(given), False
    ),
  )


def judged(
  logits: np.ndarray,
  mismatched: np.ndarray,
  inputs: Mapping[str, np.ndarray],
  **options: Any,
) -> tuple[float, np.ndarray]:
  """Loss and gradient of `KTOTrainer._compute_loss`."""
  trainer = _stand_in(calculate_KL=True, loss_type="kto", **options)
  other = _Logits(torch.tensor(mismatched))

  def kl_logps(_, batch):
    model_inputs = {
      "KL_input_ids": batch["KL_input_ids"],
      "KL_attention_mask": batch["KL_attention_mask"],
      "KL_completion_mask": batch["KL_completion_mask"],
    }
    return kto_trainer.KTOTrainer._compute_kl_logps(
      trainer, lambda **kw: other(kw["labels"]), model_inputs
    )

  trainer._compute_kl_logps = kl_logps
  given = _tensors(inputs)
  return _with_slope(
    logits,
    lambda leaf: kto_trainer.KTOTrainer._compute_loss(
      trainer, _Logits(leaf), dict(given), False
    ),
  )


def odds(
  logits: np.ndarray, labels: np.ndarray, beta: float
) -> tuple[float, np.ndarray]:
  """ORPO of `ORPOTrainer`'s two pieces: mean log-probs, odds-ratio loss.

  The likelihood is that of the chosen answer, as in the paper; trl's own
  forward pass takes the prompt with it.
  """
  trainer = _stand_in(beta=beta)

  def loss(leaf):
    means = orpo_trainer.ORPOTrainer.get_batch_logps(
      leaf, torch.tensor(labels), average_log_prob=True
    )
    chosen, rejected = means.chunk(2)
    found = orpo_trainer.ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)
    return -chosen.mean() - found[0].mean()

  return _with_slope(logits, loss)


def smoothed_pairs(
  logits: np.ndarray,
  labels: np.ndarray,
  reference: np.ndarray,
  beta: float,
  smoothing: float,
) -> tuple[float, np.ndarray]:
  """Conservative DPO, of `CPOTrainer`'s two pieces: log-probs, smoothed loss.

  trl's DPO has no such loss; its CPO has, of sums of log-probabilities. It is
  given them less those of the reference f32[B].
  """
  trainer = _stand_in(
    beta=beta, label_smoothing=smoothing, loss_type="sigmoid", alpha=0.0
  )

  def loss(leaf):
    sums = cpo_trainer.CPOTrainer.get_batch_logps(leaf, torch.tensor(labels))
    chosen, rejected = (sums - torch.tensor(reference)).chunk(2)
    return cpo_trainer.CPOTrainer.cpo_loss(trainer, chosen, rejected)[0].mean()

  return _with_slope(logits, loss)


def demonstrations(
  logits: np.ndarray, inputs: Mapping[str, np.ndarray]
) -> tuple[float, np.ndarray]:
  """Loss and gradient of `SFTTrainer.compute_loss`."""
  trainer = _stand_in(
    args=types.SimpleNamespace(
      loss_type="nll", average_tokens_across_devices=False
    ),
    compute_loss_func=None,
    label_smoother=None,
  )
  trainer.accelerator.parallelism_config = None
  given = _tensors(inputs)
  return _with_slope(
    logits,
    lambda leaf: sft_trainer.SFTTrainer.compute_loss(
      trainer, _Logits(leaf), dict(given)
    ),
  )


def overlong(lengths: np.ndarray, longest: int, buffer: int) -> np.ndarray:
  """trl's soft punishment of long answers, f64[B]."""
  punish = trl_rewards.get_soft_overlong_punishment(longest, buffer)
  return np.array(punish([[0] * int(length) for length in lengths]))


def rewards(logits: np.ndarray, centring: float) -> tuple[float, np.ndarray]:
  """Loss and gradient of `RewardTrainer.compute_loss`; chosen first."""
  trainer = _stand_in(
    args=types.SimpleNamespace(center_rewards_coefficient=centring)
  )
  inputs = {"attention_mask": torch.ones(len(logits), 1)}
  return _with_slope(
    logits,
    lambda leaf: reward_trainer.RewardTrainer.compute_loss(
      trainer, lambda **_: types.SimpleNamespace(logits=leaf), dict(inputs)
    ),
  )
