# SPDX-License-Identifier: Apache-2.0
"""What arms did on questions: the table that budget policies are fitted to.

For each arm (a decoder with a cap), question and seed: whether the answer was
right, what it cost, and what the search showed of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
import numpy as np

from jaxttc.allocators.routing import rungs
from jaxttc.evaluation import looks
from jaxttc.solving import budget_policies, comparing, decoder_text
from jaxttc.tasks import routing as tasks

_TOKENS = "generated_tokens"
FIELDS = ("verifier_calls", "verifier_tokens", "flops")
"""What a budget may limit, besides generated tokens."""


class ArmTable(NamedTuple):
  """What arms did on questions.

  Attributes:
    arms: the K arms, those of one decoder side by side, by rising cap.
    questions: the N questions.
    right: f64[S, N, K], 1 where the answer was right, by seed.
    tokens: f64[S, N, K], generated tokens.
    seeds: the S seeds.
    costs: f64[S, N, K, F], other fields of the cost, those of `FIELDS`; None if
      they are not known.
    seen: f64[S, N, K, 4], what each search showed (`looks`); NaN where it was
      not kept. None if it never was.
  """

  arms: tuple[budget_policies.Arm, ...]
  questions: tuple[str, ...]
  right: Float[np.ndarray, "S N K"]
  tokens: Float[np.ndarray, "S N K"]
  seeds: tuple[int, ...]
  costs: Float[np.ndarray, "S N K F"] | None = None
  seen: Float[np.ndarray, "S N K 4"] | None = None

  def take(self, rows: Int[np.ndarray, " M"]) -> "ArmTable":
    """The table of some questions."""
    return self._replace(
      questions=tuple(self.questions[row] for row in rows),
      right=self.right[:, rows],
      tokens=self.tokens[:, rows],
      costs=None if self.costs is None else self.costs[:, rows],
      seen=None if self.seen is None else self.seen[:, rows],
    )

  def only(self, arms: Int[np.ndarray, " k"]) -> "ArmTable":
    """The table of some arms."""
    return self._replace(
      arms=tuple(self.arms[arm] for arm in arms),
      right=self.right[..., arms],
      tokens=self.tokens[..., arms],
      costs=None if self.costs is None else self.costs[:, :, arms],
      seen=None if self.seen is None else self.seen[:, :, arms],
    )

  def spent(self, field: str) -> Float[np.ndarray, "S N K"]:
    """What the searches took of one field of the cost.

    Raises:
      ValueError: if that is not known.
    """
    if field == _TOKENS:
      return self.tokens
    if self.costs is None or field not in FIELDS:
      raise ValueError(f"arm_table: it does not say what {field} was spent")
    return self.costs[..., FIELDS.index(field)]

  @property
  def caps(self) -> np.ndarray:
    """i64[K]."""
    return np.array([arm.cap for arm in self.arms])

  @property
  def groups(self) -> np.ndarray:
    """i64[K], equal for arms of one model and decoder; in order of the arms."""
    return budget_policies.search_groups(self.arms)

  @property
  def looked(self) -> Bool[np.ndarray, " K"]:
    """bool[K], the arms of which all searches say what they showed."""
    if self.seen is None:
      return np.zeros(len(self.arms), bool)
    return ~np.isnan(self.seen).any((0, 1, 3))


def joined(tables: Sequence[ArmTable]) -> ArmTable:
  """One table of the arms of several, which did the same questions and seeds.

  Raises:
    ValueError: if there are none, they are of different questions or seeds, or
      two have an arm in common.
  """
  if not tables:
    raise ValueError("arm_table: expected at least one table to join")
  first = tables[0]
  arms = [arm for table in tables for arm in table.arms]
  for table in tables:
    if (table.questions, table.seeds) != (first.questions, first.seeds):
      raise ValueError("arm_table: expected tables of one list of questions")
  if len(set(arms)) < len(arms):
    raise ValueError("arm_table: two tables have the same arm")

  def stack(parts):
    known = all(part is not None for part in parts)
    return np.concatenate(parts, 2) if known else None

  return first._replace(
    arms=tuple(arms),
    right=np.concatenate([table.right for table in tables], 2),
    tokens=np.concatenate([table.tokens for table in tables], 2),
    costs=stack([table.costs for table in tables]),
    seen=stack([table.seen for table in tables]),
  )


def arm_table(
  recipe: comparing.CompareRecipe,
  found: comparing.Comparison,
  model: str = "",
) -> ArmTable:
  """The table of a comparison's runs.

  Args:
    recipe: the comparison.
    found: what came of it.
    model: what the arms call its language model.

  Raises:
    ValueError: if the comparison has no runs.
  """
  methods = {method.label: method for method in recipe.chosen()}
  cells = {}
  for run in found.runs:
    text = decoder_text.written(methods[run.method].decoder, run.setting)
    arm = budget_policies.Arm(text, int(run.budget), model)
    cells[arm, run.seed] = (
      run.accuracy,
      run.cost[_TOKENS],
      np.stack([run.cost[name] for name in FIELDS], 1),
      np.stack([run.seen[name] for name in looks.FIELDS], 1),
    )
  if not cells:
    raise ValueError("arm_table: the comparison has no runs")
  order = list(dict.fromkeys(arm.decoder for arm, _ in cells))
  arms = sorted({arm for arm, _ in cells}, key=lambda a: (order.index(a[0]), a))

  def stack(part: int) -> np.ndarray:
    return np.array(
      [
        np.stack([cells[arm, seed][part] for arm in arms], 1)
        for seed in recipe.seeds
      ],
      np.float64,
    )

  questions = tuple(problem.text for problem in recipe.problems.load())
  return ArmTable(
    tuple(arms),
    questions,
    stack(0),
    stack(1),
    recipe.seeds,
    stack(2),
    stack(3),
  )


def best_single(
  table: ArmTable, budget: float | int, field: str = _TOKENS
) -> Float[np.ndarray, " N"]:
  """Expected scores by the best one model and decoder, in hindsight.

  It may draw its caps with any odds, and leave questions out, so that it spends
  the budget exactly: a baseline that is hard to beat.

  Args:
    table: what arms did.
    budget: mean of a question.
    field: of the cost that it limits.

  Raises:
    ValueError: as `ArmTable.spent`.
  """
  right = table.right.mean((0, 1))
  spent = np.maximum(table.spent(field).mean((0, 1)), 1e-9)
  odds = [
    rungs.mixture(right, spent, table.groups == group, budget)
    for group in np.unique(table.groups)
  ]
  return table.right.mean(0) @ max(odds, key=lambda one: float(one @ right))


def question_groups(questions: Sequence[str]) -> Int[np.ndarray, " N"]:
  """Near-duplicates, numbers counting as words: i64[N].

  Generated questions of a family differ in little but their numbers, which
  `tasks.routing.near_duplicate_groups` reads as one; here they are spelt with
  letters, so that only questions that share most numbers are near.
  """
  letters = str.maketrans("0123456789", "abcdefghij")
  return tasks.near_duplicate_groups(
    [question.translate(letters) for question in questions], threshold=0.5
  )
