# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import pytest

from jaxttc.decoders import base as base_lib
from jaxttc.decoders import tree as tree_lib


def tree_of(status, answer, reward):
  tree = tree_lib.init(len(status))
  return tree.replace(
    status=jnp.asarray(status, jnp.int8),
    answer=jnp.asarray(answer, jnp.int32),
    reward=jnp.asarray(reward, jnp.float32),
    used=jnp.int32(len(status)),
  )


def test_room_cuts_the_last_rows_first():
  tree = tree_lib.init(6)
  wanted = jnp.asarray([2, 2, 3])
  assert base_lib.room(tree, wanted).tolist() == [2, 2, 1]
  full = tree.replace(used=jnp.int32(6))
  assert base_lib.room(full, wanted).tolist() == [0, 0, 0]


def test_the_last_step_allowed_runs_to_the_end():
  tree = tree_lib.init(4).replace(depth=jnp.asarray([0, 1, 2, 3]))
  reach = base_lib.reach(tree, jnp.arange(4), max_steps=3)
  step, end = base_lib.Until.STEP, base_lib.Until.END
  assert reach.tolist() == [step, step, end, end]


def test_best_finished_prefers_answers_then_score_then_the_first():
  tree = tree_of([2, 3, 3, 3, 1], [-1, -1, 5, 6, -1], [1, 0.9, 0.4, 0.4, 1])
  best, found = base_lib.best_finished(tree, tree.reward)
  assert (int(best.answer), int(best.node), bool(found)) == (5, 2, True)
  none, found = base_lib.best_finished(tree_lib.init(3), jnp.zeros(3))
  assert (int(none.answer), int(none.node), bool(found)) == (-1, -1, False)


def test_vote_finished_falls_back_to_equal_weights():
  tree = tree_of([2, 3, 3, 3, 1], [-1, 4, 5, 5, 4], [1, 0.9, 0.4, 0.4, 1])
  assert int(base_lib.vote_finished(tree, tree.reward).answer) == 4
  flat = base_lib.vote_finished(tree, jnp.zeros(5))
  assert int(flat.answer) == 5
  assert flat.weight.tolist() == [0, 1, 1, 1, 0]


def test_bad_settings_are_named():
  base_lib.require_positive("beam", width=1)
  with pytest.raises(ValueError, match="beam: width must be at least 1, got 0"):
    base_lib.require_positive("beam", width=0)
  with pytest.raises(ValueError, match="did you mean 'vote'"):
    base_lib.require_choice("beam", "select", "vte", ("vote", "best"))
