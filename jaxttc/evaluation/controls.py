# SPDX-License-Identifier: Apache-2.0
"""Negative controls: reward models that ought not to help.

A search that gains as much from a reward model that knows nothing as from a
trained one gains from something else. A control is the trained model with
other parameters, so it takes the same path at the same cost.

  constant  every prefix has reward 1/2
  random    a trunk that was never trained; its rewards vary from prefix to
            prefix, but know nothing of right and wrong
  weak      the trained model with noise on every parameter
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import transformer
from jaxttc.tasks import arithmetic
from jaxttc.tasks import problems as problems_lib

CONTROLS = ("constant", "random", "weak")

# Noise of `weak`, as a share of each parameter array's own spread.
_NOISE = 0.3
# Spread of the logits of `random`: rewards mostly between 0.05 and 0.95.
_SPREAD = 1.5
_SAMPLE = 16


def control(
  verifier: bundle_lib.Bundle, kind: str, seed: int = 0
) -> bundle_lib.Bundle:
  """A reward model that is a control for another.

  Args:
    verifier: the reward model.
    kind: one of `CONTROLS`; see the module docstring.
    seed: of what is random about it.

  Returns:
    A reward model of the same sizes and vocabulary.

  Raises:
    ValueError: if the kind is unknown, or the model is no reward model.
  """
  problems_lib.require_name(kind, CONTROLS, "control")
  if verifier.kind != "process_reward":
    raise ValueError(
      f"a control is made of a process_reward model, got a {verifier.kind}"
    )
  make = {"constant": _constant, "random": _random, "weak": _weak}[kind]
  params = make(verifier, jax.random.key(seed))
  return dataclasses.replace(verifier, params=params, recipe={"control": kind})


def _constant(verifier, key):
  del key
  head = jax.tree.map(jnp.zeros_like, verifier.params["reward"])
  return {**verifier.params, "reward": head}


def _weak(verifier, key):
  leaves, treedef = jax.tree.flatten(verifier.params)
  keys = jax.random.split(key, len(leaves))
  noisy = [
    x + _NOISE * jnp.std(x) * jax.random.normal(k, x.shape, x.dtype)
    for x, k in zip(leaves, keys, strict=True)
  ]
  return jax.tree.unflatten(treedef, noisy)


def _random(verifier, key):
  """Fresh parameters, the head scaled so that rewards spread about 1/2."""
  dtype = jax.tree.leaves(verifier.params)[0].dtype
  params = jax.tree.map(
    lambda x: x.astype(dtype), transformer.init(key, verifier.model)
  )
  logits = _step_logits(verifier, params)
  scale = _SPREAD / max(float(logits.std()), 1e-6)
  head = params["reward"]
  head = {
    "kernel": head["kernel"] * scale,
    "bias": (head["bias"] - float(logits.mean())) * scale,
  }
  return {**params, "reward": head}


def _step_logits(verifier, params) -> np.ndarray:
  """Reward logits at the step ends of some worked training problems."""
  tokenizer = verifier.tokenizer
  rows = []
  for index in range(_SAMPLE):
    prompt, completion = arithmetic.training_example(index)
    ids = tokenizer.encode_prompt(prompt + completion)
    rows.append(ids[: verifier.config.max_length])
  tokens = np.zeros((_SAMPLE, max(map(len, rows))), np.int32)
  for row, ids in zip(tokens, rows, strict=True):
    row[: len(ids)] = ids
  segments = np.ones_like(tokens)
  positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
  logits = transformer.forward(
    verifier.model,
    params,
    jnp.asarray(tokens),
    jnp.asarray(segments),
    jnp.asarray(positions),
  )
  return np.asarray(logits)[tokens == tokenizer.newline_id]
