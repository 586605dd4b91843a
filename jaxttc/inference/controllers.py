# SPDX-License-Identifier: Apache-2.0
"""Controllers: pure functions that bend a model's logits; and sampling.

A controller is three functions over a batch of rows (B rows, V tokens):

    init(batch, prompt)            -> state          at the start of the rows
    apply(state, logits, context)  -> logits         before a token is drawn
    commit(state, token, active)   -> token, state   after it was drawn

`apply` shapes the distribution of the next token. `commit` is shown what was
drawn and says what is written: most controllers only take note, a budget may
put another token in its place. One decode step is

    logits = controller.apply(state, logits, context)
    token, logprob = sample(keys, logits)
    token, state = controller.commit(state, token, active)

and it may sit in `jit`, `vmap`, `scan` or `while_loop`: shapes are static and
a state is a pytree of arrays. Every array in a state has the batch as its
leading axis, so `reset` and `fork` work on any controller.

`chain` composes. Filters act on the distribution that the ones before them
left, renormalised, in the usual order: repetition penalty, temperature, top-k,
top-p, min-p. A token that a filter drops has logit -inf. Filters return
float32 logits, unnormalised. A row with a NaN keeps it through every filter, so
that the draw can tell.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from jaxttc.inference import filters

State = Any  # a pytree of arrays, each with the batch as its leading axis


class Context(NamedTuple):
  """What `apply` may look at besides the logits.

  Attributes:
    hidden: f[B, N, D], the hidden states of all N layers at the row's last
      token (`Transformer.stacked`), for controllers that predict from them;
      None where no controller in the chain `reads_hidden`.
  """

  hidden: Float[Array, "b ..."] | None = None


_NO_CONTEXT = Context()


InitFn = Callable[..., State]  # (batch, prompt=None)
ApplyFn = Callable[..., Array]  # (state, logits, context=Context())
CommitFn = Callable[[State, Array, Array], tuple[Array, State]]


class Controller(NamedTuple):
  """A logit controller; see the module's docstring.

  Attributes:
    init: (batch, prompt=None) -> state of `batch` fresh rows. `prompt`
      i32[B, T] holds the rows' prompts, padded with -1 on either side; None
      stands for prompts that the controller need not know.
    apply: (state, logits f[B, V], context=Context()) -> logits f[B, V].
    commit: (state, token i32[B], active bool[B]) -> (token i32[B], state).
      Rows that are not active keep their token and their state. Token -1 is
      no token.
    reads_hidden: whether `apply` needs `Context.hidden`; the decoding loop
      then keeps the hidden states of all layers.
  """

  init: InitFn
  apply: ApplyFn
  commit: CommitFn
  reads_hidden: bool = False


def stateless(
  transform: Callable[[Float[Array, "b v"]], Float[Array, "b v"]],
) -> Controller:
  """A controller from a function of the logits alone.

  Args:
    transform: logits f[B, V] -> logits f[B, V].

  Returns:
    The controller; its state is empty and it writes what was drawn.
  """

  def init(batch: int, prompt: Int[Array, "b t"] | None = None) -> State:
    del batch, prompt
    return ()

  def apply(
    state: State, logits: Float[Array, "b v"], context: Context = _NO_CONTEXT
  ) -> Float[Array, "b v"]:
    del state, context
    return transform(logits)

  def commit(state: State, token: Array, active: Array) -> tuple[Array, State]:
    del active
    return token, state

  return Controller(init, apply, commit)


def identity() -> Controller:
  """The controller that changes nothing."""
  return stateless(lambda logits: logits)


def chain(*controllers: Controller) -> Controller:
  """Composes controllers, like nested brackets.

  Logits pass from the first to the last; drawn tokens from the last to the
  first. So the last controller has the last word on the distribution, the
  first word on what is written, and the ones before it take note of that.
  Controllers that force tokens belong at the end.

  Args:
    *controllers: any number; none gives the identity.

  Returns:
    The composition; its state is the tuple of their states.
  """

  def init(batch: int, prompt: Int[Array, "b t"] | None = None) -> State:
    return tuple(c.init(batch, prompt) for c in controllers)

  def apply(
    state: State, logits: Float[Array, "b v"], context: Context = _NO_CONTEXT
  ) -> Float[Array, "b v"]:
    for controller, inner in zip(controllers, state, strict=True):
      logits = controller.apply(inner, logits, context)
    return logits

  def commit(state: State, token: Array, active: Array) -> tuple[Array, State]:
    written = []
    for controller, inner in zip(
      reversed(controllers), reversed(state), strict=True
    ):
      token, inner = controller.commit(inner, token, active)
      written.append(inner)
    return token, tuple(reversed(written))

  reads_hidden = any(c.reads_hidden for c in controllers)
  return Controller(init, apply, commit, reads_hidden)


def reset(
  controller: Controller,
  state: State,
  rows: Bool[Array, " b"],
  prompt: Int[Array, "b t"] | None = None,
) -> State:
  """Starts some rows afresh, as when a finished row is given new work.

  What is particular to a row (its budget, say) lives in the state, so
  `controller` may be built anew from the new work's traced arrays: only its
  `init` is used, and only the named rows of it.

  Args:
    controller: whose `init` makes the new rows.
    state: the running state, of a controller of the same make.
    rows: bool[B], the rows to start.
    prompt: i32[B, T], the prompts of the new rows, as `init` takes them.

  Returns:
    The state with those rows new and the others as they were.
  """
  fresh = controller.init(rows.shape[0], prompt)

  def choose(new: Array, old: Array) -> Array:
    return jnp.where(rows.reshape((-1,) + (1,) * (old.ndim - 1)), new, old)

  return jax.tree.map(choose, fresh, state)


def fork(state: State, source: Int[Array, " n"]) -> State:
  """The state of N rows, of which row i continues row `source[i]`."""
  return jax.tree.map(lambda x: x[source], state)


def temperature(tau: float | int) -> Controller:
  """Divides the logits by `tau`.

  Args:
    tau: >= 0. At 0 only the most likely token is left, the lowest id on ties.

  Returns:
    The controller.

  Raises:
    ValueError: if `tau` is negative or not finite.
  """
  _require(0 <= tau < math.inf, "temperature", tau, "finite and >= 0")
  if tau == 0:
    return stateless(filters.keep_best)
  if tau == 1:
    return stateless(lambda logits: logits.astype(jnp.float32))

  return stateless(lambda logits: filters.cool(logits, tau))


def top_k(k: int) -> Controller:
  """Keeps the logits that are >= the k-th largest; ties with it are kept.

  Args:
    k: >= 1. With k >= V nothing is dropped.

  Returns:
    The controller.

  Raises:
    ValueError: if `k` is not an integer >= 1.
  """
  whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
  _require(whole and k >= 1, "top_k", k, "an integer >= 1")

  def keep(logits: Float[Array, "b v"]) -> Float[Array, "b v"]:
    if k >= logits.shape[-1]:
      return logits.astype(jnp.float32)
    return filters.keep_top_k(logits, k)

  return stateless(keep)


def top_p(p: float | int) -> Controller:
  """Keeps the smallest set of likeliest tokens with probability >= p.

  In order of falling probability (rising id on ties), a token is kept while
  the mass before it is < p (nucleus sampling, Holtzman et al. 2020). The
  likeliest token is always kept.

  Args:
    p: in (0, 1]; 1 drops nothing.

  Returns:
    The controller.

  Raises:
    ValueError: if `p` is outside (0, 1].
  """
  _require(0 < p <= 1, "top_p", p, "in (0, 1]")
  if p == 1:
    return stateless(lambda logits: logits.astype(jnp.float32))

  return stateless(lambda logits: filters.keep_top_p(logits, p))


def min_p(m: float | int) -> Controller:
  """Keeps tokens at least `m` times as likely as the likeliest.

  Source: Nguyen et al. 2024, min-p sampling.

  Args:
    m: in [0, 1]; 0 drops nothing.

  Returns:
    The controller.

  Raises:
    ValueError: if `m` is outside [0, 1].
  """
  _require(0 <= m <= 1, "min_p", m, "in [0, 1]")
  if m == 0:
    return stateless(lambda logits: logits.astype(jnp.float32))

  return stateless(lambda logits: filters.keep_min_p(logits, math.log(m)))


def repetition_penalty(penalty: float | int, vocab_size: int) -> Controller:
  """Makes tokens that have occurred less likely, once each.

  Positive logits of such tokens are divided by `penalty`, the others
  multiplied by it (Keskar et al. 2019, CTRL, section 4.1). Tokens of the
  prompt count where `init` was told the prompt.

  Args:
    penalty: > 0; above 1 discourages repetition, 1 does nothing.
    vocab_size: V; the state is bool[B, V].

  Returns:
    The controller. Its `apply` raises ValueError for logits of another V.

  Raises:
    ValueError: if `penalty` is not finite and > 0, or `vocab_size` < 1.
  """
  _require(
    0 < penalty < math.inf, "repetition_penalty", penalty, "finite and > 0"
  )
  _require(vocab_size >= 1, "vocab_size", vocab_size, ">= 1")

  def init(batch: int, prompt: Int[Array, "b t"] | None = None) -> State:
    seen = jnp.zeros((batch, vocab_size), bool)
    return seen if prompt is None else _mark(seen, prompt)

  def apply(
    state: State, logits: Float[Array, "b v"], context: Context = _NO_CONTEXT
  ) -> Float[Array, "b v"]:
    del context
    if logits.shape[-1] != vocab_size:
      raise ValueError(
        f"repetition_penalty: logits over {logits.shape[-1]} tokens; expected"
        f" vocab_size = {vocab_size}"
      )
    logits = logits.astype(jnp.float32)
    lowered = jnp.where(logits > 0, logits / penalty, logits * penalty)
    return jnp.where(state, lowered, logits)

  def commit(state: State, token: Array, active: Array) -> tuple[Array, State]:
    return token, _mark(state, jnp.where(active, token, -1)[:, None])

  return Controller(init, apply, commit)


def sample(
  keys: jax.Array,
  logits: Float[Array, "b v"],
) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
  """Draws one token a row from softmax(logits), by inversion.

  One uniform number a row picks a block of the vocabulary by cumulative mass,
  then a token in it: a tenth of the time of a Gumbel number a token. Each row
  has its own key, so what it draws does not depend on the rows it
  is batched with. A row from which nothing can be drawn, because a logit is
  NaN or +inf or all are -inf, gets token -1 and log probability -inf; see
  `check_tokens`.

  Args:
    keys: typed keys [B].
    logits: f[B, V], taken as float32.

  Returns:
    token i32[B], and its log probability f32[B], in nats, under `logits`.

  Raises:
    TypeError: if `keys` are not typed keys (`jax.random.key`).
    ValueError: if there is not one key a row.
  """
  if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
    raise TypeError(
      f"sample: keys of dtype {keys.dtype}; expected jax.random.key keys"
    )
  if keys.shape != logits.shape[:-1]:
    raise ValueError(
      f"sample: keys of shape {keys.shape} for logits of shape"
      f" {logits.shape}; expected one key a row"
    )
  logits = logits.astype(jnp.float32)
  uniform = jax.vmap(jax.random.uniform)(keys)
  return _chosen(logits, _invert(logits, uniform))


def _invert(
  logits: Float[Array, "b v"], uniform: Float[Array, " b"]
) -> Int[Array, " b"]:
  """The token at which the cumulative mass of a row passes `uniform`."""
  batch, size = logits.shape
  block = max(1, math.isqrt(size))
  mass = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
  mass = jnp.pad(mass, ((0, 0), (0, -size % block)))
  mass = mass.reshape(batch, -1, block)
  upto = jnp.cumsum(mass.sum(axis=-1), axis=-1)
  target = uniform * upto[:, -1]
  which = _first_above(upto, mass.sum(axis=-1), target)
  before = jnp.take_along_axis(upto, which[:, None] - 1, axis=1)[:, 0]
  target = target - jnp.where(which > 0, before, 0.0)
  inside = jnp.take_along_axis(mass, which[:, None, None], axis=1)[:, 0]
  return which * block + _first_above(
    jnp.cumsum(inside, axis=-1), inside, target
  )


def _first_above(
  upto: Float[Array, "b n"],
  mass: Float[Array, "b n"],
  target: Float[Array, " b"],
) -> Int[Array, " b"]:
  """First index with mass where `upto` exceeds `target`, else the last one."""
  size = upto.shape[-1]
  has_mass = mass > 0
  passed = has_mass & (upto > target[:, None])
  last = size - 1 - jnp.argmax(has_mass[:, ::-1], axis=-1)
  return jnp.where(passed.any(axis=-1), jnp.argmax(passed, axis=-1), last)


def greedy(
  logits: Float[Array, "b v"],
) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
  """The likeliest token of each row, the lowest id on ties.

  Args:
    logits: f[B, V].

  Returns:
    token i32[B] and log probability f32[B], as `sample` does: -1 and -inf
    for rows from which nothing can be drawn.
  """
  return _chosen(logits.astype(jnp.float32), jnp.argmax(logits, axis=-1))


def token_logprob(
  logits: Float[Array, "b v"],
  token: Int[Array, " b"],
) -> Float[Array, " b"]:
  """log softmax(logits) at `token` i32[B], f32[B] in nats; -inf at -1."""
  logits = logits.astype(jnp.float32)
  index = jnp.maximum(token, 0)[:, None]
  picked = jnp.take_along_axis(logits, index, axis=-1)[:, 0]
  logprob = picked - jax.nn.logsumexp(logits, axis=-1)
  return jnp.where(token >= 0, logprob, -jnp.inf)


def check_tokens(token: Int[np.ndarray | Array, " b"]) -> None:
  """Raises if a row could not draw a token; for the host, between segments.

  Args:
    token: i32[B], as `sample` or `greedy` returned it.

  Raises:
    ValueError: if any is -1, naming up to three of the rows.
  """
  rows = np.flatnonzero(np.asarray(token) < 0)
  if rows.size:
    named = ", ".join(map(str, rows[:3])) + (", ..." if rows.size > 3 else "")
    raise ValueError(
      f"no token could be drawn in {rows.size} rows ({named}): their logits"
      " have NaN or +inf, or are all masked"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
  """How tokens are drawn; the defaults draw from the model as it is.

  Attributes:
    temperature: >= 0; 0 is greedy.
    top_k: >= 1, or None for all.
    top_p: in (0, 1].
    min_p: in [0, 1].
    repetition_penalty: > 0.
  """

  temperature: float = 1.0
  top_k: int | None = None
  top_p: float = 1.0
  min_p: float = 0.0
  repetition_penalty: float = 1.0

  def validate(self) -> None:
    """Raises ValueError naming the first field that is out of range."""
    temperature(self.temperature)
    if self.top_k is not None:
      top_k(self.top_k)
    top_p(self.top_p)
    min_p(self.min_p)
    repetition_penalty(self.repetition_penalty, vocab_size=1)

  def controller(self, vocab_size: int | None = None) -> Controller:
    """The chain of what is asked for, and nothing else.

    Args:
      vocab_size: V; needed for a repetition penalty only.

    Returns:
      The controller.

    Raises:
      ValueError: if a field is out of range, or V is needed and missing.
    """
    self.validate()
    parts = []
    if self.repetition_penalty != 1:
      if vocab_size is None:
        raise ValueError("repetition_penalty needs vocab_size; got None")
      parts.append(repetition_penalty(self.repetition_penalty, vocab_size))
    parts.append(temperature(self.temperature))
    if self.temperature > 0:  # at 0 one token is left: nothing to filter
      parts += [top_k(self.top_k)] if self.top_k is not None else []
      parts += [top_p(self.top_p)] if self.top_p < 1 else []
      parts += [min_p(self.min_p)] if self.min_p > 0 else []
    return parts[0] if len(parts) == 1 else chain(*parts)

  def draw(
    self,
    keys: jax.Array,
    logits: Float[Array, "b v"],
  ) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
    """`sample`, or `greedy` at temperature 0, which spends no randomness.

    Args:
      keys: typed keys [B].
      logits: f[B, V], already controlled.

    Returns:
      token i32[B] and log probability f32[B]; see `sample`.
    """
    return greedy(logits) if self.temperature == 0 else sample(keys, logits)


def _mark(
  seen: Bool[Array, "b v"], tokens: Int[Array, "b t"]
) -> Bool[Array, "b v"]:
  """Sets the tokens' places; -1 would wrap around, so it is sent past V."""
  rows = jnp.arange(seen.shape[0])[:, None]
  index = jnp.where(tokens >= 0, tokens, seen.shape[1])
  return seen.at[rows, index].set(True, mode="drop")


def _chosen(
  logits: Float[Array, "b v"],
  token: Int[Array, " b"],
) -> tuple[Int[Array, " b"], Float[Array, " b"]]:
  """Puts -1 where the row is not a distribution; the maximum carries NaN."""
  valid = jnp.isfinite(logits.max(axis=-1))
  token = jnp.where(valid, token, -1).astype(jnp.int32)
  return token, token_logprob(logits, token)


def _require(holds: bool, name: str, value: Any, expected: str) -> None:
  if not holds:
    raise ValueError(f"{name} is {value!r}; expected {expected}")
