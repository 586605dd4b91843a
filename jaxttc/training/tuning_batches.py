# SPDX-License-Identifier: Apache-2.0
"""Batches of demonstrations, packed, and of preference pairs, a row an answer.

Both are pure functions of the step: a resumed run sees the same data. Every
example is seen once an epoch.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

from jaxtyping import Float, Int
import numpy as np

from jaxttc.training import packing


class PairBatch(NamedTuple):
  """Pairs, chosen answer first.

  Attributes:
    tokens: i32[B, 2, T], prompt and answer; 0 where padded.
    targets: i32[B, 2, T], the token that follows each; 0 where none.
    mask: f32[B, 2, T], 1 where the target is the answer's.
    lengths: i32[B, 2], tokens of prompt and answer.
    reference: f32[B, 2], sums of the answers' log-probabilities under the
      reference; NaN if there is none.
  """

  tokens: Int[np.ndarray, "B 2 T"]
  targets: Int[np.ndarray, "B 2 T"]
  mask: Float[np.ndarray, "B 2 T"]
  lengths: Int[np.ndarray, "B 2"]
  reference: Float[np.ndarray, "B 2"]


class TokenPair(NamedTuple):
  """A pair before it is batched.

  Attributes:
    chosen: prompt and better answer; the weights say which is which.
    rejected: prompt and worse answer.
  """

  chosen: packing.Example
  rejected: packing.Example


class JudgedBatch(NamedTuple):
  """Pairs whose answers are judged for themselves.

  Attributes:
    pairs: the pairs.
    mismatched: the same prompts with answers to others.
  """

  pairs: PairBatch
  mismatched: PairBatch


def tokenised(
  tokenizer: Any,
  prompt: str,
  completion: str,
  length: int,
  longest_prompt: int,
) -> packing.Example:
  """A prompt and its completion as tokens; only the completion's are targets.

  They are made into tokens apart, so no token lies across the border. A prompt
  that is too long loses its beginning, a completion its end; then there is no
  end token, which would teach to stop there.

  Args:
    tokenizer: of the model.
    prompt: text.
    completion: text.
    length: most tokens of both.
    longest_prompt: most tokens of the prompt, below `length`.

  Raises:
    ValueError: if nothing of the completion is left.
  """
  head = tokenizer.encode_prompt(prompt)
  if len(head) > longest_prompt:
    # What opens a text stays; what the model is asked stands at the end.
    opening = head[:1] if head[0] == tokenizer.bos_id else []
    head = opening + head[len(head) - longest_prompt + len(opening) :]
  tail = [*tokenizer.encode(completion), tokenizer.eos_id][: length - len(head)]
  if not tail:
    raise ValueError("nothing of the completion is left after truncation")
  return packing.Example(
    tokens=head + tail, weights=[0.0] * len(head) + [1.0] * len(tail)
  )


def demonstration_batches(
  examples: Sequence[packing.Example], rows: int, length: int, seed: int
) -> Callable[[int], packing.Packed]:
  """Packed batches; which examples share a row is settled once.

  Rows are shuffled anew each epoch. The last batch of an epoch may have empty
  rows.

  Args:
    examples: none longer than `length`.
    rows: a batch, B.
    length: tokens a row, T.
    seed: of the shuffling.

  Returns:
    batch(step) -> `packing.Packed`; its `steps_an_epoch` says how many batches
    see every example once.

  Raises:
    ValueError: if there is no example, or one is too long.
  """
  if not examples:
    raise ValueError("there are no demonstrations")
  plan = packing.plan_rows([len(e.tokens) for e in examples], length)
  steps = -(-len(plan) // rows)
  order = _orders(len(plan), seed)

  def batch(step: int) -> packing.Packed:
    epoch, within = divmod(step, steps)
    chosen = order(epoch)[within * rows : (within + 1) * rows]
    groups = [[examples[i] for i in plan[row]] for row in chosen]
    return packing.pack_rows(groups, rows, length)

  batch.steps_an_epoch = steps
  return batch


def pair_batches(
  pairs: Sequence[TokenPair],
  reference: Float[np.ndarray, "N 2"] | None,
  rows: int,
  length: int,
  seed: int,
) -> Callable[[int], PairBatch]:
  """Batches of pairs, shuffled anew each epoch; epochs follow without a gap.

  Args:
    pairs: N of them.
    reference: sums of the answers' log-probabilities, chosen first; None if the
      loss needs none.
    rows: pairs a batch, B.
    length: tokens an answer's row, T.
    seed: of the shuffling.

  Raises:
    ValueError: if there is no pair, or an answer is too long.
  """
  if not pairs:
    raise ValueError("there are no pairs")
  order = _orders(len(pairs), seed)

  def batch(step: int) -> PairBatch:
    places = range(step * rows, (step + 1) * rows)
    chosen = [order(i // len(pairs))[i % len(pairs)] for i in places]
    return lay_pairs([pairs[i] for i in chosen], length)._replace(
      reference=(
        np.full((rows, 2), np.nan, np.float32)
        if reference is None
        else reference[chosen].astype(np.float32)
      )
    )

  return batch


def mismatched(pairs: Sequence[TokenPair], length: int) -> list[TokenPair]:
  """Each prompt with the answers of the next pair whose prompt is another.

  Args:
    pairs: N of them.
    length: most tokens of a prompt with an answer; answers lose their ends.

  Raises:
    ValueError: if all pairs have one prompt.
  """
  prompts = [_prompt(pair.chosen) for pair in pairs]
  if len({tuple(prompt) for prompt in prompts}) < 2:
    raise ValueError(
      "all pairs have one prompt; expected answers to others, which tell how "
      "far the policy is from its reference"
    )
  found = []
  for i, prompt in enumerate(prompts):
    places = ((i + k) % len(pairs) for k in range(1, len(pairs)))
    other = pairs[next(j for j in places if prompts[j] != prompt)]
    sides = []
    for side in other:
      answer = side.tokens[len(_prompt(side)) :][: length - len(prompt)]
      sides.append(
        packing.Example(
          tokens=prompt + answer,
          weights=[0.0] * len(prompt) + [1.0] * len(answer),
        )
      )
    found.append(TokenPair(*sides))
  return found


def _prompt(example: packing.Example) -> list[int]:
  """The tokens before those that are learnt."""
  return example.tokens[: sum(w == 0 for w in example.weights)]


def lay_pairs(pairs: Sequence[TokenPair], length: int) -> PairBatch:
  """Pairs as arrays, without a reference.

  Raises:
    ValueError: if an answer's row is longer than `length`.
  """
  sides = [
    packing.pack_rows([[p[i]] for p in pairs], len(pairs), length)
    for i in (0, 1)
  ]
  stacked = [np.stack(x, axis=1) for x in zip(*sides, strict=True)]
  packed = packing.Packed(*stacked)
  return PairBatch(
    tokens=packed.tokens,
    targets=packed.targets,
    mask=packed.weights,
    lengths=(packed.segments > 0).sum(-1).astype(np.int32),
    reference=np.full(packed.tokens.shape[:2], np.nan, np.float32),
  )


def _orders(count: int, seed: int) -> Callable[[int], np.ndarray]:
  """epoch -> a permutation; the last few are kept."""

  @functools.lru_cache(maxsize=2)
  def order(epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)

  return order
