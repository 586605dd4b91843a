# SPDX-License-Identifier: Apache-2.0
"""Ledgers of models: from a recipe, a trained file, or a checkpoint directory.

A recipe of ours says how many tokens are read, by which sizes, and what it goes
on from; so what it takes can be told before it is run, and of a file that keeps
its recipe, afterwards. A published checkpoint tells its sizes alone: what it
took is for its makers to say, and what using it takes is computed.
"""

from collections.abc import Mapping
import dataclasses
import math
import os
import pathlib
from typing import Any

from jaxttc.cost import carbon as carbon_lib
from jaxttc.cost import energy as energy_lib
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import flop_estimates, stored_shape, transformer_flops
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import config as config_lib
from jaxttc.models import nested_transformer

Estimate = estimate_lib.Estimate
Shape = transformer_flops.TransformerShape

_HOUR = 3600.0
# A sampled solution ends where it ends: at half of what is allowed, or so.
_SHORTEST, _USUAL = 1 / 8, 1 / 2


def of_recipe(description: Mapping[str, Any], name: str) -> ledger_lib.Ledger:
  """What a recipe of language or reward models takes, in closed form.

  Optimisers, evaluations and checkpoints are left out; a run that is given a
  ledger counts its steps as they are (`loop.fit`).

  Args:
    description: `recipe.describe()`, or the recipe that a file keeps.
    name: of the ledger.

  Returns:
    The ledger, with what the recipe goes on from as its parents.

  Raises:
    ValueError: for another kind of recipe, or a start that cannot be read.
  """
  kind = description.get("kind")
  if kind == "language_model":
    return _language_model(description, name)
  if kind == "process_reward":
    return _process_reward(description, name)
  raise ValueError(
    f"no closed form of a recipe of kind {kind!r}; expected language_model or "
    "process_reward; train with a ledger (scripts/train.py --ledger) to have "
    "its steps counted"
  )


def of_model(
  path: str | os.PathLike[str],
) -> tuple[ledger_lib.Ledger, Shape]:
  """What is known of a model: its ledger and its sizes.

  Args:
    path: a Hugging Face directory, a file of ours, or a name that ships.

  Raises:
    ValueError: if it cannot be read.
  """
  place = pathlib.Path(path)
  if place.is_dir():
    return ledger_lib.Ledger(place.resolve().name), stored_shape.read(place)
  found = bundle_lib.load(str(path))
  return _of_bundle(found, place.stem), found.shape()


def _of_bundle(found: bundle_lib.Bundle, name: str) -> ledger_lib.Ledger:
  if not found.recipe.get("kind"):
    return ledger_lib.Ledger(name)
  return of_recipe(found.recipe, name)


def _language_model(recipe, name) -> ledger_lib.Ledger:
  ledger = ledger_lib.Ledger(name, _parents(recipe.get("start")))
  train = recipe["train"]
  config = config_lib.TransformerConfig.from_dict(recipe["model"])
  tokens = train["steps"] * train["batch_size"] * train["length"]
  widths = recipe.get("widths") or (1.0,)
  narrow = len(widths) - 1
  for width in widths:
    read = tokens
    if width != 1 and recipe.get("shared_rows", True):
      read = tokens / narrow
    ledger.add(
      "fine_tuning" if ledger.parents else "pre_training",
      flop=flop_estimates.from_config(
        nested_transformer.narrowed(config, width),
        flop_estimates.Work(tokens=read, length=train["length"]),
      ),
      note=f"{train['steps']} steps at width {width:g}",
    )
  return ledger


def _process_reward(recipe, name) -> ledger_lib.Ledger:
  trunk = _language_model(recipe["trunk"], f"{name} trunk")
  parents = [ledger_lib.Parent(trunk)]
  policy, policy_ledger = _start(recipe["policy"])
  if policy_ledger.name not in trunk.ancestors():
    parents.append(ledger_lib.Parent(policy_ledger, "teacher"))
  ledger = ledger_lib.Ledger(name, parents)
  most = recipe["max_tokens"]
  solutions = recipe["samples"] * (recipe["problems"] + recipe["held_out"])
  longest = flop_estimates.from_config(
    policy.shape(),
    flop_estimates.Work(tokens=solutions * most, length=most, kind="decode"),
  )
  ledger.add(
    "data_generation",
    flop=dataclasses.replace(
      longest,
      value=longest.value * _USUAL,
      low=longest.low * _SHORTEST,
      provenance="assumed",
      method="closed form, length supposed",
      shared="length of sampled solutions",
    ),
    note=f"{solutions} solutions of at most {most} tokens",
  )
  model = recipe["trunk"]["model"]
  reading = recipe["reading_layers"]
  config = config_lib.TransformerConfig.from_dict(
    model | {"layers": model["layers"] + reading, "reading_layers": reading}
  )
  train = recipe["train"]
  rows = train["steps"] * train["batch_size"]
  ledger.add(
    "fine_tuning",
    flop=reading_flop(config.shape(outputs=1), rows, train["length"]),
    note=f"{train['steps']} steps of {reading} reading layers",
  )
  return ledger


