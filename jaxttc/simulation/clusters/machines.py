# SPDX-License-Identifier: Apache-2.0
"""Machines: their speed, memory, power and price; and the models they serve."""

import dataclasses
import math
import os

from jaxttc.simulation import traces
from jaxttc.simulation.clusters import performance as performance_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedModel:
  """A model as a cluster sees it.

  Attributes:
    name: as performance tables spell it.
    kv_bytes_per_token: its KV cache.
    weight_bytes: all of its weights.
  """

  name: str
  kv_bytes_per_token: float
  weight_bytes: float

  def __post_init__(self):
    traces.check_positive("kv_bytes_per_token", self.kv_bytes_per_token)
    traces.check_positive("weight_bytes", self.weight_bytes)


# Keys and values of all layers in two bytes each; the source caches all heads
# of Llama 2 70B, though its attention is grouped.
BLOOM_176B = ServedModel(
  name="bloom-176b",
  kv_bytes_per_token=2 * 70 * 14336 * 2.0,
  weight_bytes=329e9,
)
LLAMA2_70B = ServedModel(
  name="llama2-70b",
  kv_bytes_per_token=2 * 80 * 8192 * 2.0,
  weight_bytes=135e9,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachineSpec:
  """One kind of machine, serving one model.

  Attributes:
    name: of the kind.
    performance: how fast it is.
    kv_capacity_bytes: memory for KV caches.
    idle_w: power when it does nothing.
    prompt_w: power in iterations with prompts.
    decode_w: power in iterations without.
    provisioned: power that is set aside for it, in the unit of a power budget.
    cost_per_h: its price, in the unit of a cost budget.

  Raises:
    ValueError: if a number is not positive or a power is below the idle one.
  """

  name: str
  performance: performance_lib.Performance
  kv_capacity_bytes: float
  idle_w: float
  prompt_w: float
  decode_w: float
  provisioned: float
  cost_per_h: float

  def __post_init__(self):
    for name in (
      "kv_capacity_bytes",
      "idle_w",
      "provisioned",
      "cost_per_h",
    ):
      traces.check_positive(f"machine {self.name}: {name}", getattr(self, name))
    for name in ("prompt_w", "decode_w"):
      power = getattr(self, name)
      if not (math.isfinite(power) and power >= self.idle_w):
        raise ValueError(
          f"machine {self.name}: {name} is {power}, below idle_w {self.idle_w}"
        )

  def capacity_tokens(self, model: ServedModel) -> int:
    """Tokens of KV cache that fit."""
    return int(self.kv_capacity_bytes // model.kv_bytes_per_token)


# Eight accelerators of 80 GiB; W of server and accelerators, relative
# provisioned power and cost: Patel et al. 2024 and its released simulator. A
# power cap takes 30 % of an H100's power, which slows prompts only: decoding
# draws less than the cap.
_CAP = 0.7
_HARDWARE = {
  "A100": ("a100-80gb", 1500, 63, 400, 250, 24.8, 2.21),
  "H100": ("h100-80gb", 2800, 75, 700, 380, 44.0, 4.76),
  "H100 capped": ("h100-80gb-pcap", 2800, 75, _CAP * 700, 380, 30.8, 4.76),
}
_ACCELERATORS = 8
_MEMORY = _ACCELERATORS * 80 * 2**30


def dgx(
  table: str | os.PathLike[str],
  model: ServedModel = BLOOM_176B,
  *,
  reach: float = 1.0,
) -> dict[str, MachineSpec]:
  """The source's three machines: "A100", "H100" and "H100 capped".

  Args:
    table: measured times, read by `performance.load_table`.
    model: what they serve.
    reach: how far beyond the table prompts may go.

  Raises:
    ValueError: if the table is not valid or lacks the model.
  """
  made = {}
  for name, row in _HARDWARE.items():
    hardware, server_w, idle_w, prompt_w, decode_w, provisioned, cost = row
    made[name] = MachineSpec(
      name=name,
      performance=performance_lib.load_table(
        table, model=model.name, hardware=hardware, reach=reach
      ),
      kv_capacity_bytes=_MEMORY - model.weight_bytes,
      idle_w=server_w + _ACCELERATORS * idle_w,
      prompt_w=server_w + _ACCELERATORS * prompt_w,
      decode_w=server_w + _ACCELERATORS * decode_w,
      provisioned=provisioned,
      cost_per_h=cost,
    )
  return made
