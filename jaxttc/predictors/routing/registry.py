# SPDX-License-Identifier: Apache-2.0
"""Heads by name, for config files: `head("knn(k=40)")`.

Nothing of the text is evaluated: it is parsed, and its arguments must be
literals.
"""

import ast
from collections.abc import Callable
import difflib
import functools
import inspect
from typing import Any

from jaxttc.predictors.routing import (
  base,
  contrastive,
  familiar,
  graph,
  linear,
  neighbours,
  networks,
  preferences,
  ratings,
  trees,
)


def _fit_familiar(x, scores, key, *, inner="ridge", strange=0.01):
  return familiar.fit_familiar(head(inner), x, scores, key, strange=strange)


_FITS: dict[str, Callable[..., Any]] = {
  "boosting": trees.fit_boosting,
  "contrastive": contrastive.fit_contrastive,
  "elo": functools.partial(ratings.fit_similarity_weighted, sharpness=0.0),
  "factors": networks.fit_factors,
  "familiar": _fit_familiar,
  "forest": trees.fit_forest,
  "graph": graph.fit_graph,
  "hybrid": preferences.fit_hybrid,
  "kmeans": neighbours.fit_kmeans,
  "knn": neighbours.fit_knn,
  "means": base.fit_means,
  "mlp": networks.fit_mlp,
  "ridge": linear.fit_ridge,
  "similarity": ratings.fit_similarity_weighted,
  "svr": linear.fit_svr,
}


def names() -> tuple[str, ...]:
  """The names that `head` knows, sorted."""
  return tuple(sorted(_FITS))


def head(text: str) -> base.FitHead:
  """How to fit the head that a text describes.

  Args:
    text: `name` or `name(key=literal, ...)`.

  Returns:
    A function of vectors f32[N, D], scores f64[N, K] and a key.

  Raises:
    ValueError: if the text is malformed, or the name or an argument unknown.
  """
  name, settings = _parse(text)
  if name not in _FITS:
    raise ValueError(
      f"unknown head {name!r}{_nearest(name, names())}; there are "
      f"{', '.join(names())}"
    )
  fit = _FITS[name]
  known = tuple(inspect.signature(fit).parameters)
  for setting in settings:
    if setting not in known[2:] or setting == "key":
      raise ValueError(
        f"head {text!r}: unknown setting {setting!r}{_nearest(setting, known)}"
      )
  takes_key = "key" in known

  def fitted(x, scores, key):
    return fit(x, scores, *([key] if takes_key else []), **settings)

  return fitted


def _parse(text: str) -> tuple[str, dict[str, Any]]:
  try:
    tree = ast.parse(text.strip(), mode="eval").body
    call = tree if isinstance(tree, ast.Call) else None
    function = tree if call is None else call.func
    if not isinstance(function, ast.Name) or (call and call.args):
      raise ValueError
    keywords = call.keywords if call else []
    return function.id, {
      str(k.arg): ast.literal_eval(k.value) for k in keywords
    }
  except (SyntaxError, ValueError):
    raise ValueError(
      f"head {text!r}: expected name or name(key=literal, ...)"
    ) from None


def _nearest(name: str, known: tuple[str, ...]) -> str:
  near = difflib.get_close_matches(name, known, n=1)
  return f" (did you mean {near[0]!r}?)" if near else ""
