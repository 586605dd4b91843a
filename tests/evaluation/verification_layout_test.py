# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from jaxttc.evaluation import verification_layout as layout
from jaxttc.tasks import verification_files as files

_SAMPLES = (
  "So half. The final answer is 0.5. I hope it is correct.",
  r"So \boxed{\frac{1}{2}}.",
  "The final answer is 2. I hope it is correct.",
  "I give up",
)


def _file(number=4, samples=_SAMPLES):
  return files.SolutionFile(
    id=number,
    prompt="p",
    question="q",
    samples=samples,
    gt_answer="1/2",
  )


def _verifications(problem=4, texts=("#### yes", "hm")):
  rows = (
    files.Verification(text=texts[0], yes=0.0),
    files.Verification(text=texts[1]),
  )
  return [
    files.VerificationFile(
      problem=problem, solution=j, prompt="v", verifications=rows
    )
    for j in range(4)
  ]


def _count(text):
  return len(text.split())


def test_voting_and_grading_may_differ():
  text = layout.solution_pool(
    [_file()], _count, voting="string", grading="numeric"
  )
  assert text.answers.tolist() == [[0, 1, 2, -1]]
  assert text.correct.tolist() == [[True, True, False, False]]
  assert (text.voting, text.grading) == ("string", "numeric")
  number = layout.solution_pool(
    [_file()], _count, voting="numeric", grading="string"
  )
  assert number.answers.tolist() == [[0, 0, 1, -1]]
  assert not number.correct.any()  # "0.5" is not spelled "1/2"
  assert number.tokens[0, 3] == 3


def test_symbolic_classes():
  pool = layout.solution_pool(
    [_file()], _count, voting="symbolic", grading="symbolic"
  )
  assert pool.answers.tolist() == [[0, 0, 1, -1]]
  assert pool.correct.tolist() == [[True, True, False, False]]


def test_scores_of_verifications():
  pool = layout.solution_pool([_file()], _count, grading="numeric")
  hybrid = layout.verification_pool(_verifications(), pool, _count)
  # A probability of 0.0 is known; the text is not asked.
  np.testing.assert_array_equal(hybrid.scores[0, 0], [0.0, np.nan])
  text = layout.verification_pool(_verifications(), pool, _count, how="text")
  np.testing.assert_array_equal(text.scores[0, 0], [1.0, np.nan])
  assert text.missing == 0.5
  assert text.tokens[0, 0].tolist() == [2, 1]


def test_pools_come_back_from_one_file(tmp_path):
  pool = layout.solution_pool([_file()], _count, grading="numeric")
  verified = layout.verification_pool(_verifications(), pool, _count)
  path = tmp_path / "pools.npz"
  layout.save(path, pool, verified)
  again, also = layout.load(path)
  for field in dataclasses.fields(pool):
    np.testing.assert_array_equal(
      getattr(again, field.name), getattr(pool, field.name)
    )
  np.testing.assert_array_equal(also.scores, verified.scores)
  layout.save(path, pool)
  assert layout.load(path)[1] is None
  path.write_bytes(b"no")
  with pytest.raises(ValueError, match=r"pools.npz: expected pools in .npz"):
    layout.load(path)


def test_mixed_pools_are_refused():
  short = _file(5, _SAMPLES[:2])
  with pytest.raises(ValueError, match="problem 5 has 2 samples"):
    layout.solution_pool([_file(), short], _count)
  with pytest.raises(ValueError, match="at least one file"):
    layout.solution_pool([], _count)
  with pytest.raises(ValueError, match="equivalence 'close'"):
    layout.solution_pool([_file()], _count, voting="close")
  pool = layout.solution_pool([_file()], _count, grading="numeric")
  with pytest.raises(ValueError, match="of problem 9, which has no solutions"):
    layout.verification_pool(_verifications(9), pool, _count)
  with pytest.raises(ValueError, match="solution 1 has 0 verifications"):
    layout.verification_pool(_verifications()[::2], pool, _count)
  extra = dataclasses.replace(_verifications()[0], solution=4)
  with pytest.raises(ValueError, match="of 4 solutions"):
    layout.verification_pool([*_verifications(), extra], pool, _count)
  with pytest.raises(ValueError, match="at least one file"):
    layout.verification_pool([], pool, _count)
