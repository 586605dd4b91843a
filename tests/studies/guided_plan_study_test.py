# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from jaxttc.allocators import local_budgets
from jaxttc.studies import guided_plan_study

_SMALL = guided_plan_study.StudyRecipe(
  ways=("guided", "hard_cap"),
  problems=6,
  sums=2,
  shares=(0.8,),
  judged=(0.8,),
  limit=40,
  seeds=(0,),
  resamples=50,
)


def test_a_small_study_tells_guidance_from_caps(tmp_path):
  data = guided_plan_study.run(_SMALL)
  rules = len(local_budgets.ROLL_OVERS)
  assert len(data["rows"]) == 1 + 2 * rules * len(guided_plan_study.CREDITS)
  free = data["rows"][0]
  assert free["way"] == "full" and free["tokens"] == data["need"][0]
  for row in data["rows"][1:]:
    assert row["tokens"] <= 0.8 * data["need"][0]
    assert len(row["right"]) == 6
  made = guided_plan_study.report(_SMALL, data)
  claims = {claim.name: claim.value for claim in made.claims}
  assert claims["points_guided_over_hard_cap_none"] > 0
  assert "right" not in made.data["rows"][0]
  pytest.importorskip("matplotlib")
  made.draw(tmp_path / "plans.png")
  assert (tmp_path / "plans.png").stat().st_size > 5000


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(problems=0), "problems is 0"),
    (dict(ways=("guided",)), "expected at least two"),
    (dict(shares=()), "shares above 0"),
    (dict(judged=(0.5,)), "judged="),
  ],
)
def test_what_cannot_be_run_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    guided_plan_study.run(dataclasses.replace(_SMALL, **change))
