# SPDX-License-Identifier: Apache-2.0
"""Multi-task networks whose branching follows preference and compute.

An *anchor* holds N streams of S stages and N heads, one of each a task. Node
(s, n) is stream n's copy of stage s. Every node after the first stage, and
every head, reads one node of the stage before it; the choices make a tree, and
only nodes that some head can be traced back to are computed. With all tasks on
one path the tree costs 1/N of the streams, with each on its own, all of them.

Two hypernetworks choose: `EdgeHypernetwork` maps a preference r and a compute
share c to logits of every choice, and a `hypernetworks.NormHypernetwork` on
`condition` fits the norms of the chosen nodes to the edges they were given.

This is a *lite* form of Controllable Dynamic Multi-Task Architectures
(Raychaudhuri et al. 2022, CVPR, arXiv 2203.14949). The anchor, the tree of
choices, both hypernetworks, their sizes, the probability that a node is used
and the inactive loss are the paper's. What is not:

*  c is the share of the streams' compute that may be used, and what the
   expected share is above it is penalised. The paper's c is a weight of its
   active loss, which draws tasks with like features together: a dial without a
   unit, where a budget needs one.
*  Choices are sampled with a straight-through Gumbel-softmax at one
   temperature, so that training runs the trees that inference runs; the paper
   mixes parents softly and cools down.
*  The norms see the branching beside r and c, and both hypernetworks may be
   trained at once, with the anchor or without; the paper trains one after the
   other on a fixed anchor of single-task networks.

Shape letters: N streams (and tasks), S stages, B examples.
"""

from collections.abc import Sequence
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
import numpy as np

from jaxttc.cost import jaxpr_flops
from jaxttc.models import hypernetworks

# parents[s][j]: the node of stage s that node j of stage s + 1 reads; after
# the last stage, that head j reads. Hashable: one compiled function a tree.
Tree = tuple[tuple[int, ...], ...]


class Anchor(NamedTuple):
  """The network that trees are cut from.

  Attributes:
    stages: a linen module each, array to array; every stream has its own
      parameters of it.
    heads: a module for each task, from the last stage's output to a
      prediction.
    names: of the tasks, as many as heads.
  """

  stages: tuple[nn.Module, ...]
  heads: tuple[nn.Module, ...]
  names: tuple[str, ...]


class Costs(NamedTuple):
  """Multiply-adds of the parts of an anchor.

  Attributes:
    stages: of one node, a stage.
    heads: of each task's head.
  """

  stages: tuple[int, ...]
  heads: tuple[int, ...]


def init(anchor: Anchor, key: Key[Array, ""], inputs: jax.Array) -> Any:
  """Parameters of all streams and heads.

  Args:
    anchor: the network.
    key: a random key.
    inputs: an example batch; only shape and dtype matter.

  Returns:
    {"stage_0": {"stream_0": parameters, ...}, ..., "head_0": parameters, ...}.

  Raises:
    ValueError: if there is not a head and a name a task, or no stage.
  """
  heads, names = len(anchor.heads), len(anchor.names)
  if not anchor.stages or not heads or heads != names:
    raise ValueError(
      "an anchor needs stages, and a name for each head, got "
      f"{len(anchor.stages)} stages, {heads} heads and {names} names"
    )
  params = {}
  x = jnp.zeros(inputs.shape, inputs.dtype)
  for s, stage in enumerate(anchor.stages):
    key, use = jax.random.split(key)
    each = [
      _parameters(stage, k, x) for k in jax.random.split(use, len(anchor.heads))
    ]
    out = _shape(stage, each[0], x)
    params[f"stage_{s}"] = {f"stream_{n}": p for n, p in enumerate(each)}
    x = jnp.zeros(out.shape, out.dtype)
  keys = jax.random.split(key, len(anchor.heads))
  for t, head in enumerate(anchor.heads):
    params[f"head_{t}"] = _parameters(head, keys[t], x)
  return params


def apply(
  anchor: Anchor, params: Any, edges: Float[Array, "S N N"], inputs: Any
) -> dict[str, jax.Array]:
  """Runs every node, and mixes what each reads. For training.

  Pure; `jax.vmap` over edges runs several branchings.

  Args:
    anchor: the network.
    params: as `init` makes them.
    edges: edges[s, j, i] says how much of node (s, i) goes to node
      (s + 1, j), or to head j after the last stage. Rows of a tree are
      one-hot; the identity is N separate networks.
    inputs: of the first stage, [B, ...].

  Returns:
    A prediction a task, by name.
  """
  streams = len(anchor.heads)
  values = [inputs] * streams
  for s, stage in enumerate(anchor.stages):
    nodes = params[f"stage_{s}"]
    outputs = jnp.stack(
      [_run(stage, nodes[f"stream_{n}"], values[n]) for n in range(streams)]
    )
    values = jnp.tensordot(edges[s], outputs, axes=1)
  return _predictions(anchor, params, values)


