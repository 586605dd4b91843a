# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from jaxttc.tasks import routing


def test_layouts_are_told_apart(tmp_path):
  scores = {"a-7b": 1, "b-70b": 0}
  (tmp_path / "s.json").write_text(
    json.dumps([{"question": "q", "scores": scores}])
  )
  line = {"query": "q", "model_name": "a-7b", "performance": 1, "cost": 1}
  lines = [line, line | {"model_name": "b-70b"}]
  (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, lines)))
  (tmp_path / "r.csv").write_text("prompt,a-7b,b-70b\nq,True,False\n")
  (tmp_path / "w.csv").write_text(
    "prompt,a-7b,b-70b,a-7b|total_cost,b-70b|total_cost\nq,1,0,1,2\n"
  )
  for name in ("s.json", "l.jsonl", "r.csv", "w.csv"):
    table = routing.load(tmp_path / name)
    assert table.models == ("a-7b", "b-70b"), name
    assert table.scores[0, 0] == 1, name


def test_unknown_names_are_refused(tmp_path):
  with pytest.raises(ValueError, match="ends in .json"):
    routing.load(tmp_path / "x.txt")
  with pytest.raises(ValueError, match="none.csv: cannot be read"):
    routing.load(tmp_path / "none.csv")
