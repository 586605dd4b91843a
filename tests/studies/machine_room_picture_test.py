# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.studies import machine_room_picture


def _summary(decoder, shared, kind, machines):
  row = {"decoder": decoder, "shared": shared, "kind": kind}
  if machines is None:  # As the study tells that no size met the objective.
    return row | {"machines": None, "cluster": None}
  return row | {"machines": machines, "joules_per_solved": 900.0 * machines}


@pytest.fixture
def data():
  kinds = (("split", 2), ("undivided", None))
  return {
    "decoders": [
      {"decoder": "greedy", "accuracy": 0.5},
      {"decoder": "best_of_n", "accuracy": 0.75},
    ],
    "summary": [
      _summary(decoder, shared, kind, machines)
      for decoder in ("greedy", "best_of_n")
      for shared in (True, False)
      for kind, machines in kinds
    ],
    "power": [
      {"decoder": "greedy", "prefill_share": 0.2, "extra": 0.3},
      {"decoder": "best_of_n", "prefill_share": 0.6, "extra": 0.0},
    ],
  }


def test_draws_every_panel(data, tmp_path, monkeypatch):
  pytest.importorskip("matplotlib")
  drawn = []
  save = machine_room_picture.page.save
  monkeypatch.setattr(
    machine_room_picture.page,
    "save",
    lambda figure, path: (drawn.append(figure), save(figure, path)),
  )
  path = tmp_path / "room.png"
  machine_room_picture.draw(data, path)
  assert path.stat().st_size > 10_000
  energy, machines, accuracy, extra = drawn[0].axes
  # Shared and split: 2 machines' energy, in kJ; what no size met is no bar.
  widths = [bar.get_width() for bar in energy.patches]
  assert widths == pytest.approx([1.8] * 4 + [0.0] * 2)
  assert [bar.get_width() for bar in machines.patches] == [2] * 4 + [0] * 2
  points = [tuple(line.get_xydata()[0]) for line in accuracy.lines]
  np.testing.assert_allclose(points, [(0.9, 0.5), (1.35, 0.75)])
  points = [tuple(line.get_xydata()[0]) for line in extra.lines]
  np.testing.assert_allclose(points, [(20, 30), (60, 0)])
  assert {text.get_text() for text in extra.texts} == {"greedy", "best of n"}
