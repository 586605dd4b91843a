# SPDX-License-Identifier: Apache-2.0
"""How a Monte Carlo tree search picks the next child: PUCT and Gumbel.

Every function here reads a `View`, the statistics of one node (or of a batch
of nodes: leading axes `*B` are free) and of its children, and returns a score
for each child. The largest score is searched next. The batched array search
(`tree_search`) and the text decoders (`mcts`) build their views from different
trees and share these rules.

Two rules, and their sources:

* PUCT: Q(a) + c(n) P(a) sqrt(n) / (1 + n_a), with c(n) = c_init +
  ln((n + c_base + 1) / c_base). Rosin, "Multi-armed bandits with episode
  context" (2011); Silver et al., "Mastering the game of Go without human
  knowledge" (2017); the form of c(n): Schrittwieser et al., "Mastering Atari,
  Go, chess and shogi by planning with a learned model" (2020), appendix B.
* Gumbel: sequential halving over gumbel + logits + sigma(Q) at the root, and a
  deterministic rule inside that makes visits follow softmax(logits + sigma(Q)).
  Danihelka et al., "Policy improvement by planning with Gumbel" (2022);
  Karnin et al., "Almost optimal exploration in multi-armed bandits" (2013).
"""

from collections.abc import Callable
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

# Keeps a lone candidate eligible however unlikely its prior finds it.
_LOWEST_SCORE = -1e9


class View(NamedTuple):
  """What a selection rule may know of a node and its `A` children.

  Attributes:
    visits: i32[*B], visits of the node, its own evaluation included.
    value: f32[*B], mean of the values backed up through the node.
    raw_value: f32[*B], the node's own evaluation, before any search.
    child_visits: i32[*B, A], visits of each child.
    child_q: f32[*B, A], value of going to each child.
    child_known: bool[*B, A], whether `child_q` means anything.
    prior_logits: f32[*B, A], logits of the prior over children.
  """

  visits: Int[Array, "*B"]
  value: Float[Array, "*B"]
  raw_value: Float[Array, "*B"]
  child_visits: Int[Array, "*B A"]
  child_q: Float[Array, "*B A"]
  child_known: Bool[Array, "*B A"]
  prior_logits: Float[Array, "*B A"]


QTransform = Callable[[View], Float[Array, "*B A"]]


def q_by_min_max(
  view: View, *, min_value: float, max_value: float
) -> Float[Array, "*B A"]:
  """Q rescaled from the given range to [0, 1]; 0 where it is unknown.

  Args:
    view: the node.
    min_value: least value there is.
    max_value: greatest value there is; must differ from `min_value`.

  Raises:
    ValueError: if the range is empty.
  """
  if not min_value < max_value:
    raise ValueError(
      f"q_by_min_max: min_value {min_value} must be below max_value {max_value}"
    )
  q = jnp.where(view.child_known, view.child_q, min_value)
  return (q - min_value) / (max_value - min_value)


def q_by_parent_and_siblings(
  view: View, *, epsilon: float = 1e-8
) -> Float[Array, "*B A"]:
  """Q rescaled to [0, 1] by the range of the node's and children's values.

  Args:
    view: the node.
    epsilon: least range to divide by.

  Returns:
    f32[*B, A]; unknown children get the least value, that is 0.
  """
  value = view.value[..., None]
  known = jnp.where(view.child_known, view.child_q, value)
  low = jnp.minimum(value, known.min(axis=-1, keepdims=True))
  high = jnp.maximum(value, known.max(axis=-1, keepdims=True))
  q = jnp.where(view.child_known, view.child_q, low)
  return (q - low) / jnp.maximum(high - low, epsilon)


def q_completed_by_mixed_value(
  view: View,
  *,
  value_scale: float = 0.1,
  maxvisit_init: float = 50.0,
  rescale_values: bool = True,
  use_mixed_value: bool = True,
  epsilon: float = 1e-8,
) -> Float[Array, "*B A"]:
  """sigma(completed Q) of Gumbel search (Danihelka et al. 2022, eq. 8, 33).

  sigma(q) = (maxvisit_init + max visits) * value_scale * q, where unknown q
  are completed by an estimate of the node's value.

  Args:
    view: the node.
    value_scale: scale of the result.
    maxvisit_init: what the largest child's visits are added to.
    rescale_values: bring completed Q to [0, 1] first.
    use_mixed_value: complete with the mixed value (their appendix D) rather
      than with the raw value.
    epsilon: least range to divide by when rescaling.

  Returns:
    f32[*B, A], in logits.
  """
  value = _mixed_value(view) if use_mixed_value else view.raw_value
  q = jnp.where(view.child_known, view.child_q, value[..., None])
  if rescale_values:
    low = q.min(axis=-1, keepdims=True)
    high = q.max(axis=-1, keepdims=True)
    q = (q - low) / jnp.maximum(high - low, epsilon)
  most = view.child_visits.max(axis=-1, keepdims=True)
  return (maxvisit_init + most) * value_scale * q


