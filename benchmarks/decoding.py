# SPDX-License-Identifier: Apache-2.0
"""Decoding against transformers' `generate`: same weights, same prompts.

Ours is one compiled program a shape: the prompt is read once into an arena,
then rows decode in scratch columns that grow by segments.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key
import numpy as np

from benchmarks import timing
from jaxttc.inference import controllers, generation, stop, tree_cache
from jaxttc.models import config as config_lib
from jaxttc.models import transformer

_GREEDY = controllers.Sampler(temperature=0)
_TOLERANCE = 1e-4  # of logits, between XLA's and torch's float32


def endless(vocab_size: int) -> generation.StopRule:
  """The rule under which only a row's limit ends it."""
  return generation.StopRule(eos_id=vocab_size, step_end=stop.build([]))


def reader(
  config: config_lib.TransformerConfig,
  dtype: Any = jnp.float32,
  backend: str = "auto",
) -> Callable[[Any, Int[Array, "G T"]], tree_cache.TreeCache]:
  """Reads prompts: (params, prompts) -> the cache of all tokens but the last.

  Args:
    config: sizes of the model.
    dtype: of parameters, keys and values.
    backend: what computes attention, of `attention_backend.NAMES`.
  """
  model = transformer.Transformer(config, dtype, backend)

  def run(params, prompts):
    groups, width = prompts.shape
    before = jnp.full((groups,), width - 1, jnp.int32)
    keys_values, _ = generation.prefill(model, params, prompts, before)
    cache = tree_cache.init(config, groups, width, dtype)
    return tree_cache.write_prompt(
      cache, keys_values, before, jnp.arange(groups)
    )

  return run


def writer(
  config: config_lib.TransformerConfig,
  *,
  new_tokens: int,
  samples: int = 1,
  sampler: controllers.Sampler = _GREEDY,
  dtype: Any = jnp.float32,
) -> Callable[..., Int[Array, "G R W"]]:
  """Goes on from prompts: (params, cache, prompts, key) -> tokens.

  Args:
    config: sizes of the model.
    new_tokens: W, tokens to write after each prompt, all of them.
    samples: R, rows that continue each prompt and share its cache.
    sampler: how tokens are drawn.
    dtype: of parameters, keys and values.
  """
  model = transformer.Transformer(config, dtype)
  # At temperature 0 the draw takes the best token itself.
  bend = controllers.identity()
  if sampler.temperature > 0:
    bend = sampler.controller(config.vocab_size)
  widths = [w for w in (32, 64, 128, 256) if w < new_tokens] + [new_tokens]

  def run(params, cache, prompts, key):
    groups, width = prompts.shape
    before = jnp.full((groups,), width - 1, jnp.int32)
    rows = generation.idle_rows(
      config, groups, samples, widths[0], width, bend, dtype
    )
    work = requests(prompts, before, samples, new_tokens, key)
    path = tree_cache.path_mask(
      cache.owner, jnp.full((groups, 1), -1, jnp.int32), work.node
    )
    rows = generation.assign(rows, work, path, bend)
    for columns in widths:
      rows = generation.widen(rows, columns)
      rows = generation.decode(
        model,
        params,
        cache,
        rows,
        endless(config.vocab_size),
        bend,
        sampler.draw,
        columns,
      )
    return generation.span_tokens(rows, new_tokens)

  return run


def generator(
  config: config_lib.TransformerConfig,
  *,
  new_tokens: int,
  samples: int = 1,
  sampler: controllers.Sampler = _GREEDY,
) -> Callable[[Any, Int[Array, "G T"], Key[Array, ""]], Int[Array, "G R W"]]:
  """Our `generate`: (params, prompts, key) -> tokens, as one program.

  Arguments as of `writer`, in float32.
  """
  read = reader(config)
  write = writer(
    config, new_tokens=new_tokens, samples=samples, sampler=sampler
  )
  return jax.jit(
    lambda params, prompts, key: write(
      params, read(params, prompts), prompts, key
    )
  )


def requests(
  prompts: Int[Array, "G T"],
  position: Int[Array, " G"],
  samples: int,
  limit: int,
  key: Key[Array, ""],
) -> generation.Requests:
  """Asks every row to go on from the end of its group's prompt."""
  shape = (prompts.shape[0], samples)
  last = jnp.take_along_axis(prompts, position[:, None], axis=1)
  return generation.Requests(
    node=jnp.zeros(shape, jnp.int32),
    token=jnp.broadcast_to(last, shape),
    position=jnp.broadcast_to(position[:, None], shape),
    until=jnp.full(shape, generation.END, jnp.int32),
    limit=jnp.full(shape, limit, jnp.int32),
    key=jax.random.split(key, shape),
  )


