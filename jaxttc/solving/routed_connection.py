# SPDX-License-Identifier: Apache-2.0
"""A router's file as a model: its models are loaded, and one engine made."""

from collections.abc import Sequence

from jaxttc.allocators.routing import routed_engine
from jaxttc.decoders import base
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import driver
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import model_names, router_files, served_models


def models(
  file: router_files.RouterFile,
  dtype: str = "float32",
  attention: str = "auto",
) -> dict[str, bundle_lib.Bundle]:
  """The models of a router, by name.

  Args:
    file: the router.
    dtype: one of `models.precision.NAMES`.
    attention: one of `models.attention_backend.NAMES`.

  Raises:
    ValueError: if one cannot be read, or has other weights than the router was
      fitted for.
  """
  found = {
    name: model_names.read(name, dtype, attention) for name in file.models
  }
  if dtype == "float32":  # other types round weights, and their fingerprints
    file.check_models({n: b.weights_fingerprint for n, b in found.items()})
  return found


def connect(
  file: router_files.RouterFile,
  bundles: dict[str, bundle_lib.Bundle],
  verifier: bundle_lib.Bundle | None,
  decoder: base.Decoder,
  settings: settings_lib.SearchSettings,
  options: router_files.RouterOptions,
  *,
  prompts: Sequence[str],
  slots: int,
  seed: int = 0,
) -> served_models.Served:
  """An engine that routes, and a verifier, for a host-driven search.

  Args:
    file: the router.
    bundles: its models, by name.
    verifier: the reward model; None if the decoder needs no rewards.
    decoder: the strategy.
    settings: sampling and sizes.
    options: how the router picks.
    prompts: all that will be asked, to set a bound on their prices by.
    slots: problems searched at once.
    seed: of what the router draws.

  Raises:
    ValueError: if the models do not fit the router, the verifier or the
      decoder, or the options cannot be.
  """
  dispatcher = file.dispatcher(
    bundles.get(file.router.models[0]),
    options,
    hardware=settings.hardware,
    seed=seed,
  )
  reader, engines = None, {}
  for name, bundle in bundles.items():
    bundle_lib.check_pair(bundle, verifier)
    ours, wants = verifier, decoder
    if reader is not None:  # one verifier reads the text of all
      ours, wants = None, decoder._replace(needs_reward=False)
    engines[name], found = driver.local_engines(
      bundle, ours, wants, settings, slots=slots
    )
    reader = reader or found
  lengths = (len(e.encode(text)) for e in engines.values() for text in prompts)
  engine = routed_engine.RoutedEngine(
    engines,
    dispatcher,
    longest=max(lengths, default=None),
    log=options.log or None,
  )
  return served_models.Served(engine=engine, verifier=reader)