def run(
  anchor: Anchor, params: Any, tree: Tree, inputs: Any
) -> dict[str, jax.Array]:
  """Runs the nodes of one tree and no others.

  Args:
    anchor: the network.
    params: as `init` makes them; those of unused nodes are not read.
    tree: `tree_of` a choice; static under `jax.jit`.
    inputs: of the first stage, [B, ...].

  Returns:
    A prediction a task, by name; `apply` on the same choices gives the same.
  """
  values: Any = [inputs] * len(anchor.heads)
  for s, (stage, used) in enumerate(
    zip(anchor.stages, active(tree), strict=True)
  ):
    nodes = params[f"stage_{s}"]
    outputs = {n: _run(stage, nodes[f"stream_{n}"], values[n]) for n in used}
    # A node that no head is traced back to may read one that is not there.
    values = [outputs.get(parent) for parent in tree[s]]
  return _predictions(anchor, params, values)


def one_stream(anchor: Anchor) -> Tree:
  """The tree of an ordinary network: all tasks on the first stream."""
  return ((0,) * len(anchor.heads),) * len(anchor.stages)


def copied(params: Any) -> Any:
  """Parameters whose streams all are what the first one is.

  A tree of any branching computes the same with them, so they are where to
  start from once `one_stream` is trained.
  """
  return {
    name: {stream: part["stream_0"] for stream in part}
    if name.startswith("stage_")
    else part
    for name, part in params.items()
  }


def active(tree: Tree) -> tuple[tuple[int, ...], ...]:
  """The nodes that some head is traced back to, for each stage."""
  used: list[tuple[int, ...]] = []
  readers = range(len(tree[-1]))
  for parents in reversed(tree):
    used.append(tuple(sorted({parents[j] for j in readers})))
    readers = used[-1]
  return tuple(reversed(used))


def costs(anchor: Anchor, params: Any, inputs: Any) -> Costs:
  """Multiply-adds of nodes and heads, exact, for a batch like `inputs`.

  Args:
    anchor: the network.
    params: parameters, or their shapes.
    inputs: arrays or `jax.ShapeDtypeStruct`s; one example for costs of one.
  """
  found, x = [], inputs
  for s, stage in enumerate(anchor.stages):
    node = params[f"stage_{s}"]["stream_0"]
    found.append(_macs(stage, node, x))
    x = _shape(stage, node, x)
  heads = tuple(
    _macs(head, params[f"head_{t}"], x) for t, head in enumerate(anchor.heads)
  )
  return Costs(tuple(found), heads)


def macs(parts: Costs, tree: Tree) -> int:
  """Multiply-adds of a tree: each node that is used, once, and all heads."""
  nodes = zip(parts.stages, active(tree), strict=True)
  return sum(cost * len(used) for cost, used in nodes) + sum(parts.heads)


def usage(edges: Float[Array, "S N N"]) -> Float[Array, "S N"]:
  """The probability that each node is used, if choices are independent.

  A node is used if a used node, or a head, reads it. That several of them do
  is taken as independent, as in the paper: exact for trees and for one stage,
  else an approximation that can be differentiated.

  Args:
    edges: rows are distributions over parents.
  """
  used = jnp.ones(edges.shape[-1], edges.dtype)
  rows = []
  for s in reversed(range(edges.shape[0])):
    used = 1 - jnp.prod(1 - used[:, None] * edges[s], axis=0)
    rows.append(used)
  return jnp.stack(rows[::-1])


def expected_share(
  parts: Costs, edges: Float[Array, "S N N"]
) -> Float[Array, ""]:
  """Expected multiply-adds of a tree's nodes, as a share of all streams'.

  Args:
    parts: costs of the anchor.
    edges: rows are distributions over parents.

  Returns:
    In [1/N, 1] for trees. Heads always run and are left out.
  """
  cost = jnp.asarray(parts.stages, edges.dtype)
  cost = cost / (cost.sum() * edges.shape[-1])
  return (usage(edges).sum(-1) * cost).sum()


