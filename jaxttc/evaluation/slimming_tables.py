# SPDX-License-Identifier: Apache-2.0
"""What the dials of a slimmable network are set to, as printable tables."""

from collections.abc import Mapping

from rich import table as rich_table

from jaxttc.allocators import width_planner, width_rules
from jaxttc.evaluation import slimming


def tables(
  slimmer: slimming.Slimmer,
  plan: width_planner.Plan,
  preference: Mapping[str, float] | None = None,
) -> list[rich_table.Table]:
  """Printable tables of a plan: widths, costs, and expected scores.

  Latencies are measured now.
  """
  preference = preference or dict.fromkeys(slimmer.space.tasks, 1.0)
  return [
    _widths_table(slimmer.space, plan.config),
    _costs_table(slimmer, plan.config),
    _scores_table(slimmer, plan, preference),
  ]


def unhelped(slimmer: slimming.Slimmer) -> list[str]:
  """A line about every task that width helps less than by a hundredth."""
  gains = width_rules.width_gains(slimmer.space, slimmer.scores.predict)
  lines = []
  for task, whole, own in zip(slimmer.space.tasks, *gains, strict=True):
    if whole < width_rules.LEAST_GAIN:
      lines.append(
        f"{task}: the score {_change(whole)} from the narrowest widths to the "
        "widest; nothing is bought with a budget here"
      )
    elif own < width_rules.LEAST_GAIN:
      lines.append(
        f"{task}: the score {_change(own)} from the narrowest decoder to the "
        "widest; a preference for it hardly moves it"
      )
  return lines


def _change(gain: float) -> str:
  if gain < 0:
    return f"falls by {-gain:.3f}"
  return f"rises by {gain:.3f} only"


def told(exported: slimming.Exported, path: str) -> str:
  """A line about a sub-network that was written."""
  return (
    f"{path}: {exported.size:,} bytes, "
    f"{exported.full_size / exported.size:.2f} times smaller than the whole; "
    f"read back, predictions differ by at most {exported.difference:.1e} of "
    "their spread"
  )


def _widths_table(space, config):
  table = rich_table.Table("width group", title="Widths")
  for column in ("ratio", "channels", "of"):
    table.add_column(column, justify="right")
  for group, ratio in zip(space.groups, config.ratios, strict=True):
    table.add_row(
      group.name, f"{ratio:g}", str(group.count(ratio)), str(group.channels)
    )
  return table


def _costs_table(slimmer, config):
  table = rich_table.Table("an example", title="Costs")
  for column in ("chosen", "full", "share"):
    table.add_column(column, justify="right")
  ends = (
    slimmer.space.indices(config)[None],
    slimmer.prices.ends["high"],
  )
  for name, unit in (
    ("multiply-adds", "macs"),
    ("parameters", "parameters"),
    ("activations", "activations"),
  ):
    own, full = (float(slimmer.prices(end, unit)[0]) for end in ends)
    table.add_row(name, f"{own:,.0f}", f"{full:,.0f}", f"{own / full:.1%}")
  own = slimmer.latency_ms(config)
  full = slimmer.latency_ms(slimmer.space.uniform())
  table.add_row(
    f"ms a batch of {slimmer.batch}, measured",
    f"{own:.3f}",
    f"{full:.3f}",
    f"{own / full:.1%}",
  )
  return table


def _scores_table(slimmer, plan, preference):
  table = rich_table.Table("task", title="Expected scores")
  for column in ("preference", "chosen", "full"):
    table.add_column(column, justify="right")
  full = slimmer.scores.predict(slimmer.prices.ends["high"])[0]
  total = sum(preference.values())
  for score, (task, own) in zip(full, plan.scores.items(), strict=True):
    share = preference[task] / total
    table.add_row(task, f"{share:.2f}", f"{own:.3f}", f"{score:.3f}")
  return table
