# SPDX-License-Identifier: Apache-2.0
"""The driver over engines that lose replies, bill by request, and give up."""

import dataclasses
import functools

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc import decoders
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import scripted_engine
from jaxttc.runtime import driver
from jaxttc.runtime import settings as settings_lib
from jaxttc.testing import fault_server

SETTINGS = settings_lib.SearchSettings(step_tokens=8, max_tokens=24)
PROMPTS = [f"Problem {i} :\n\n" for i in range(4)]
DECODERS = {
  "best_of_n": {"n": 3},
  "prm_beam": {"num_survivors": 2, "num_expansions": 2, "max_steps": 4},
}


@functools.lru_cache
def _decoder(name):
  return decoders.make(name, DECODERS[name])


class Remote(scripted_engine.ScriptedEngine):
  """Is paid for the whole prefix each time; loses what it is told to lose.

  `fails(request)` says "" for a reply, "lost" for one that may be asked again,
  or a line for the end.
  """

  def __init__(self, fails=lambda request: "", **options):
    super().__init__(fault_server.solutions, groups=4, **options)
    self.prompt_tariff = None
    self.tariff = tariff_lib.Tariff.per_token(0.001, 0.002)
    self.metered = frozenset(costs.COUNTS) | {"dollars"}
    self.fails, self.limits, self.worked = fails, [], costs.Cost()

  def step(self):
    done = []
    for got in super().step():
      request = next(
        r
        for r in reversed(self.served)
        if (r.group, r.ticket) == (got.group, got.ticket)
      )
      self.limits.append(request.limit)
      done.append(self._told(got, request))
    return done

  def _told(self, got, request):
    prefix = len(self.encode(self._texts.of(request.group, request.node)))
    said = self.fails(request)
    spent = self.tariff.price(got.length, prefix)
    self.worked = self.worked + spent
    if not said:
      return dataclasses.replace(got, bill=engine_lib.Bill(spent=spent))
    worst = self.tariff.price(request.limit, prefix)
    return dataclasses.replace(
      got,
      length=0,
      stopped=False,
      finished=False,
      bill=engine_lib.Bill(spent=worst, assumed=worst),
      failure=engine_lib.Failure(error=said, again=said == "lost"),
    )


class Judge(scripted_engine.ScriptedVerifier):
  """Bills its calls; fails as it is told to, like `Remote`."""

  def __init__(self, fails=lambda span: ""):
    super().__init__(fault_server.length_reward, groups=4)
    self.tariff = tariff_lib.Tariff(
      token=costs.Cost(), call=costs.Cost(verifier_calls=1)
    )
    self.metered |= {"dollars"}
    self.fails, self.calls = fails, 0

  def score(self, spans):
    verdicts = []
    for span, reward in zip(spans, super().score(spans), strict=True):
      said, one = self.fails(span), costs.Cost(verifier_calls=1)
      self.calls += 1
      bill = engine_lib.Bill(spent=one, assumed=one if said else costs.Cost())
      failure = None
      if said:
        failure = engine_lib.Failure(error=said, again=said == "lost")
      verdicts.append(
        engine_lib.Verdict(reward=reward, bill=bill, failure=failure)
      )
    return verdicts


def _drive(
  name, engine, verifier=None, budget=None, prompts=PROMPTS, **options
):
  found = driver.drive(
    engine,
    verifier or Judge(),
    _decoder(name),
    prompts,
    [f"problem {i}" for i in range(len(prompts))],
    budget=budget or budget_lib.Budget(),
    settings=SETTINGS,
    **options,
  )
  return sorted(found, key=lambda result: result.problem)


@pytest.mark.parametrize("name", DECODERS)
def test_the_whole_prefix_is_paid_for_each_time(name):
  engine = Remote()
  found = _drive(name, engine)
  total = costs.Cost.sum(result.cost for result in found)
  for field in ("prompt_tokens", "generated_tokens"):
    assert getattr(total, field) == getattr(engine.worked, field)
  assert total.dollars == pytest.approx(engine.worked.dollars)
  assert all(result.assumed == costs.Cost() for result in found)


@pytest.mark.parametrize("name", DECODERS)
def test_lost_replies_change_the_cost_and_not_the_answer(name):
  engine = Remote(lambda request: "lost" if request.attempt < 2 else "")
  judge = Judge(lambda span: "lost" if span.attempt < 1 else "")
  for got, calm in zip(
    _drive(name, engine, judge), _drive(name, Remote()), strict=True
  ):
    assert (got.completion, got.stop) == (calm.completion, calm.stop)
    known = got.cost - got.assumed
    assert known.generated_tokens == calm.cost.generated_tokens
    assert known.prompt_tokens == calm.cost.prompt_tokens
    assert known.verifier_calls == calm.cost.verifier_calls
    assert got.assumed.generated_tokens > 0


_FIELDS = {
  "generated_tokens": 120,
  "prompt_tokens": 120,
  "verifier_calls": 12,
  "dollars": 0.3,
}


