# SPDX-License-Identifier: Apache-2.0
"""A routed engine does for each problem what its engine alone would do."""

import dataclasses

import numpy as np
import pytest

from jaxttc import decoders
from jaxttc.allocators import routing as allocation
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import scripted_engine
from jaxttc.runtime import driver
from jaxttc.runtime import settings as settings_lib

_SETTINGS = settings_lib.SearchSettings(step_tokens=8, max_tokens=24)
# Middle at 0.9; small is taken below 0.4 or so, at this price.
_PRICE = 0.1
_PROMPTS = [f"{(n % 4) / 4} question {n}\n" for n in range(6)]
_NAMES = [f"problem {n}" for n in range(6)]
_DECODERS = {
  "best_of_n": decoders.make("best_of_n", {"n": 3}),
  "prm_beam": decoders.make(
    "prm_beam", {"num_survivors": 2, "num_expansions": 2, "max_steps": 4}
  ),
}
# What a token of each model costs beside a token.
_WORK = {"small": 1.0, "middle": 4.0, "large": 10.0}


def _engine(name):
  """A scripted model that signs its steps, and has a price of its own."""

  def script(prefix, seed):
    rng = np.random.default_rng(seed)
    if prefix.count("\n") < 3:
      return "so " * rng.integers(1, 4) + f"{name}\n"
    return f"#### {rng.integers(3)}\n"

  engine = scripted_engine.ScriptedEngine(script, groups=3)
  work = _WORK[name]
  engine.tariff = tariff_lib.Tariff(
    token=costs.Cost(generated_tokens=1, flops=work),
    context=costs.Cost(flops=work / 8),
  )
  engine.prompt_tariff = tariff_lib.Tariff(
    token=costs.Cost(prompt_tokens=1, flops=work),
    context=costs.Cost(flops=work / 8),
  )
  engine.metered = engine.metered | {"flops"}
  return engine


@pytest.fixture(name="routed")
def _routed(router, embed):
  """Makes an engine over three, and returns these, too."""

  def make(log=None, **options):
    engines = {name: _engine(name) for name in ("middle", "small", "large")}
    dispatcher = allocation.Dispatcher(
      router, embed, **({"price": _PRICE} | options)
    )
    engine = allocation.RoutedEngine(engines, dispatcher, longest=3, log=log)
    return engine, engines

  return make


def _verifier():
  verifier = scripted_engine.ScriptedVerifier(
    lambda text: (len(text) * 37 % 101) / 101.0, groups=3
  )
  verifier.metered = verifier.metered | {"flops"}
  return verifier


def _drive(engine, decoder, budget=None, prompts=_PROMPTS, names=_NAMES):
  found = driver.drive(
    engine,
    _verifier(),
    _DECODERS[decoder],
    prompts,
    names,
    budget=budget or budget_lib.Budget(),
    settings=_SETTINGS,
  )
  return {result.problem: result for result in found}


def _counted(cost):
  return dataclasses.replace(cost, seconds=0)


def test_each_problem_gets_what_its_engine_alone_does(routed, tmp_path):
  decoder = "prm_beam"
  log = tmp_path / "decisions.jsonl"
  engine, _ = routed(log)
  assert isinstance(engine, engine_lib.Engine)
  found = _drive(engine, decoder)
  assert len(set(engine.asked.values())) == 2
  for n, result in found.items():
    name = engine.asked[_PROMPTS[n]]
    alone = _drive(
      _engine(name), decoder, prompts=_PROMPTS[n : n + 1], names=[_NAMES[n]]
    )[0]
    assert name in result.completion
    assert result.completion == alone.completion
    spent = _counted(result.cost).as_dict()
    assert spent == pytest.approx(_counted(alone.cost).as_dict())
  # The log tells the same, a row a problem; but the verifier's part.
  rows = {row.question: row for row in allocation.decision_log.read(log)}
  assert len(rows) == len(_PROMPTS)
  for n, result in found.items():
    row = rows[allocation.decision_log.digest(_PROMPTS[n])]
    assert row.choice == engine.asked[_PROMPTS[n]] and row.propensity == 1
    spent = {k: v for k, v in _counted(result.cost).as_dict().items() if v}
    spent = {k: v for k, v in spent.items() if "verifier" not in k}
    assert dict(row.spent) == pytest.approx(spent)


