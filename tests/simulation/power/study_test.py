# SPDX-License-Identifier: Apache-2.0
"""The study of POLCA, small and whole."""

import pathlib

import pytest

from configs import polca
from jaxttc import results as results_lib
from jaxttc import simulation

SERVING = (
  pathlib.Path(__file__).resolve().parents[4] / "shared/data/llm_serving"
)


@pytest.mark.slow
@pytest.mark.skipif(
  not SERVING.exists(), reason="no ../shared/data/llm_serving"
)
def test_small_study_becomes_files(tmp_path):
  pytest.importorskip("matplotlib")
  recipe = polca.get_config()
  recipe.profile = str(SERVING / "splitwise_perf_model.csv")
  recipe.trace = str(SERVING / "azure_llm_trace_conv.csv")
  recipe.hours, recipe.seeds, recipe.fresh_seeds = 0.5, (0,), 1
  recipe.extras, recipe.other_peaks, recipe.most = (0.3,), (), 44
  files = simulation.write(recipe.run(), tmp_path / "polca")
  found = results_lib.read(files[0])
  names = {claim.name for claim in found.claims}
  assert {"extra_servers", "brakes", "fresh_brakes"} <= names
  assert pathlib.Path(files[1]).stat().st_size > 10_000
  assert found.data["row"]["peak"] == pytest.approx(recipe.peak)


def test_refuses_recipes_that_cannot_be():
  recipe = polca.get_config()
  recipe.profile = "nowhere.csv"
  with pytest.raises(ValueError, match="nowhere.csv: cannot be read"):
    recipe.run()
