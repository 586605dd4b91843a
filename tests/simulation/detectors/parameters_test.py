# SPDX-License-Identifier: Apache-2.0
"""Numbers are read, replaced and checked by path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.simulation.detectors import classifiers, parameters
from jaxttc.simulation.detectors import graph as graph_lib


def _graph():
  return graph_lib.create(
    [
      graph_lib.Stage(name="sensor.left", sample_rate=10.0),
      graph_lib.Stage(
        name="trigger",
        reduction=2.0,
        classifier=classifiers.empirical([0, 1], [0, 1], [0, 1]),
      ),
    ],
    [graph_lib.Link(source="sensor.left", target="trigger")],
  )


def test_replacing_all_numbers_with_themselves_changes_nothing():
  graph = _graph()
  again = parameters.replace(graph, parameters.read(graph))
  assert jax.tree.structure(again) == jax.tree.structure(graph)
  jax.tree.map(np.testing.assert_array_equal, again, graph)


def test_names_with_dots_have_paths():
  graph = _graph().updated({"sensor.left.sample_rate": 20.0})
  assert graph.stages[0].sample_rate == 20.0


def test_numbers_are_replaced_inside_a_traced_function():
  @jax.jit
  def doubled(rate):
    graph = parameters.replace(_graph(), {"sensor.left.sample_rate": rate})
    return 2 * graph.stages[0].sample_rate

  assert doubled(jnp.asarray(3.0)) == 6


@pytest.mark.parametrize(
  ("path", "value"),
  [
    ("trigger.reduction", 1.0),
    ("trigger.compression", 0.0),
    ("trigger.classifier.skill_boost", -3.0),
    ("trigger.loading[0]", -0.9),
    ("year", 1999.0),
  ],
)
def test_values_that_are_allowed(path, value):
  parameters.check_values(path, np.asarray([value, value]))


@pytest.mark.parametrize(
  ("path", "value"),
  [
    ("trigger.reduction", 0.99),
    ("trigger.compression", 1.0),
    ("trigger.classifier.skill_boost", np.nan),
    ("trigger.loading[0]", -1.0),
    ("trigger.price", -1.0),
    ("sensor.left->trigger.energy", np.inf),
  ],
)
def test_values_that_are_not(path, value):
  with pytest.raises(ValueError, match="expected a number in"):
    parameters.check_values(path, np.asarray([2.0, value]))


def test_integers_become_floats():
  floats = parameters.as_floats(_graph())
  kinds = {x.dtype.kind for x in jax.tree.leaves(floats)}
  assert kinds == {"f"}
