# SPDX-License-Identifier: Apache-2.0
"""A served model: which one, what it is asked for, what it is paid."""

import dataclasses

from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference.endpoint import connection as connection_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointSpec:
  """A served model, and how it is asked.

  Attributes:
    connection: to the server.
    model: as the server calls it.
    chat: ask /chat/completions, with the prompt as the user's message. A
      reply there cannot be continued, so only whole solutions are sampled.
    step_ends: what ends a step.
    tokenizer: the model's tokenizer.json; "" asks the server, if it offers
      its own.
    max_length: most tokens of a prompt and its solution; None for what the
      server says.
    logprobs: whether to ask for log-probabilities; without, all are 0.
    prompt_dollars: price of a prompt token, sent again with each request;
      None if there is no price.
    generated_dollars: price of a sampled token; None if there is no price.
  """

  connection: connection_lib.Connection
  model: str
  chat: bool = False
  step_ends: tuple[str, ...] = ("\n\n",)
  tokenizer: str = ""
  max_length: int | None = None
  logprobs: bool = False
  prompt_dollars: float | None = None
  generated_dollars: float | None = None

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    self.connection.validate()
    if not self.model:
      raise ValueError("model must name the served model, got ''")
    if not self.step_ends or not all(self.step_ends):
      raise ValueError(
        f"step_ends must be texts, not empty, got {self.step_ends!r}"
      )
    if self.max_length is not None and self.max_length < 1:
      raise ValueError(f"max_length must be at least 1, got {self.max_length}")
    if (self.prompt_dollars is None) != (self.generated_dollars is None):
      raise ValueError(
        "give both prompt_dollars and generated_dollars, or none"
      )

  def tariff(self) -> tariff_lib.Tariff:
    """What a request costs by its tokens."""
    return tariff_lib.Tariff.per_token(
      self.prompt_dollars or 0, self.generated_dollars or 0
    )
