# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from jaxttc import decoders
from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import tree as tree_lib
from jaxttc.inference import controllers, scripted_engine
from jaxttc.runtime import driver, search
from jaxttc.runtime import settings as settings_lib
from jaxttc.testing import tiny_models

SETTINGS = settings_lib.SearchSettings(step_tokens=8, max_tokens=24)
PROMPTS = [f"Solve {i} + {3 * i} .\n" for i in range(5)]
NAMES = [f"problem {i}" for i in range(5)]
DECODERS = {
  "greedy": {},
  "best_of_n": {"n": 4},
  "self_consistency": {"n": 5, "stop": "majority", "wave": 2},
  "prm_beam": {"num_survivors": 2, "num_expansions": 2, "max_steps": 4},
  "particle_filter": {"particles": 3, "max_steps": 4},
  "astar": {"children": 2, "nodes": 24, "max_steps": 4},
  "puct": {"simulations": 6, "children": 2},
}


@functools.lru_cache
def _decoder(name):
  """One decoder a name, so that each is compiled once."""
  return decoders.make(name, DECODERS[name])


def _script(prefix, seed):
  """Two steps of one to four words, then an answer of 0..2."""
  rng = np.random.default_rng(seed)
  if prefix.count("\n") < 3:
    return "so " * rng.integers(1, 5) + f"{rng.integers(10)}\n"
  return f"#### {rng.integers(3)}\n"


def _score(text):
  return (len(text) * 37 % 101) / 101.0


def _scripted(**options):
  return (
    scripted_engine.ScriptedEngine(_script, groups=3, **options),
    scripted_engine.ScriptedVerifier(_score, groups=3),
  )


def _drive(decoder, engines=None, *, budget=None, settings=SETTINGS, **options):
  engine, verifier = engines or _scripted()
  prompts = options.pop("prompts", PROMPTS)
  names = options.pop("names", NAMES[: len(prompts)])
  results = driver.drive(
    engine,
    verifier,
    decoder,
    prompts,
    names,
    budget=budget or budget_lib.Budget(),
    settings=settings,
    **options,
  )
  return sorted(results, key=lambda result: result.problem)


def _same(a, b):
  """Whether two results agree in all that is not measured."""
  same_trees = all(
    np.array_equal(getattr(a.tree, name), getattr(b.tree, name))
    for name in ("parent", "status", "answer", "expanded_at")
  )
  np.testing.assert_allclose(a.tree.reward, b.tree.reward, atol=1e-5)
  np.testing.assert_allclose(a.tree.weight, b.tree.weight, atol=1e-4)
  costs = [dataclasses.replace(x.cost, seconds=0) for x in (a, b)]
  return (
    same_trees
    and a.tree.text == b.tree.text
    and costs[0] == costs[1]
    and (a.completion, a.rounds, a.stop) == (b.completion, b.rounds, b.stop)
  )


@pytest.fixture(scope="module")
def models():
  return tiny_models.tiny_bundles(0)


@pytest.mark.parametrize("name", DECODERS)
def test_same_search_as_the_compiled_form(name, models):
  decoder = _decoder(name)
  settings = SETTINGS
  if name == "greedy":
    sampler = controllers.Sampler(temperature=0.0)
    settings = dataclasses.replace(settings, sampler=sampler)
  budgets = [
    budget_lib.Budget(generated_tokens=40),
    budget_lib.Budget(),
    budget_lib.Budget(flops=400_000),
    budget_lib.Budget(generated_tokens=9, bytes=10**9),
    budget_lib.Budget(prompt_tokens=3),
  ]
  compiled = search.solve(
    PROMPTS,
    NAMES,
    *models,
    decoder,
    budget=budgets,
    settings=settings,
    batch=5,
  )
  # Fewer slots than problems and rows than children; segments end mid-span.
  engines = driver.local_engines(
    *models, decoder, settings, slots=3, rows=3, steps=5
  )
  driven = _drive(decoder, engines, budget=budgets, settings=settings)
  for ours, theirs in zip(driven, compiled, strict=True):
    assert _same(ours, theirs), (ours, theirs)


