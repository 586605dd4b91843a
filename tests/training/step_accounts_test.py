# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc.cost import ledger as ledger_lib
from jaxttc.training import loop

_CONFIG = loop.TrainConfig(
  steps=4,
  batch_size=8,
  length=3,
  warmup_steps=1,
  log_every=2,
  evaluate_every=2,
  checkpoint_every=2,
)
# A product forward, and one for the weights' gradient backward.
_STEP = 2 * 2 * 8 * 3 * 2


def _objective(params, batch, key):
  del key
  loss = jnp.square(batch @ params["w"]).mean()
  return loss, {"loss": loss}


def _fit(workdir, ledger, config=_CONFIG, **changes):
  fields = {
    "objective": _objective,
    "init_params": lambda key: {"w": jax.random.normal(key, (3, 2))},
    "batches": lambda step: np.full((8, 3), step + 1.0, np.float32),
  }
  return loop.fit(
    config,
    workdir=str(workdir),
    tx=optax.sgd(0.01),
    ledger=ledger,
    **fields | changes,
  )


def test_a_run_enters_its_steps(tmp_path):
  ledger = ledger_lib.Ledger("run")
  with ledger.phase("fine_tuning"):
    _fit(tmp_path, ledger)
  [entry] = ledger.entries
  assert (entry.phase, entry.note) == ("fine_tuning", "4 steps")
  assert entry.flop.value == 4 * _STEP
  assert entry.seconds.value > 0
  _fit(tmp_path, ledger)  # there is nothing left to do
  assert len(ledger.entries) == 1


def test_a_resumed_run_enters_what_it_adds(tmp_path):
  ledger = ledger_lib.Ledger("run")
  _fit(tmp_path, None)
  longer = loop.TrainConfig(**vars(_CONFIG) | {"steps": 6})
  _fit(tmp_path, ledger, longer)
  assert ledger.total(["pre_training"]).estimate.value == 2 * _STEP


def test_a_run_that_diverges_is_entered_as_failed(tmp_path):
  ledger = ledger_lib.Ledger("run")
  with pytest.raises(FloatingPointError):
    _fit(
      tmp_path, ledger, batches=lambda step: np.full((8, 3), np.nan, np.float32)
    )
  assert [e.phase for e in ledger.entries] == ["failed"]


def test_what_cannot_be_counted_is_refused_before_it_runs(tmp_path):
  def objective(params, batch, key):
    loss, metrics = _objective(params, batch, key)
    return loss + jnp.linalg.inv(params["w"].T @ params["w"]).sum(), metrics

  ledger = ledger_lib.Ledger("run")
  with pytest.raises(ValueError, match="cannot count the FLOPs of"):
    _fit(tmp_path, ledger, objective=objective)
  assert ledger.entries == ()
