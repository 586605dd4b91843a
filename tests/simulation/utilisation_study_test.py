# SPDX-License-Identifier: Apache-2.0
import pathlib

import numpy as np
import pytest

from configs import utilisation
from jaxttc import results as results_lib
from jaxttc import simulation
from jaxttc.simulation import utilisation_study

_SERVING = (
  pathlib.Path(__file__).resolve().parents[3] / "shared/data/llm_serving"
)


@pytest.mark.slow
@pytest.mark.skipif(
  not _SERVING.exists(), reason="no ../shared/data/llm_serving"
)
def test_small_study_becomes_files(tmp_path, monkeypatch):
  pytest.importorskip("matplotlib")
  load = utilisation_study.traces.load

  def few(path):
    whole = load(path)
    return simulation.Trace(
      whole.arrival_s[:300],
      whole.prompt_tokens[:300],
      whole.output_tokens[:300],
    )

  monkeypatch.setattr(utilisation_study.traces, "load", few)
  recipe = utilisation.get_config()
  recipe.trace = str(_SERVING / "azure_llm_trace_conv.csv")
  recipe.table = str(_SERVING / "splitwise_perf_model.csv")
  recipe.machines, recipe.prompt_machines, recipe.rate_per_s = 3, 1, 3.0
  recipe.bins, recipe.gap_requests = 10, 50
  recipe.cell_machines, recipe.cell_hours = 8, 0.5
  files = simulation.write(recipe.run(), tmp_path / "utilisation")
  found = results_lib.read(files[0])
  assert pathlib.Path(files[1]).stat().st_size > 10_000
  names = [row["cluster"] for row in found.data["clusters"]]
  assert names == ["whole prompts", "chunked prompts", "split phases"]
  for row in found.data["clusters"]:
    busy, work = np.array(row["busy"]), np.array(row["in_work"])
    assert busy.shape == work.shape == (3, 10)
    assert ((busy >= 0) & (busy <= 1 + 1e-9)).all()
    assert (work >= busy - 0.01).all()  # rounded to hundredths
    for field in ("ttft_s", "e2e_slowdown", "gap_s"):
      assert np.all(np.diff(row[field]) >= 0)
    assert row["unfinished"] == 0
  for row in found.data["cells"]:
    assert {len(column) for column in row["use"]} == {8}
    assert 0 <= row["overloaded_share"] <= 1


def test_refuses_recipes_that_cannot_be():
  recipe = utilisation.get_config()
  recipe.prompt_machines = 10
  with pytest.raises(ValueError, match="10 of 10 machines; expected one"):
    recipe.run()
  recipe = utilisation.get_config()
  recipe.rate_per_s = 0.0
  with pytest.raises(ValueError, match="rate_per_s must be positive"):
    recipe.run()
