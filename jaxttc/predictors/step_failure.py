# SPDX-License-Identifier: Apache-2.0
"""Whether a model that answers at once will fail, read off its state.

The last hidden state after the query, before a token is sampled, goes through
a logistic regression. It is fitted to the model's own successes and failures,
so its output is a probability, and a threshold on it means something.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np
import scipy.optimize
import scipy.special

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import generation, local_prices, prompt_batch


class Probe(NamedTuple):
  """A fitted logistic regression.

  Attributes:
    weights: f64[D], of standardised features.
    bias: of the log odds of failure.
    mean: f64[D], of the features.
    scale: f64[D], their standard deviation.
  """

  weights: np.ndarray
  bias: float
  mean: np.ndarray
  scale: np.ndarray

  def failure(self, states: Float[np.ndarray, "n d"]) -> np.ndarray:
    """Probabilities f64[N] that answering at once fails."""
    features = (np.asarray(states, np.float64) - self.mean) / self.scale
    return scipy.special.expit(features @ self.weights + self.bias)


def fit(
  states: Float[np.ndarray, "n d"],
  failed: np.ndarray,
  penalty: float = 1e-3,
) -> Probe:
  """Fits the regression, by maximum likelihood with a ridge.

  Args:
    states: of the queries.
    failed: bool[N].
    penalty: on the squared weights, of the mean log-likelihood.

  Raises:
    ValueError: if shapes differ, a state is not finite, there are no both
      kinds of outcome, or the penalty is not positive.
  """
  states, failed = np.asarray(states, np.float64), np.asarray(failed, bool)
  if states.ndim != 2 or failed.shape != states.shape[:1]:
    raise ValueError(
      f"expected states[N, D] and failed[N], got {states.shape} and"
      f" {failed.shape}"
    )
  if not np.isfinite(states).all():
    raise ValueError("a state is not finite")
  if failed.all() or not failed.any():
    raise ValueError("expected failures and successes, got one kind")
  if not penalty > 0:
    raise ValueError(f"penalty is {penalty}; expected more than 0")
  mean, scale = states.mean(0), np.maximum(states.std(0), 1e-6)
  features = (states - mean) / scale
  sign = np.where(failed, 1.0, -1.0)

  def loss(theta):
    odds = sign * (features @ theta[1:] + theta[0])
    slope = -sign * scipy.special.expit(-odds) / len(sign)
    value = np.logaddexp(0, -odds).mean() + penalty * (theta[1:] ** 2).sum()
    return value, np.append(
      slope.sum(), features.T @ slope + 2 * penalty * theta[1:]
    )

  found = scipy.optimize.minimize(
    loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B"
  )
  return Probe(found.x[1:], float(found.x[0]), mean, scale)


class StateReader:
  """Last hidden states of a language model after texts.

  Attributes:
    policy: the model.
  """

  def __init__(self, policy: bundle_lib.Bundle):
    """A reader of a model's states."""
    self.policy = policy

    def last(params, ids, length):
      _, hidden = generation.prefill(policy.model, params, ids, length)
      return hidden[jnp.arange(len(length)), length - 1]

    self._last = jax.jit(last)

  def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """States f32[N, D] after the last token of each text.

    Raises:
      ValueError: if there are no texts.
    """
    if not texts:
      raise ValueError("expected at least one text")
    encode = self.policy.tokenizer.encode_prompt
    prompts = {
      i: engine_lib.Prompt(text=text, tokens=tuple(encode(text)))
      for i, text in enumerate(texts)
    }
    ids, length, _ = prompt_batch.padded_prompts(prompts, len(texts))
    states = self._last(self.policy.params, ids, length)
    return np.asarray(states)[: len(texts)]


class Gauge:
  """A probe with its model, priced: what programs ask for difficulties.

  Attributes:
    max_length: most tokens of a text.
    tariff: what reading a text costs: that of the model's prompts.
    metered: the fields of `Cost` that the tariff knows.
  """

  def __init__(self, states: StateReader, probe: Probe):
    """A gauge of a probe that was fitted to these states."""
    policy = states.policy
    self._states, self._probe = states, probe
    self.max_length = policy.config.max_length
    self.tariff, self.metered = local_prices.local_tariff(
      policy, None, "prompt"
    )

  def encode(self, text: str) -> tuple[int, ...]:
    """Token ids of a text."""
    return tuple(self._states.policy.tokenizer.encode_prompt(text))

  def measure(self, texts: Sequence[str]) -> list[float]:
    """Probabilities that answering at once fails, of texts read in one batch.

    Raises:
      ValueError: if there are no texts.
    """
    return self._probe.failure(self._states(texts)).tolist()