def _mixed_value(view: View) -> Float[Array, "*B"]:
  """Raw value and prior-weighted known Q, mixed by the number of visits."""
  prior = jax.nn.softmax(view.prior_logits)
  # Known children of zero prior must not make 0 / 0.
  prior = jnp.maximum(jnp.finfo(prior.dtype).tiny, prior)
  known = view.child_known
  mass = jnp.where(known, prior, 0.0).sum(axis=-1, keepdims=True)
  share = prior * view.child_q / jnp.where(known, mass, 1.0)
  q = jnp.where(known, share, 0.0).sum(axis=-1)
  visits = view.child_visits.sum(axis=-1)
  return (view.raw_value + visits * q) / (visits + 1)


def puct_score(
  view: View,
  *,
  pb_c_init: float = 1.25,
  pb_c_base: float = 19652.0,
  qtransform: QTransform = q_by_parent_and_siblings,
) -> Float[Array, "*B A"]:
  """Score of each child under PUCT; see the module docstring.

  Args:
    view: the node.
    pb_c_init: c_init, the weight of exploration.
    pb_c_base: c_base, the visits at which that weight starts to grow.
    qtransform: brings Q to [0, 1].
  """
  weight = pb_c_init + jnp.log((view.visits + pb_c_base + 1.0) / pb_c_base)
  weight = (jnp.sqrt(view.visits) * weight)[..., None]
  prior = jax.nn.softmax(view.prior_logits)
  return qtransform(view) + weight * prior / (view.child_visits + 1)


def gumbel_interior_score(
  view: View, *, qtransform: QTransform = q_completed_by_mixed_value
) -> Float[Array, "*B A"]:
  """Score of each child of a node below the root of a Gumbel search.

  Picking the largest again and again makes visit frequencies approach
  softmax(logits + sigma(Q)) (Danihelka et al. 2022, section 5).
  """
  policy = jax.nn.softmax(view.prior_logits + qtransform(view))
  visits = view.child_visits
  return policy - visits / (1 + visits.sum(axis=-1, keepdims=True))


def gumbel_root_score(
  view: View,
  gumbel: Float[Array, "*B A"],
  considered_visits: Int[Array, "*B"],
  *,
  qtransform: QTransform = q_completed_by_mixed_value,
) -> Float[Array, "*B A"]:
  """Score of each child of the root of a Gumbel search.

  Args:
    view: the root.
    gumbel: the Gumbel noise drawn once for the search; zeros for none.
    considered_visits: visits of the children whose turn it is, an entry of
      `halving_table`. Other children score -inf.
    qtransform: sigma(completed Q).
  """
  logits = view.prior_logits
  logits = logits - logits.max(axis=-1, keepdims=True)
  score = jnp.maximum(_LOWEST_SCORE, gumbel + logits + qtransform(view))
  turn = view.child_visits == considered_visits[..., None]
  return jnp.where(turn, score, -jnp.inf)


def masked_argmax(
  score: Float[Array, "*B A"], invalid: Bool[Array, "*B A"]
) -> Int[Array, "*B"]:
  """The valid child of largest score, the first of equals; 0 if none is."""
  score = jnp.where(invalid, -jnp.inf, score)
  return jnp.argmax(score, axis=-1).astype(jnp.int32)


def halving_schedule(num_considered: int, num_simulations: int) -> np.ndarray:
  """Whose turn it is at each simulation of a sequential halving.

  Entry t is the number of visits that the child searched at simulation t must
  have. Since that set shrinks as the phases go by, and the best of it goes
  first, counting visits is all the bookkeeping that halving needs.

  Args:
    num_considered: children to start with.
    num_simulations: length of the schedule.

  Returns:
    i32[num_simulations], on the host.

  Raises:
    ValueError: if an argument is negative.
  """
  if num_considered < 0 or num_simulations < 0:
    raise ValueError(
      "halving_schedule: num_considered and num_simulations must be at least "
      f"0, got {num_considered} and {num_simulations}"
    )
  if num_considered <= 1:
    return np.arange(num_simulations, dtype=np.int32)
  phases = math.ceil(math.log2(num_considered))
  schedule, alive, visits = [], num_considered, 0
  while len(schedule) < num_simulations:
    laps = max(1, num_simulations // (phases * alive))
    for lap in range(visits, visits + laps):
      schedule.extend([lap] * alive)
    visits += laps
    alive = max(2, alive // 2)
  return np.asarray(schedule[:num_simulations], np.int32)


def halving_table(max_considered: int, num_simulations: int) -> np.ndarray:
  """`halving_schedule` for 0..`max_considered` children, one row each.

  Returns:
    i32[max_considered + 1, num_simulations], on the host.
  """
  return np.stack(
    [halving_schedule(m, num_simulations) for m in range(max_considered + 1)]
  )