def random_prompts(
  vocab_size: int, batch: int, length: int, seed: int
) -> np.ndarray:
  """Token ids i32[batch, length], uniform over the vocabulary."""
  rng = np.random.default_rng(seed)
  return rng.integers(0, vocab_size, (batch, length), np.int32)


def check_logits(
  config: config_lib.TransformerConfig, params: Any, peer: Any, seed: int
) -> float:
  """Largest difference of our logits from the peer's.

  Raises:
    RuntimeError: if it is above the tolerance.
  """
  from benchmarks import llama_peer  # torch: the bench extra

  prompts = random_prompts(config.vocab_size, 4, 48, seed)
  positions = np.broadcast_to(np.arange(48, dtype=np.int32), prompts.shape)
  ours = transformer.forward(
    transformer.Transformer(config),
    params,
    jnp.asarray(prompts),
    jnp.ones(prompts.shape, jnp.int32),
    jnp.asarray(positions),
  )
  gap = np.abs(np.asarray(ours) - llama_peer.logits(peer, prompts)).max()
  if not gap <= _TOLERANCE:
    raise RuntimeError(f"logits differ by {gap}; expected {_TOLERANCE}")
  return float(gap)


def against_generate(
  config: config_lib.TransformerConfig,
  params: Any,
  *,
  batches: Sequence[int],
  prompt_tokens: int = 32,
  new_tokens: int = 64,
  repeats: int = 5,
  seed: int = 0,
) -> dict[str, Any]:
  """Greedy decoding of `batches` prompts by both.

  Args:
    config: sizes of the model.
    params: its parameters, given to both.
    batches: prompts decoded together, one measurement each.
    prompt_tokens: tokens of each prompt.
    new_tokens: tokens written after each.
    repeats: timed turns.
    seed: of the prompts.

  Returns:
    `logit_gap`, and `rows`: seconds of both by batch, and their `ratio`.

  Raises:
    RuntimeError: if logits differ, or a single token does.
  """
  from benchmarks import llama_peer  # torch: the bench extra

  peer = llama_peer.llama(config, params)
  result = {"logit_gap": check_logits(config, params, peer, seed), "rows": []}
  run = generator(config, new_tokens=new_tokens)
  for batch in batches:
    prompts = random_prompts(
      config.vocab_size, batch, prompt_tokens, seed + batch
    )
    given = jnp.asarray(prompts)
    key = jax.random.key(seed)
    ours = np.asarray(run(params, given, key))[:, 0]
    theirs = llama_peer.generate(peer, prompts, new_tokens)
    if not np.array_equal(ours, theirs):
      raise RuntimeError(f"greedy tokens differ at batch {batch}")
    seconds = timing.by_turns(
      {
        "jaxttc": lambda given=given, key=key: run(params, given, key),
        "transformers": lambda prompts=prompts: llama_peer.generate(
          peer, prompts, new_tokens
        ),
      },
      repeats,
    )
    result["rows"].append(
      {
        "batch": batch,
        "tokens": int(ours.size),
        "seconds": seconds,
        "ratio": timing.ratio(seconds, "transformers", "jaxttc"),
      }
    )
  return result


def shared_prompt(
  config: config_lib.TransformerConfig,
  params: Any,
  *,
  samples: int = 16,
  prompt_tokens: int = 512,
  new_tokens: int = 32,
  repeats: int = 5,
  seed: int = 0,
) -> dict[str, Any]:
  """Samples of one long prompt, against `num_return_sequences`.

  Both sample at temperature 1, from random numbers of their own, so only the
  numbers of tokens are compared.

  Raises:
    RuntimeError: if either writes fewer tokens than asked for.
  """
  from benchmarks import llama_peer  # torch: the bench extra

  peer = llama_peer.llama(config, params)
  run = generator(
    config,
    new_tokens=new_tokens,
    samples=samples,
    sampler=controllers.Sampler(),
  )
  prompts = random_prompts(config.vocab_size, 1, prompt_tokens, seed)
  given, key = jnp.asarray(prompts), jax.random.key(seed)

  def theirs():
    return llama_peer.generate(peer, prompts, new_tokens, samples, True)

  ours = np.asarray(run(params, given, key))
  written = (int((ours >= 0).sum()), theirs().size)
  if written != (samples * new_tokens,) * 2:
    raise RuntimeError(f"{written} tokens; expected {samples * new_tokens}")
  seconds = timing.by_turns(
    {"jaxttc": lambda: run(params, given, key), "transformers": theirs},
    repeats,
  )
  return {
    "samples": samples,
    "prompt_tokens": prompt_tokens,
    "new_tokens": new_tokens,
    "seconds": seconds,
    "ratio": timing.ratio(seconds, "transformers", "jaxttc"),
  }