def inactive_loss(
  preference: Float[Array, " N"],
  edges: Float[Array, "S N N"],
  threshold: float | None = None,
) -> Float[Array, ""]:
  """How far tasks that hardly matter go their own way.

  Sum over stages and over tasks with r_j below the threshold of the squared
  distance to the nearest row of a task above it.

  Args:
    preference: r, on the simplex.
    edges: rows are distributions over parents.
    threshold: between active and inactive tasks, below 1/N; half of that if
      None.
  """
  threshold = 0.5 / preference.size if threshold is None else threshold
  live = preference >= threshold
  gap = jnp.square(edges[:, :, None] - edges[:, None]).sum(-1)
  nearest = jnp.where(live[None, :, None], gap, jnp.inf).min(1)
  return jnp.where(live[None], 0.0, nearest).sum()


class EdgeHypernetwork(nn.Module):
  """From a preference and a compute share to logits of every choice.

  Attributes:
    stages: S.
    embedding: length of the embeddings of tasks and of compute.
    hidden: widths of the MLP, ReLU after each.
  """

  stages: int
  embedding: int = 32
  hidden: tuple[int, ...] = (100, 100)

  @nn.compact
  def __call__(
    self, preference: Float[Array, " N"], compute: Float[Array, ""]
  ) -> Float[Array, "S N N"]:
    """Logits; entry s, j, i is of node (s + 1, j) reading node (s, i)."""
    streams = preference.size
    x = hypernetworks.embedding(self.embedding, "preference")(
      jnp.append(preference, compute)
    )
    x = jax.nn.relu(hypernetworks.Trunk(self.hidden, name="trunk")(x))
    logits = nn.Dense(self.stages * streams**2, name="heads")(x)
    return logits.reshape(self.stages, streams, streams)


def condition(
  preference: Float[Array, " N"],
  compute: Float[Array, ""],
  edges: Float[Array, "S N N"],
) -> Float[Array, " D"]:
  """What norms are told: preference, compute share, and the branching."""
  return jnp.concatenate([preference, compute[None], edges.reshape(-1)])


def sample_edges(
  key: Key[Array, ""], logits: Float[Array, "S N N"], temperature: float = 1.0
) -> Float[Array, "S N N"]:
  """A random tree, one-hot rows, with the gradient of a Gumbel-softmax.

  Args:
    key: a random key.
    logits: of each choice. Row j of stage s takes i with its softmax
      probability.
    temperature: of the softmax that stands in for the gradient.
  """
  noisy = logits + jax.random.gumbel(key, logits.shape, logits.dtype)
  soft = jax.nn.softmax(noisy / temperature)
  hard = jax.nn.one_hot(noisy.argmax(-1), logits.shape[-1], dtype=soft.dtype)
  return hard + soft - jax.lax.stop_gradient(soft)


def likeliest_edges(
  logits: Float[Array, "S N N"],
) -> Float[Array, "S N N"]:
  """The most likely tree, one-hot rows."""
  return jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=logits.dtype)


def tree_of(edges: Float[Array, "S N N"] | Int[Array, "S N N"]) -> Tree:
  """The choices of one-hot rows as plain numbers; on the host."""
  parents = np.asarray(edges).argmax(-1)
  return tuple(tuple(int(i) for i in row) for row in parents)


def costliest_within(
  trees: Sequence[Tree], parts: Costs, budget: float | int
) -> int:
  """Which of some trees makes the most of a budget.

  Training pulls the compute of a tree to its share, and cannot promise it:
  make trees for a few shares, and let the count decide.

  Args:
    trees: candidates, for one preference.
    parts: costs of the anchor.
    budget: multiply-adds.

  Returns:
    Index of the costliest tree that the budget pays for, the first among
    equals.

  Raises:
    ValueError: if none fits; it says what the cheapest costs.
  """
  prices = [macs(parts, tree) for tree in trees]
  fits = [i for i, price in enumerate(prices) if price <= budget]
  if not fits:
    raise ValueError(
      f"budget of {budget:g} multiply-adds is below the cheapest of "
      f"{len(trees)} trees, which needs {min(prices)}"
    )
  return max(fits, key=lambda i: prices[i])


def _predictions(anchor: Anchor, params: Any, values: Any) -> dict[str, Any]:
  return {
    name: _run(head, params[f"head_{t}"], values[t])
    for t, (name, head) in enumerate(
      zip(anchor.names, anchor.heads, strict=True)
    )
  }


def _parameters(module: nn.Module, key: jax.Array, x: jax.Array) -> Any:
  # A stage may have none, as pooling has.
  return module.init(key, x).get("params", {})


def _run(module: nn.Module, params: Any, x: Any) -> Any:
  return module.apply({"params": params}, x)


def _shape(module: nn.Module, params: Any, x: Any) -> Any:
  return jax.eval_shape(functools.partial(_run, module), params, x)


def _macs(module: nn.Module, params: Any, x: Any) -> int:
  flops = jaxpr_flops.count_flops(functools.partial(_run, module), params, x)
  return flops // 2
