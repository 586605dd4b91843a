# SPDX-License-Identifier: Apache-2.0
r"""Chooses the widths of a trained network for a budget and a preference.

    python scripts/slim.py --model=runs/slimmable_scenes.safetensors \
      --budget=0.5 --preference=segmentation:2,depth:1,normals:1,edges:0

    python scripts/slim.py --model=runs/slimmable_digits.safetensors \
      --budget=2 --unit=latency_ms --batch=8 --export=small.safetensors

    python scripts/slim.py --model=runs/slimmable_vectors.safetensors \
      --budget=100k --unit=parameters --picture=dials.png

The model is what scripts/train.py --config=configs/slimmable_*.py --export
wrote. Without --preference all tasks count alike; only ratios matter. Scores
of all widths are measured once and kept beside the model as
MODEL.scores.npz, latencies of this machine as MODEL.latency.json. --export
writes the chosen sub-network alone; it can be given as --model again. Tasks
that width hardly helps are named: their widths follow from nothing.
"""

import os

from absl import app, flags
import rich

from jaxttc import script
from jaxttc.allocators import menu_search, width_planner, width_prices
from jaxttc.evaluation import slimming, slimming_tables, trade_off_picture
from jaxttc.tasks.multitask import registry

_MODEL = flags.DEFINE_string(
  "model", None, "A slimmable network, .safetensors.", required=True
)
_BUDGET = flags.DEFINE_string(
  "budget",
  None,
  "The most an example may cost: 0.5, 50%, 200M, 512MiB or 2ms.",
  required=True,
)
_UNIT = flags.DEFINE_string(
  "unit",
  None,
  f"Unit of the budget: {', '.join(width_prices.UNITS)}. Latencies are of a "
  "batch; fraction, of the full multiply-adds, is a plain number's.",
)
_PREFERENCE = flags.DEFINE_string(
  "preference", "", "TASK:NUMBER,.. for every task; alike if empty."
)
_RULE = flags.DEFINE_string(
  "rule", "two_level", f"One of {', '.join(width_planner.RULES)}."
)
_SEARCH = flags.DEFINE_string(
  "search", "exhaustive", f"One of {', '.join(menu_search.SEARCHES)}."
)
_DATA = flags.DEFINE_string(
  "data",
  None,
  "MODULE:FUNCTION of the model's data, if they are your own. It is imported.",
)
_HARDWARE = flags.DEFINE_string(
  "hardware", None, "Chip of a budget of joules, as the cost room names it."
)
_BATCH = flags.DEFINE_integer("batch", 32, "Examples a call, of latencies.")
_EXPORT = flags.DEFINE_string(
  "export", None, "Write the chosen sub-network alone, .safetensors."
)
_PICTURE = flags.DEFINE_string(
  "picture", None, "Draw scores against both dials: .png, .svg or .pdf."
)


def slim() -> None:
  """Does what the flags say.

  Raises:
    ValueError: in one line, for anything in them that cannot be.
    ImportError: if a picture is asked for, and matplotlib is missing.
  """
  if _DATA.value is not None:
    registry.resolve(_DATA.value)
  budget, unit = width_prices.parse_budget(_BUDGET.value, _UNIT.value)
  slimmer = slimming.Slimmer(
    _MODEL.value, batch=_BATCH.value, hardware=_HARDWARE.value, say=_say
  )
  options = {"rule": _RULE.value, "search": _SEARCH.value}
  preference = slimming.parse_preference(_PREFERENCE.value)
  plan = slimmer.plan(budget, preference, unit=unit, **options)
  print(
    f"{plan.budget:g} {plan.unit} buy {plan.price:.4g}, which leaves "
    f"{plan.slack:.2g}; {slimmer.scores.source}"
  )
  for table in slimming_tables.tables(slimmer, plan, preference):
    rich.print(table)
  for line in slimming_tables.unhelped(slimmer):
    _say(line)
  if _EXPORT.value:
    print(
      slimming_tables.told(
        slimmer.export(plan.config, _EXPORT.value), _EXPORT.value
      )
    )
  if _PICTURE.value:
    trade_off_picture.write(
      slimmer.trade_off(**options),
      _PICTURE.value,
      f"Expected scores of {os.path.basename(_MODEL.value)}",
    )
    print(f"picture: {_PICTURE.value}")


def _say(line: str) -> None:
  print(f"slim.py: {line}", flush=True)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  try:
    slim()
  except (ValueError, ImportError) as error:
    raise SystemExit(f"slim.py: {error}") from None


if __name__ == "__main__":
  script.run(main, __file__)
