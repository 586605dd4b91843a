# SPDX-License-Identifier: Apache-2.0
"""Outlines are sampled until they can be read, and one is chosen."""

import itertools
import json

import pytest

from jaxttc.agents import outline_choice, outlines
from jaxttc.cost import costs
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import scripted_engine
from jaxttc.runtime import programs
from jaxttc.testing import tiny_models
from jaxttc.verifiers import reward_gauge


def _outline(*steps):
  return json.dumps({f"step{i}": s for i, s in enumerate(steps, start=1)})


def test_selection():
  assert (
    outline_choice.read_selection("I think version2 is best: version 3", 3) == 2
  )
  for text in ("the first", "version4", "version0"):
    with pytest.raises(ValueError, match="expected version1 to version3"):
      outline_choice.read_selection(text, 3)


def _run(script, gauges=None, **more):
  engine = scripted_engine.ScriptedEngine(script)
  task = outline_choice.decompose("A problem.", **more)
  (done,) = programs.serve([task], {"policy": engine}, ["a"], gauges=gauges)
  return done


def test_decompose_picks_the_named_one():
  def script(so_far, seed):
    if "version1:" in so_far:
      return "version2 ####"
    return _outline("common", f"own {seed % 2}") + " ####"

  done = _run(script, versions=6)
  assert done.value.steps[0] == "common"
  assert done.tokens["selection"] == 2
  assert done.tokens["outline"] == 6 * 6  # words of an outline


def test_decompose_needs_no_pick_among_equals():
  done = _run(lambda *_: _outline("same") + " ####", versions=4)
  assert done.value.steps == ("same",)
  assert "selection" not in done.tokens


def test_decompose_gives_up_with_the_reason():
  done = _run(lambda *_: "cannot ####", versions=3, tries=2)
  assert done.value is None
  assert "after 2 times 3 samples: expected a JSON" in done.error
  with pytest.raises(ValueError, match="versions is 0"):
    _run(lambda *_: "", versions=0)


_FOUND = [outlines.Outline((f"find {name}",)) for name in "abcd"]


def _judge(better):
  """A model that names the better of what it is shown, by the steps."""

  def script(so_far, seed):
    del seed
    shown = [
      line.removeprefix("1. find ")
      for line in so_far.splitlines()
      if line.startswith("1. find ")
    ]
    return f"version{shown.index(better(*shown)) + 1} ####"

  return scripted_engine.ScriptedEngine(script)


def _chosen(chooser, engine=None, gauges=None, found=_FOUND):
  task = chooser("A problem.", found)
  engines = {"policy": engine or _judge(min)}
  (done,) = programs.serve([task], engines, ["a"], gauges=gauges)
  return done


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_the_best_of_pairs_wins_wherever_it_stands(order):
  found = [_FOUND[place] for place in order]
  engine = _judge(max)
  done = _chosen(outline_choice.pairwise(), engine, found=found)
  assert found[done.value].steps == ("find d",)
  assert 3 <= len(engine.served) <= 6
  listwise = _chosen(outline_choice.listwise(), _judge(max), found=found)
  assert listwise.value == done.value


@pytest.mark.parametrize("said", ["version1", "version2", "neither", ""])
def test_a_judge_of_places_leaves_the_first(said):
  engine = scripted_engine.ScriptedEngine(lambda *_: f"{said} ####")
  assert _chosen(outline_choice.pairwise(), engine).value == 0


class _Scores:
  """A gauge that knows what it thinks of each outline."""

  max_length, metered = 100, frozenset(costs.COUNTS)
  tariff = tariff_lib.Tariff(
    token=costs.Cost(verifier_tokens=1), call=costs.Cost(verifier_calls=1)
  )

  def __init__(self, *scores):
    self._scores = dict(zip("abcd", scores, strict=True))

  def encode(self, text):
    return tuple(range(len(text.split())))

  def measure(self, texts):
    return [self._scores[text.split()[-1]] for text in texts]


def test_the_outline_of_greatest_score_wins_and_reading_is_paid_for():
  done = _chosen(
    outline_choice.scored(), gauges={"verifier": _Scores(0.1, 0.7, 0.7, 0.2)}
  )
  assert done.value == 1
  assert done.cost.verifier_calls == 4
  assert done.cost.verifier_tokens == 4 * 5
  assert done.cost.generated_tokens == 0


def test_a_reward_model_chooses_what_it_rewards_most():
  _, verifier = tiny_models.tiny_bundles()
  gauge = reward_gauge.RewardGauge(verifier, groups=4)
  found = [outlines.Outline((f"{n} + {n + 1}",)) for n in range(3)]
  texts = [outline_choice.scoring_text("3 + 4", one) for one in found]
  rewards = gauge.measure([*texts, *texts])
  assert rewards[:3] == pytest.approx(rewards[3:], abs=1e-6)
  assert all(0 <= reward <= 1 for reward in rewards)
  task = outline_choice.scored()("3 + 4", found)
  (done,) = programs.serve([task], {}, ["a"], gauges={"verifier": gauge})
  assert done.value == rewards.index(max(rewards[:3]))
  assert done.cost.verifier_calls == 3 and done.cost.flops > 0
  with pytest.raises(ValueError, match="two tokens or more"):
    gauge.measure([""])


def test_decompose_chooses_as_it_is_told():
  def script(so_far, seed):
    assert "version1" not in so_far
    return _outline(f"find {'abcd'[seed % 4]}") + " ####"

  done = _run(
    script,
    {"verifier": _Scores(0.1, 0.2, 0.9, 0.3)},
    versions=8,
    choose=outline_choice.scored(),
  )
  assert done.value.steps == ("find c",)
