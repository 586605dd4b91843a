# SPDX-License-Identifier: Apache-2.0
"""Beam searches over steps: by verifier, in subtrees, by likelihood.

All three extend a few survivors a round and choose the next survivors among
the new open children. Finished children leave the pool and stay candidates for
the answer, so the pool shrinks when fewer open children than survivors are
left. On the last step allowed, children run to the end of the solution.

* PRM beam: Snell et al., "Scaling LLM test-time compute optimally can be more
  effective than scaling model parameters" (2024).
* DVTS, diverse verifier tree search: Beeching et al., "Scaling test-time
  compute with open models" (2024).
* Likelihood beam: the classic, on sampled steps.

Libraries disagree on whether "beam width" means survivors or children. Here
the two are called `num_survivors` and `num_expansions`.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base as base_lib
from jaxttc.decoders import tree as tree_lib

_DEAD = -jnp.inf


@flax.struct.dataclass
class BeamState:
  """The survivors.

  Attributes:
    tree: all prefixes sampled so far.
    beam: i32[A], nodes to extend next; -1 where the row has died out.
    tokens: i32[N], tokens between the root and each node.
  """

  tree: tree_lib.Tree
  beam: Int[Array, " A"]
  tokens: Int[Array, " N"]


Select = Callable[[Array, Array], Array]


def _across(score: Array, ids: Array) -> Array:
  """The best children of all rows together: i32[A], -1 where there is none."""
  best, index = jax.lax.top_k(score.reshape(-1), score.shape[0])
  return jnp.where(best > _DEAD, ids.reshape(-1)[index], -1)


def _within(score: Array, ids: Array) -> Array:
  """The best child of every row: i32[A], -1 where there is none."""
  index = jnp.argmax(score, axis=1)[:, None]
  best = jnp.take_along_axis(score, index, 1)[:, 0]
  chosen = jnp.take_along_axis(ids, index, 1)[:, 0]
  return jnp.where(best > _DEAD, chosen, -1)


def _beam(
  rows: int,
  expansions: int,
  max_steps: int,
  score: Callable[[tree_lib.Tree], Array],
  select: Select,
  answer: Callable[[BeamState], base_lib.Answer],
  *,
  first_rows: int | None = None,
  over: Callable[[BeamState], Array] | None = None,
  needs_reward: bool = True,
) -> base_lib.Decoder:
  """A search of `rows` survivors; `select` picks the next ones by `score`.

  The root is extended by `first_rows` rows, all if None.
  """
  shape = base_lib.SearchShape(
    nodes=1 + rows * expansions * max_steps, asks=rows, children=expansions
  )

  def init(root: base_lib.Root, budget: budget_lib.Budget) -> BeamState:
    del budget
    used = jnp.arange(rows) < (first_rows or rows)
    return BeamState(
      tree=tree_lib.init(shape.nodes, root.reward),
      beam=jnp.where(used, 0, -1),
      tokens=jnp.zeros((shape.nodes,), jnp.int32),
    )

  def ask(state: BeamState, key: jax.Array) -> base_lib.Expansion:
    del key
    live = state.beam >= 0
    if over is not None:
      live &= ~over(state)
    node = jnp.maximum(state.beam, 0)
    return base_lib.Expansion(
      node=node,
      children=base_lib.room(state.tree, jnp.where(live, expansions, 0)),
      until=base_lib.reach(state.tree, node, max_steps),
    )

  def tell(
    state: BeamState,
    expansion: base_lib.Expansion,
    outcome: base_lib.Outcome,
  ) -> BeamState:
    tree, ids = base_lib.append(state.tree, expansion, outcome)
    tokens = state.tokens[expansion.node][:, None] + outcome.length
    alive = outcome.valid & ~outcome.finished
    merit = jnp.where(alive, score(tree)[ids], _DEAD)
    # A round in which nothing was paid for leaves the survivors as they are.
    paid = (outcome.length > 0).any()
    return BeamState(
      tree=tree,
      beam=jnp.where(paid, select(merit, ids), state.beam),
      tokens=tree_lib.put(state.tokens, ids, tokens),
    )

  return base_lib.Decoder(
    init,
    ask,
    tell,
    answer,
    shape,
    needs_reward,
  )


def _best_reward(state: BeamState) -> base_lib.Answer:
  return base_lib.best_finished(state.tree, state.tree.reward)[0]


def prm_beam(
  *, num_survivors: int = 4, num_expansions: int = 4, max_steps: int = 40
) -> base_lib.Decoder:
  """Beam search by the verifier's reward of the prefix.

  The first round draws `num_survivors * num_expansions` steps from the root.
  Every round keeps the best `num_survivors` open children of all and extends
  each by `num_expansions` steps. The finished solution of highest reward
  answers. With one expansion a survivor it is best-of-N.

  Args:
    num_survivors: prefixes kept a round.
    num_expansions: steps sampled from each.
    max_steps: longest path in steps; the last step runs to the end.

  Returns:
    A decoder of `num_survivors` rows.

  Raises:
    ValueError: for a size below 1.
  """
  base_lib.require_positive(
    "prm_beam",
    num_survivors=num_survivors,
    num_expansions=num_expansions,
    max_steps=max_steps,
  )
  return _beam(
    num_survivors,
    num_expansions,
    max_steps,
    lambda tree: tree.reward,
    _across,
    _best_reward,
  )


def dvts(
  *, subtrees: int = 4, expansions: int = 4, max_steps: int = 40
) -> base_lib.Decoder:
  """Diverse verifier tree search: independent subtrees of one survivor each.

  Every subtree samples `expansions` steps and goes on from its best open one.
  All finished siblings are candidates; the highest reward answers. One subtree
  is a PRM beam of one survivor.

  Args:
    subtrees: independent searches from the root.
    expansions: steps sampled from each subtree's survivor.
    max_steps: longest path in steps; the last step runs to the end.

  Returns:
    A decoder of `subtrees` rows.

  Raises:
    ValueError: for a size below 1.
  """
  base_lib.require_positive(
    "dvts", subtrees=subtrees, expansions=expansions, max_steps=max_steps
  )
  return _beam(
    subtrees,
    expansions,
    max_steps,
    lambda tree: tree.reward,
    _within,
    _best_reward,
  )


def likelihood_beam(
  *,
  width: int = 4,
  expansions: int = 4,
  max_steps: int = 40,
  length_penalty: float = 0.0,
) -> base_lib.Decoder:
  """Beam search by the log-probability of the path; uses no verifier.

  The root is extended once, and the beam fills up from there. Equal children
  of a node are not merged: a sampler that repeats itself narrows the beam.

  Solutions compare by log p / length^length_penalty, with the length in
  tokens. Without a length penalty the search stops when no open prefix can
  win, since log p only falls; with one it runs until nothing is open.

  A larger width does not always find a better solution; a width of at least
  the number of all paths does, if all children of a node are asked for.

  Args:
    width: prefixes kept a round.
    expansions: steps sampled from each.
    max_steps: longest path in steps; the last step runs to the end.
    length_penalty: exponent of the length, at least 0.

  Returns:
    A decoder of `width` rows. The answer's weights are proportional to the
    exponential of the score.

  Raises:
    ValueError: for a size below 1 or a negative `length_penalty`.
  """
  base_lib.require_positive(
    "likelihood_beam", width=width, expansions=expansions, max_steps=max_steps
  )
  if not length_penalty >= 0:
    raise ValueError(
      "likelihood_beam: length_penalty must be at least 0, "
      f"got {length_penalty}"
    )

  def normalised(state: BeamState) -> Float[Array, " N"]:
    tokens = jnp.maximum(state.tokens, 1).astype(jnp.float32)
    return state.tree.logprob / tokens**length_penalty

  def answer(state: BeamState) -> base_lib.Answer:
    score = normalised(state)
    best, found = base_lib.best_finished(state.tree, score)
    lead = jnp.where(found, score[jnp.maximum(best.node, 0)], 0.0)
    likely = jnp.where(state.tree.finished, jnp.exp(score - lead), 0.0)
    return best.replace(weight=likely)

  def hopeless(state: BeamState) -> Bool[Array, ""]:
    logprob = state.tree.logprob
    done = jnp.where(state.tree.finished, logprob, _DEAD).max()
    ahead = jnp.where(state.beam >= 0, logprob[state.beam], _DEAD).max()
    return (done >= ahead) & (done > _DEAD)

  return _beam(
    width,
    expansions,
    max_steps,
    lambda tree: tree.logprob,
    _across,
    answer,
    first_rows=1,  # copies of one step would crowd out all others
    over=hopeless if length_penalty == 0 else None,
    needs_reward=False,
  )
