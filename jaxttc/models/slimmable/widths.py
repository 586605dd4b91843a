# SPDX-License-Identifier: Apache-2.0
"""Widths: which share of its channels each part of a network uses.

A network names its *width groups*: sets of axes that are always as wide as
each other, such as the stages of a residual encoder. A `WidthConfig` gives each
group a ratio; `counts` turns ratios into channels. Narrow networks use the
first channels of wide ones, so that all of them are nested in one set of
parameters.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class UnknownWidth(ValueError):
  """A ratio that the network was not trained at, or of a group it lacks."""


@dataclasses.dataclass(frozen=True)
class WidthGroup:
  """Axes that share one width.

  Attributes:
    name: for messages and tables.
    channels: at ratio 1.
    quantum: counts are multiples of it; norm groups and vector units like it.
  """

  name: str
  channels: int
  quantum: int = 8

  def count(self, ratio: float) -> int:
    """Channels at a ratio: the nearest multiple of the quantum, and no less.

    A result more than a tenth below the ratio is raised by one quantum, as
    MobileNets do (Sandler et al. 2018), but never above all channels. Ratio 1
    is all of them, also if they are not a multiple.
    """
    if ratio == 1:
      return self.channels
    q, exact = self.quantum, self.channels * ratio
    count = max(q, int(exact + q / 2) // q * q)
    if count < 0.9 * exact:
      count += q
    return min(count, self.channels)


@dataclasses.dataclass(frozen=True)
class WidthConfig:
  """A ratio a width group; hashable, so that it can name a compiled program.

  Attributes:
    encoder: a ratio a group of the shared encoder, in its order.
    decoders: (task, ratio) pairs, in the network's order of tasks.
  """

  encoder: tuple[float, ...]
  decoders: tuple[tuple[str, float], ...]

  @property
  def ratios(self) -> tuple[float, ...]:
    """All ratios, the encoder's first."""
    return (*self.encoder, *(ratio for _, ratio in self.decoders))

  def to_dict(self) -> dict[str, Any]:
    """JSON-ready; inverse of `from_dict`."""
    return {"encoder": list(self.encoder), "decoders": dict(self.decoders)}

  @classmethod
  def from_dict(cls, fields: Any) -> "WidthConfig":
    """Reads what `to_dict` gave.

    Raises:
      ValueError: naming what is missing, unknown or no number.
    """
    try:
      encoder, decoders = fields["encoder"], fields["decoders"]
      if len(fields) > 2 or isinstance(encoder, str):
        raise ValueError
      return cls(
        tuple(float(ratio) for ratio in encoder),
        tuple((str(task), float(ratio)) for task, ratio in decoders.items()),
      )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
      raise ValueError(
        "a width configuration must be {encoder: [ratio, ..], decoders: "
        f"{{task: ratio, ..}}}}, got {str(fields)[:200]}"
      ) from error


class Counts(NamedTuple):
  """Channels in use, a group.

  Python ints cut tensors to size when the program is traced; traced integers
  leave tensors whole and put zeros behind the channels in use, so that one
  program serves all widths, and can be mapped over them.

  Attributes:
    encoder: a count a group of the encoder: ints, or i32[S].
    decoders: a count a task: ints, or i32[K].
  """

  encoder: Any
  decoders: Any


