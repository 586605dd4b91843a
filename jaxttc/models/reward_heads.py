# SPDX-License-Identifier: Apache-2.0
"""Reward heads of published process-reward models, all as one reward logit.

A classifier of two labels says good with probability sigmoid(good - bad), and
so does a language model that is asked which of two tokens comes next. Either
is a linear head whose weights are a difference of two rows; a scalar head is
one already. What may lie before it is one hidden layer with a ReLU.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxttc.models import families

# Reads rows of a stored tensor: (name, rows or None for all) -> array.
Rows = Callable[[str, list[int] | None], np.ndarray]


class Head(NamedTuple):
  """Where a reward head lies in a checkpoint.

  Attributes:
    base: architecture of the language model below it.
    layers: names of its linear layers, the last one last.
    rows: of the last layer, what says good and what says bad; one row of a
      scalar head.
    separator: the token that it is shown after each step, where the family
      fixes one.
  """

  base: str
  layers: tuple[str, ...]
  rows: tuple[int, ...]
  separator: str = ""


def _table() -> dict[str, Head]:
  heads = {
    "Qwen2ForProcessRewardModel": Head(
      "Qwen2ForCausalLM", ("score.0", "score.2"), (1, 0), "<extra_0>"
    )
  }
  for base in families.FAMILIES:
    family = base.removesuffix("ForCausalLM")
    heads[f"{family}ForTokenClassification"] = Head(base, ("score",), (1, 0))
    heads[f"{family}ForSequenceClassification"] = Head(base, ("score",), (0,))
  return heads


HEADS = _table()


def of_tokens(base: str, tied: bool, good: int, bad: int) -> Head:
  """The head of a language model that says good or bad with a token.

  Args:
    base: its architecture.
    tied: whether its head is its embedding.
    good: id of the token that says good.
    bad: id of the other.
  """
  layer = "model.embed_tokens" if tied else "lm_head"
  return Head(base, (layer,), (good, bad))


def stored_names(head: Head, stored: Mapping[str, Any]) -> list[str]:
  """Names of the tensors that the head is made of; biases if there are any."""
  names = [f"{layer}.weight" for layer in head.layers]
  biases = [f"{layer}.bias" for layer in head.layers]
  return names + [name for name in biases if name in stored]


def parameters(head: Head, names: list[str], read: Rows) -> dict[str, Any]:
  """The head's parameters in a `ProcessRewardModel`, float32.

  Args:
    head: the head.
    names: `stored_names` of it.
    read: reads stored tensors.
  """
  *hidden, last = head.layers
  found: dict[str, Any] = {}
  for layer in hidden:
    kernel = read(f"{layer}.weight", None).T
    found["reward_hidden"] = {
      "kernel": kernel,
      "bias": _bias(layer, names, read, None, kernel.shape[1]),
    }
  rows = list(head.rows)
  weight = _difference(read(f"{last}.weight", rows))
  bias = _difference(_bias(last, names, read, rows, len(rows)))
  found["reward"] = {"kernel": weight[:, None], "bias": np.atleast_1d(bias)}
  return found


def _bias(layer, names, read, rows, size) -> np.ndarray:
  if f"{layer}.bias" not in names:
    return np.zeros(size, np.float32)
  return read(f"{layer}.bias", rows)


def _difference(rows: np.ndarray) -> np.ndarray:
  return np.asarray(rows[0] - rows[1] if len(rows) > 1 else rows[0])
