# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import sampling
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, local_engine
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import driver
from jaxttc.runtime import settings as settings_lib
from jaxttc.tasks import arithmetic, verifications
from jaxttc.tasks import problems as problems_lib
from jaxttc.verifiers import generative_verifier


def _ask(prompt, solution):
  return verifications.prompt(prompt, solution, "terse")


@pytest.fixture(scope="module", name="judge")
def _judge():
  return bundle_lib.load("arithmetic_verifier")


def _verifier(judge, samples=4, groups=4, **options):
  engine = local_engine.LocalEngine(
    judge,
    sampler=controllers.Sampler(temperature=0.7),
    groups=groups,
    rows=samples,
  )
  return generative_verifier.GenerativeVerifier(
    engine,
    _ask,
    samples=samples,
    limit=96,
    read=verifications.verdict,
    **options,
  )


def _span(text, ticket, finished=True, parent=0):
  return engine_lib.Span(
    group=0,
    ticket=ticket,
    parent=parent,
    text=text,
    tokens=(),
    finished=finished,
  )


@pytest.fixture(scope="module", name="scored")
def _scored(judge):
  """Solutions of one problem, scored: right, wrong, right again, unfinished."""
  problem = arithmetic.problem(5, family="modular", steps=2, split="test")
  gold = arithmetic.solution(problem, "terse")
  first, *rest = gold.splitlines(keepends=True)
  wrong = "1+1=5\n" + "".join(rest)
  verifier = _verifier(judge)
  text = problems_lib.prompt(problem, "terse")
  verifier.open({0: engine_lib.Prompt(text=text, tokens=(1,))})
  spans = [_span(gold, 0), _span(wrong, 1), _span(gold, 2)]
  found = verifier.score([*spans, _span(first, 3, finished=False)])
  return verifier, found, spans


def test_it_is_a_verifier(scored):
  verifier, found, _ = scored
  assert isinstance(verifier, engine_lib.Verifier)
  assert verifier.tariff.price(10, 10).verifier_calls == 4
  for verdict in found:
    assert verdict.reward * 4 == pytest.approx(round(verdict.reward * 4))
    assert 0 <= verdict.reward <= 1


def test_the_reward_is_the_mean_of_the_verdicts_that_there_are(judge):
  told = iter([True, None, False, True, None, None, None, None])
  engine = local_engine.LocalEngine(judge, groups=1, rows=4)
  verifier = generative_verifier.GenerativeVerifier(
    engine, _ask, samples=4, limit=96, read=lambda _: next(told)
  )
  verifier.open({0: engine_lib.Prompt(text="1+1\n", tokens=(1,))})
  some, none = verifier.score([_span("#### 2\n", 0), _span("#### 3\n", 1)])
  assert some.reward == pytest.approx(2 / 3)
  assert none.reward == 0.0


def test_equal_solutions_are_paid_once(scored):
  _, found, _ = scored
  assert found[0].reward == found[2].reward
  assert found[0].bill.spent.verifier_calls == 4
  assert found[0].bill.spent.verifier_tokens > 4 * 7
  assert found[2].bill.spent.verifier_tokens == 0
  assert found[3].reward == 0 and found[3].bill.spent.verifier_calls == 0


def test_scores_do_not_depend_on_what_else_is_scored(judge, scored):
  _, found, spans = scored
  alone = _verifier(judge)
  problem = arithmetic.problem(5, family="modular", steps=2, split="test")
  text = problems_lib.prompt(problem, "terse")
  alone.open({0: engine_lib.Prompt(text=text, tokens=(1,))})
  (again,) = alone.score(spans[1:2])
  assert again.reward == found[1].reward


def test_spans_build_on_nodes(judge):
  verifier = _verifier(judge, samples=1)
  problem = arithmetic.problem(5, family="modular", steps=2, split="test")
  gold = arithmetic.solution(problem, "terse").splitlines(keepends=True)
  text = problems_lib.prompt(problem, "terse")
  verifier.open({0: engine_lib.Prompt(text=text, tokens=(1,))})
  verifier.score([_span(gold[0], 0, finished=False)])
  verifier.file(0, {0: 1})
  rest = "".join(gold[1:])
  (stepwise,) = verifier.score([_span(rest, 1, parent=1)])
  (whole,) = verifier.score([_span(gold[0] + rest, 2)])
  assert stepwise.reward == whole.reward
  with pytest.raises(ValueError, match="no node 7"):
    verifier.score([_span("x", 3, parent=7)])
  verifier.release(0, np.array([True, False]))
  verifier.close(0)
  verifier.close(0)
  with pytest.raises(ValueError, match="group 0"):
    verifier.score([_span("x", 0)])


def test_best_of_n_is_driven_by_it(judge):
  policy = bundle_lib.load("arithmetic_lm")
  problems = arithmetic.problems(2, family="modular", steps=2, split="test")
  engine = local_engine.LocalEngine(policy, groups=2, rows=3)
  results = list(
    driver.drive(
      engine,
      _verifier(judge, samples=2, groups=4, seed=1),
      sampling.best_of_n(n=3),
      [problems_lib.prompt(p, "terse") for p in problems],
      [p.id for p in problems],
      budget=budget_lib.Budget(verifier_calls=6),
      settings=settings_lib.SearchSettings(step_tokens=8, max_tokens=40),
      seed=0,
      slots=2,
    )
  )
  assert len(results) == 2
  for result in results:
    assert result.completion is not None
    assert 2 <= result.cost.verifier_calls <= 6
    assert result.cost.verifier_tokens > 0


@pytest.mark.parametrize("size", ["samples", "limit", "groups"])
def test_sizes_below_one_are_refused(size):
  sizes = {"samples": 1, "limit": 1, "groups": 1} | {size: 0}
  with pytest.raises(ValueError, match=f"{size} must be >= 1, got 0"):
    generative_verifier.GenerativeVerifier(None, _ask, **sizes)
