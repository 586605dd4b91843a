# SPDX-License-Identifier: Apache-2.0
"""What whoever ordered something holds: a way to let it go."""

from collections.abc import Callable
from typing import Generic, TypeVar

Order = TypeVar("Order")
Event = TypeVar("Event")


class Handle(Generic[Order, Event]):
  """An order that was taken.

  Attributes:
    order: what is wanted.
    deliver: is given what comes of it.
    cancelled: whether it was let go.
  """

  def __init__(self, order: Order, deliver: Callable[[Event], None]):
    self.order, self.deliver = order, deliver
    self.cancelled = False

  def cancel(self) -> None:
    """Lets the order go, at the next turn; nothing more is delivered."""
    self.cancelled = True
