# SPDX-License-Identifier: Apache-2.0
"""The planted subsequence: a task whose every quantity is known exactly.

A prompt x_1..x_k of symbols stands for a gold string g(x_1)..g(x_k) of tokens;
the map g is unknown to a learner. A trace is solved at the first token where
the gold string has appeared contiguously, and earns its reward in tokens: what
is left of the horizon then, the solving token included (bi-level reward).

A trace opens with a style, its first choice; style s then gives the gold token
that comes next gamma_s times the odds of any other token. Styles that differ
much make traces of one prompt earn very different rewards: a heterogeneous
base. All policies here read the state of the matcher (how much of the gold
string the last tokens spell), so a policy is a table, and its value follows
from an absorbing Markov chain (`planted_oracles`).

References:
  Setlur, Rajaraman, Levine and Kumar (2025), Scaling test-time compute without
    verification or RL is suboptimal, arXiv:2502.12118 (the didactic task).
  Knuth, Morris and Pratt (1977), Fast pattern matching in strings.
"""

from collections.abc import Sequence
import dataclasses
import math

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

_TESTED = 32  # prompts that values are averaged over, where they differ
_NEVER = -1e9  # logit of what is not chosen; finite, so 0 times it is 0


@flax.struct.dataclass
class Policy:
  """A table of logits.

  Attributes:
    opening: f32[S], of the style that a trace opens with.
    emission: f32[S, R, V], of the next token, by style and by the prompt symbol
      whose gold token would come next.
  """

  opening: jax.Array
  emission: jax.Array


@flax.struct.dataclass
class Instance:
  """One drawn task.

  Attributes:
    symbol_map: i32[R], token of each prompt symbol; no two are equal.
    base: the policy that training starts from.
    tested: i32[X, k], the prompts that values are averaged over.
    contextual: whether every trace has a prompt of its own; if not, all have
      symbols 0..k-1, and X is 1.
    longest: tokens of the longest trace.
  """

  symbol_map: jax.Array
  base: Policy
  tested: jax.Array
  contextual: bool = flax.struct.field(pytree_node=False)
  longest: int = flax.struct.field(pytree_node=False)

  @property
  def length(self) -> int:
    """Symbols k of a prompt."""
    return self.tested.shape[-1]

  def prompts(self, key: Key[Array, ""], count: int) -> Int[Array, "B k"]:
    """Draws prompts i32[count, k]; contextual ones may repeat symbols."""
    shape = (count, self.length)
    if not self.contextual:
      return jnp.broadcast_to(jnp.arange(self.length), shape)
    return jax.random.randint(key, shape, 0, len(self.symbol_map))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlantedSubsequence:
  """A family of tasks.

  Attributes:
    vocab: tokens V, at least 2.
    length: tokens k of the gold string.
    horizon: tokens of the longest trace, at least k.
    gammas: odds of each style for the next gold token, against any other.
    mixture: how often the base opens with each style; all equally if empty.
    contextual: whether prompts differ between traces.
    symbols: prompt symbols R, where contextual; otherwise R is k.

  Raises:
    ValueError: if a field is out of range, or the mixture no distribution.
  """

  vocab: int = 12
  length: int = 4
  horizon: int = 128
  gammas: tuple[float, ...] = (63.0,)
  mixture: tuple[float, ...] = ()
  contextual: bool = False
  symbols: int = 8

  def __post_init__(self) -> None:
    if self.vocab < 2:
      raise ValueError(f"vocab must be at least 2, got {self.vocab}")
    if not 1 <= self.length <= self.horizon:
      raise ValueError(
        f"length must lie in [1, horizon={self.horizon}], got {self.length}"
      )
    if not 1 <= self.rows <= self.vocab:
      raise ValueError(
        f"{self.rows} prompt symbols do not fit vocab={self.vocab}: every "
        "symbol needs a token of its own"
      )
    if not self.gammas or not all(0 < g < math.inf for g in self.gammas):
      raise ValueError(
        f"gammas must be finite and positive, at least one, got {self.gammas}"
      )
    if self.mixture:
      check_mixture(self.mixture, len(self.gammas))

  @property
  def rows(self) -> int:
    """Prompt symbols R."""
    return self.symbols if self.contextual else self.length

  @property
  def optimum(self) -> int:
    """The most that a trace can earn, in tokens."""
    return self.horizon - self.length + 1

  def draw(self, key: Key[Array, ""], styles: int | None = None) -> Instance:
    """Draws the map from symbols to tokens, and the prompts of tests.

    Args:
      key: random key; consumed.
      styles: pads styles to this number with ones that are never chosen, so
        that instances of several families can be stacked.

    Returns:
      The instance, with the base policy of this family.

    Raises:
      ValueError: if there are fewer `styles` than this family has.
    """
    count = len(self.gammas)
    styles = count if styles is None else styles
    if styles < count:
      raise ValueError(f"styles must be at least {count}, got {styles}")
    map_key, prompt_key = jax.random.split(key)
    tokens = jax.random.permutation(map_key, self.vocab)[: self.rows]
    padded = jnp.array(self.gammas + (1.0,) * (styles - count))
    gold = jax.nn.one_hot(tokens, self.vocab)
    emission = jnp.log(padded)[:, None, None] * gold[None]
    mixture = self.mixture or (1 / count,) * count
    logits = [math.log(p) if p > 0 else _NEVER for p in mixture]
    opening = jnp.array(logits + [_NEVER] * (styles - count))
    tested = jnp.arange(self.length)[None]
    if self.contextual:
      shape = (_TESTED, self.length)
      tested = jax.random.randint(prompt_key, shape, 0, self.rows)
    return Instance(
      tokens,
      Policy(opening, emission),
      tested,
      self.contextual,
      self.horizon,
    )


