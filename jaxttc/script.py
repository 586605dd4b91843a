# SPDX-License-Identifier: Apache-2.0
"""What every script does around its own work: logs, kept programs, studies.

A script whose work is one study is its docstring and

    def study(recipe: my_study.StudyRecipe, workdir: str) -> simulation.Study:
      return my_report.report(recipe, my_study.run(recipe, workdir))

    if __name__ == "__main__":
      script.run_study(study, __file__)
"""

from collections.abc import Callable, Sequence
import logging
import os
import pathlib
from typing import Any

from absl import app, flags
from absl import logging as absl_logging
import jax

from jaxttc import arguments, simulation

_TALKATIVE = (
  "httpx",  # a line a request
  "jax._src.xla_bridge",  # a line for every kind of device that is not there
)

flags.disclaim_key_flags()  # --help shows the flags of studies as the script's


def keep_programs(root: pathlib.Path) -> None:
  """Keeps compiled programs on disk: each is compiled once, not once a run.

  They lie in the folder that the environment's JAX_COMPILATION_CACHE_DIR names,
  or else in `.cache/jax` of `root`.

  Args:
    root: of the repository, or any other folder.
  """
  jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(root / ".cache" / "jax")),
  )


def run(main: Callable[[list[str]], None], path: str) -> None:
  """Parses the flags, sets up JAX, and calls `main`.

  Libraries' chatter is held back: what a script prints is its own, warnings
  aside.

  Args:
    main: gets what is left of the arguments, the script's name first.
    path: of the script, in a folder of the repository: its `__file__`.
  """
  keep_programs(pathlib.Path(path).resolve().parents[1])
  jax.config.config_with_absl()

  def quiet_main(argv: list[str]) -> None:
    for name in _TALKATIVE:
      logging.getLogger(name).setLevel(logging.WARNING)
    main(argv)

  arguments.run(quiet_main)


def run_study(
  study: Callable[..., simulation.Study],
  path: str,
  *,
  out: str | None = None,
  refused: Sequence[type[Exception]] = (ValueError, OSError),
) -> None:
  """Runs a script that is one study of a recipe, and writes what it found.

  Defines --config, --out and, unless `out` is given, --workdir.

  Args:
    study: takes the recipe and, unless `out` is given, the work folder.
    path: of the script: its `__file__`.
    out: default of --out, of a study that keeps nothing else; None for one that
      resumes from files in a work folder, whose figures go there by default.
    refused: errors that are told in one line.
  """
  name = pathlib.Path(path).name
  config = arguments.define_config(
    "config", None, "File with get_config() -> recipe."
  )
  where = "<workdir>/study" if out is None else out
  target = flags.DEFINE_string(
    "out", out, f"Where .json and .png go; default {where}."
  )
  workdir = None
  if out is None:
    workdir = flags.DEFINE_string(
      "workdir", None, "Folder of what is kept between runs."
    )

  def main(argv: list[str]) -> None:
    if len(argv) > 1:
      raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if config.value is None:
      raise app.UsageError("--config is required")
    arguments: list[Any] = [config.value]
    if workdir is not None:
      if workdir.value is None:
        raise app.UsageError("--workdir is required")
      arguments.append(workdir.value)
    absl_logging.set_verbosity(absl_logging.WARNING)  # orbax is talkative
    try:
      found = study(*arguments)
      simulation.publish(found, target.value or f"{arguments[-1]}/study")
    except tuple(refused) as error:
      raise SystemExit(f"{name}: {error}") from None

  run(main, path)
