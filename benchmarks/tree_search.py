# SPDX-License-Identifier: Apache-2.0
r"""Batched tree search against mctx: same trees, process time, one thread.

    taskset -c 0 env \
      XLA_FLAGS="--xla_cpu_multi_thread_eigen=false \
        intra_op_parallelism_threads=1" \
      python -m benchmarks.tree_search --out=tree_search.json

Needs mctx (the `bench` extra). Both searches run the Gumbel policy on the same
32 roots, 16 actions and a two-layer recurrent net on 64-d embeddings. Each is
compiled and warmed first; then the two take turns, and the least process time
of `--repeats` turns counts.
"""

from collections.abc import Callable, Sequence
import json
import time
from typing import Any

from absl import app, flags
import jax
import jax.numpy as jnp
import mctx
import numpy as np

from jaxttc.decoders import tree_search

FLAGS = flags.FLAGS

_WIDTH = 64


def problem(
  seed: int, batch: int, actions: int
) -> tuple[dict[str, jax.Array], tree_search.RootOutput]:
  """A random recurrent net's parameters, and its view of `batch` roots."""
  keys = jax.random.split(jax.random.key(seed), 8)
  shapes = {
    "hidden": (_WIDTH, _WIDTH),
    "action": (actions, _WIDTH),
    "logits": (_WIDTH, actions),
    "value": (_WIDTH,),
    "reward": (_WIDTH,),
  }
  params = {
    name: jax.random.normal(key, shape) / _WIDTH**0.5
    for (name, shape), key in zip(shapes.items(), keys, strict=False)
  }
  root = tree_search.RootOutput(
    prior_logits=jax.random.normal(keys[5], (batch, actions)),
    value=jax.random.normal(keys[6], (batch,)),
    embedding=jax.random.normal(keys[7], (batch, _WIDTH)),
  )
  return params, root


def recurrent_fn(
  params: dict[str, jax.Array],
  key: jax.Array,
  action: jax.Array,
  embedding: jax.Array,
) -> tuple[tree_search.RecurrentOutput, jax.Array]:
  """One step of the net."""
  del key
  hidden = jnp.tanh(embedding @ params["hidden"] + params["action"][action])
  return tree_search.RecurrentOutput(
    reward=0.1 * jnp.tanh(hidden @ params["reward"]),
    discount=jnp.full(action.shape, 0.99),
    prior_logits=hidden @ params["logits"],
    value=jnp.tanh(hidden @ params["value"]),
  ), hidden


def _searches(
  params: Any, root: tree_search.RootOutput, simulations: int
) -> dict[str, Callable[[jax.Array], tuple[jax.Array, ...]]]:
  """Both searches, compiled: from a key to (visits, action, parents)."""

  def their_fn(*args):
    step, embedding = recurrent_fn(*args)
    return mctx.RecurrentFnOutput(**step._asdict()), embedding

  @jax.jit
  def ours(key):
    output = tree_search.gumbel_policy(
      params, key, root, recurrent_fn, simulations
    )
    tree = output.search_tree
    return tree.node_visits, output.action, tree.parents

  @jax.jit
  def mctx_search(key):
    output = mctx.gumbel_muzero_policy(
      params, key, mctx.RootFnOutput(**root._asdict()), their_fn, simulations
    )
    tree = output.search_tree
    return tree.node_visits, output.action, tree.parents

  return {"ours": ours, "mctx": mctx_search}


def _levels(parents: np.ndarray) -> float:
  """Mean over simulations of the deepest walk of the batch: what loops run."""
  depth = np.zeros_like(parents)
  for node in range(1, parents.shape[1]):
    above = np.take_along_axis(depth, parents[:, node : node + 1], axis=1)
    depth[:, node] = above[:, 0] + 1
  return float(depth[:, 1:].max(axis=0).mean())


def run(
  *,
  batch: int = 32,
  actions: int = 16,
  simulations: Sequence[int] = (64, 128, 256, 512),
  repeats: int = 5,
  seed: int = 0,
) -> dict[str, Any]:
  """Times both searches.

  Args:
    batch: roots searched at once.
    actions: actions a node.
    simulations: simulations a root, one measurement each.
    repeats: timed runs of each search; the least time counts.
    seed: seed of net, roots and search.

  Returns:
    `rows`, one measurement each; `tree_search_over_mctx`, mctx's time over
    ours at the most simulations; `per_simulation_us`, our microseconds of
    process time a simulation of one root, by number of simulations;
    `per_simulation_growth`, the last of these over the first; and
    `levels_growth`, the same for `levels`, the mean depth that a simulation
    of the batch walks to, with which its cost is bound to grow.

  Raises:
    RuntimeError: if the two searches visit different nodes.
  """
  params, root = problem(seed, batch, actions)
  key = jax.random.key(seed + 1)
  rows = []
  for count in simulations:
    searches = _searches(params, root, count)
    visited = {name: jax.device_get(fn(key)) for name, fn in searches.items()}
    if not all(map(np.array_equal, visited["ours"], visited["mctx"])):
      raise RuntimeError(f"trees differ at {count} simulations, seed {seed}")
    seconds = {name: [] for name in searches}
    for _ in range(repeats):
      for name, fn in searches.items():
        start = time.process_time()
        jax.block_until_ready(fn(key))
        seconds[name].append(time.process_time() - start)
    least = {name: min(times) for name, times in seconds.items()}
    rows.append(
      {
        "simulations": count,
        "ours_s": least["ours"],
        "mctx_s": least["mctx"],
        "ratio": least["mctx"] / least["ours"],
        "per_simulation_us": 1e6 * least["ours"] / (batch * count),
        "levels": _levels(visited["ours"][2]),
      }
    )
  cost = {str(row["simulations"]): row["per_simulation_us"] for row in rows}
  return {
    "batch": batch,
    "actions": actions,
    "rows": rows,
    "tree_search_over_mctx": rows[-1]["ratio"],
    "per_simulation_us": cost,
    "per_simulation_growth": (
      rows[-1]["per_simulation_us"] / rows[0]["per_simulation_us"]
    ),
    "levels_growth": rows[-1]["levels"] / rows[0]["levels"],
  }


def main(argv: Sequence[str]) -> None:
  """Runs the comparison and prints (and writes) its result."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  result = run(
    batch=FLAGS.batch,
    actions=FLAGS.actions,
    simulations=[int(count) for count in FLAGS.simulations],
    repeats=FLAGS.repeats,
    seed=FLAGS.seed,
  )
  text = json.dumps(result, indent=2)
  print(text)
  if FLAGS.out:
    with open(FLAGS.out, "w", encoding="utf-8") as file:
      file.write(text + "\n")


def _define_flags() -> None:
  """Only of a program that runs: others may import it beside each other."""
  flags.DEFINE_integer("batch", 32, "Roots searched at once.")
  flags.DEFINE_integer("actions", 16, "Actions a node.")
  flags.DEFINE_list("simulations", ["64", "128", "256", "512"], "Simulations.")
  flags.DEFINE_integer("repeats", 5, "Timed runs of each search.")
  flags.DEFINE_integer("seed", 0, "Seed of net, roots and search.")
  flags.DEFINE_string("out", None, "JSON file to write; none if empty.")


if __name__ == "__main__":
  _define_flags()
  app.run(main)
