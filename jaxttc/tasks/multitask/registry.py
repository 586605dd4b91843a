# SPDX-License-Identifier: Apache-2.0
"""Multi-task data sets by name, as recipes say them."""

from collections.abc import Callable, Mapping
import functools
import inspect
from typing import Any

import jax

from jaxttc.tasks.multitask import (
  augmentation,
  base,
  cifar100,
  digits,
  feeding,
  nyud,
  nyuv2_mtan,
  pascal_context,
  scenes,
  vectors,
)

_SOURCES: dict[str, Callable[..., Any]] = {
  "vectors": vectors.Vectors,
  "scenes": scenes.Scenes,
  "digits": digits.Digits,
  "cifar100": cifar100.load,
  "nyud": nyud.load,
  "nyuv2_mtan": nyuv2_mtan.load,
  "pascal_context": pascal_context.load,
}
_AUGMENTATIONS = {
  "nyud": augmentation.NYUD,
  "nyuv2_mtan": augmentation.NYUD,
  "pascal_context": augmentation.PASCAL,
}
NAMES = tuple(_SOURCES)


def load(name: str, options: Mapping[str, Any]) -> Any:
  """Builds a data set.

  Args:
    name: one of `NAMES`.
    options: arguments of the generator's constructor (`vectors`, `scenes`,
      `digits`), or of the reader's `load`, such as its directory.

  Returns:
    An object with `tasks`, `input_shape` and `held_out(count)`, which
    `batches` reads.

  Raises:
    ValueError: if the name or an option is unknown, one is missing, or a value
      cannot be; and as the reader.
  """
  if name not in _SOURCES:
    raise ValueError(f"data {name!r} is not one of {', '.join(NAMES)}")
  known = inspect.signature(_SOURCES[name]).parameters
  unknown = sorted(set(options) - set(known))
  if unknown:
    raise ValueError(
      f"data {name!r} has no option {unknown[0]!r}; expected one of "
      f"{', '.join(known) or 'none'}"
    )
  for option, parameter in known.items():
    if parameter.default is parameter.empty and option not in options:
      raise ValueError(f"data {name!r} needs the option {option!r}")
  return _SOURCES[name](**options)


def batches(
  data: Any, name: str, size: int, seed: int
) -> Callable[[int], base.Examples]:
  """Batches for training: a pure function of the step.

  Args:
    data: what `load` gave: a generator draws fresh examples on the device; the
      images of a release are shuffled, augmented as its papers do, and read
      ahead.
    name: of the data set.
    size: examples a batch.
    seed: of draws, order and augmentation.
  """
  if hasattr(data, "sample"):
    key = jax.random.fold_in(jax.random.key(seed), 2)
    draw = jax.jit(functools.partial(data.sample, batch=size))
    return lambda step: draw(jax.random.fold_in(key, step))
  augment = None
  if name in _AUGMENTATIONS:
    augment = functools.partial(
      augmentation.augment, tasks=data.tasks, recipe=_AUGMENTATIONS[name]
    )
  return feeding.Batches(data, size, seed=seed, augment=augment)
