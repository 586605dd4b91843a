# SPDX-License-Identifier: Apache-2.0
"""Multi-task data sets by name, as recipes say them.

Others join them in two ways: `register` gives a function a name, and a recipe
may name a function as "module:function", which `resolve` imports. Importing
runs code, so only a recipe that a user writes is resolved, and never a name
that was read from a model's file.
"""

from collections.abc import Callable, Mapping
import functools
import importlib
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


def register(name: str, factory: Callable[..., Any]) -> None:
  """Gives a data set a name that recipes can say.

  Args:
    name: no other data set's, and without a colon.
    factory: makes the data set from a recipe's `data_options`, its keyword
      arguments: an object with `tasks` (`base.Task`s), `input_shape`,
      `held_out(count)`, and `sample(key, batch)` or `__len__` and
      `__getitem__`.

  Raises:
    ValueError: if the name is another function's, empty or has a colon.
  """
  if not name or ":" in name:
    raise ValueError(
      f"data {name!r}: a name must not be empty, nor have colons"
    )
  if _SOURCES.get(name, factory) is not factory:
    raise ValueError(f"data {name!r} is taken")
  _SOURCES[name] = factory


def resolve(name: str) -> None:
  """Imports the function that "module:function" names, and registers it.

  Names of data sets that are known are left as they are.

  Raises:
    ValueError: if the module cannot be imported, or has no such function.
  """
  if ":" not in name or name in _SOURCES:
    return
  module, _, function = name.partition(":")
  try:
    factory = getattr(importlib.import_module(module), function)
  except (ImportError, AttributeError, ValueError) as error:
    raise ValueError(
      f"data {name!r}: expected MODULE:FUNCTION of a module that can be "
      f"imported: {error}"
    ) from None
  if not callable(factory):
    raise ValueError(f"data {name!r}: is no function")
  _SOURCES[name] = factory


def load(name: str, options: Mapping[str, Any]) -> Any:
  """Builds a data set.

  Args:
    name: one of `NAMES`, or what was registered.
    options: arguments of the generator's constructor (`vectors`, `scenes`,
      `digits`), or of the reader's `load`, such as its directory.

  Returns:
    An object with `tasks`, `input_shape` and `held_out(count)`, which
    `batches` reads.

  Raises:
    ValueError: if the name or an option is unknown, one is missing, or a value
      cannot be; if what a user's function gave is no data set; and as the
      reader.
  """
  if name not in _SOURCES:
    own = "; data of your own: --data=" + name if ":" in name else ""
    raise ValueError(f"data {name!r} is not one of {', '.join(_SOURCES)}{own}")
  known = inspect.signature(_SOURCES[name]).parameters
  kinds = {parameter.kind for parameter in known.values()}
  unknown = sorted(set(options) - set(known))
  if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
    raise ValueError(
      f"data {name!r} has no option {unknown[0]!r}; expected one of "
      f"{', '.join(known) or 'none'}"
    )
  for option, parameter in known.items():
    variadic = parameter.kind in (
      parameter.VAR_KEYWORD,
      parameter.VAR_POSITIONAL,
    )
    required = parameter.default is parameter.empty and not variadic
    if required and option not in options:
      raise ValueError(f"data {name!r} needs the option {option!r}")
  data = _SOURCES[name](**options)
  if name not in NAMES:
    _check(name, data)
  return data


def _check(name: str, data: Any) -> None:
  """Refuses what training could not use.

  Raises:
    ValueError: naming what is missing.
  """
  for part in ("tasks", "input_shape", "held_out"):
    if not hasattr(data, part):
      raise ValueError(f"data {name!r}: {type(data).__name__} has no {part!r}")
  if not hasattr(data, "sample") and not hasattr(data, "__getitem__"):
    raise ValueError(
      f"data {name!r}: {type(data).__name__} has neither sample(key, batch) "
      "nor __getitem__"
    )
  if not data.tasks or not all(isinstance(t, base.Task) for t in data.tasks):
    raise ValueError(
      f"data {name!r}: tasks must be `multitask.base.Task`s, got {data.tasks!r}"
    )


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
