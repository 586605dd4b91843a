# SPDX-License-Identifier: Apache-2.0
"""Independent samples of a policy, scored step by step.

What a reward model can tell, and what voting and choosing among k samples
come to, is a matter of the policy's own samples, before any search has picked
among them. One run of parallel samples without a budget answers both.
"""

from collections.abc import Callable, Sequence
import dataclasses

import numpy as np
import scipy.stats

from jaxttc.evaluation import estimators, statistics
from jaxttc.runtime import search as search_lib
from jaxttc.solving import problem_sets
from jaxttc.tasks import arithmetic
from jaxttc.tasks import problems as problems_lib


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
  """n samples of each of P problems, flattened.

  Attributes:
    drawn: n, samples a problem, unusable ones included.
    problem: i32[M], of each whole solution.
    answer: i32[M], class of its answer within its problem; -1 for none.
    correct: bool[M].
    reward: f32[M], of the whole solution.
    step_problem: i32[S], of each step.
    step_reward: f32[S], of the prefix ending with it.
    step_right: bool[S], whether that prefix is right. No steps where the
      problems' families cannot tell.
    count: P, problems.
  """

  drawn: int
  problem: np.ndarray
  answer: np.ndarray
  correct: np.ndarray
  reward: np.ndarray
  step_problem: np.ndarray
  step_reward: np.ndarray
  step_right: np.ndarray
  count: int


def collect(
  problems: Sequence[problems_lib.Problem],
  results: Sequence[search_lib.SearchResult],
  drawn: int,
) -> Samples:
  """Grades the samples in some search trees.

  Args:
    problems: labelled problems.
    results: a search each, of independent samples (e.g. dvts with one
      expansion a step).
    drawn: samples a problem.
  """
  solutions, steps = [], []
  for i, (problem, result) in enumerate(zip(problems, results, strict=True)):
    tree, classes = result.tree, {}
    for node in tree.finished():
      text = tree.completion(node)
      answer = problem_sets.answer_of(problem, text)
      label = -1 if answer is None else classes.setdefault(answer, len(classes))
      right = bool(problem_sets.is_right(problem, text))
      solutions.append((i, label, right, tree.reward[node]))
    if problem.family in arithmetic.FAMILIES:
      steps += [
        (i, tree.reward[node], right)
        for node, right in problem_sets.step_labels(problem, tree)
      ]
  columns = list(zip(*solutions, strict=True)) or [(), (), (), ()]
  step_columns = list(zip(*steps, strict=True)) or [(), (), ()]
  return Samples(
    drawn=drawn,
    problem=np.array(columns[0], np.int32),
    answer=np.array(columns[1], np.int32),
    correct=np.array(columns[2], bool),
    reward=np.array(columns[3], np.float32),
    step_problem=np.array(step_columns[0], np.int32),
    step_reward=np.array(step_columns[1], np.float32),
    step_right=np.array(step_columns[2], bool),
    count=len(problems),
  )


def step_auc(rewards: np.ndarray, labels: np.ndarray) -> float:
  """Probability that a right prefix has more reward than a wrong one.

  The area under the ROC curve, by ranks (Mann and Whitney 1947); ties count
  one half.

  Args:
    rewards: f[S].
    labels: bool[S], right or wrong.

  Returns:
    The area, in [0, 1].

  Raises:
    ValueError: if the shapes differ, a reward is NaN, or all labels agree.
  """
  rewards, labels = np.asarray(rewards, np.float64), np.asarray(labels, bool)
  if rewards.ndim != 1 or rewards.shape != labels.shape:
    raise ValueError(
      f"step_auc: expected rewards[S] and labels[S], got {rewards.shape} and "
      f"{labels.shape}"
    )
  if np.isnan(rewards).any():
    raise ValueError("step_auc: rewards must not be NaN")
  right = int(labels.sum())
  wrong = labels.size - right
  if not right or not wrong:
    raise ValueError(
      "step_auc: expected right and wrong prefixes, got one kind"
    )
  ranks = scipy.stats.rankdata(rewards)[labels].sum()
  return float((ranks - right * (right + 1) / 2) / (right * wrong))


def auc_interval(
  samples: Samples, *, resamples: int = 200, level: float = 0.95, seed: int = 0
) -> statistics.Interval | None:
  """`step_auc` of a policy's samples; problems are resampled.

  Returns:
    The area and its interval; None if all steps are right, or all wrong.
  """
  labels = samples.step_right
  if not labels.any() or labels.all():
    return None
  value = step_auc(samples.step_reward, labels)
  by_problem = [
    np.flatnonzero(samples.step_problem == i) for i in range(samples.count)
  ]
  rng = np.random.default_rng(seed)
  counts = statistics.resample_counts(samples.count, resamples, rng)
  draws = []
  for row in counts:
    rows = [np.tile(by_problem[i], n) for i, n in enumerate(row) if n]
    index = np.concatenate(rows)
    mixed = labels[index].any() and not labels[index].all()
    draws.append(
      step_auc(samples.step_reward[index], labels[index]) if mixed else np.nan
    )
  return statistics.percentile_interval(value, draws, level)


def curves(
  samples: Samples, *, level: float = 0.95, seed: int = 0
) -> list[dict[str, object]]:
  """Unbiased pass@k, maj@k and best-of-k of a policy's samples.

  Returns:
    Rows of estimator, k (powers of two up to n), value, low and high. Samples
    without a solution are drawn and count as wrong.
  """
  rows = []
  for k in [2**i for i in range(samples.drawn.bit_length())]:
    for name, estimator in _ESTIMATORS.items():
      values = [
        estimator(samples, samples.problem == i, k)
        for i in range(samples.count)
      ]
      rng = np.random.default_rng(seed)
      interval = statistics.bootstrap(values, level=level, rng=rng)
      rows.append({"estimator": name, "k": k, **interval._asdict()})
  return rows


def _pass(samples: Samples, own: np.ndarray, k: int) -> float:
  return estimators.pass_at_k(samples.drawn, int(samples.correct[own].sum()), k)


def _majority(samples: Samples, own: np.ndarray, k: int) -> float:
  counted = estimators.class_counts(samples.answer[own], samples.correct[own])
  unfinished = samples.drawn - int(own.sum())
  return estimators.maj_at_k(
    counted.counts, counted.correct, k, counted.abstained + unfinished
  )


def _best(samples: Samples, own: np.ndarray, k: int) -> float:
  unfinished = samples.drawn - int(own.sum())
  scores = np.append(samples.reward[own], np.full(unfinished, -np.inf))
  correct = np.append(samples.correct[own], np.zeros(unfinished, bool))
  return estimators.best_of_n_at_k(scores, correct, k)


_Estimator = Callable[[Samples, np.ndarray, int], float]
_ESTIMATORS: dict[str, _Estimator] = {
  "pass": _pass,
  "majority": _majority,
  "best_of_n": _best,
}
