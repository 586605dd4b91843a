# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import (
  repeated_thoughts,
  thinking_policies,
  thinking_span,
  thoughts,
)
from jaxttc.tasks import digit_sums


@pytest.fixture(scope="module")
def thinker():
  policy = bundle_lib.load("thinking_lm")
  capped = thinking_policies.hard_cap(end=policy.tokenizer.end_think_id)
  return capped.thinker(policy, limit=40)


def _prompts(thinker, count=4):
  text = digit_sums.prompt(digit_sums.problem([3, 4])).removesuffix("<think>")
  return [thinking_span.prompt(thinker.policy.tokenizer, text)] * count


def test_thoughts_that_do_not_fit_are_drawn_again(thinker):
  prompts, budgets = _prompts(thinker), np.full(4, 9)
  first = jax.vmap(jax.random.fold_in, (0, None))(
    thoughts.row_keys(jax.random.key(0), 4), 0
  )
  once = thinker(prompts, budgets + 1, first)
  assert "forced" in once.finish
  many = repeated_thoughts.RepeatedThinker(thinker, tries=99)
  found = many(prompts, budgets, jax.random.key(0))
  assert set(found.finish) == {"natural"}
  assert found.spent.max() == 9 and found.closed.all()
  for row, how in enumerate(once.finish):
    if how == "natural":  # kept as it was, and free of charge
      np.testing.assert_array_equal(found.tokens[row], once.tokens[row])
      assert found.overhead[row] == 0 and found.runs[row] == 1
    else:
      assert found.overhead[row] >= once.length[row]
      assert found.runs[row] > 1
      assert found.read[row] == found.runs[row] * once.read[row]
      assert found.attended[row] > once.attended[row]
  assert thinker.compilations == 1


def test_the_last_try_is_cut(thinker):
  prompts, budgets = _prompts(thinker), np.full(4, 2)
  twice = repeated_thoughts.RepeatedThinker(thinker, tries=2)
  found = twice(prompts, budgets, jax.random.key(0))
  assert set(found.finish) == {"forced"} and (found.spent == 2).all()
  np.testing.assert_array_equal(found.runs, 2)
  with pytest.raises(ValueError, match="tries is 0"):
    repeated_thoughts.RepeatedThinker(thinker, tries=0)
