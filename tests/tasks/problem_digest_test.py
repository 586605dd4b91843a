# SPDX-License-Identifier: Apache-2.0
"""Digests name what is asked and answered, and nothing else."""

import hypothesis
from hypothesis import strategies as st
import numpy as np

from jaxttc.tasks import problem_digest
from jaxttc.tasks import problems as problems_lib


def _problem(text="1 + 1 ?", answer="2", **fields):
  return problems_lib.Problem(id="a", text=text, answer=answer, **fields)


def test_a_digest_is_the_same_on_every_machine():
  found = problem_digest.digests([_problem()])
  assert found.dtype == np.uint32
  assert found.tolist() == [[26696318, 2107907094]]


def test_what_is_asked_and_answered_counts_and_places_do_not():
  chat = ({"role": "user", "content": "1 + 1 ?"},)
  unlike = (
    _problem(),
    _problem(answer="3"),
    _problem(text="1 + 1?"),
    _problem(meta={"messages": chat}),
    _problem(),  # a second copy
  )
  found = problem_digest.digests(unlike)
  assert len({tuple(row) for row in found.tolist()}) == 5
  other = problems_lib.Problem(id="b", text="1 + 1 ?", answer="2", steps=7)
  np.testing.assert_array_equal(problem_digest.digests([other])[0], found[0])
  turned = problem_digest.digests(unlike[::-1])
  assert sorted(turned.tolist()) == sorted(found.tolist())


@hypothesis.given(
  st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, unique=True
  ),
  st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1),
)
def test_places_are_those_of_a_search(known, wanted):
  found = problem_digest.places(
    np.array(known, np.uint32), np.array(wanted, np.uint32)
  )
  assert found.tolist() == [
    known.index(one) if one in known else -1 for one in wanted
  ]
