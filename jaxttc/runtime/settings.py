# SPDX-License-Identifier: Apache-2.0
"""What a search is run with, beside its models, decoder and budget."""

import dataclasses

from jaxttc.decoders import base
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, local_prices
from jaxttc.runtime import funding
from jaxttc.verifiers import process_reward, written_checks

_FIRST_SLOTS = 256  # most that a tree begins with, beside a round's


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSettings:
  """Sampling and sizes; static, so one compiled search serves one of these.

  Attributes:
    sampler: how tokens are drawn.
    step_tokens: most tokens of one step.
    max_tokens: most tokens of a solution, over all its steps.
    last_tokens: most tokens of a step-wise decoder's last step, which it has
      sampled to the end of the solution; None for all that `max_tokens`
      leaves. No more than `step_tokens` halves what there is to compile.
    prompt_tokens: room for a prompt, so that any number of calls share what is
      compiled; None for what the longest prompt of a call needs.
    aggregate: how step rewards become the reward of a prefix.
    slots: arena slots a problem beside the prompt's; a search that fills them
      ends. None begins with few, and gives more to a search that needs them:
      every sampled token pays for all slots, used or not.
    hardware: a name of the hardware table, to price joules and dollars; None
      leaves both at zero.
    checks: how a generative verifier is asked; not read by a reward model.
  """

  sampler: controllers.Sampler = controllers.Sampler()
  step_tokens: int = 32
  max_tokens: int = 128
  last_tokens: int | None = None
  prompt_tokens: int | None = None
  aggregate: process_reward.Aggregate = process_reward.Aggregate.LAST
  slots: int | None = None
  hardware: str | None = None
  checks: written_checks.CheckSettings = written_checks.CheckSettings()

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    self.sampler.validate()
    self.checks.validate()
    if self.step_tokens < 1:
      raise ValueError(f"step_tokens must be >= 1, got {self.step_tokens}")
    if self.max_tokens < self.step_tokens:
      raise ValueError(
        f"max_tokens={self.max_tokens} must be at least "
        f"step_tokens={self.step_tokens}"
      )
    for name in ("last_tokens", "prompt_tokens"):
      value = getattr(self, name)
      if value is not None and value < 1:
        raise ValueError(f"{name} must be >= 1, got {value}")
    if self.slots is not None and self.slots < self.step_tokens:
      raise ValueError(
        f"slots={self.slots} must be at least step_tokens={self.step_tokens}"
      )

  def end_tokens(self, until: tuple[base.Until, ...]) -> int:
    """Most tokens of a span that a decoder has sampled to the end."""
    if base.Until.STEP not in until or self.last_tokens is None:
      return self.max_tokens
    return min(self.last_tokens, self.max_tokens)

  def longest_span(self, until: tuple[base.Until, ...]) -> int:
    """Most tokens of any span of a decoder that samples so far."""
    step = self.step_tokens if base.Until.STEP in until else 0
    return max(step, self.end_tokens(until) if base.Until.END in until else 0)

  def arena_slots(self, shape: base.SearchShape) -> int:
    """Slots beside the prompt's that a problem's tree begins with."""
    if self.slots is not None:
      return self.slots
    some = min(shape.nodes * self.step_tokens // 4, _FIRST_SLOTS)
    return self.round_slots(shape) + some

  def round_slots(self, shape: base.SearchShape) -> int:
    """Slots that a round can fill at most."""
    return shape.asks * shape.children * self.step_tokens


def prices(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle | None,
  settings: SearchSettings,
) -> funding.Prices:
  """What the two models cost, on the settings' hardware.

  Raises:
    ValueError: if the hardware is unknown.
  """

  def local(bundle, role):
    return local_prices.local_tariff(bundle, settings.hardware, role)[0]

  return funding.Prices(
    prompt=local(policy, "prompt"),
    policy=local(policy, "policy"),
    verifier=None if verifier is None else local(verifier, "verifier"),
  )
