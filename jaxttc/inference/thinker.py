# SPDX-License-Identifier: Apache-2.0
"""Many questions thought about at once, each under its own budget.

One compiled program reads the prompts and decodes all rows to their ends; the
budgets are arrays that it is given, so one compilation serves a whole sweep of
them. Searches over partial solutions have the engine (`local_engine`) instead.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import (
  controllers,
  generation,
  guidance,
  row_sampling,
  thinking_span,
  thoughts,
  tree_cache,
)

# Budgets i32[B] of the rows to the controller they are decoded under.
Make = Callable[[Int[Array, " B"]], controllers.Controller]
# (keys [B], logits f32[B, V]) to tokens i32[B] and log-probabilities f32[B].
Draw = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class _Written(NamedTuple):
  """What the program gives back, arrays of B rows; `logprobs` if asked for."""

  tokens: Array
  length: Array
  finished: Array
  cut: Array
  eased: Array
  guided: Array
  logprobs: Array | None


class Thinker:
  """A language model under one thinking policy.

  Attributes:
    policy: the language model.
    limit: most tokens a row may write, answer included.
    beside: 0; see `Think`.
    end: the token that closes its thinking.
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
    before: Make | None = None,
    thinks: bool = True,
    until: int = generation.END,
    draw: Draw | None = None,
  ) -> None:
    """Builds the program.

    Args:
      policy: the language model, on one device.
      make: budgets of the rows, traced, to their controller, which comes
        behind the sampler's filters.
      limit: most tokens a row may write.
      sampler: how tokens are drawn, by default from the model as it is.
      before: likewise to a controller that comes before the filters; None for
        none.
      thinks: whether the rows begin inside their span.
      until: how far a row writes: `generation.STEP` or `generation.END`.
      draw: draws tokens in place of the sampler's own draw.

    Raises:
      ValueError: for a limit below 1, a sampler that cannot be, a model without
        a closing token, or one spread over devices.
    """
    bundle_lib.check_one_device(policy)
    if limit < 1:
      raise ValueError(f"limit is {limit}; expected at least 1")
    sampler = controllers.Sampler() if sampler is None else sampler
    sampler.validate()
    self.policy, self.limit, self.compilations = policy, limit, 0
    self.beside = 0
    self.end = thinking_span.end_id(policy.tokenizer)
    self._make, self._before, self._thinks = make, before, thinks
    self._sampler, self._until, self._draw = sampler, until, draw
    self._run = jax.jit(self._traced, static_argnames="scored")

  def __call__(
    self,
    prompts: Sequence[Sequence[int]],
    budgets: Num[np.ndarray, " _"],
    key: jax.Array,
    *,
    limits: Int[np.ndarray, " _"] | None = None,
    sampling: row_sampling.RowSampling | None = None,
  ) -> thoughts.Thoughts:
    """Thinks about each prompt, and answers.

    Args:
      prompts: token ids, the span's opening token last.
      budgets: tokens of each row's span, closing one included.
      key: typed key, of which row i draws with `fold_in(key, i)`; or one key a
        row.
      limits: most tokens of each row, 1 to the thinker's limit; its limit if
        None.
      sampling: how each row's tokens are drawn, in place of the sampler.

    Returns:
      What was written. A row's tokens depend on its own prompt, budget and key
      only.

    Raises:
      ValueError: for an empty prompt, one longer than the model takes, limits
        out of range, or budgets that are not one integer >= 1 a prompt.
    """
    found = self._written(prompts, budgets, key, limits, sampling)
    tokens, length = found.tokens, found.length
    closing = tokens == self.end
    closed = closing.any(axis=1)
    spent = np.where(closed, closing.argmax(axis=1) + 1, length)
    if not self._thinks:
      closed, spent = closed | True, 0 * spent
    endings = (x.tolist() for x in (closed, found.cut, found.eased))
    read = np.array([len(p) for p in prompts], np.int32)
    return thoughts.Thoughts(
      tokens=tokens,
      length=length,
      spent=spent,
      closed=closed,
      finish=tuple(map(self._finish, *endings)),
      finished=found.finished,
      overhead=0 * length,
      runs=1 + 0 * length,
      read=read,
      attended=thoughts.attended(read + length - 1),
      guided=found.guided,
    )

  def most(self, prompt: int, limit: int | None = None) -> thoughts.Work:
    """The most that a row can take; see `thoughts.Think`."""
    limit = self.limit if limit is None else limit
    return thoughts.Work(
      runs=1,
      read=prompt,
      sampled=limit,
      attended=thoughts.attended(prompt + limit - 1),
      guided=limit,
    )

  def scores(
    self, prompts: Sequence[Sequence[int]], key: jax.Array
  ) -> tuple[Int[np.ndarray, "B L"], Float[np.ndarray, "B L"]]:
    """Tokens written after each prompt, without a budget, and their
    log-probabilities as they were drawn; -1 and 0 beyond each row's end.

    Raises:
      ValueError: as a call.
    """
    unlimited = np.full(len(prompts), self.limit, np.int32)
    found = self._written(prompts, unlimited, key, None, None, scored=True)
    assert found.logprobs is not None
    return found.tokens, found.logprobs

  def _finish(self, closed: bool, cut: bool, eased: bool) -> str:
    if not self._thinks:
      return "disabled"
    if not closed:
      return "unfinished"
    return "forced" if cut else "soft" if eased else "natural"

  def _written(
    self, prompts, budgets, key, limits, sampling, scored=False
  ) -> _Written:
    rows, longest = len(prompts), max(map(len, prompts), default=0)
    if not longest or min(map(len, prompts)) < 1:
      raise ValueError("an empty prompt; expected at least one token in each")
    if limits is None:
      limits = np.full(rows, self.limit)
    limits = np.asarray(limits, np.int32)
    if (
      limits.shape != (rows,)
      or not ((1 <= limits) & (limits <= self.limit)).all()
    ):
      raise ValueError(
        f"limits are {limits}; expected one in 1..{self.limit} a prompt"
      )
    lengths = np.array([len(p) for p in prompts], np.int32)
    most = int((lengths + limits).max())
    if most > self.policy.config.max_length:
      raise ValueError(
        f"prompts of {longest} tokens and limit={limits.max()} exceed the "
        f"model's {self.policy.config.max_length}"
      )
    guidance.check_budget(budgets)
    budgets = np.asarray(budgets, np.int32)
    if budgets.shape != (rows,):
      raise ValueError(f"budgets of shape {budgets.shape} for {rows} prompts")
    ids = np.zeros((rows, generation.bucket(longest)), np.int32)
    for row, prompt in zip(ids, prompts, strict=True):
      row[: len(prompt)] = prompt
    key = thoughts.row_keys(key, rows)
    return jax.device_get(
      self._run(
        self.policy.params,
        ids,
        lengths,
        budgets,
        limits,
        key,
        sampling,
        scored=scored,
      )
    )

  def _traced(
    self, params, ids, lengths, budgets, limits, keys, sampling, *, scored
  ):
    self.compilations += 1
    policy, model, rows = self.policy, self.policy.model, len(ids)
    keys_values, _ = generation.prefill(model, params, ids, lengths - 1)
    cache = tree_cache.init(policy.config, rows, ids.shape[1], policy.dtype)
    cache = tree_cache.write_prompt(
      cache, keys_values, lengths - 1, jnp.arange(rows)
    )
    controller, draw = self._controlled(budgets, sampling)
    idle = generation.idle_rows(
      policy.config,
      rows,
      1,
      self.limit,
      ids.shape[1],
      controller,
      policy.dtype,
      keep_logprobs=scored,
    )
    last = jnp.take_along_axis(ids, lengths[:, None] - 1, axis=1)
    ones = jnp.ones((rows, 1), jnp.int32)
    requests = generation.Requests(
      node=0 * ones,
      token=last,
      position=lengths[:, None] - 1,
      until=self._until * ones,
      limit=limits[:, None],
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
      draw,
      self.limit,
    )
    logprobs = None
    if scored:
      logprobs = generation.span_logprobs(done, self.limit)[:, 0]
    return _Written(
      tokens=generation.span_tokens(done, self.limit)[:, 0],
      length=done.length[:, 0],
      finished=done.finished[:, 0],
      cut=_noted(done.control, "cut", rows).astype(bool),
      eased=_noted(done.control, "eased", rows).astype(bool),
      guided=_noted(done.control, "guided", rows),
      logprobs=logprobs,
    )

  def _controlled(self, budgets, sampling):
    """The chain of controllers, and how their distribution is drawn from."""
    if sampling is None:
      filters = self._sampler.controller(self.policy.config.vocab_size)
      draw = self._sampler.draw
    else:
      filters = row_sampling.controller(sampling)
      draw = controllers.sample
    parts = [filters, self._make(budgets)]
    if self._before is not None:
      parts.insert(0, self._before(budgets))
    return controllers.chain(*parts), self._draw or draw


def _noted(state: Any, name: str, rows: int) -> Int[Array, " B"]:
  """What the controllers of a chain noted under a name, all together."""
  known = lambda part: hasattr(part, name)  # noqa: E731
  parts = filter(known, jax.tree.leaves(state, is_leaf=known))
  total = jnp.zeros(rows, jnp.int32)
  for part in parts:
    total = total + getattr(part, name)
  return total
