# SPDX-License-Identifier: Apache-2.0
"""Fitted routers as files: what a router knows, and of which models.

A file stands for its models wherever a model is named: `scripts/solve.py
--model=router.npz` asks whichever of them suits each question. It is one .npz
of arrays and a description, read without pickle. What a question is to the
router is the prompt as the model is asked it.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
from typing import Any
import zipfile

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from jaxttc.allocators.routing import dispatch
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import local_prices
from jaxttc.predictors import routing, step_failure
from jaxttc.tasks import routing as tasks

SUFFIX = ".npz"
_FOLDS = 5  # by which the sample's forecasts are made
_SAMPLE = 4096  # forecasts kept, at most


@dataclasses.dataclass(kw_only=True)
class RouterOptions:
  """How a router picks. Mutable, for flags to override.

  Attributes:
    price: score that a unit of the router's cost is worth.
    budget: mean cost of a question, in the router's unit, in place of a price;
      0 for none.
    explore: with what probability any model is asked, for a log to learn from.
    log: a file that gets a row for each decision; "" for none.
  """

  price: float = 0.0
  budget: float = 0.0
  explore: float = 0.0
  log: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class RouterFile:
  """A fitted router, its features, and its models.

  Attributes:
    router: forecasts scores and costs of `models`.
    models: fingerprint of each model's weights by its name, in the order of
      the router's models; "" of one that is not in this process.
    embed: questions to vectors; None where these are the last hidden states of
      the first model, which is then the one that reads every question.
    sample: forecasts of questions that the router was not fitted on, to set
      prices by; None if there are none.
    origin: in words, what it was fitted on.

  Raises:
    ValueError: if the models are not those of the router.
  """

  router: routing.Router
  models: Mapping[str, str]
  embed: routing.hashed_ngrams.HashedNgrams | None
  sample: routing.Forecast | None = None
  origin: str = ""

  def __post_init__(self) -> None:
    if tuple(self.models) != self.router.models:
      raise ValueError(
        f"router: is one of {', '.join(self.router.models)}; got the models "
        f"{', '.join(self.models)}"
      )

  @functools.cached_property
  def fingerprint(self) -> str:
    """Sixteen hex digits that tell apart any two routers."""
    about, arrays = _described(self)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
      digest.update(
        name.encode() + np.ascontiguousarray(arrays[name]).tobytes()
      )
    return digest.hexdigest()[:16]

  def check_models(self, fingerprints: Mapping[str, str]) -> None:
    """Refuses weights that the router was not fitted for.

    Args:
      fingerprints: of the models that are there, by name.

    Raises:
      ValueError: naming the one that is missing, or another.
    """
    for name, wanted in self.models.items():
      found = fingerprints.get(name)
      if found is None:
        raise ValueError(
          f"router: fitted for the models {', '.join(self.models)}; got "
          f"{', '.join(fingerprints) or 'none'}"
        )
      if wanted and found != wanted:
        raise ValueError(
          f"router: fitted for the weights {wanted} of {name!r}, got "
          f"{found or 'none'}; fit one for yours (docs/routing.md)"
        )

  def dispatcher(
    self,
    first: bundle_lib.Bundle | None,
    options: RouterOptions,
    *,
    hardware: str | None = None,
    seed: int = 0,
  ) -> dispatch.Dispatcher:
    """The router at work.

    Args:
      first: the first model, where its states are the features.
      options: how it picks.
      hardware: prices joules and dollars of reading questions.
      seed: of what is drawn.

    Raises:
      ValueError: as `Dispatcher`, or if the first model is missing.
    """
    embed: Any = self.embed
    reading: tariff_lib.Tariff | None = None
    if embed is None:
      if first is None:
        raise ValueError(
          f"router: reads the states of {self.router.models[0]!r}, which is "
          "not in this process"
        )
      embed = step_failure.StateReader(first)
      reading, _ = local_prices.local_tariff(first, hardware, "prompt")
    return dispatch.Dispatcher(
      self.router,
      embed,
      price=options.price,
      budget=options.budget or None,
      sample=self.sample,
      explore=options.explore,
      seed=seed,
      reading=reading,
      fingerprint=self.fingerprint,
    )


def fit(
  table: tasks.RoutingTable,
  models: Mapping[str, str],
  head: str,
  *,
  states: Callable[[Sequence[str]], Float[np.ndarray, "n D"]] | None = None,
  rank: int = 64,
  seed: int = 0,
  origin: str = "",
) -> RouterFile:
  """Fits a router to what models scored and cost on questions.

  Args:
    table: the questions, as the models were asked them.
    models: fingerprint of each model's weights, by its name in the table.
    head: names the head, e.g. "ridge" (`predictors.routing.head`).
    states: last hidden states of the first model (`step_failure.StateReader`),
      to route by; None for hashed n-grams.
    rank: singular vectors of the hashed n-grams.
    seed: of the fit and its folds.
    origin: in words, what it is fitted on.

  Raises:
    ValueError: if the table has too few questions, or as the head.
  """
  embed = None
  if states is None:
    embed = routing.hashed_ngrams.fit(table.prompts, rank=rank)
  x = np.asarray((states or embed)(table.prompts), np.float32)
  key = jax.random.key(seed)
  fit_head = routing.head(head)
  router = routing.fit(fit_head, table.only(tuple(models)), x, key)
  table = table.only(tuple(models))
  _, same = np.unique(np.array(table.prompts), return_inverse=True)
  folds = tasks.folds(same, _FOLDS, seed)
  quality = routing.blend.out_of_fold(
    fit_head, x, table.scores, list(folds), key
  )
  cost = routing.predict(router.cost, x)
  return RouterFile(
    router,
    dict(models),
    embed,
    routing.Forecast(*(jnp.asarray(a[:_SAMPLE]) for a in (quality, cost))),
    origin or f"{len(table)} questions, {head}",
  )


def is_router(name: str) -> bool:
  """Whether a model's name is that of a router's file."""
  return name.endswith(SUFFIX)


def save(file: RouterFile, path: str | os.PathLike[str]) -> None:
  """Writes a router, whole or not at all.

  Raises:
    ValueError: if its head is of a kind that cannot be saved, the path does
      not end in .npz, or the file cannot be written.
  """
  if not is_router(os.fspath(path)):
    raise ValueError(f"{os.fspath(path)}: expected a name that ends in .npz")
  about, arrays = _described(file)
  content = io.BytesIO()
  np.savez_compressed(content, about=np.array(json.dumps(about)), **arrays)
  path = pathlib.Path(path)
  unfinished = path.with_suffix(".part")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_bytes(content.getvalue())
    unfinished.replace(path)
  except OSError as error:
    raise ValueError(f"{path}: cannot be written: {error.strerror}") from None


def load(path: str | os.PathLike[str]) -> RouterFile:
  """Reads what `save` wrote.

  Raises:
    ValueError: if it is missing, damaged, or no router.
  """
  try:
    with open(path, "rb") as opened:
      stored = np.load(opened, allow_pickle=False)
      arrays = {key: stored[key] for key in stored.files}
    about = json.loads(str(arrays.pop("about")))
    return _router(about, arrays)
  except FileNotFoundError:
    raise ValueError(f"{path}: no such file; expected a router") from None
  except (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    zipfile.BadZipFile,
  ) as error:
    raise ValueError(
      f"{path}: is no router that can be read: {error}"
    ) from None


def _described(
  file: RouterFile,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """What a router is, for JSON, and its arrays by name."""
  router, arrays = file.router, {}
  about: dict[str, Any] = {
    "models": dict(file.models),
    "width": router.width,
    "unit": router.unit,
    "origin": file.origin,
  }
  parts = {
    "quality": routing.saved_heads.pack(router.quality),
    "cost": routing.saved_heads.pack(router.cost),
  }
  if file.embed is not None:
    parts["embed"] = routing.saved_ngrams.pack(file.embed)
  for part, (described, found) in parts.items():
    about[part] = described
    arrays |= {f"{part}.{name}": array for name, array in found.items()}
  if file.sample is not None:
    arrays |= {
      f"sample.{name}": np.asarray(values, np.float32)
      for name, values in file.sample._asdict().items()
    }
  return about, arrays


def _router(
  about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> RouterFile:
  def part(name: str) -> dict[str, np.ndarray]:
    start = f"{name}."
    return {
      key.removeprefix(start): array
      for key, array in arrays.items()
      if key.startswith(start)
    }

  unpack = routing.saved_heads.unpack
  embed = sample = None
  if "embed" in about:
    embed = routing.saved_ngrams.unpack(about["embed"], part("embed"))
  if "sample.quality" in arrays:
    sample = routing.Forecast(
      **{name: jnp.asarray(values) for name, values in part("sample").items()}
    )
  return RouterFile(
    router=routing.Router(
      quality=unpack(about["quality"], part("quality")),
      cost=unpack(about["cost"], part("cost")),
      models=tuple(map(str, about["models"])),
      width=int(about["width"]),
      unit=str(about["unit"]),
    ),
    models={str(k): str(v) for k, v in about["models"].items()},
    embed=embed,
    sample=sample,
    origin=str(about["origin"]),
  )
