# SPDX-License-Identifier: Apache-2.0
r"""Compares published families, as they run here, with transformers.

    python -m benchmarks.parity

Makes a small random model of each family with transformers (torch, CPU,
float32), saves it, loads it here, and compares logits on a ragged batch and 64
greedy tokens through the tree cache. Writes docs/results/parity.json with the
claims `max_logit_difference_<family>` (bar <= 1e-4) and
`greedy_tokens_equal_<family>` (share of equal tokens, bar >= 1). Reward models,
tokenization and chat templates are compared likewise.

    python -m benchmarks.parity --goldens=tests/data/hf

writes the models that the tests load, smaller ones, with what transformers
made of them. Needs the extras hf and bench.
"""

from collections.abc import Sequence
import json
import pathlib
import tempfile

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import parity_models, parity_rewards, parity_text
from jaxttc import results
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, generation, stop, tree_cache

FLAGS = flags.FLAGS


LENGTHS = (5, 18, 11)  # of the prompts; the batch is ragged
TOKENS = 64  # that greedy decoding goes on for
_SPAN = 16  # of which so many are written before they enter the tree
_ENDLESS = stop.build([])


def prompts(vocab_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Random ids i32[P, T] from 3 on, padded with 0, and lengths i32[P]."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(3, vocab_size, (len(LENGTHS), max(LENGTHS)))
  length = np.asarray(LENGTHS, np.int32)
  real = np.arange(max(LENGTHS)) < length[:, None]
  return np.where(real, tokens, 0).astype(np.int32), length


def our_logits(
  bundle: bundle_lib.Bundle, tokens: np.ndarray, length: np.ndarray
) -> np.ndarray:
  """Logits f32[P, T, V] of a ragged batch, in one prefill."""

  @jax.jit
  def run(params, tokens, length):
    _, hidden = generation.prefill(bundle.model, params, tokens, length)
    return bundle.model.apply({"params": params}, hidden, method="logits")

  return np.asarray(run(bundle.params, tokens, length))


def our_greedy(
  bundle: bundle_lib.Bundle, tokens: np.ndarray, length: np.ndarray
) -> np.ndarray:
  """The likeliest continuations i32[P, TOKENS], each a chain of tree nodes."""
  model, config = bundle.model, bundle.config
  count, spans = len(length), TOKENS // _SPAN
  sampler = controllers.Sampler(temperature=0.0)
  controller = sampler.controller(config.vocab_size)
  rule = generation.StopRule(eos_id=-2, step_end=_ENDLESS)
  order = jnp.arange(count)
  parent = jnp.broadcast_to(jnp.arange(-1, spans), (count, spans + 1))

  @jax.jit
  def begin(params, tokens, length):
    cache = tree_cache.init(config, count, tokens.shape[1] + TOKENS)
    keys_values, _ = generation.prefill(model, params, tokens, length - 1)
    return tree_cache.write_prompt(cache, keys_values, length - 1, order)

  @jax.jit
  def extend(params, cache, node, token, position):
    one = jnp.ones((count, 1), jnp.int32)
    work = generation.Requests(
      node=node * one,
      token=token[:, None],
      position=position[:, None],
      until=generation.END * one,
      limit=_SPAN * one,
      key=jax.random.split(jax.random.key(0), (count, 1)),
    )
    rows = generation.idle_rows(
      config, count, 1, _SPAN, cache.capacity, controller
    )
    path = tree_cache.path_mask(cache.owner, parent, work.node)
    rows = generation.assign(rows, work, path, controller)
    rows = generation.decode(
      model, params, cache, rows, rule, controller, sampler.draw, _SPAN
    )
    cache = tree_cache.commit(
      cache,
      rows.scratch,
      work.node + 1,
      rows.start,
      rows.length,
      rows.first_position,
    )
    return cache, generation.span_tokens(rows, _SPAN)[:, 0]

  cache = begin(bundle.params, tokens, length)
  last = np.take_along_axis(tokens, length[:, None] - 1, axis=1)[:, 0]
  written, position = [], length - 1
  for node in range(spans):
    cache, span = extend(bundle.params, cache, node, last, position)
    written.append(np.asarray(span))
    last, position = written[-1][:, -1], position + _SPAN
  return np.concatenate(written, axis=1)


def difference(
  ours: np.ndarray, theirs: np.ndarray, length: np.ndarray
) -> float:
  """Largest absolute difference of logits [P, T, V] of real tokens."""
  real = np.arange(ours.shape[1]) < length[:, None]
  return float(np.abs(ours - theirs)[real].max())


def compare(name: str, directory: pathlib.Path, seed: int) -> dict:
  """A row of figures of one family."""
  theirs = parity_models.make(name, directory, parity_models.LARGE, seed)
  parity_text.save_tokenizer(directory)
  bundle = bundle_lib.load(str(directory))
  tokens, length = prompts(bundle.config.vocab_size, seed)
  gap = difference(
    our_logits(bundle, tokens, length),
    parity_models.logits(theirs, tokens, length),
    length,
  )
  same = our_greedy(bundle, tokens, length) == parity_models.greedy(
    theirs, tokens, length, TOKENS
  )
  back = directory / "exported"
  bundle_lib.export(str(back), bundle)
  exported = parity_models.logits(
    parity_models.load(name, back), tokens, length
  )
  kept = parity_models.logits(theirs, tokens, length)
  row = {
    "family": name,
    "max_logit_difference": gap,
    "largest_logit": float(np.abs(kept).max()),
    "greedy_tokens_equal": float(same.mean()),
    "exported_difference": difference(exported, kept, length),
  }
  print(json.dumps(row), flush=True)
  return row


def write_goldens(folder: pathlib.Path, seed: int) -> None:
  """Writes what tests/inference/hugging_face_test.py loads."""
  for name in parity_models.FAMILIES:
    directory = folder / name
    model = parity_models.make(name, directory, parity_models.SMALL, seed)
    tokens, length = prompts(model.config.vocab_size, seed)
    np.savez_compressed(
      directory / "expected.npz",
      tokens=tokens,
      length=length,
      # Every eighth entry of the vocabulary will do.
      logits=parity_models.logits(model, tokens, length)[..., ::8],
      greedy=parity_models.greedy(model, tokens, length, TOKENS),
    )
  parity_text.write_goldens(folder)
  parity_rewards.write_goldens(folder, seed)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if FLAGS.goldens:
    write_goldens(pathlib.Path(FLAGS.goldens), FLAGS.seed)
    return
  with tempfile.TemporaryDirectory() as folder:
    rows = [
      compare(name, pathlib.Path(folder) / name, FLAGS.seed)
      for name in parity_models.FAMILIES
    ]
    rewards = parity_rewards.claims(pathlib.Path(folder), FLAGS.seed)
  claims = []
  for row in rows:
    name = row["family"]
    claims += [
      results.Claim(
        f"max_logit_difference_{name}",
        row["max_logit_difference"],
        bar=1e-4,
        comparison="<=",
      ),
      results.Claim(
        f"greedy_tokens_equal_{name}", row["greedy_tokens_equal"], bar=1.0
      ),
    ]
  claims += rewards + parity_text.claims()
  results.write(
    FLAGS.out,
    command=results.command_line(),
    seeds=[FLAGS.seed],
    data={"families": rows},
    claims=claims,
  )


def _define_flags() -> None:
  """Only of a program that runs: others may import it beside each other."""
  flags.DEFINE_string("out", "docs/results/parity.json", "Results file.")
  flags.DEFINE_string("goldens", "", "Folder to write test data to, instead.")
  flags.DEFINE_integer("seed", 0, "Seed of weights and prompts.")


if __name__ == "__main__":
  _define_flags()
  app.run(main)
