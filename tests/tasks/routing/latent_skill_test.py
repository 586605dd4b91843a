# SPDX-License-Identifier: Apache-2.0
import numpy as np

from jaxttc.tasks import routing


def test_scores_come_up_as_often_as_their_chances():
  table, chance = routing.LatentSkill().draw(20000, seed=1)
  gap = table.scores - chance
  spread = np.sqrt((chance * (1 - chance)).mean(0) / len(table))
  assert (abs(gap.mean(0)) < 4 * spread).all()


def test_the_world_stays_and_questions_change():
  world = routing.LatentSkill(topics=3)
  first, _ = world.draw(50, seed=1)
  again, _ = world.draw(50, seed=1)
  other, _ = world.draw(50, seed=2)
  np.testing.assert_array_equal(first.scores, again.scores)
  assert (first.scores != other.scores).any()
  assert first.embeddings.shape == (50, 4)
