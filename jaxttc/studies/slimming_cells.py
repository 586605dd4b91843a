# SPDX-License-Identifier: Apache-2.0
"""What a study of slimmable networks trains: models in words.

A cell is one trained model and what was measured of it; `slimming_trainer`
trains and measures them.
"""

import dataclasses
from typing import Any

from jaxttc.training import slimmable as slimmable_training

_KINDS = ("ray", "chunked", "norms")


@dataclasses.dataclass(frozen=True)
class Slimmable:
  """A slimmable network.

  Attributes:
    name: of the cell.
    sandwich: how it is trained.
    tasks: names of the tasks it has decoders for; all if empty.
    data_options: what changes in the data it is trained on.
  """

  name: str
  sandwich: slimmable_training.Sandwich
  tasks: tuple[str, ...] = ()
  data_options: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Static:
  """A network of one width everywhere, trained by itself.

  Attributes:
    name: of the cell.
    ratio: its width.
  """

  name: str
  ratio: float


@dataclasses.dataclass(frozen=True)
class RivalTraining:
  """How a model is trained that is told the preference.

  Attributes:
    draws: preferences a step (and compute shares, of branching networks), each
      with the whole batch.
    share: learning rate of what generates, see `preference_models.optimizer`.
    start: steps in which the target is trained alone first, as an ordinary
      network to which all tasks matter alike, as a share of the recipe's and
      at its learning rate. What follows the preference starts from those
      parameters, and takes so many steps less that passes over batches are as
      many as without: for tasks that take long to be learned at all.
    variation: how far preferences are apart at the start, as a share of what
      they change (`hypernetworks`); the hypernetworks' own choice if None.
  """

  draws: int = 1
  share: float = 1.0
  start: float = 0.0
  variation: float | None = None

  def __post_init__(self) -> None:
    """Refuses a start that leaves no passes."""
    if not 0 <= self.start < self.draws:
      raise ValueError(
        f"start must be in [0, draws={self.draws}), got {self.start}"
      )

  def steps(self, whole: int) -> tuple[int, int]:
    """Of the target alone, and with preferences, of a recipe's steps."""
    first = round(self.start * whole)
    return first, whole - round(first / self.draws)


@dataclasses.dataclass(frozen=True)
class Hypernetwork:
  """A network of one width whose parameters follow the preference.

  Attributes:
    name: of the cell.
    kind: "ray" (PHN), "chunked" (CHN) or "norms" (PHN-BN).
    ratio: width of the target.
    learning_rate: peak of the schedule, of what the target has without any
      preference.
    search: "linear" for linear scalarisation, "exact" for EPO.
    training: how it is trained beyond that.
  """

  name: str
  kind: str
  ratio: float
  learning_rate: float
  search: str = "linear"
  training: RivalTraining = RivalTraining()

  def __post_init__(self) -> None:
    """Refuses unknown kinds, and a start that a kind cannot make."""
    if self.kind not in _KINDS:
      raise ValueError(
        f"hypernetwork {self.kind!r} is not one of {', '.join(_KINDS)}"
      )
    if self.kind == "chunked" and self.training.start:
      raise ValueError(
        "a chunked hypernetwork holds no parameters of its target, so it "
        "cannot start from trained ones: training.start must be 0"
      )


@dataclasses.dataclass(frozen=True)
class Branching:
  """A network whose branching follows preference and compute (CDMTA-lite).

  Attributes:
    name: of the cell.
    ratio: width of every stream.
    learning_rate: peak of the schedule, of the anchor.
    training: how it is trained beyond that.
  """

  name: str
  ratio: float
  learning_rate: float
  training: RivalTraining = RivalTraining()
