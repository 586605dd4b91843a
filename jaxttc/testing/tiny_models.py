# SPDX-License-Identifier: Apache-2.0
"""A policy and a verifier that cost nothing: random weights, real shapes.

The policy's weights are random but for its head, which is told to write a few
tokens only, the ends of steps and of solutions among them. So its searches
branch, stop, answer, disagree and run over their limits, as real ones do, and
its text means nothing.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import config as config_lib
from jaxttc.models import reward_model, transformer
from jaxttc.tasks import tokenizer as tokenizer_lib

WIDTH = 16
PROMPT = "Solve 3 + 4 .\n"
# What the policy writes, and how much likelier than a digit, in nats.
_WRITES = {"\n": 1.5, "####": 0.8, " +": 0.0, " =": 0.0, "<eos>": -1.5}
_DIGITS = 8
_LOUD = 6.0  # how far the head lifts these above all other tokens


def tiny_bundles(
  seed: int = 0,
  *,
  layers: int = 1,
  kv_heads: int = 1,
  max_length: int = 256,
) -> tuple[bundle_lib.Bundle, bundle_lib.Bundle]:
  """A policy and a verifier of width 16 over the library's vocabulary.

  A step has about 4 tokens and a solution about 3 steps; one step in a
  hundred is longer than 16 tokens.

  Args:
    seed: of all weights.
    layers: of the policy, and of the verifier's trunk.
    kv_heads: key-value heads, each with two query heads.
    max_length: longest sequence they take, in tokens.

  Returns:
    (policy, verifier), float32.
  """
  tokenizer = tokenizer_lib.WordTokenizer()
  config = config_lib.TransformerConfig(
    vocab_size=tokenizer.vocab_size,
    width=WIDTH,
    layers=layers,
    heads=2 * kv_heads,
    kv_heads=kv_heads,
    head_dim=8,
    mlp_width=32,
    max_length=max_length,
    tie_embeddings=False,
  )
  config.validate()
  ours, theirs = jax.random.split(jax.random.key(seed))
  params = transformer.init(ours, transformer.Transformer(config))
  policy = bundle_lib.Bundle(
    kind="language_model",
    config=config,
    params=_writing_little(params, tokenizer),
    tokenizer=tokenizer,
  )
  reads = dataclasses.replace(config, layers=layers + 1, reading_layers=1)
  verifier = dataclasses.replace(
    policy,
    kind="process_reward",
    config=reads,
    params=transformer.init(theirs, reward_model.ProcessRewardModel(reads)),
  )
  return policy, verifier


def _writing_little(params, tokenizer):
  """Makes one channel of the stream constant, and has the head read it."""
  bias = jnp.full((tokenizer.vocab_size,), -_LOUD)
  for digit in range(_DIGITS):
    bias = bias.at[tokenizer.id_of(str(digit))].set(_LOUD)
  for piece, more in _WRITES.items():
    bias = bias.at[tokenizer.id_of(piece)].set(_LOUD + more)
  embedding = params["embed"]["embedding"].at[:, 0].set(2.0)
  head = params["head"]["kernel"].at[0].set(bias / 2.0)
  return params | {
    "embed": {"embedding": embedding},
    "head": {"kernel": head},
  }
