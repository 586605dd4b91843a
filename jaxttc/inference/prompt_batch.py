# SPDX-License-Identifier: Apache-2.0
"""Prompts of new searches as one batch, in few shapes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxttc.inference import engine as engine_lib
from jaxttc.inference import generation


def check_open(
  group: int,
  groups: int,
  opened: Mapping[int, Any],
  prompt: engine_lib.Prompt,
) -> None:
  """Refuses groups that cannot be opened, and prompts without tokens.

  Raises:
    ValueError: naming the group.
  """
  if not 0 <= group < groups:
    raise ValueError(f"group {group} is out of range; expected 0..{groups - 1}")
  if group in opened:
    raise ValueError(f"group {group} is open already; close it first")
  if not prompt.tokens:
    raise ValueError(f"group {group}: the prompt has no tokens")


def padded_prompts(
  prompts: Mapping[int, engine_lib.Prompt], groups: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Prompts as arrays whose sizes are powers of two.

  Args:
    prompts: by group.
    groups: a group number for the rows of padding, to drop them by.

  Returns:
    Token ids i32[P, T], lengths i32[P] (1 for padding), groups i32[P].
  """
  width = generation.bucket(max(len(p.tokens) for p in prompts.values()))
  count = generation.bucket(len(prompts), least=1)
  ids = np.zeros((count, width), np.int32)
  length = np.ones((count,), np.int32)
  group = np.full((count,), groups, np.int32)
  for i, (g, prompt) in enumerate(prompts.items()):
    length[i], group[i] = len(prompt.tokens), g
    ids[i, : length[i]] = prompt.tokens
  return ids, length, group