def test_results_do_not_depend_on_slots_or_speed_of_the_engine():
  decoder = _decoder("prm_beam")
  budget = budget_lib.Budget(generated_tokens=60)
  want = _drive(decoder, budget=budget)
  assert len({result.completion for result in want}) > 1
  for slots, per_step in ((3, 1), (3, 4), (2, 3)):
    got = _drive(
      decoder, _scripted(per_step=per_step), budget=budget, slots=slots
    )
    assert all(map(_same, got, want))


def test_a_problem_is_searched_alike_whatever_else_is_searched():
  decoder = _decoder("particle_filter")
  together = _drive(decoder)
  alone = _drive(decoder, prompts=PROMPTS[2:3], names=NAMES[2:3])
  assert _same(alone[0], dataclasses.replace(together[2], problem=0))


def test_problems_run_ahead_of_each_other_and_are_yielded_when_done():
  decoder = _decoder("best_of_n")
  budgets = [
    budget_lib.Budget(),
    budget_lib.Budget(generated_tokens=0),
    budget_lib.Budget(prompt_tokens=0),
  ]
  engine, verifier = _scripted()
  order = [
    result.problem
    for result in driver.drive(
      engine,
      verifier,
      decoder,
      PROMPTS[:3],
      NAMES[:3],
      budget=budgets,
      settings=SETTINGS,
    )
  ]
  assert order == [2, 1, 0]


def test_the_verifier_reads_all_that_is_complete_at_once():
  engine, verifier = _scripted()
  decoder = _decoder("best_of_n")
  settings = dataclasses.replace(SETTINGS, max_tokens=64)
  results = _drive(decoder, (engine, verifier), settings=settings)
  assert verifier.passes == 2  # three problems, then the other two
  assert all(result.cost.verifier_calls == 4 for result in results)


def test_cost_is_what_the_script_wrote():
  decoder = _decoder("best_of_n")
  for result in _drive(decoder):
    assert result.cost.prompt_tokens == len(PROMPTS[result.problem].split())
    assert result.cost.generated_tokens >= sum(
      len(text.split()) for text in result.tree.text
    )
    assert result.completion in result.tree.text


@pytest.mark.parametrize(
  "budget, stop",
  [
    (budget_lib.Budget(), "done"),
    (budget_lib.Budget(prompt_tokens=2), "prompt_tokens"),
    (budget_lib.Budget(generated_tokens=0), "generated_tokens"),
    (budget_lib.Budget(verifier_calls=2), "verifier_calls"),
    (budget_lib.Budget(verifier_tokens=5), "verifier_tokens"),
  ],
)
def test_budgets_are_kept_and_named(budget, stop):
  decoder = _decoder("prm_beam")
  for result in _drive(decoder, budget=budget):
    assert result.cost.fits_within(budget)
    assert result.stop == stop
    if stop == "prompt_tokens":
      assert result.completion is None and result.cost.generated_tokens == 0


@pytest.mark.parametrize("tokens", [1, 5, 11, 17, 30])
def test_generated_tokens_are_never_overrun(tokens):
  budget = budget_lib.Budget(generated_tokens=tokens)
  for result in _drive(_decoder("prm_beam"), budget=budget):
    assert 0 < result.cost.generated_tokens <= tokens
    # A beam whose last child was cut short has nothing left to ask for.
    assert result.stop in ("generated_tokens", "done")


