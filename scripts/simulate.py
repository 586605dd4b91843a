# SPDX-License-Identifier: Apache-2.0
r"""Simulates a part of the machine room, as a config describes it.

    python scripts/simulate.py --config=configs/splitwise.py \
      --out=docs/results/splitwise

Prints every figure beside its bar, and writes them with their data and a
picture. Override any field of the recipe: --config.seeds=0,1.
"""

import pathlib

from absl import app, flags

from jaxttc import arguments, script, simulation

_CONFIG = arguments.define_config(
  "config", None, "File with get_config() -> recipe."
)
_OUT = flags.DEFINE_string(
  "out", None, "Where .json and .png go; default runs/simulate/<config>."
)


def main(argv: list[str]) -> None:
  """Parses the flags and runs the simulation."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if _CONFIG.value is None:
    raise app.UsageError("--config is required, e.g. configs/splitwise.py")
  name = pathlib.Path(flags.FLAGS["config"].config_filename.split(":")[0]).stem
  out = _OUT.value or str(pathlib.Path("runs/simulate") / name)
  try:
    study = _CONFIG.value.run()
    simulation.publish(study, out)
  except (ValueError, OSError) as error:
    raise SystemExit(f"simulate.py: {error}") from None


if __name__ == "__main__":
  script.run(main, __file__)