@dataclasses.dataclass(frozen=True)
class WidthSpace:
  """The widths that a network was trained at.

  Attributes:
    encoder: the encoder's groups.
    decoders: (task, its decoder's group) pairs.
    menu: the ratios, ascending, 1 the last.

  Raises:
    ValueError: if the menu is empty, unsorted, or does not lie in (0, 1] with
      1 at its end, two menu widths of a group are equally wide, or two tasks
      have one name.
  """

  encoder: tuple[WidthGroup, ...]
  decoders: tuple[tuple[str, WidthGroup], ...]
  menu: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)

  def __post_init__(self) -> None:
    menu = self.menu
    ascends = all(low < high for low, high in itertools.pairwise(menu))
    if not menu or not ascends or menu[-1] != 1:
      raise ValueError(
        f"the menu of widths must ascend and end with 1, got {menu}"
      )
    if not menu[0] > 0:
      raise ValueError(f"widths must be positive, got {menu[0]}")
    if len(set(self.tasks)) < len(self.tasks):
      raise ValueError(f"tasks must have names of their own, got {self.tasks}")
    for group in self.groups:
      found = [group.count(ratio) for ratio in menu]
      if len(set(found)) < len(menu):
        raise ValueError(
          f"width group {group.name!r}: {group.channels} channels in steps of "
          f"{group.quantum} cannot tell the widths {menu} apart: {found}"
        )

  @property
  def groups(self) -> tuple[WidthGroup, ...]:
    """All groups, the encoder's first."""
    return (*self.encoder, *(group for _, group in self.decoders))

  @property
  def tasks(self) -> tuple[str, ...]:
    """Names of the tasks."""
    return tuple(task for task, _ in self.decoders)

  def config(self, ratios) -> WidthConfig:
    """The configuration of a ratio a group, the encoder's first.

    Raises:
      ValueError: if there is not one ratio a group.
    """
    ratios = tuple(float(ratio) for ratio in ratios)
    if len(ratios) != len(self.groups):
      raise ValueError(
        f"expected {len(self.groups)} ratios ({self._names()}), got "
        f"{len(ratios)}"
      )
    split = len(self.encoder)
    return WidthConfig(
      ratios[:split], tuple(zip(self.tasks, ratios[split:], strict=True))
    )

  def uniform(self, ratio: float = 1.0) -> WidthConfig:
    """The same ratio everywhere."""
    return self.config([ratio] * len(self.groups))

  def check(self, config: WidthConfig) -> None:
    """Refuses what the network was not trained at.

    Raises:
      UnknownWidth: naming the group and the widths that are known.
    """
    found = tuple(task for task, _ in config.decoders)
    if found != self.tasks or len(config.encoder) != len(self.encoder):
      raise UnknownWidth(
        f"expected {len(self.encoder)} encoder widths and decoders "
        f"{', '.join(self.tasks)}; got {len(config.encoder)} and "
        f"{', '.join(found)}"
      )
    for group, ratio in zip(self.groups, config.ratios, strict=True):
      if ratio not in self.menu:
        raise UnknownWidth(
          f"width group {group.name!r}: {ratio} is not one of the trained "
          f"widths {self.menu}"
        )

  def counts(self, config: WidthConfig) -> Counts:
    """Channels in use, as ints: the form that cuts tensors to size.

    Raises:
      UnknownWidth: as `check`.
    """
    self.check(config)
    found = [
      group.count(ratio)
      for group, ratio in zip(self.groups, config.ratios, strict=True)
    ]
    split = len(self.encoder)
    return Counts(tuple(found[:split]), tuple(found[split:]))

  def table(self) -> np.ndarray:
    """i32[groups, menu]: channels of every group at every menu width."""
    return np.array(
      [[group.count(ratio) for ratio in self.menu] for group in self.groups],
      np.int32,
    )

  def counts_at(self, indices: jax.Array | np.ndarray) -> Counts:
    """Channels at menu indices i32[.., groups], as arrays; may be traced."""
    table = jnp.asarray(self.table())
    found = table[jnp.arange(len(self.groups)), indices]
    split = len(self.encoder)
    return Counts(found[..., :split], found[..., split:])

  def indices(self, config: WidthConfig) -> np.ndarray:
    """i32[groups]: places in the menu; inverse of `at`."""
    self.check(config)
    return np.array([self.menu.index(r) for r in config.ratios], np.int32)

  def at(self, indices) -> WidthConfig:
    """The configuration at menu indices [groups]."""
    return self.config([self.menu[int(i)] for i in indices])

  def size(self) -> int:
    """How many configurations there are."""
    return len(self.menu) ** len(self.groups)

  def all_indices(self, axes: int | None = None) -> np.ndarray:
    """i32[menu ** axes, axes]: every choice for the first so many groups.

    Raises:
      ValueError: as `every_choice`.
    """
    axes = len(self.groups) if axes is None else axes
    return every_choice(axes, len(self.menu))

  def _names(self) -> str:
    return ", ".join(group.name for group in self.groups)


def every_choice(places: int, entries: int) -> np.ndarray:
  """All choices of one menu entry a place; the last place turns fastest.

  Returns:
    i32[entries ** places, places].

  Raises:
    ValueError: if they are more than four million.
  """
  if entries**places > 1 << 22:
    raise ValueError(
      f"{entries} ** {places} choices are too many to list; search greedily or "
      "by evolution"
    )
  rows = np.arange(entries**places)[:, None]
  steps = entries ** np.arange(places)[::-1]
  return (rows // steps % entries).astype(np.int32)
