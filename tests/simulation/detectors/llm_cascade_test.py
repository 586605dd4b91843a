# SPDX-License-Identifier: Apache-2.0
"""A cascade of language models costs what the FLOP counter says."""

import jax
import numpy as np
import pytest

from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import transformer_flops
from jaxttc.simulation.detectors import llm_cascade, performance

_SMALL = transformer_flops.TransformerShape(
  vocab_size=100,
  width=16,
  layers=2,
  heads=2,
  kv_heads=2,
  head_dim=8,
  mlp_width=32,
)
_LARGE = transformer_flops.TransformerShape(
  vocab_size=100,
  width=64,
  layers=4,
  heads=4,
  kv_heads=4,
  head_dim=16,
  mlp_width=128,
)
_READERS = {
  "verifier": llm_cascade.Reader(shape=_SMALL, skill=1.0, keep=4.0),
  "judge": llm_cascade.Reader(
    shape=_LARGE, skill=2.0, keep=5.0, written_tokens=7
  ),
}


def _build(readers=None, **options):
  settings = {
    "drafts_per_s": 10.0,
    "prompt_tokens": 20,
    "solution_tokens": 30,
    "right_share": 0.1,
    "hardware": "h100-sxm",
  }
  return llm_cascade.build(
    _SMALL, _READERS if readers is None else readers, **(settings | options)
  )


def test_operations_are_those_of_the_transformers():
  with jax.enable_x64(True):
    report = jax.tree.map(np.asarray, performance.evaluate(_build()))
  expected = {
    "draft": transformer_flops.prefill_flops(_SMALL, 30, context=20),
    "verifier": transformer_flops.prefill_flops(_SMALL, 20 + 30),
    "judge": transformer_flops.prefill_flops(_LARGE, 20 + 30 + 7),
  }
  for name, flops in expected.items():
    assert report.ops[name] == pytest.approx(flops, rel=1e-12)
  device = hardware_lib.lookup("h100-sxm")
  joules = device.joules(1) / (device.peak("bfloat16") * 0.3)
  watts = joules * (
    10 * expected["draft"]
    + 10 * expected["verifier"]
    + 10 / 4 * expected["judge"]
  )
  assert report.power == pytest.approx(watts, rel=1e-10)
  assert report.stored_rate == pytest.approx(0.5)
  assert report.precision > 0.1


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"readers": {}}, "at least one model that reads"),
    ({"utilisation": 0.0}, "utilisation must be in"),
    ({"right_share": 1.5}, "prevalence is 1.5"),
    ({"hardware": "h1000"}, "h1000"),
  ],
)
def test_cascades_that_cannot_be(change, message):
  with pytest.raises(ValueError, match=message):
    _build(**change)
