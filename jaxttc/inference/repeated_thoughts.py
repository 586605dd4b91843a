# SPDX-License-Identifier: Apache-2.0
"""Thoughts drawn again until one fits its budget.

Rejection sampling under a length limit (a baseline of Muennighoff et al. 2025,
s1): what comes out is the model's own law of thoughts, given that they fit, and
the price is that of all that were drawn. It favours questions that are answered
in few words anyway. The last try is closed at its budget, so that nothing is
overspent.
"""

from collections.abc import Sequence

import jax
from jaxtyping import Int, Num
import numpy as np

from jaxttc.inference import guidance, row_sampling, thoughts
from jaxttc.inference import thinker as thinker_lib


class RepeatedThinker:
  """A thinker with a cap, tried again where the cap had to cut.

  Attributes:
    limit: most tokens of a row, as the thinker's.
    beside: likewise; see `thoughts.Think`.
    tries: most thoughts a row.
  """

  def __init__(self, thinker: thinker_lib.Thinker, *, tries: int) -> None:
    """A way to think.

    Args:
      thinker: under a policy that cuts (`thinking_policies.hard_cap`).
      tries: most thoughts a row.

    Raises:
      ValueError: for fewer tries than 1.
    """
    if tries < 1:
      raise ValueError(f"tries is {tries}; expected at least 1")
    self.limit, self.beside = thinker.limit, thinker.beside
    self.tries, self._thinker = tries, thinker

  def most(self, prompt: int, limit: int | None = None) -> thoughts.Work:
    """The most that a row can take; see `thoughts.Think`."""
    once = self._thinker.most(prompt, limit)
    return thoughts.Work(*(self.tries * amount for amount in once))

  def __call__(
    self,
    prompts: Sequence[Sequence[int]],
    budgets: Num[np.ndarray, " _"],
    key: jax.Array,
    *,
    limits: Int[np.ndarray, " _"] | None = None,
    sampling: row_sampling.RowSampling | None = None,
  ) -> thoughts.Thoughts:
    """Thinks about each prompt, and answers; see `thinker_lib.Thinker`."""
    guidance.check_budget(budgets)
    keys = thoughts.row_keys(key, len(prompts))
    rows, found, again = np.arange(len(prompts)), None, []
    for turn in range(self.tries):
      # A cap one token later tells a thought that ends in time from one that is
      # cut there; the last try is cut at the budget itself.
      later = int(turn + 1 < self.tries)
      fresh = self._thinker(
        [prompts[i] for i in rows],
        np.asarray(budgets)[rows] + later,
        jax.vmap(jax.random.fold_in, (0, None))(keys[rows], turn),
        limits=None if limits is None else limits[rows],
        sampling=jax.tree.map(lambda x, rows=rows: x[rows], sampling),
      )
      found = fresh if found is None else _replaced(found, fresh, again)
      again = [i for i, how in enumerate(found.finish) if how == "forced"]
      if not again:
        break
      # As many rows as before, so that nothing is compiled anew.
      rows = np.resize(again, len(prompts))
    assert found is not None
    return found


def _replaced(
  found: thoughts.Thoughts, fresh: thoughts.Thoughts, rows: Sequence[int]
) -> thoughts.Thoughts:
  """Row `rows[i]` replaced by fresh row i; the old one becomes overhead."""
  rows = np.asarray(rows)
  new = {}
  for name in found._fields:
    old, better = getattr(found, name), getattr(fresh, name)
    if name == "finish":
      kept = list(old)
      for i, row in enumerate(rows):
        kept[row] = better[i]
      new[name] = tuple(kept)
      continue
    new[name] = old.copy()
    new[name][rows] = better[: len(rows)]
  for name in ("runs", "read", "attended", "guided"):
    new[name][rows] += getattr(found, name)[rows]
  new["overhead"][rows] = (found.overhead + found.length)[rows]
  return thoughts.Thoughts(**new)
