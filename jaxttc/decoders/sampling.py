# SPDX-License-Identifier: Apache-2.0
"""Whole solutions, drawn side by side: one sample, and best-of-N.

Every solution is one child of the root. Best-of-N keeps the solution that the
verifier likes best; weighted best-of-N keeps the answer whose solutions have
the largest sum of rewards (Li et al., "Making language models better reasoners
with step-aware verifier", 2023). How the rewards of a solution's steps become
one number (last, min, product, mean) is the verifier's choice.
"""

from collections.abc import Callable, Sequence

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base as base_lib
from jaxttc.decoders import tree as tree_lib


@flax.struct.dataclass
class PoolState:
  """Independent solutions.

  Attributes:
    tree: the root and its children, one a solution.
    drawn: i32[], solutions paid for so far, the unusable ones included.
  """

  tree: tree_lib.Tree
  drawn: Int[Array, ""]


def pool(
  totals: Sequence[int],
  answer: Callable[[PoolState], base_lib.Answer],
  *,
  settled: Callable[[PoolState], Array] | None = None,
  needs_reward: bool = True,
  votes: bool = False,
) -> base_lib.Decoder:
  """Draws solutions in waves; what differs is when it stops and how it chooses.

  A solution that was not paid for is asked for again; one that was paid for
  and came back unusable is not.

  Args:
    totals: how many solutions there are after each wave, rising.
    answer: PoolState -> Answer.
    settled: PoolState -> bool[], whether to stop early; never if None.
    needs_reward: whether `answer` reads rewards.
    votes: whether it, or `settled`, counts answers.

  Returns:
    A decoder whose expansions are one row of as many children as the largest
    wave.
  """
  waves = [b - a for a, b in zip([0, *totals[:-1]], totals, strict=True)]
  shape = base_lib.SearchShape(
    nodes=1 + totals[-1], asks=1, children=max(waves)
  )
  ends = jnp.asarray(totals, jnp.int32)

  def init(root: base_lib.Root, budget: budget_lib.Budget) -> PoolState:
    del budget
    tree = tree_lib.init(shape.nodes, root.reward)
    return PoolState(tree=tree, drawn=jnp.int32(0))

  def ask(state: PoolState, key: jax.Array) -> base_lib.Expansion:
    del key
    wave = jnp.searchsorted(ends, state.drawn, side="right")
    end = ends[jnp.minimum(wave, len(totals) - 1)]
    want = jnp.clip(end - state.drawn, 0, shape.children)
    if settled is not None:
      want = jnp.where(settled(state), 0, want)
    return base_lib.nothing(shape).replace(
      children=want[None], until=jnp.full((1,), base_lib.Until.END, jnp.int32)
    )

  def tell(
    state: PoolState,
    expansion: base_lib.Expansion,
    outcome: base_lib.Outcome,
  ) -> PoolState:
    tree, _ = base_lib.append(state.tree, expansion, outcome)
    paid = (outcome.length > 0).sum(dtype=jnp.int32)
    return PoolState(tree=tree, drawn=state.drawn + paid)

  return base_lib.Decoder(
    init,
    ask,
    tell,
    answer,
    shape,
    needs_reward,
    until=(base_lib.Until.END,),
    votes=votes,
  )


def _best(state: PoolState) -> base_lib.Answer:
  return base_lib.best_finished(state.tree, state.tree.reward)[0]


def _only(state: PoolState) -> base_lib.Answer:
  ones = jnp.ones_like(state.tree.reward)
  return base_lib.best_finished(state.tree, ones)[0]


def sample() -> base_lib.Decoder:
  """One solution. Its length is bent, if at all, by the engine's controller.

  Budget forcing (Muennighoff et al., "s1: Simple test-time scaling", 2025) is
  this decoder over an engine whose controller bends the logits.
  """
  return pool([1], _only, needs_reward=False)


def greedy() -> base_lib.Decoder:
  """One solution from an engine set to temperature 0.

  The search is that of `sample`: the temperature belongs to the engine.
  """
  return sample()


def waves(strategy: str, n: int, wave: int | None) -> list[int]:
  """How many of `n` solutions there are after each `wave`.

  A budget may pay for a few solutions only. In small waves, what it does not
  pay for is not computed; in one large wave, it takes fewer rounds.

  Raises:
    ValueError: if `n` or `wave` is less than 1.
  """
  size = n if wave is None else wave
  base_lib.require_positive(strategy, n=n, wave=size)
  return [*range(min(size, n), n, size), n]


def best_of_n(n: int, *, wave: int | None = None) -> base_lib.Decoder:
  """The solution of highest reward among `n`; ties go to the first.

  Args:
    n: solutions to draw.
    wave: solutions asked for at once; None for all of them.

  Returns:
    The decoder.

  Raises:
    ValueError: if `n` or `wave` is less than 1.
  """
  return pool(waves("best_of_n", n, wave), _best)


def weighted_best_of_n(n: int, *, wave: int | None = None) -> base_lib.Decoder:
  """The answer with the largest sum of rewards over `n` solutions.

  Args:
    n: solutions to draw.
    wave: solutions asked for at once; None for all of them.

  Returns:
    A decoder whose answer's weights are the rewards; if all are zero, every
    solution weighs the same.

  Raises:
    ValueError: if `n` or `wave` is less than 1.
  """
  return pool(
    waves("weighted_best_of_n", n, wave),
    lambda state: base_lib.vote_finished(state.tree, state.tree.reward),
    votes=True,
  )
