# SPDX-License-Identifier: Apache-2.0
"""The styled-answers task: probabilities add up, annotations are as said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.tasks import styled_answers


@pytest.fixture(scope="module")
def drawn():
  task = styled_answers.StyledAnswers()
  return task.draw(jax.random.key(0), 4000, 1000)


def test_probabilities_of_all_responses_add_up_to_one(drawn):
  base, pool, _ = drawn
  x = pool.features[:5]
  total = sum(
    jnp.exp(
      styled_answers.log_probs(base, x, style, jnp.full(5, answer)).sum(1)
    )
    for style in (styled_answers.DIRECT, styled_answers.STEP)
    for answer in range(8)
  )
  np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_the_base_answers_directly_and_is_a_little_better_in_steps(drawn):
  base, _, tested = drawn
  found = styled_answers.score(base, tested)
  assert 0.17 < found.accuracy < 0.24
  assert found.step_rate < 0.01
  assert found.step_accuracy > found.accuracy + 0.02
  assert found.chosen > found.rejected


def test_annotations_are_right_as_often_as_said(drawn):
  _, pool, _ = drawn
  right = np.asarray(pool.demonstrated == pool.right).mean()
  assert right == pytest.approx(0.75, abs=0.03)
  flipped = np.asarray(pool.rejected == pool.right).mean()
  assert flipped == pytest.approx(0.05, abs=0.015)
  assert np.all(np.asarray(pool.chosen != pool.rejected))
  assert np.all(
    np.asarray((pool.chosen == pool.right) | (pool.rejected == pool.right))
  )


def test_the_same_key_draws_the_same_prompts_first():
  """A score of other held-out prompts must not move the pool."""
  task = styled_answers.StyledAnswers()
  one, other = (task.draw(jax.random.key(1), 50, n)[1] for n in (10, 20))
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_bad_settings_are_refused():
  with pytest.raises(ValueError, match="demonstrator must be in"):
    styled_answers.StyledAnswers(demonstrator=1.5).validate()
  with pytest.raises(ValueError, match="2 answers, got 24 and 1"):
    styled_answers.StyledAnswers(answers=1).validate()
