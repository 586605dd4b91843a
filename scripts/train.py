# SPDX-License-Identifier: Apache-2.0
r"""Trains the model that a recipe describes; resumes where it was stopped.

    python scripts/train.py --config=configs/arithmetic_lm.py \
      --workdir=runs/arithmetic_lm --export=runs/arithmetic_lm.safetensors

Checkpoints, metrics.jsonl and TensorBoard events go to --workdir. Run the
same command again after a stop, or a kill, and it goes on from the last
checkpoint. Override any field of the recipe: --config.train.steps=100.
"""

import pathlib

from absl import app, flags, logging
import jax

from jaxttc import arguments, script
from jaxttc import mesh as mesh_lib
from jaxttc.cost import ledger_file

_CONFIG = arguments.define_config(
  "config", None, "File with get_config() -> recipe."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Folder of checkpoints and metrics.", required=True
)
_EXPORT = flags.DEFINE_string(
  "export", None, "Write the trained model here, as .safetensors."
)
_LEDGER = flags.DEFINE_string(
  "ledger", None, "Keep what the run computes here, as JSON lines."
)
_PROCESSES = flags.DEFINE_string(
  "processes", "", "Join others: auto, or HOST:PORT,COUNT,INDEX."
)


def main(argv: list[str]) -> None:
  """Parses the flags and runs the recipe."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if _CONFIG.value is None:
    raise app.UsageError("--config is required, e.g. configs/arithmetic_lm.py")
  logging.set_verbosity(logging.WARNING)  # orbax is talkative
  recipe = _CONFIG.value
  if not hasattr(recipe, "run") or not hasattr(recipe, "export"):
    raise SystemExit(
      "train.py: --config holds no recipe that trains a model, but a "
      f"{type(recipe).__name__}; a study has a script of its own"
    )
  if _EXPORT.value and not pathlib.Path(_EXPORT.value).parent.is_dir():
    raise SystemExit(
      f"train.py: --export={_EXPORT.value}: no such folder "
      f"{pathlib.Path(_EXPORT.value).parent}"
    )
  try:
    mesh_lib.join(_PROCESSES.value)
    mesh = mesh_lib.make_mesh() if jax.device_count() > 1 else None
    ledger = None
    if _LEDGER.value and mesh_lib.is_first():
      ledger = ledger_file.opened(
        _LEDGER.value, pathlib.Path(_LEDGER.value).stem
      )
    params = recipe.run(_WORKDIR.value, mesh, ledger)
    if _EXPORT.value:
      params = mesh_lib.fetch(params)  # of all processes, on all of them
      if mesh_lib.is_first():
        recipe.export(params, _EXPORT.value)
  except (ValueError, OSError, FloatingPointError) as error:
    raise SystemExit(f"train.py: {error}") from None


if __name__ == "__main__":
  script.run(main, __file__)