def check_mixture(mixture: Sequence[float], count: int) -> None:
  """Raises ValueError unless these are the weights of so many styles."""
  if len(mixture) != count:
    raise ValueError(f"mixture has {len(mixture)} weights for {count} styles")
  if min(mixture) < 0 or not math.isclose(sum(mixture), 1, abs_tol=1e-6):
    raise ValueError(
      f"mixture must be non-negative and sum to 1, got {tuple(mixture)}"
    )


def automaton(gold: Int[Array, " k"], vocab: int) -> Int[Array, "k V"]:
  """The matcher: state m means that the last m tokens spell gold[:m].

  Args:
    gold: i32[k], which may overlap itself.
    vocab: tokens V.

  Returns:
    i32[k, V], the state after each token; k is solved.
  """
  length = gold.shape[0]
  tokens = jnp.arange(vocab)
  states = []
  for m in range(length):
    state = jnp.zeros(vocab, jnp.int32)
    for j in range(1, m + 2):  # the longest that fits is written last
      fits = jnp.all(gold[: j - 1] == gold[m - j + 1 : m])
      state = jnp.where(fits & (tokens == gold[j - 1]), j, state)
    states.append(state)
  return jnp.stack(states)


def first_solved(
  tokens: Int[Array, "*B T"], gold: Int[Array, "*B k"]
) -> Int[Array, "*B"]:
  """The token, counted from 1, that completes the gold string; 0 if none.

  Args:
    tokens: i32[..., T], traces.
    gold: i32[..., k], the gold string of each.

  Raises:
    ValueError: if the gold string is longer than the traces.
  """
  length, steps = gold.shape[-1], tokens.shape[-1]
  if length > steps:
    raise ValueError(
      f"first_solved: gold has {length} tokens, traces only {steps}"
    )
  ends = steps - length + 1
  match = jnp.ones((*tokens.shape[:-1], ends), bool)
  for i in range(length):
    match &= tokens[..., i : i + ends] == gold[..., i : i + 1]
  first = jnp.argmax(match, -1).astype(jnp.int32) + length
  return jnp.where(match.any(-1), first, 0)


def bilevel_reward(
  solved: Int[Array, "*B"], horizon: Int[Array, ""] | int
) -> Float[Array, "*B"]:
  """Tokens from the solving one to the horizon; 0 where not solved in time.

  Args:
    solved: the solving token, counted from 1; 0 for never.
    horizon: tokens H of a trace.

  Returns:
    f32, in 0..H.
  """
  left = jnp.where(solved > 0, horizon - solved + 1, 0)
  return jnp.maximum(left, 0).astype(jnp.float32)