class _Clock:
  """Every look at it takes a second."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    self.now += 1.0
    return self.now


def test_seconds_stop_a_search_in_the_middle_of_a_round():
  decoder = _decoder("best_of_n")
  engine, verifier = _scripted(per_step=1)
  settings = dataclasses.replace(SETTINGS, max_tokens=64)
  (result,) = _drive(
    decoder,
    (engine, verifier),
    budget=budget_lib.Budget(seconds=4.0),
    settings=settings,
    prompts=PROMPTS[:1],
    clock=_Clock(),
  )
  assert result.stop == "seconds"
  assert 0 < len(engine.served) < 4
  assert result.completion is not None  # what had come back still counts
  assert result.cost.verifier_calls == len(engine.served)
  assert 4.0 <= result.cost.seconds < 12.0


def test_seconds_cancel_rows_of_a_local_engine(models):
  decoder = _decoder("best_of_n")
  engines = driver.local_engines(
    *models, decoder, SETTINGS, slots=1, rows=2, steps=2
  )
  (result,) = _drive(
    decoder,
    engines,
    budget=budget_lib.Budget(seconds=4.0),
    prompts=PROMPTS[:1],
    clock=_Clock(),
  )
  assert result.stop == "seconds"
  assert 0 < result.cost.generated_tokens < 4 * SETTINGS.max_tokens
  # The engine is ready for the next search.
  (again,) = _drive(decoder, engines, prompts=PROMPTS[:1])
  (fresh,) = _drive(
    decoder,
    driver.local_engines(*models, decoder, SETTINGS, slots=1, rows=2, steps=2),
    prompts=PROMPTS[:1],
  )
  assert _same(again, fresh)


def test_closing_the_iterator_closes_the_searches():
  engine, verifier = _scripted(per_step=1)
  decoder = _decoder("best_of_n")

  def results():
    return driver.drive(
      engine,
      verifier,
      decoder,
      PROMPTS,
      NAMES,
      budget=budget_lib.Budget(),
      settings=SETTINGS,
    )

  started = results()
  first = next(started)
  started.close()
  assert _same(first, next(results()))


def test_an_interrupt_leaves_the_engine_usable():
  calls = itertools.count()

  def interrupted(prefix, seed):
    if next(calls) == 5:
      raise KeyboardInterrupt
    return _script(prefix, seed)

  engine = scripted_engine.ScriptedEngine(interrupted, groups=3)
  verifier = scripted_engine.ScriptedVerifier(_score, groups=3)
  decoder = _decoder("best_of_n")
  with pytest.raises(KeyboardInterrupt):
    _drive(decoder, (engine, verifier))
  got = _drive(decoder, (engine, verifier))
  assert all(map(_same, got, _drive(decoder)))


def test_a_killed_run_is_finished_by_its_unfinished_problems():
  decoder = _decoder("prm_beam")
  want = _drive(decoder)
  engine, verifier = _scripted(per_step=3)
  run = driver.drive(
    engine,
    verifier,
    decoder,
    PROMPTS,
    NAMES,
    budget=budget_lib.Budget(),
    settings=SETTINGS,
  )
  done = {result.problem: result for result in itertools.islice(run, 2)}
  run.close()
  rest = [i for i in range(5) if i not in done]
  for i, result in zip(
    rest,
    _drive(
      decoder,
      prompts=[PROMPTS[i] for i in rest],
      names=[NAMES[i] for i in rest],
    ),
    strict=True,
  ):
    done[i] = dataclasses.replace(result, problem=i)
  assert all(_same(done[i], want[i]) for i in range(5))


def test_trees_are_whole():
  decoder = _decoder("astar")
  for result in _drive(decoder):
    tree = result.tree
    for node in tree.finished():
      text = tree.completion(node)
      assert scripted_engine.ANSWER in text and text.endswith("\n")
    assert tree.status[0] == tree_lib.Status.CLOSED


def test_no_problems_no_results():
  assert _drive(_decoder("greedy"), prompts=[]) == []


@pytest.mark.parametrize(
  "change, message",
  [
    ({"prompts": [" "]}, "problem 0: the prompt is empty"),
    ({"prompts": ["word " * 5000]}, "problem 0: its prompt has 5000 tokens"),
    ({"names": ["a", "b"]}, "5 prompts, 2 names and 5 budgets"),
    ({"names": ["a", "b", "a", "c", "d"]}, "two problems have one name"),
    ({"slots": 9}, r"slots=9; engine and verifier serve 1\.\.3"),
    ({"budget": budget_lib.Budget(joules=1.0)}, "budget.joules cannot be kept"),
    ({"budget": budget_lib.Budget(flops=1)}, "budget.flops cannot be kept"),
    ({"engines": (_scripted()[0], None)}, "the decoder needs rewards"),
  ],
)
def test_bad_input(change, message):
  decoder = _decoder("best_of_n")
  engines = change.pop("engines", None)
  with pytest.raises(ValueError, match=message):
    _drive(decoder, engines, **change)


def test_local_engines_need_a_verifier_where_the_decoder_does(models):
  with pytest.raises(ValueError, match="the decoder needs rewards"):
    driver.local_engines(models[0], None, _decoder("best_of_n"), SETTINGS)


def test_decoder_state_stops_and_resumes_in_the_middle():
  """A search's arrays survive a trip through the host between two rounds."""
  decoder = _decoder("prm_beam")
  want = _drive(decoder)
  engine, verifier = _scripted()
  inner = driver._Driver(
    engine,
    verifier,
    decoder,
    driver._encoded(engine, PROMPTS, SETTINGS),
    SETTINGS,
    3,
    _Clock(),
  )
  tell = inner._tell

  def through_the_host(groups):
    tell(groups)
    leaves, shape = jax.tree.flatten(inner.slots.replace(key=None))
    saved = [np.asarray(leaf).tobytes() for leaf in leaves]
    restored = [
      np.frombuffer(raw, leaf.dtype).reshape(leaf.shape)
      for raw, leaf in zip(saved, leaves, strict=True)
    ]
    key = jax.random.wrap_key_data(
      np.array(jax.random.key_data(inner.slots.key))
    )
    inner.slots = jax.tree.unflatten(shape, restored).replace(key=key)

  inner._tell = through_the_host
  budgets = [budget_lib.Budget()] * 5
  got = sorted(inner.run(NAMES, budgets, 0), key=lambda r: r.problem)
  assert all(map(_same, got, want))


