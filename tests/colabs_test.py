# SPDX-License-Identifier: Apache-2.0
"""Every notebook runs from its first cell to its last."""

import json
import pathlib

import pytest

# Sizes that replace those of the cell tagged "parameters", as papermill's do.
_SMALL = {
  "train_a_reasoner": {
    "base_steps": 20,
    "rollout_steps": 2,
    "samples": 2,
    "tested": 4,
    "compared": ("greedy", "A*"),
  }
}
_COLABS = pathlib.Path(__file__).parents[1] / "colabs"


@pytest.mark.slow
@pytest.mark.parametrize(
  "notebook", sorted(_COLABS.glob("*.ipynb")), ids=lambda path: path.stem
)
def test_runs_whole(notebook, tmp_path, monkeypatch, capsys):
  matplotlib = pytest.importorskip("matplotlib")
  matplotlib.use("Agg")
  monkeypatch.chdir(tmp_path)  # what it writes goes there
  names = {"__name__": "__main__"}
  for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
    assert not cell.get("outputs"), "keep notebooks without outputs"
    if cell["cell_type"] == "code":
      code = compile("".join(cell["source"]), f"{notebook.stem}.py", "exec")
      exec(code, names)
    if "parameters" in cell["metadata"].get("tags", ()):
      small = _SMALL[notebook.stem]
      assert small.keys() <= names.keys(), "a size that the cell has not"
      names |= small
  assert capsys.readouterr().out
