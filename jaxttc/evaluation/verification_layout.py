# SPDX-License-Identifier: Apache-2.0
"""From published files to pools, and pools in one compact file.

Answers are taken from texts, put into classes by one named equivalence for
votes, and graded by another, which may be looser. A pool says which two.
"""

from collections.abc import Callable, Sequence
import os
import pathlib
import zipfile

import numpy as np

from jaxttc.evaluation import verification_pools
from jaxttc.tasks import verification_files
from jaxttc.verifiers import (
  answer_classes,
  answer_text,
  answers,
  quantities,
  verdicts,
)

EQUIVALENCES = ("string", "numeric", "symbolic")
_SOLUTIONS = ("ids", "answers", "correct", "tokens", "voting", "grading")


def solution_pool(
  files: Sequence[verification_files.SolutionFile],
  count_tokens: Callable[[str], int],
  *,
  voting: str = "string",
  grading: str = "symbolic",
) -> verification_pools.SolutionPool:
  """The pool of some problems' files.

  Args:
    files: one a problem, all with as many samples.
    count_tokens: tokens of a text, by the solver's tokenizer.
    voting: one of `EQUIVALENCES`: which answers are counted together.
    grading: which answers are right.

  Raises:
    ValueError: if there are no files, they hold different numbers of samples,
      or an equivalence is unknown.
  """
  for name in (voting, grading):
    if name not in EQUIVALENCES:
      raise ValueError(
        f"equivalence {name!r}, expected one of {', '.join(EQUIVALENCES)}"
      )
  if not files:
    raise ValueError("there are no solutions; expected at least one file")
  size = len(files[0].samples)
  for file in files:
    if len(file.samples) != size:
      raise ValueError(
        f"mixed pools: problem {file.id} has {len(file.samples)} samples, "
        f"problem {files[0].id} has {size}"
      )
  rows = [_graded(file, voting, grading) for file in files]
  return verification_pools.SolutionPool(
    ids=tuple(str(file.id) for file in files),
    answers=np.array([row[0] for row in rows]),
    correct=np.array([row[1] for row in rows]),
    tokens=np.array([[count_tokens(t) for t in f.samples] for f in files]),
    voting=voting,
    grading=grading,
  )


def _graded(file, voting: str, grading: str):
  """Classes and grades of one problem's samples; each answer graded once."""
  found = [answers.extract_answer(text) for text in file.samples]
  symbolic = answer_classes.AnswerClasses()
  names: dict[str, int] = {}
  grades: dict[str, bool] = {}
  classes, correct = [], []
  for answer in found:
    if answer is None:
      classes.append(-1)
      correct.append(False)
      continue
    if voting == "symbolic":
      classes.append(symbolic.class_id(answer))
    else:
      classes.append(names.setdefault(_key(answer, voting), len(names)))
    if answer not in grades:
      grades[answer] = _same(answer, file.gt_answer, grading)
    correct.append(grades[answer] and classes[-1] >= 0)
  return classes, correct


def _key(answer: str, how: str) -> str:
  if how == "numeric":
    quantity = quantities.read(answer_text.normal(answer))
    if quantity is not None:
      return str(quantity.value)
  return answer.strip()


def _same(answer: str, gold: str, how: str) -> bool:
  if how == "symbolic":
    return bool(answers.equivalent(answer, gold))
  return _key(answer, how) == _key(gold, how)


def verification_pool(
  files: Sequence[verification_files.VerificationFile],
  solutions: verification_pools.SolutionPool,
  count_tokens: Callable[[str], int],
  *,
  how: str = "hybrid",
) -> verification_pools.VerificationPool:
  """The pool of verifications of a pool's solutions.

  Args:
    files: one a solution; each problem's first m solutions, m alike, each with
      as many verifications.
    solutions: what they verify.
    count_tokens: tokens of a text, by the verifier's tokenizer.
    how: as `verdicts.score`.

  Raises:
    ValueError: if files are of other problems or solutions, or do not fill a
      box of problems, solutions and verifications.
  """
  if not files:
    raise ValueError("there are no verifications; expected at least one file")
  by_place = {(str(f.problem), f.solution): f for f in files}
  strange = {problem for problem, _ in by_place} - set(solutions.ids)
  if strange:
    raise ValueError(
      f"mixed pools: verifications of problem {min(strange)}, which has no "
      "solutions"
    )
  size = max(place for _, place in by_place) + 1
  most = len(files[0].verifications)
  if size > solutions.size:
    raise ValueError(
      f"mixed pools: a verification of solution {size - 1}, of "
      f"{solutions.size} solutions"
    )
  scores = np.full((len(solutions.ids), size, most), np.nan)
  tokens = np.zeros(scores.shape, int)
  for p, name in enumerate(solutions.ids):
    for j in range(size):
      file = by_place.get((name, j))
      if file is None or len(file.verifications) != most:
        count = 0 if file is None else len(file.verifications)
        raise ValueError(
          f"mixed pools: problem {name}, solution {j} has {count} "
          f"verifications, expected {most}"
        )
      for v, one in enumerate(file.verifications):
        got = verdicts.score(one.text, one.yes, one.no, how=how)
        scores[p, j, v] = np.nan if got is None else got
        tokens[p, j, v] = count_tokens(one.text)
  return verification_pools.VerificationPool(
    ids=solutions.ids, scores=scores, tokens=tokens
  )


def save(
  path: str | os.PathLike[str],
  solutions: verification_pools.SolutionPool,
  verified: verification_pools.VerificationPool | None = None,
) -> None:
  """Writes pools as one compressed .npz file."""
  arrays = {name: np.asarray(getattr(solutions, name)) for name in _SOLUTIONS}
  if verified is not None:
    arrays["scores"] = verified.scores
    arrays["verification_tokens"] = verified.tokens
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("wb") as file:
    np.savez_compressed(file, **arrays)


def load(
  path: str | os.PathLike[str],
) -> tuple[
  verification_pools.SolutionPool, verification_pools.VerificationPool | None
]:
  """Reads what `save` wrote.

  Raises:
    ValueError: naming the file, if it is missing, damaged or lacks an array.
  """
  try:
    with np.load(path) as file:
      arrays = dict(file)
    fields = {name: arrays[name] for name in _SOLUTIONS}
  except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path}: expected pools in .npz: {error}") from None
  ids = tuple(map(str, fields.pop("ids")))
  named = {name: str(fields.pop(name)) for name in ("voting", "grading")}
  pool = verification_pools.SolutionPool(ids=ids, **fields, **named)
  if "scores" not in arrays:
    return pool, None
  return pool, verification_pools.VerificationPool(
    ids=ids, scores=arrays["scores"], tokens=arrays["verification_tokens"]
  )