def reading_flop(shape: Shape, rows: int, length: int) -> Estimate:
  """FLOP of training a reward model's reading layers above a frozen trunk.

  The whole model goes forward, its language head included. Backward go the
  reading layers and the head of rewards, for what goes in and for weights; of
  what the layers are told, the weights alone.

  Args:
    shape: of the whole, with `reading_layers`.
    rows: sequences.
    length: tokens of each.
  """
  tokens = rows * length
  above = dataclasses.replace(shape, layers=shape.reading_layers)
  layers = 2 * (
    transformer_flops.matmul_weights(above)
    - (above.outputs + above.vocab_size + transformer_flops.READ) * above.width
  )
  head = 2 * shape.outputs * shape.width
  told = 2 * transformer_flops.READ * shape.width
  causal, dense = (
    transformer_flops.forward_flops(shape, tokens, positions)
    + 2 * tokens * (layers + head)
    + 2 * positions * transformer_flops.context_flops(above)
    + tokens * told
    for positions in (tokens * (length + 1) // 2, tokens * length)
  )
  return Estimate(
    value=causal,
    low=causal,
    high=1.05 * dense,
    unit="FLOP",
    method="closed form",
    shared="masked scores and elementwise work",
  )


def _start(name: str) -> tuple[bundle_lib.Bundle, ledger_lib.Ledger]:
  found = bundle_lib.load(name)
  return found, _of_bundle(found, pathlib.Path(name).stem)


def _parents(start: str | None) -> list[ledger_lib.Parent]:
  return [] if start is None else [ledger_lib.Parent(_start(start)[1])]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What somebody means to do with a model.

  Attributes:
    tokens: of training; 0 for none.
    length: of a training sequence, in tokens.
    phase: of the training.
    remat: whether the forward pass is computed again.
    queries: to answer; 0 for none.
    prompt_tokens: of a query.
    answer_tokens: of an answer.
    samples: answers a query, of which a search makes one.
    hardware: what it runs on; None if nobody knows.
    devices: how many of it.
    hours: of training on all of them; None for what FLOP and utilisation say.
    dtype: of the products.
    utilisation: share of the peak; None for Epoch's default.
    prices: of electricity; None where rent includes it.
    intensity: of the electricity; None for no emissions.
  """

  tokens: float = 0.0
  length: int = 2048
  phase: str = "pre_training"
  remat: bool = False
  queries: int = 0
  prompt_tokens: int = 0
  answer_tokens: int = 0
  samples: int = 1
  hardware: hardware_lib.Hardware | None = None
  devices: int = 1
  hours: float | None = None
  dtype: str = "bfloat16"
  utilisation: float | None = None
  prices: energy_lib.Prices | None = None
  intensity: carbon_lib.Intensity | None = None

  def __post_init__(self):
    for name in ("tokens", "queries", "prompt_tokens", "answer_tokens"):
      if not 0 <= getattr(self, name) < math.inf:
        raise ValueError(
          f"{name} must be finite and not negative, got {getattr(self, name)}"
        )
    for name in ("length", "samples", "devices"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    if self.hours is not None and self.hardware is None:
      raise ValueError("hours need hardware: name what they are hours of")
    if self.queries and not self.prompt_tokens + self.answer_tokens:
      raise ValueError("queries need prompt_tokens or answer_tokens")


def add_plan(
  ledger: ledger_lib.Ledger, shape: Shape | None, plan: Plan
) -> None:
  """Adds what a plan will take.

  Training FLOP come from tokens and sizes if both are known, else from hours.

  Args:
    ledger: gets an entry for training and one for queries, if there are any.
    shape: of the model; None if nobody knows.
    plan: what is meant.

  Raises:
    ValueError: if nothing follows from the plan, or hours are too few for the
      FLOP (a utilisation above 1).
  """
  if (plan.tokens or plan.queries) and shape is None:
    raise ValueError("tokens and queries need a model: its sizes are unknown")
  if plan.tokens:
    work = flop_estimates.Work(
      tokens=plan.tokens, length=plan.length, remat=plan.remat
    )
    flop = flop_estimates.from_config(shape, work)
    _enter(
      ledger,
      plan,
      plan.phase,
      flop,
      hours=plan.hours,
      recomputed=flop_estimates.recomputed(shape, work),
      note=f"planned: {plan.tokens:.4g} tokens",
    )
  elif plan.hours is not None:
    flop = flop_estimates.from_hardware(
      plan.hardware,
      plan.devices,
      plan.hours * _HOUR,
      plan.dtype,
      plan.utilisation,
    )
    note = f"planned: {plan.hours:g} hours"
    _enter(ledger, plan, plan.phase, flop, hours=plan.hours, note=note)
  if plan.queries:
    _enter(
      ledger,
      plan,
      "inference",
      _queries(shape, plan),
      hours=None,
      queries=plan.queries,
      note=f"planned: {plan.queries:,} queries, {plan.samples} answers each",
    )


def _queries(shape: Shape, plan: Plan) -> Estimate:
  """A prompt is read once; every answer goes on from it."""
  prompt = transformer_flops.prefill_flops(shape, plan.prompt_tokens)
  answer = transformer_flops.prefill_flops(
    shape, plan.answer_tokens, plan.prompt_tokens
  )
  value = plan.queries * (prompt + plan.samples * answer)
  return Estimate(
    value=value,
    low=value,
    high=1.05 * value,
    unit="FLOP",
    method="closed form",
    shared="masked scores and elementwise work",
  )


def _enter(
  ledger: ledger_lib.Ledger,
  plan: Plan,
  phase: str,
  flop: Estimate,
  *,
  hours: int | float | None,
  note: str,
  recomputed: int | float = 0.0,
  queries: int = 0,
) -> None:
  """Adds an entry, with the time, energy and money of its hardware."""
  ledger.add(
    phase,
    flop=flop,
    recomputed=recomputed,
    queries=queries,
    dtype=plan.dtype if plan.hardware else "",
    note=note,
    **_machine_time(plan, flop, hours),
  )


def _machine_time(
  plan: Plan, flop: Estimate, hours: int | float | None
) -> dict[str, Estimate]:
  """Device-seconds, joules, dollars and carbon of some FLOP."""
  device = plan.hardware
  if device is None:
    return {}
  seconds, share = _seconds(plan, flop, hours)
  found = {"seconds": seconds}
  wall = seconds.value / plan.devices
  if device.watts is not None:
    joules = energy_lib.modelled(device, plan.devices, wall, share).total
    # Not only the power is unknown, but also for how long it is drawn.
    joules = dataclasses.replace(
      joules,
      low=joules.low * _over(seconds.low, seconds.value),
      high=joules.high * _over(seconds.high, seconds.value),
    )
    found["joules"] = joules
    if plan.intensity is not None:
      pue = plan.prices.pue if plan.prices else 1.0
      found["carbon"] = carbon_lib.emitted(joules, plan.intensity, pue=pue)
  bills = []
  if device.dollars_per_hour is not None:
    bills.append(energy_lib.rent(device, seconds))
  priced = plan.prices is not None and plan.prices.dollars_per_kwh is not None
  if priced and "joules" in found:
    bills.append(plan.prices.electricity(found["joules"]))
  if bills:
    found["dollars"] = bills[0] if len(bills) == 1 else bills[0] + bills[1]
  return found


def _seconds(
  plan: Plan, flop: Estimate, hours: int | float | None
) -> tuple[Estimate, float]:
  """Device-seconds, and the share of the peak that was reached."""
  device = plan.hardware
  if hours is not None:
    wall = hours * _HOUR
    share = 0.0
    if wall:
      share = hardware_lib.utilisation(
        device, flop.value / plan.devices, wall, plan.dtype
      )
    total = plan.devices * wall
    return Estimate.exact(total, "s", "hours given", "assumed"), share
  second = flop_estimates.from_hardware(
    device, 1, 1.0, plan.dtype, plan.utilisation
  )
  estimate = Estimate(
    value=flop.value / second.value,
    low=flop.low / second.high,
    high=flop.high / second.low,
    unit="s",
    method=f"FLOP over what {device.name} does",
    provenance=second.provenance,
    shared=second.shared,
  )
  return estimate, second.value / device.peak(plan.dtype)


def _over(end: int | float, value: int | float) -> float:
  return end / value if value else 1.0