def test_problems_bring_samplers_of_their_own(models):
  """Greedy and sampled problems side by side, each as an engine of its own."""
  decoder, options = _decoder("greedy"), {"prompts": PROMPTS, "names": NAMES}
  kinds = [controllers.Sampler(temperature=t) for t in (0.0, 1.0)]
  shared = driver.local_engines(
    *models, decoder, SETTINGS, slots=2, row_samplers=True
  )
  samplers = [kinds[i % 2] for i in range(5)]
  mixed = _drive(decoder, shared, samplers=samplers, **options)
  for kind in range(2):
    settings = dataclasses.replace(SETTINGS, sampler=kinds[kind])
    own = driver.local_engines(*models, decoder, settings, slots=2)
    alone = _drive(decoder, own, settings=settings, **options)
    assert all(_same(mixed[i], alone[i]) for i in range(kind, 5, 2))


def test_as_many_samplers_as_problems_are_expected():
  with pytest.raises(ValueError, match="1 samplers for 5 prompts; expected"):
    _drive(_decoder("best_of_n"), samplers=[controllers.Sampler()])


def test_a_cancelled_problem_leaves_and_the_others_do_not_notice():
  decoder = _decoder("prm_beam")
  whole = _drive(decoder)
  rounds = dict.fromkeys(range(5), 0)

  def cancelled(problem):
    rounds[problem] += 1
    return problem in (1, 4) and rounds[problem] > 2

  results = _drive(decoder, cancelled=cancelled)
  stops = [result.stop for result in results]
  assert stops[1] == stops[4] == "cancelled"
  assert results[1].cost.generated_tokens < whole[1].cost.generated_tokens
  assert all(_same(results[i], whole[i]) for i in (0, 2, 3))
