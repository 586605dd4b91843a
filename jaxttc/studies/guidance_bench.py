# SPDX-License-Identifier: Apache-2.0
"""Sums of digits put to a thinker under a policy, and judged."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, thinking_policies, thoughts
from jaxttc.inference import thinker as thinker_lib
from jaxttc.studies import guidance_checks
from jaxttc.tasks import digit_sums
from jaxttc.tasks import problems as problems_lib


class Tally(NamedTuple):
  """What came of B questions.

  Attributes:
    right: bool[B], the answer is.
    spent: i32[B], tokens of the span.
    lines: i32[B], whole lines written.
    concise: i32[B], concise ones of them.
    early: bool[B], closed by itself with lines missing.
    cut: bool[B], closed at its budget with lines missing.
  """

  right: Bool[np.ndarray, " B"]
  spent: Int[np.ndarray, " B"]
  lines: Int[np.ndarray, " B"]
  concise: Int[np.ndarray, " B"]
  early: Bool[np.ndarray, " B"]
  cut: Bool[np.ndarray, " B"]

  @property
  def concise_share(self) -> float:
    """Share of concise lines among whole ones."""
    return float(self.concise.sum() / max(self.lines.sum(), 1))


class Bench:
  """Asks questions under policies; programs are compiled once a policy."""

  def __init__(self, policy: bundle_lib.Bundle, limit: int, min_p: float = 0.0):
    """Readies a model whose vocabulary is `tasks.tokenizer`'s.

    Args:
      policy: the language model.
      limit: most tokens a row may write.
      min_p: tokens less likely than this share of the likeliest one are never
        drawn, under any policy.
    """
    self.policy, self.limit = policy, limit
    self._sampler = controllers.Sampler(min_p=min_p)
    self._thinkers: dict[int, tuple[Any, thinker_lib.Thinker]] = {}

  def prompts(
    self,
    items: Sequence[problems_lib.Problem],
    policy: thinking_policies.ThinkingPolicy,
  ) -> list[list[int]]:
    """Token ids of each question as the policy has it put."""
    mode = "think" if policy.thinks else "at_once"
    return [
      [
        self.policy.tokenizer.bos_id,
        *self.policy.tokenizer.encode(
          digit_sums.prompt(item, policy.style, mode), specials=True
        ),
      ]
      for item in items
    ]

  def ask(
    self,
    items: Sequence[problems_lib.Problem],
    policy: thinking_policies.ThinkingPolicy,
    budgets: Int[np.ndarray, " B"],
    seed: int,
  ) -> Tally:
    """Asks each question once."""
    found = self.think(items, policy, budgets, seed)
    return tally(items, found.texts(self.policy), found.spent, budgets, policy)

  def confidence(
    self, items: Sequence[problems_lib.Problem]
  ) -> thinking_policies.Confidence:
    """A probe of whether an answer would be right, fitted on questions."""
    full = thinking_policies.full()
    unlimited = np.full(len(items), self.limit, np.int32)
    traces = self.think(items, full, unlimited, 3_000).texts(self.policy)
    weights, bias = guidance_checks.fit_confidence(
      self.policy, items, self.prompts(items, full), traces
    )
    return thinking_policies.linear_confidence(
      jnp.asarray(weights, jnp.float32), bias
    )

  def think(
    self,
    items: Sequence[problems_lib.Problem],
    policy: thinking_policies.ThinkingPolicy,
    budgets: Int[np.ndarray, " B"],
    seed: int,
  ) -> thoughts.Thoughts:
    """What is written for each question."""
    if id(policy) not in self._thinkers:
      made = policy.thinker(
        self.policy, limit=self.limit, sampler=self._sampler
      )
      self._thinkers[id(policy)] = policy, made
    thinker = self._thinkers[id(policy)][1]
    return thinker(self.prompts(items, policy), budgets, jax.random.key(seed))


def tally(
  items: Sequence[problems_lib.Problem],
  texts: Sequence[str],
  spent: Int[np.ndarray, " B"],
  budgets: Int[np.ndarray, " B"],
  policy: thinking_policies.ThinkingPolicy,
) -> Tally:
  """Judges what was written for each question."""
  rows = []
  for item, text, used, budget in zip(
    items, texts, spent, budgets, strict=True
  ):
    thought = text.split(digit_sums.END_THINK)[0] if policy.thinks else ""
    lines = thought.split("\n")[:-1]
    missing = policy.thinks and len(lines) < item.steps
    rows.append(
      (
        digit_sums.is_correct(item, text),
        used if policy.thinks else 0,
        len(lines),
        sum(map(digit_sums.is_concise, lines)),
        missing and used < budget,
        missing and used >= budget,
      )
    )
  return Tally(*map(np.array, zip(*rows, strict=True)))