@hypothesis.given(
  st.sampled_from(sorted(DECODERS)),
  st.sampled_from(sorted(_FIELDS)),
  st.floats(0.0, 1.0),
  st.integers(0, 2**32 - 1),
)
@hypothesis.settings(deadline=None, max_examples=16)
def test_budgets_hold_whatever_is_lost(name, field, share, seed):
  rng = np.random.default_rng(seed)
  draw = lambda asked: "lost" if rng.random() < 0.4 else ""  # noqa: E731
  limit = _FIELDS[field] * share
  limit = limit if field == "dollars" else int(limit)
  engine, judge = Remote(draw, per_step=2), Judge(draw)
  budget = budget_lib.Budget(**{field: limit})
  total = costs.Cost()
  for result in _drive(name, engine, judge, budget, PROMPTS[:2]):
    assert result.cost.fits_within(budget)
    assert result.assumed.fits_within(result.cost)
    total = total + result.cost
  # What was truly done is never more than what was charged.
  assert engine.worked.generated_tokens <= total.generated_tokens
  assert engine.worked.prompt_tokens <= total.prompt_tokens
  assert judge.calls <= total.verifier_calls


def test_a_retry_is_cut_to_what_the_budget_has_left():
  engine = Remote(lambda request: "" if request.attempt else "lost")
  (result,) = _drive(
    "best_of_n",
    engine,
    budget=budget_lib.Budget(generated_tokens=30),
    prompts=PROMPTS[:1],
  )
  assert engine.limits == [24, 6]
  assert result.cost.generated_tokens == 30
  assert result.assumed.generated_tokens == 24


def test_a_retry_that_nothing_is_left_for_ends_the_problem():
  engine = Remote(lambda request: "lost")
  (result,) = _drive(
    "best_of_n",
    engine,
    budget=budget_lib.Budget(generated_tokens=24),
    prompts=PROMPTS[:1],
  )
  assert engine.limits == [24]
  assert (result.stop, result.completion) == ("generated_tokens", None)


def test_a_retry_waits_for_what_others_may_leave():
  """Three children may take 24 each; when two need less, the lost one can."""
  lost = lambda r: "lost" if r.ticket == 0 and not r.attempt else ""  # noqa: E731
  engine = Remote(lost, per_step=1)
  (result,) = _drive(
    "best_of_n",
    engine,
    budget=budget_lib.Budget(generated_tokens=72),
    prompts=PROMPTS[:1],
  )
  assert result.stop == "done" and engine.limits[:3] == [24, 24, 24]
  others = [len(result.tree.text[n].split()) for n in (1, 2)]
  assert engine.limits[3] == min(24, 72 - 24 - sum(others)) > 0


def test_what_fails_for_good_ends_its_own_problem_only():
  calm = _drive("prm_beam", Remote())
  engine = Remote(
    lambda r: "404 gone" if r.group == 2 and r.node else "",
  )
  found = _drive("prm_beam", engine)
  assert found[2].stop == "engine: 404 gone"
  assert len(found[2].tree.parent) > 1  # what it had got
  for i in (0, 1, 3):
    assert (found[i].completion, found[i].cost.generated_tokens) == (
      calm[i].completion,
      calm[i].cost.generated_tokens,
    )


def test_what_had_finished_is_still_the_answer():
  engine = Remote(lambda r: "500 broke" if r.ticket == 1 else "")
  for result in _drive("best_of_n", engine):
    assert result.stop == "engine: 500 broke"
    assert result.completion is not None


def test_a_verifier_that_fails_for_good_ends_its_own_problem_only():
  calm = _drive("prm_beam", Remote())
  judge = Judge(lambda span: "no such model" if span.group == 1 else "")
  found = _drive("prm_beam", Remote(), judge)
  assert found[1].stop == "verifier: no such model"
  assert found[1].cost.verifier_calls == found[1].assumed.verifier_calls == 4
  assert [found[i].completion for i in (0, 2, 3)] == [
    calm[i].completion for i in (0, 2, 3)
  ]


def test_scoring_is_not_asked_again_beyond_the_budget():
  judge = Judge(lambda span: "lost")
  (result,) = _drive(
    "best_of_n",
    Remote(),
    judge,
    budget_lib.Budget(verifier_calls=5),
    PROMPTS[:1],
  )
  assert result.stop == "verifier_calls"
  assert judge.calls == result.cost.verifier_calls == 5


class _Clock:
  """Every look at it takes a second."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    self.now += 1.0
    return self.now


def test_a_lost_request_of_a_problem_out_of_time_is_let_go():
  engine = Remote(lambda request: "lost", per_step=1)
  (result,) = _drive(
    "best_of_n",
    engine,
    budget=budget_lib.Budget(seconds=6.0),
    prompts=PROMPTS[:1],
    clock=_Clock(),
  )
  assert result.stop == "seconds"
  assert result.cost.generated_tokens == result.assumed.generated_tokens > 0


def test_the_engines_own_count_of_a_prefix_is_what_counts():
  """A span may be read as more tokens than were sampled."""

  class Coarse(Remote):
    def _told(self, got, request):
      told = super()._told(got, request)
      prefix = len(self.encode(self._texts.of(request.group, request.node)))
      return dataclasses.replace(told, end=prefix + 5 * got.length)

  engine = Coarse()
  _drive("prm_beam", engine, prompts=PROMPTS[:1])
  # Five times as many tokens a step leave the last ones less room.
  assert min(engine.limits) < SETTINGS.step_tokens
