# SPDX-License-Identifier: Apache-2.0
"""What a request cost: what the server says, else the most it can have been."""

import dataclasses

from jaxttc.cost import costs
from jaxttc.inference import engine as engine_lib
from jaxttc.inference.endpoint import counting, replies
from jaxttc.inference.endpoint import spec as spec_lib


@dataclasses.dataclass(frozen=True)
class Order:
  """What a request asked for.

  Attributes:
    text: of the prefix.
    ids: its token ids; as many as known, or bounded, if they are not exact.
    limit: most tokens to sample.
  """

  text: str
  ids: tuple[int, ...]
  limit: int


class Billing:
  """Bills requests to one served model."""

  def __init__(self, spec: spec_lib.EndpointSpec, exact: bool):
    """Bills by the model's prices.

    Args:
      spec: the model.
      exact: whether prompts are sent as the token ids that were counted.
    """
    self._tariff, self._exact = spec.tariff(), exact
    self._longest_end = max(len(end.encode()) for end in spec.step_ends)

  def worst(self, order: Order) -> engine_lib.Bill:
    """The most that a request can have cost of which nothing is known."""
    prompt = len(order.ids)
    if not self._exact:
      prompt = counting.byte_bound(order.text)
    spent = self._tariff.price(order.limit, prompt)
    return engine_lib.Bill(spent=spent, assumed=spent)

  def told(self, order: Order, usage: replies.Usage | None) -> engine_lib.Bill:
    """What a whole reply says that it cost; the worst if it does not.

    A server that goes beyond the limits that it was set is billed up to them:
    see `broken`.
    """
    if usage is None:
      return self.worst(order)
    prompt = usage.prompt
    if self._exact:
      prompt = min(prompt, len(order.ids))
    spent = self._tariff.price(min(usage.generated, order.limit), prompt)
    cached = min(usage.cached, prompt)
    return engine_lib.Bill(
      spent=dataclasses.replace(spent, cached_tokens=cached)
    )

  def usable(self, order: Order, reply: replies.Reply) -> engine_lib.Bill:
    """What a usable reply cost: if it does not say, by what is in it."""
    if reply.usage is not None:
      return self.told(order, reply.usage)
    worst = self.worst(order).spent
    most, counted = order.limit, reply.tokens is not None
    if counted:
      most = min(most, reply.tokens)
    elif reply.finish == "stop":
      # A token for each byte, for each of the stop string's, and for the end.
      size = len(reply.text.encode(errors="replace"))
      most = min(most, size + self._longest_end + 1)
    prompt = worst.prompt_tokens
    spent = self._tariff.price(most, prompt)
    known = self._tariff.price(
      most if counted else 0, prompt if self._exact else 0
    )
    return engine_lib.Bill(spent=spent, assumed=spent - known)

  def broken(self, order: Order, usage: replies.Usage | None) -> str:
    """How a server has broken the limits it was set; "" if it has not."""
    if usage is None:
      return ""
    if usage.generated > order.limit:
      return (
        f"the server sampled {usage.generated} tokens, max_tokens was "
        f"{order.limit}"
      )
    if self._exact and usage.prompt > len(order.ids):
      return (
        f"the server read {usage.prompt} prompt tokens, {len(order.ids)} were "
        "sent"
      )
    return ""


FREE = engine_lib.Bill(spent=costs.Cost())