_READING = tariff_lib.Tariff(token=costs.Cost(prompt_tokens=1, flops=0.5))


@pytest.mark.parametrize(
  "decoder, limit",
  [
    ("prm_beam", {"flops": 120.0}),
    ("prm_beam", {"flops": 400.0}),
    ("prm_beam", {"prompt_tokens": 12, "generated_tokens": 30}),
    ("best_of_n", {"flops": 300.0, "generated_tokens": 20}),
  ],
)
def test_no_budget_is_overrun_whoever_is_asked(routed, decoder, limit):
  budget = budget_lib.Budget(**limit)
  engine, _ = routed(explore=1.0, price=0.0, reading=_READING)
  found = _drive(engine, decoder, budget)
  assert len(found) == len(_PROMPTS)
  for result in found.values():
    assert result.cost.fits_within(budget)
  assert any(result.cost.generated_tokens for result in found.values())


def test_making_the_vector_is_paid_for_once_a_search(routed):
  plain, _ = routed()
  priced, _ = routed(reading=_READING)
  before, after = (_drive(e, "prm_beam") for e in (plain, priced))
  for n, prompt in enumerate(_PROMPTS):
    more = after[n].cost - before[n].cost
    length = len(plain.encode(prompt))
    assert more.flops == pytest.approx(0.5 * length)
    assert more.prompt_tokens == length


def _request(ticket=0, **changes):
  fields = dict(
    group=0, ticket=ticket, node=0, until=engine_lib.STEP, limit=4, seed=(0, 1)
  )
  return engine_lib.Request(**(fields | changes))


def test_a_search_that_asks_for_nothing_is_not_read(routed, tmp_path):
  log = tmp_path / "decisions.jsonl"
  engine, engines = routed(log)
  prompt = engine_lib.Prompt(text=_PROMPTS[0], tokens=(1, 2))
  long = engine_lib.Prompt(text="0.1 a b c\n", tokens=(1, 2, 3, 4))
  with pytest.raises(ValueError, match="has 4 tokens; .* priced for up to 3"):
    engine.open({0: long})
  engine.open({0: prompt, 1: prompt})
  with pytest.raises(ValueError, match="open already"):
    engine.open({0: prompt})
  engine.submit([_request(), _request(1)])
  gone = engine.cancel(0)
  assert [c.length for c in gone] == [0, 0]
  assert all(c.bill.spent == costs.Cost() for c in gone)
  assert engine.step() == []
  engine.close(0)
  engine.close(1)
  engine.close(1)
  assert not log.exists()
  assert not any(list(one._texts.groups) for one in engines.values())


def test_requests_that_cannot_be_are_refused(routed):
  engine, _ = routed()
  engine.open({0: engine_lib.Prompt(text=_PROMPTS[0], tokens=(1,))})
  with pytest.raises(ValueError, match="group 2 is not open"):
    engine.submit([_request(group=2)])
  with pytest.raises(ValueError, match="has no node 3"):
    engine.submit([_request(node=3)])
  with pytest.raises(ValueError, match="limit must be at least 1"):
    engine.submit([_request(limit=0)])
  engine.submit([_request()])
  with pytest.raises(ValueError, match="ticket 0 of group 0 is taken"):
    engine.submit([_request()])
  with pytest.raises(ValueError, match="asked for none"):
    engine.file(0, {0: 1})


def test_a_router_of_other_models_is_refused(router, embed):
  dispatcher = allocation.Dispatcher(router, embed)
  engines = {name: _engine("small") for name in ("small", "large", "huge")}
  with pytest.raises(
    ValueError,
    match="no engine is given for middle; it knows nothing of huge",
  ):
    allocation.RoutedEngine(engines, dispatcher)
