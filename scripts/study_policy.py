# SPDX-License-Identifier: Apache-2.0
r"""Fits budget policies to a comparison's cells, and judges them cross-fitted.

    python scripts/study_policy.py --config=configs/policy.py \
      --cells=runs/compare --out=docs/results/policy \
      --export=jaxttc/pretrained/auto_policy.npz

The comparison's cells that are not in --cells, or do not say what the searches
showed where a cascade needs that, are run first: from nothing that takes over
two hours. Other arms, problems or models: --compare=FILE names
another file of scripts/compare.py, and --compare.policy=... overrides a field.
Run the same command again after a stop, or a kill, and it goes on.
"""

import pathlib

from absl import app, flags

from jaxttc import arguments, script, simulation
from jaxttc.solving import budget_policies, policy_report
from jaxttc.studies import policy_claims, policy_study

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = arguments.define_config(
  "config",
  str(_ROOT / "configs" / "policy.py"),
  "File with get_config() -> StudyRecipe.",
)
_COMPARE = arguments.define_config(
  "compare",
  str(_ROOT / "configs" / "compare.py"),
  "File with get_config() -> CompareRecipe.",
)
_CELLS = flags.DEFINE_string("cells", "runs/compare", "Folder of cells.")
_OUT = flags.DEFINE_string(
  "out", None, "Where .json and .png go; default <cells>/policy."
)
_EXPORT = flags.DEFINE_string(
  "export", None, "Write the policy of all problems here, an .npz file."
)
_PROGRESS = flags.DEFINE_bool("progress", True, "Show progress bars.")


def main(argv: list[str]) -> None:
  """Parses the flags and runs the study."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  out = _OUT.value or str(pathlib.Path(_CELLS.value) / "policy")
  recipe = _CONFIG.value
  try:
    found = policy_study.run(
      recipe, _COMPARE.value, _CELLS.value, progress=_PROGRESS.value
    )
    if _EXPORT.value:
      budget_policies.save(found.policy, _EXPORT.value)
      print(_EXPORT.value)
    simulation.publish(policy_claims.report(recipe, found), out)
    if found.fresh:
      policy_report.draw(found.fresh, f"{out}_stages.png")
      print(f"{out}_stages.png")
  except (ValueError, OSError, ImportError) as error:
    raise SystemExit(f"study_policy.py: {error}") from None


if __name__ == "__main__":
  script.run(main, __file__)
