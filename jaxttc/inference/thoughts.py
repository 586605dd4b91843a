# SPDX-License-Identifier: Apache-2.0
"""Many questions thought about at once, each under its own budget.

One compiled program reads the prompts and decodes all rows to their ends; the
budgets are arrays that it is given, so one compilation serves a whole sweep of
them. Searches over partial solutions have the engine (`local_engine`) instead.
"""

from collections.abc import Callable, Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, generation, guidance, tree_cache
from jaxttc.models import transformer

# Budgets i32[B] of the rows to the controller they are decoded under.
Make = Callable[[Int[Array, " B"]], controllers.Controller]


class Thoughts(NamedTuple):
  """What B rows wrote.

  Attributes:
    tokens: i32[B, L], -1 beyond each row's end.
    length: i32[B], tokens written.
    spent: i32[B], tokens of the thinking span, its closing one included; all
      that was written if it never closed.
    closed: bool[B], whether the span was closed.
  """

  tokens: Int[np.ndarray, "B L"]
  length: Int[np.ndarray, " B"]
  spent: Int[np.ndarray, " B"]
  closed: Bool[np.ndarray, " B"]

  def texts(self, policy: bundle_lib.Bundle) -> list[str]:
    """The texts, special tokens written out."""
    return [
      policy.tokenizer.decode(row[:n].tolist(), specials=True)
      for row, n in zip(self.tokens, self.length, strict=True)
    ]


class Thinker:
  """A language model under one thinking policy.

  Attributes:
    policy: the language model; its tokenizer has a closing token.
    limit: most tokens a row may write, answer included.
    compilations: how often the program was compiled: once for each number of
      rows and power of two of prompt tokens.
  """

  def __init__(
    self,
    policy: bundle_lib.Bundle,
    make: Make,
    *,
    limit: int,
    sampler: controllers.Sampler | None = None,
  ) -> None:
    """Builds the program.

    Args:
      policy: the language model, on one device.
      make: budgets of the rows, traced, to their controller.
      limit: most tokens a row may write.
      sampler: how tokens are drawn, by default from the model as it is; its
        filters come before the controller.

    Raises:
      ValueError: for a limit below 1, a sampler that cannot be, or a model
        spread over devices.
    """
    bundle_lib.check_one_device(policy)
    if limit < 1:
      raise ValueError(f"limit is {limit}; expected at least 1")
    sampler = controllers.Sampler() if sampler is None else sampler
    sampler.validate()
    self.policy, self.limit, self.compilations = policy, limit, 0
    self._make, self._sampler = make, sampler
    self._run = jax.jit(self._traced)

  def __call__(
    self,
    prompts: Sequence[Sequence[int]],
    budgets: Num[np.ndarray, " _"],
    key: jax.Array,
  ) -> Thoughts:
    """Thinks about each prompt, and answers.

    Args:
      prompts: token ids, the span's opening token last.
      budgets: tokens of each row's span, closing one included.
      key: typed key; row i draws with `fold_in(key, i)`.

    Returns:
      What was written. A row's tokens depend on its own prompt, budget and
      place in the batch only.

    Raises:
      ValueError: for an empty prompt, one longer than the model takes, or
        budgets that are not one integer >= 1 a prompt.
    """
    longest = max(map(len, prompts), default=0)
    if not longest or min(map(len, prompts)) < 1:
      raise ValueError("an empty prompt; expected at least one token in each")
    if longest + self.limit > self.policy.config.max_length:
      raise ValueError(
        f"prompts of {longest} tokens and limit={self.limit} exceed the "
        f"model's {self.policy.config.max_length}"
      )
    guidance.check_budget(budgets)
    budgets = np.asarray(budgets, np.int32)
    if budgets.shape != (len(prompts),):
      raise ValueError(
        f"budgets of shape {budgets.shape} for {len(prompts)} prompts"
      )
    ids = np.zeros((len(prompts), generation.bucket(longest)), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
      row[: len(prompt)] = prompt
    lengths = np.array([len(p) for p in prompts], np.int32)
    out = self._run(self.policy.params, ids, lengths, budgets, key)
    tokens, length = jax.device_get(out)
    closing = tokens == self.policy.tokenizer.end_think_id
    closed = closing.any(axis=1)
    spent = np.where(closed, closing.argmax(axis=1) + 1, length)
    return Thoughts(tokens, length, spent, closed)

  def _traced(self, params, ids, lengths, budgets, key):
    self.compilations += 1
    policy, model, rows = self.policy, self.policy.model, len(ids)
    keys_values, _ = generation.prefill(model, params, ids, lengths - 1)
    cache = tree_cache.init(policy.config, rows, ids.shape[1], policy.dtype)
    cache = tree_cache.write_prompt(
      cache, keys_values, lengths - 1, jnp.arange(rows)
    )
    filters = self._sampler.controller(policy.config.vocab_size)
    controller = controllers.chain(filters, self._make(budgets))
    idle = generation.idle_rows(
      policy.config,
      rows,
      1,
      self.limit,
      ids.shape[1],
      controller,
      policy.dtype,
    )
    last = jnp.take_along_axis(ids, lengths[:, None] - 1, axis=1)
    ones = jnp.ones((rows, 1), jnp.int32)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(rows))
    requests = generation.Requests(
      node=0 * ones,
      token=last,
      position=lengths[:, None] - 1,
      until=generation.END * ones,
      limit=self.limit * ones,
      key=keys[:, None],
    )
    path = (cache.owner != tree_cache.FREE)[:, None]
    begun = generation.assign(idle, requests, path, controller, ids)
    done = generation.decode(
      model,
      params,
      cache,
      begun,
      policy.stop_rule,
      controller,
      self._sampler.draw,
      self.limit,
    )
    tokens = generation.span_tokens(done, self.limit)
    return tokens[:, 0], done.length[:, 0]


def next_token(
  policy: bundle_lib.Bundle, texts: Sequence[Sequence[int]]
) -> tuple[Float[np.ndarray, "B V"], Float[np.ndarray, "B N D"]]:
  """Logits after each text, and the hidden states of all layers there.

  Args:
    policy: the language model.
    texts: token ids.

  Raises:
    ValueError: for an empty text.
  """
  if not texts or min(map(len, texts)) < 1:
    raise ValueError("an empty text; expected at least one token in each")
  width = generation.bucket(max(map(len, texts)))
  ids = np.zeros((len(texts), width), np.int32)
  segments = np.zeros_like(ids)
  for row, text in enumerate(texts):
    ids[row, : len(text)], segments[row, : len(text)] = text, 1
  last = np.array([len(text) - 1 for text in texts])
  logits, hidden = _last_states(policy.model)(
    policy.params, ids, segments, last
  )
  return np.asarray(logits), np.asarray(hidden)


@functools.lru_cache(maxsize=4)
def _last_states(model: transformer.Transformer):
  @jax.jit
  def run(params, ids, segments, last):
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    stack = transformer.hidden_stack(model, params, ids, segments, positions)
    hidden = stack[jnp.arange(len(ids)), last]
    logits = model.apply({"params": params}, hidden[:, -1], method="logits")
    return logits, hidden

  return run
