# SPDX-License-Identifier: Apache-2.0
"""Several models behind one server, and a name that picks among them.

Each model is a `Service` with threads of its own, and can be asked for by its
own name. A request that names the router is given to the model that suits its
prompt; the reply says which one it was.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
import threading

from jaxttc.allocators.routing import decision_log
from jaxttc.inference import bundle as bundle_lib
from jaxttc.serving import calls, errors
from jaxttc.serving import recipe as recipe_lib
from jaxttc.serving import service as service_lib
from jaxttc.solving import model_names, routed_connection, router_files


class RoutedService:
  """A router over services; see the module docstring.

  Attributes:
    name: what requests call the router.
    parts: a service for each model, in the router's order.
    limits: of requests.
  """

  def __init__(
    self,
    recipe: recipe_lib.ServeRecipe,
    file: router_files.RouterFile,
    bundles: Mapping[str, bundle_lib.Bundle],
    verifier: bundle_lib.Bundle | None,
  ):
    """Services whose threads have not begun.

    Args:
      recipe: of each; its policy's name is the router's.
      file: the router.
      bundles: its models, by name.
      verifier: the reward model, if there is one.

    Raises:
      ValueError: as `Service`; or if two models, or a model and the router,
        would be called the same.
    """
    self.name = recipe.name or pathlib.Path(recipe.policy).stem
    self.limits = recipe.limits
    self._names = {name: _short(name) for name in file.models}
    called = [self.name, *self._names.values()]
    if len(set(called)) < len(called):
      raise ValueError(
        f"router: {', '.join(called)} are called the same; expected different "
        "names (recipe.name is the router's)"
      )
    self._dispatcher = file.dispatcher(
      bundles.get(file.router.models[0]), recipe.routing
    )
    self._log, self._writing = recipe.routing.log, threading.Lock()
    self.parts = tuple(
      service_lib.Service(_alone(recipe, short), bundles[name], verifier)
      for name, short in self._names.items()
    )
    self._by_name = {part.name: part for part in self.parts}

  @property
  def models(self) -> dict[str, int]:
    """The context, in tokens, of each model that a request may name."""
    each = {part.name: part.context for part in self.parts}
    return {self.name: min(each.values())} | each

  def start(self) -> None:
    """Begins the threads of all services."""
    for part in self.parts:
      part.start()

  def abort(self, error: errors.ApiError) -> None:
    """Ends all that runs or waits with an error."""
    for part in self.parts:
      part.abort(error)

  def close(self) -> None:
    """Ends the threads."""
    for part in self.parts:
      part.close()

  def read(self, body: bytes, *, chat: bool) -> service_lib.Work:
    """Reads a request, picks its model if it names the router, makes it work.

    Raises:
      ApiError: 400 or 404, naming the field and what was expected.
    """
    call = calls.parse(body, chat=chat)
    if call.model in self._by_name:
      return self._by_name[call.model].work(call)
    if call.model != self.name:
      raise errors.no_model(call.model, self.models)
    first = self.parts[0]
    texts = first.texts(call)
    if len(texts) != 1:
      raise errors.bad(
        "prompt",
        f"{len(texts)} prompts; expected one where {self.name!r} picks the "
        "model",
      )
    first.work(call)  # what cannot be is refused before it is looked at
    (decision,) = self._dispatcher.decide(texts)
    work = self._by_name[self._names[decision.choice]].work(call)
    if self._log:
      with self._writing:
        decision_log.append(self._log, [decision])
    return work


AnyService = service_lib.Service | RoutedService


def load(recipe: recipe_lib.ServeRecipe) -> AnyService:
  """Reads the models that a recipe names, or those of the router it names.

  Raises:
    ValueError: if a file is missing or damaged; or as the constructors.
  """
  if not router_files.is_router(recipe.policy):
    return service_lib.Service.load(recipe)
  recipe.validate()
  file = router_files.load(recipe.policy)
  bundles = routed_connection.models(file, recipe.dtype, recipe.attention)
  verifier = None
  if recipe.verifier:
    verifier = bundle_lib.load(
      recipe.verifier, recipe.dtype, attention=recipe.attention
    )
  return RoutedService(recipe, file, bundles, verifier)


def _short(name: str) -> str:
  """What requests call a model: its file's name, and its width."""
  file, width = model_names.split(name)
  stem = pathlib.Path(file).stem
  return stem if width == 1 else f"{stem}@{width:g}"


def _alone(recipe: recipe_lib.ServeRecipe, name: str) -> recipe_lib.ServeRecipe:
  return dataclasses.replace(recipe, policy=name, name=name)
