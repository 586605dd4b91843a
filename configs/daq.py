# SPDX-License-Identifier: Apache-2.0
"""Data acquisition at CMS: which stage should become better, and a real one.

    python scripts/simulate.py --config=configs/daq.py --out=docs/results/daq

Every number of the CMS scenarios stands here, as in the release of SystemFlow
(wilkieolin/system_flow: cms_system_60, cms_system_200 and its notebooks): bytes
of an event at pile-up 60 and 200, rejections, J per operation and bit. Two
kinds are derived. The skills are the distance of two normal deviates: of the
shares of relevant and of other events that the release's triggers pass (48.9 %
and 1.87 % at Level-1, 81.2 % and 0.61 % at the high level). The release moves
Level-1's scores by 0.40 of its own scale for tracks; `tracks_boost` is taken
as that in standard deviations. About a minute on one CPU core.
"""

from jaxttc.cost import transformer_flops
from jaxttc.simulation.detectors import cms, llm_cascade, study, trained_cascade

# Category, detector, bytes of an event at pile-up 60 and 200.
_DETECTORS = (
  ("Tracking", "Inner Tracker", 1.31e6 / 3, 1.44e6),
  ("Tracking", "Outer Tracker PS", 0.62e6 / 3, 0.72e6),
  ("Tracking", "Outer Tracker 2S", 0.38e6 / 3, 0.43e6),
  ("Tracking", "Track Finder TPG", 0.01e6, 0.01e6),
  ("Timing", "MIP Timing BTL", 0.23e6 / 3, 0.24e6),
  ("Timing", "MIP Timing ETL", 0.41e6 / 3, 0.44e6),
  ("Calorimetry", "ECAL Barrel", 0.18e6, 0.60e6),
  ("Calorimetry", "HCAL Barrel", 0.24e6, 0.24e6),
  ("Calorimetry", "HCAL HO", 0.03e6, 0.03e6),
  ("Calorimetry", "HCAL HF", 0.06e6, 0.06e6),
  ("Calorimetry", "HGCAL", 0.0, 3.00e6),
  ("Calorimetry", "HGCAL TPG Stage1", 0.0, 0.15e6),
  ("Calorimetry", "HGCAL TPG Stage2", 0.0, 0.05e6),
  ("Muon", "Muon DT", 0.17e6 / 3, 0.15e6),
  ("Muon", "Muon CSC", 0.43e6 / 3, 0.47e6),
  ("Muon", "Muon GEM GE1", 0.002e6 / 3, 0.003e6),
  ("Muon", "Muon GEM GE2", 0.0, 0.002e6),
  ("Muon", "Muon GEM ME0", 0.08e6 / 3, 0.12e6),
  ("Muon", "Muon RPC", 0.01e6, 0.01e6),
)


def _inputs(pile_up: int, level1_reduction: float) -> cms.CmsInputs:
  column = {60: 2, 200: 3}[pile_up]
  return cms.CmsInputs(
    event_rate=4e7,
    year=2032.0,
    detectors={row[1]: (row[0], row[column]) for row in _DETECTORS},
    level1=cms.Trigger(
      reduction=level1_reduction, skill=2.055, op_energy=0.003, data_bytes=2.6e5
    ),
    level1_bytes_per_op=2e6,
    high_level=cms.Trigger(reduction=100.0, skill=3.39, op_energy=16.0),
    wall_time=((2.0e6, 1.0), (4.667e6, 6.64), (6.667e6, 15.96)),
    detector_link=2.22e-11,
    other_link=2.5e-11,
    gpu_time=0.5,
    tracks_boost=1.145,
    smart_detector="Inner Tracker",
    smart_share=0.46,
  )


def get_config() -> study.DaqRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return study.DaqRecipe(
    today=_inputs(60, 400.0),
    upgrade=_inputs(200, 53.3),
    # MW, F1, samples per kJ, of the release's executed notebooks.
    released={
      "today": (0.32, 0.22, 0.69),
      "upgrade": (51.6, 0.39, 0.056),
      "GPU": (25.9, 0.39, 0.114),
      "tracks": (51.7, 0.79, 0.115),
      "smart": (40.8, 0.39, 0.071),
      "GPU + tracks": (25.9, 0.89, 0.205),
      "all three": (20.5, 0.89, 0.259),
    },
    trigger_samples=50_000,
    trained=trained_cascade.CascadeRecipe(),
    llm=study.LlmRecipe(
      draft=_llama(16, 2048, 32, 8, 64, 8192),
      verifier=llm_cascade.Reader(
        shape=_llama(16, 2048, 32, 8, 64, 8192), skill=1.5, keep=4.0
      ),
      judge=llm_cascade.Reader(
        shape=_llama(32, 4096, 32, 8, 128, 14336),
        skill=2.5,
        keep=4.0,
        written_tokens=400,
      ),
      drafts_per_s=1000.0,
      prompt_tokens=200,
      solution_tokens=600,
      right_share=1 / 16,
    ),
    queue_events=60_000,
    seeds=(0, 1, 2),
  )


def _llama(
  layers: int, width: int, heads: int, kv_heads: int, head: int, mlp: int
) -> transformer_flops.TransformerShape:
  """Llama 3's sizes: 1B has 16 layers, 8B has 32."""
  return transformer_flops.TransformerShape(
    vocab_size=128256,
    width=width,
    layers=layers,
    heads=heads,
    kv_heads=kv_heads,
    head_dim=head,
    mlp_width=mlp,
  )
