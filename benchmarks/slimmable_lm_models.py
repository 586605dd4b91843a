# SPDX-License-Identifier: Apache-2.0
"""The rivals of a nested language model: one model a width, trained alike.

A rival begins with the slice of the nested model's own start, and takes as
many steps over the same batches with the same optimiser. It reads all rows,
whether or not the widths of the nested model share them.
"""

import dataclasses
import pathlib

from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import nested_transformer
from jaxttc.training import recipes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Models:
  """The nested model's widths and their rivals, and the reward model."""

  nested: dict[float, bundle_lib.Bundle]
  separate: dict[float, bundle_lib.Bundle]
  verifier: bundle_lib.Bundle


def load(
  recipe: recipes.LanguageModelRecipe,
  workdir: pathlib.Path,
  *,
  shipped: str,
  verifier: bundle_lib.Bundle,
) -> Models:
  """The models, trained where they are missing.

  Args:
    recipe: of the nested model.
    workdir: holds what is trained.
    shipped: file or name of the nested model; "" trains it.
    verifier: the reward model.
  """
  whole = nested(recipe, shipped, workdir)
  bundle_lib.check_pair(whole, verifier)
  return Models(
    nested={w: bundle_lib.narrowed(whole, w) for w in recipe.widths},
    separate={w: separate(recipe, w, workdir) for w in recipe.widths},
    verifier=verifier,
  )


def nested(
  recipe: recipes.LanguageModelRecipe, shipped: str, workdir: pathlib.Path
) -> bundle_lib.Bundle:
  """The nested model: the file named, or trained in `workdir` if "".

  Raises:
    ValueError: if the file was trained by another recipe, since its rivals
      would not be trained alike.
  """
  if not shipped:
    return _trained(recipe, workdir / "nested")
  found = bundle_lib.load(shipped)
  if found.recipe != recipe.describe():
    raise ValueError(
      f"{shipped} was trained by another recipe than its rivals would be; "
      'expected that of the configuration, or "" to train it'
    )
  return found


def separate(
  recipe: recipes.LanguageModelRecipe, width: float, workdir: pathlib.Path
) -> bundle_lib.Bundle:
  """The rival of a width, trained in `workdir` unless it is there.

  Args:
    recipe: of the nested model, with a `start`.
    width: the rival's.
    workdir: holds the rivals' starts, checkpoints and files.

  Raises:
    ValueError: if `workdir` holds a rival of another recipe.
  """
  start = bundle_lib.load(recipe.start)
  small = nested_transformer.narrowed(recipe.model, width)
  ordered = nested_transformer.by_importance(start.params, recipe.model)
  path = workdir / f"start_{width:g}.safetensors"
  workdir.mkdir(parents=True, exist_ok=True)
  bundle_lib.save(
    str(path),
    dataclasses.replace(
      start,
      config=small,
      params=nested_transformer.narrow(ordered, recipe.model, small),
      recipe={},
    ),
  )
  alone = recipes.LanguageModelRecipe(
    model=small, mix=recipe.mix, train=recipe.train, start=str(path)
  )
  return _trained(alone, workdir / f"separate_{width:g}")


def _trained(
  recipe: recipes.LanguageModelRecipe, folder: pathlib.Path
) -> bundle_lib.Bundle:
  path = folder.with_name(f"{folder.name}.safetensors")
  if not path.exists():
    recipe.export(recipe.run(str(folder)), str(path))
  found = bundle_lib.load(str(path))
  if found.recipe != recipe.describe():
    raise ValueError(
      f"{path} was trained by another recipe; remove it, or choose another "
      "--workdir"
    )
  return found
