# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import numpy as np
import pytest

from jaxttc.allocators.routing import bandits, decision_log

_MODELS = ("a-7b", "b-70b")


def _row(text="How many?", choice="a-7b", propensity=0.5, x=(1.0, 2.0)):
  return decision_log.Decision(
    question=decision_log.digest(text),
    features=decision_log.digest(np.float32(x)),
    router="r",
    models=_MODELS,
    scores=(0.25, 0.5),
    costs=(7.0, 70.0),
    unit="billion parameters",
    choice=choice,
    propensity=propensity,
    spent={"generated_tokens": 12, "flops": 3.5e9},
  )


def test_rows_come_back(tmp_path):
  path = tmp_path / "logs" / "decisions.jsonl"
  decision_log.append(path, [_row("one"), _row("two")])
  decision_log.append(path, [_row("three", "b-70b", 1.0)])
  assert decision_log.read(path) == [
    _row("one"),
    _row("two"),
    _row("three", "b-70b", 1.0),
  ]


@pytest.mark.parametrize(
  "line, message",
  [
    ('{"torn', ":2: is no decision"),
    ("{}", ":2: is no decision: 'models'"),
    ('{"models": [], "scores": [], "costs": []}', "missing .*question"),
  ],
)
def test_a_damaged_row_is_named(tmp_path, line, message):
  path = tmp_path / "decisions.jsonl"
  decision_log.append(path, [_row()])
  with path.open("a") as file:
    file.write(line + "\n")
  with pytest.raises(ValueError, match=message):
    decision_log.read(path)
  with pytest.raises(ValueError, match="cannot be read"):
    decision_log.read(tmp_path / "nowhere")
  with pytest.raises(ValueError, match="cannot be written"):
    decision_log.append(path / "below", [_row()])


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(choice="c"), "picked 'c'; expected one of a-7b, b-70b"),
    (dict(propensity=0.0), r"expected \(0, 1\]"),
    (dict(scores=(1.0,)), "1 scores and 2 costs of 2 models"),
  ],
)
def test_a_decision_that_cannot_be_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(_row(), **change)


def _embed(texts):
  return np.float32([[1.0, len(text)] for text in texts])


def test_rows_meet_their_questions_again():
  rows = [
    _row(text, choice, 0.25, (1.0, len(text)))
    for text, choice in (("one", "a-7b"), ("two", "b-70b"), ("five", "a-7b"))
  ]
  found = decision_log.logged(
    rows, {"two": 1.0, "five": 0.5, "else": 0.0}, _embed, price=0.01
  )
  np.testing.assert_array_equal(found.x, [[1, 3], [1, 4]])
  np.testing.assert_array_equal(found.choices, [1, 0])
  np.testing.assert_allclose(found.rewards, [1 - 0.7, 0.5 - 0.07], rtol=1e-6)
  np.testing.assert_allclose(found.propensities, 0.25)
  with pytest.raises(ValueError, match="none of the 3 logged questions"):
    decision_log.logged(rows, {"else": 0.0}, _embed)
  with pytest.raises(ValueError, match="vector of 'two' is not the one"):
    decision_log.logged(rows, {"two": 1.0}, lambda t: 2 * _embed(t))
  with pytest.raises(ValueError, match="several sets of models"):
    other = dataclasses.replace(
      rows[1], models=("a-7b", "b-70b "), choice="a-7b"
    )
    decision_log.logged([*rows, other], {"one": 1.0, "two": 1.0}, _embed)
  with pytest.raises(ValueError, match="price must be finite"):
    decision_log.logged(rows, {"two": 1.0}, _embed, price=-1.0)


def _played(rng, count=3000, explore=0.4):
  """A log by a policy that asks model 0 mostly; x decides which is right."""
  x = rng.choice([-1.0, 1.0], (count, 1))
  rewards = np.where(x > 0, [[1.0, 0.2]], [[0.1, 0.8]])
  odds = np.tile([[1 - explore / 2, explore / 2]], (count, 1))
  choices = (rng.random(count) > odds[:, 0]).astype(np.int32)
  rows = np.arange(count)
  seen = rewards[rows, choices] + 0.1 * rng.normal(size=count)
  x = np.concatenate([x, np.ones((count, 1))], 1).astype(np.float32)
  log = decision_log.Logged(
    x,
    choices,
    seen.astype(np.float32),
    odds[rows, choices].astype(np.float32),
  )
  return log, rewards


def test_what_another_policy_earns_is_known_from_the_log():
  log, rewards = _played(np.random.default_rng(0))
  better = np.eye(2)[(log.x[:, 0] < 0).astype(int)]
  worse = 1 - better
  for odds in (better, worse, np.full_like(better, 0.5)):
    truth = (odds * rewards).sum(1).mean()
    found = decision_log.worth(log, odds)
    assert abs(found.mean - truth) < 4 * found.error < 0.2
  # A policy that asks as the log did has earned what the log did.
  own = np.where([[True, False]], 0.8, 0.2) * np.ones((3000, 2))
  assert decision_log.worth(log, own).mean == pytest.approx(
    log.rewards.mean(), rel=1e-5
  )
  with pytest.raises(ValueError, match="nothing is known"):
    decision_log.worth(log, np.zeros((3000, 2)))
  with pytest.raises(ValueError, match=r"expected odds \[3000, K\]"):
    decision_log.worth(log, np.ones((3, 2)))


def test_a_bandit_learns_from_the_log_what_it_would_have_learnt_itself():
  log, rewards = _played(np.random.default_rng(1), 400)
  learner = bandits.linucb(2, 2)
  state = bandits.learn(learner, log.x, log.choices, log.rewards)
  for sign, best in ((1.0, 0), (-1.0, 1)):
    x = np.float32([sign, 1.0])
    assert int(learner.choose(state, x, jax.random.key(0))) == best
  played = bandits.play(
    learner,
    log.x,
    rewards.astype(np.float32),
    rewards.astype(np.float32),
    jax.random.key(0),
  )
  own = rewards[np.arange(400), np.asarray(played.choices)].astype(np.float32)
  half = bandits.learn(learner, log.x[:200], played.choices[:200], own[:200])
  again = bandits.learn(
    learner, log.x[200:], played.choices[200:], own[200:], half
  )
  for one, other in zip(again, played.state, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
