# SPDX-License-Identifier: Apache-2.0
"""Self-consistency: the most frequent answer, and when to stop asking.

Wang et al., "Self-consistency improves chain of thought reasoning in language
models" (2023). Samples are drawn in waves; between waves a rule looks at the
votes n1 >= n2 of the two leading answers and may stop:

* majority: n1 - n2 exceeds the samples left, so the winner cannot change;
* agreement: n1 is at least a share `threshold` of the samples drawn;
* beta: P(p1 > p2) = 1 - I_{1/2}(n1 + 1, n2 + 1) >= `threshold`, with p1, p2
  the true frequencies under a flat prior. Aggarwal et al., "Let's sample step
  by step: adaptive-consistency for efficient reasoning and coding with LLMs"
  (2023).

No verifier is needed: rewards are not read.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxttc.decoders import base as base_lib
from jaxttc.decoders import sampling as sampling_lib
from jaxttc.decoders import tree as tree_lib

STOPS = ("none", "majority", "agreement", "beta")


def leaders(
  tree: tree_lib.Tree,
) -> tuple[Int[Array, ""], Int[Array, ""]]:
  """Votes of the two answers that finished nodes give most often."""
  votes = tree.finished & (tree.answer >= 0)
  same = (tree.answer[:, None] == tree.answer[None, :]) & votes[None, :]
  count = jnp.where(votes, same.sum(axis=1), 0)
  top = jnp.argmax(count)
  others = votes & (tree.answer != tree.answer[top])
  return count[top], jnp.where(others, count, 0).max()


def probability_of_lead(first: Int[Array, ""], second: Int[Array, ""]) -> Array:
  """P(p1 > p2) given their votes: 1 - I_{1/2}(n1 + 1, n2 + 1)."""
  a, b = first + 1.0, second + 1.0
  return 1.0 - jax.scipy.special.betainc(a, b, 0.5)


def self_consistency(
  n: int,
  *,
  stop: str = "none",
  threshold: float = 0.95,
  wave: int | None = None,
) -> base_lib.Decoder:
  """Majority vote over at most `n` solutions; ties go to the earliest answer.

  Args:
    n: most solutions to draw.
    stop: `none`, `majority`, `agreement` or `beta`; see the module docstring.
    threshold: of `agreement` and `beta`, in (0, 1].
    wave: solutions a wave; by default all at once for `none`, else one.

  Returns:
    A decoder whose answer's weights are 1 for each finished solution with an
    answer.

  Raises:
    ValueError: for a size below 1, a threshold outside (0, 1], or an unknown
      stopping rule.
  """
  if wave is None:
    wave = n if stop == "none" else 1
  totals = sampling_lib.waves("self_consistency", n, wave)
  return _consistency(n, stop, threshold, totals)


def adaptive_sc(n: int, *, threshold: float = 0.75) -> base_lib.Decoder:
  """Self-consistency of 2, 4, 8, .. samples until enough of them agree.

  Args:
    n: most solutions to draw.
    threshold: share of the samples drawn that must agree, in (0, 1].

  Returns:
    A decoder as `self_consistency` gives.

  Raises:
    ValueError: if `n` is less than 1 or the threshold outside (0, 1].
  """
  base_lib.require_positive("adaptive_sc", n=n)
  totals = [2**i for i in range(1, n.bit_length()) if 2**i < n] + [n]
  return _consistency(n, "agreement", threshold, totals)


def beta_sc(
  n: int, *, threshold: float = 0.95, wave: int = 1
) -> base_lib.Decoder:
  """Self-consistency until the leader is likely the true mode.

  Args:
    n: most solutions to draw.
    threshold: on P(p1 > p2), in (0, 1].
    wave: solutions a wave.

  Returns:
    A decoder as `self_consistency` gives.

  Raises:
    ValueError: for a size below 1 or a threshold outside (0, 1].
  """
  return self_consistency(n, stop="beta", threshold=threshold, wave=wave)


def _consistency(
  n: int, stop: str, threshold: float, totals: list[int]
) -> base_lib.Decoder:
  base_lib.require_choice("self_consistency", "stop", stop, STOPS)
  if not 0 < threshold <= 1:
    raise ValueError(
      f"self_consistency: threshold must be in (0, 1], got {threshold}"
    )

  def settled(state: sampling_lib.PoolState) -> Bool[Array, ""]:
    first, second = leaders(state.tree)
    rules = {
      "majority": lambda: first - second > n - state.drawn,
      "agreement": lambda: first >= threshold * state.drawn,
      "beta": lambda: probability_of_lead(first, second) >= threshold,
    }
    return rules[stop]() & (first > 0)

  def answer(state: sampling_lib.PoolState) -> base_lib.Answer:
    return base_lib.vote_finished(state.tree, jnp.ones_like(state.tree.reward))

  return sampling_lib.pool(
    totals,
    answer,
    settled=None if stop == "none" else settled,
    needs_reward=False,
    votes=True,
  )
