# SPDX-License-Identifier: Apache-2.0
"""Plans against brute force, and the promises that each of them keeps.

Prices and scores are random tables behind the unit latency_ms; they rise with
every width, as those of real networks do.
"""

import functools
import json

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.allocators import (
  menu_search,
  width_planner,
  width_prices,
  width_rules,
)
from jaxttc.models.slimmable import network

_SEEDS = st.integers(0, 2**32 - 1)
_SHARES = st.floats(0.0, 1.0)
_WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))
_PREFERENCES = st.tuples(_WEIGHTS, _WEIGHTS, _WEIGHTS).filter(any)
_TASKS = ("depth", "edges", "kind")


@functools.cache
def _net(tasks=_TASKS):
  return network.NetworkSpec(
    encoder={"kind": "mlp", "hidden": (16, 16)},
    tasks=tuple((task, 2, False) for task in tasks),
    input_shape=(5,),
    hidden=16,
    norm="none",
    quantum=4,
  ).build()


def _rising(rng, places, entries=4):
  """f64[places, entries], ascending; eighths, so that sums are exact."""
  return rng.integers(1, 16, (places, entries)).cumsum(1) / 8.0


class World:
  """A network with random prices and scores, the same for any order of tasks.

  Attributes:
    space: its widths.
    prices: what they cost in latency_ms; decoders cost more behind a wide
      encoder.
    scores: a score a task, of the encoder and its own decoder.
  """

  def __init__(self, seed, tasks=_TASKS):
    rng = np.random.default_rng(seed)
    encoder = _rising(rng, 2)
    cost = dict(zip(_TASKS, _rising(rng, 3), strict=True))
    gain = dict(zip(_TASKS, _rising(rng, 3), strict=True))
    shared = dict(zip(_TASKS, rng.integers(1, 9, (3, 2)), strict=True))
    self.space = _net(tasks).space

    def latency(indices):
      stages = encoder[np.arange(2), indices[:, :2]]
      heads = sum(cost[t][indices[:, 2 + i]] for i, t in enumerate(tasks))
      return stages.sum(1) + heads * (1.0 + indices[:, 1] / 4.0)

    def scores(indices):
      columns = [
        indices[:, :2] @ shared[t] + gain[t][indices[:, 2 + i]]
        for i, t in enumerate(tasks)
      ]
      return np.stack(columns, 1)

    self.scores = scores
    self.prices = width_prices.WidthPrices(_net(tasks), latency_ms=latency)
    low, high = (
      self.price(self.prices.ends[end])[0] for end in ("low", "high")
    )
    self.low, self.high = float(low), float(high)

  def price(self, indices):
    return self.prices(indices, "latency_ms")

  def budget(self, share):
    return float(self.low + share * (self.high - self.low))

  def plan(self, preference, budget, **options):
    if not isinstance(preference, dict):
      preference = dict(zip(self.space.tasks, preference, strict=True))
    return width_planner.plan(
      self.space,
      preference,
      budget,
      self.prices,
      self.scores,
      unit="latency_ms",
      **options,
    )


@pytest.mark.parametrize("rule", width_planner.RULES)
@pytest.mark.parametrize("search", menu_search.SEARCHES)
@hypothesis.settings(max_examples=12)
@hypothesis.given(_SEEDS, _PREFERENCES, _SHARES)
def test_no_plan_is_dearer_than_its_budget(
  rule, search, seed, preference, share
):
  world = World(seed)
  budget = world.budget(share)
  plan = world.plan(preference, budget, rule=rule, search=search)
  world.space.check(plan.config)
  indices = world.space.indices(plan.config)[None]
  assert plan.price == world.price(indices)[0] <= budget == plan.budget
  assert plan.slack == budget - plan.price >= 0
  assert list(plan.scores) == list(world.space.tasks)
  np.testing.assert_array_equal(
    list(plan.scores.values()), world.scores(indices)[0]
  )


@hypothesis.settings(max_examples=40)
@hypothesis.given(_SEEDS, _PREFERENCES, _SHARES)
def test_decoders_are_as_wide_as_their_task_matters(seed, preference, share):
  world = World(seed)
  plan = world.plan(preference, world.budget(share))
  ratios = [ratio for _, ratio in plan.config.decoders]
  for i, j in zip(*np.triu_indices(3, 1), strict=True):
    if preference[i] == preference[j]:
      assert ratios[i] == ratios[j]
    elif preference[i] < preference[j]:
      assert ratios[i] <= ratios[j]
    else:
      assert ratios[i] >= ratios[j]


@hypothesis.settings(max_examples=30)
@hypothesis.given(_SEEDS, _PREFERENCES, _SHARES)
def test_what_is_left_could_not_have_raised_the_preferred_decoders(
  seed, preference, share
):
  world = World(seed)
  plan = world.plan(preference, world.budget(share))
  if plan.slack <= 0.05 * plan.budget:
    return
  indices = world.space.indices(plan.config)
  preferred = 2 + np.flatnonzero(np.isclose(preference, max(preference)))
  raised = indices.copy()
  raised[preferred] += 1
  full = indices[preferred].max() == 3
  assert full or world.price(raised[None])[0] > plan.budget


@hypothesis.settings(max_examples=10)
@hypothesis.given(_SEEDS, st.floats(1e-3, 1e3))
def test_all_is_used_if_all_matters_alike_and_all_is_affordable(seed, weight):
  world = World(seed)
  for rule in width_planner.RULES:
    for search in ("exhaustive", "greedy", "uniform"):
      plan = world.plan([weight] * 3, world.high, rule=rule, search=search)
      assert plan.config == world.space.uniform()
      assert plan.slack == 0


@hypothesis.settings(max_examples=20)
@hypothesis.given(_SEEDS, _PREFERENCES, _SHARES, st.floats(0.1, 10.0))
def test_plans_know_no_order_of_tasks_and_no_scale_of_preferences(
  seed, preference, share, scale
):
  """Ties of score go to the cheaper; what is left of ties has one value."""
  order = (2, 0, 1)
  world = World(seed)
  other = World(seed, tuple(_TASKS[i] for i in order))
  budget = world.budget(share)
  preference = dict(zip(_TASKS, preference, strict=True))
  for rule in width_planner.RULES:
    plan = world.plan(preference, budget, rule=rule)
    again = other.plan(preference, budget, rule=rule)
    if rule == "two_level":  # by a value of its own: the next test
      continue
    if rule == "proportional":
      assert again.config.encoder == plan.config.encoder
      assert dict(again.config.decoders) == dict(plan.config.decoders)
      assert again.price == plan.price and again.scores == plan.scores
    value = lambda p: sum(  # noqa: E731
      preference[task] * p.scores[task] for task in _TASKS
    )
    np.testing.assert_allclose(value(again), value(plan), rtol=1e-12)
    scaled = {task: scale * weight for task, weight in preference.items()}
    np.testing.assert_allclose(
      value(world.plan(scaled, budget, rule=rule)), value(plan), rtol=1e-12
    )


@hypothesis.settings(max_examples=25)
@hypothesis.given(_SEEDS, _PREFERENCES, _SHARES)
def test_the_rule_of_value_is_brute_force_over_all_configurations(
  seed, preference, share
):
  world = World(seed)
  budget = world.budget(share)
  every = world.space.all_indices()  # 4 ** 5
  low, high = world.scores(np.array([[0] * 5, [3] * 5]))
  # Each score counts in units of what width gains it.
  weights = np.array(preference) / np.sum(preference) / (high - low)
  values = world.scores(every) @ weights
  best = values[world.price(every) <= budget].max()
  for search in menu_search.SEARCHES:
    plan = world.plan(preference, budget, rule="value", search=search)
    found = np.dot(list(plan.scores.values()), weights)
    if search == "exhaustive":
      np.testing.assert_allclose(found, best, rtol=1e-12)
    else:
      assert found <= best * (1 + 1e-12)


@hypothesis.settings(max_examples=25)
@hypothesis.given(_SEEDS, _PREFERENCES, _SHARES)
def test_the_rule_of_two_levels_is_brute_force_twice(seed, preference, share):
  """First over encoders, preferences aside; then over decoders."""
  world = World(seed)
  budget = world.budget(share)
  every = world.space.all_indices()
  every = every[world.price(every) <= budget]
  scores = world.scores(every)
  low, high = world.scores(np.array([[0] * 5, [3] * 5]))
  values = (
    scores
    @ (np.concatenate([np.eye(3), np.full((1, 3), 1 / 3)]) / (high - low)).T
  )
  # Of the encoders that are best for a task alone, or for all of them alike,
  encoders = {}
  for at in values.argmax(0):
    behind = (every[:, :2] == every[at, :2]).all(1)
    encoders[tuple(every[at, :2])] = values[behind].max(0).mean()
  plan = world.plan(preference, budget, rule="two_level")
  chosen = world.space.indices(plan.config)
  ties = len({np.round(v, 12) for v in values.max(0)}) < 4 or any(
    (values[:, i] == values[:, i].max()).sum() > 1 for i in range(4)
  )
  if not ties:
    assert encoders[tuple(chosen[:2])] == pytest.approx(max(encoders.values()))
  # the best decoders: square roots of what each gains of what it could.
  behind = (every[:, :2] == chosen[:2]).all(1)
  own, found = every[behind][:, 2:], scores[behind]
  alone = [found[(np.delete(own, t, 1) == 0).all(1)][:, t] for t in range(3)]
  least, most = (np.array([f(a) for a in alone]) for f in (np.min, np.max))
  gains = (found - least) / np.where(most > least, most - least, np.inf)
  value = np.sqrt(gains) @ (np.array(preference) / np.sum(preference))
  at = (own == chosen[2:]).all(1)
  np.testing.assert_allclose(value[at][0], value.max(), rtol=1e-12)


@hypothesis.settings(max_examples=10)
@hypothesis.given(_SEEDS, _SHARES)
def test_in_two_levels_no_preference_moves_the_encoder(seed, share):
  world = World(seed)
  budget = world.budget(share)
  plans = [
    world.plan(preference, budget, rule="two_level")
    for preference in np.array(
      [(1.0, 0, 0), (0, 1, 0), (1, 2, 5), (1, 1, 1)]
    ).tolist()
  ]
  assert len({plan.config.encoder for plan in plans}) == 1
  # A task that does not matter has the narrowest decoder.
  assert (
    plans[0].config.decoders[1][1] == plans[0].config.decoders[2][1] == 0.25
  )


def test_in_two_levels_decoders_widen_by_degrees():
  """Equal costs, equal and linear gains: as a sum of gains, all or nothing."""
  prices = width_prices.WidthPrices(
    _net(), latency_ms=lambda i: 1.0 + i @ np.array([9.0, 9, 1, 1, 1])
  )
  scores = lambda i: i[:, 2:] + 10.0 * i[:, :2].sum(1, keepdims=True)  # noqa: E731

  def decoders(rule, *preference):
    plan = width_planner.plan(
      _net().space,
      dict(zip(_TASKS, preference, strict=True)),
      58.0,  # the widest encoder, and three steps of decoders
      prices,
      scores,
      unit="latency_ms",
      rule=rule,
    )
    return [ratio for _, ratio in plan.config.decoders]

  assert decoders("value", 0.5, 0.3, 0.2) == [1.0, 0.25, 0.25]
  # Roots of a third, two thirds and all: 0.58, 0.82 and 1.
  assert decoders("two_level", 0.4, 0.3, 0.3) == [0.5, 0.5, 0.5]
  assert decoders("two_level", 0.5, 0.3, 0.2) == [0.75, 0.5, 0.25]
  assert decoders("two_level", 0.7, 0.3, 0.0) == [0.75, 0.5, 0.25]
  assert decoders("two_level", 1.0, 0.0, 0.0) == [1.0, 0.25, 0.25]


def test_evolution_plans_the_same_twice():
  world = World(5)
  run = lambda: world.plan(  # noqa: E731
    (1.0, 2.0, 0.0), world.budget(0.4), rule="value", search="evolutionary"
  )
  assert run() == run()


def test_ratios_follow_preferences_by_hand():
  menu = (0.25, 0.5, 0.75, 1.0)
  indices = lambda shares, *args: list(  # noqa: E731
    width_rules.decoder_indices(menu, np.array(shares), *args)
  )
  assert indices([0.5, 0.25, 0.25]) == [3, 1, 1]
  assert indices([1.0, 0.0, 0.0]) == [3, 0, 0]
  assert indices([1 / 3, 1 / 3, 1 / 3]) == [3, 3, 3]
  assert indices([0.8, 0.7, 0.1]) == [3, 3, 0]  # 0.875 is a tie: upward
  assert indices([0.8, 0.4, 0.1], 0.5) == [1, 0, 0]
  assert indices([0.8, 0.4, 0.1], 0.75) == [2, 1, 0]  # 0.375 is a tie


def test_decoders_shrink_before_the_encoder_falls_below_half():
  """An encoder step costs 1, a decoder step 2; the narrowest network 8."""
  prices = width_prices.WidthPrices(
    _net(), latency_ms=lambda i: 8.0 + i @ np.array([1.0, 1, 2, 2, 2])
  )
  # An even encoder is best.
  scores = lambda i: np.sqrt(i[:, :2]).sum(1, keepdims=True) + np.zeros(3)  # noqa: E731

  def ratios(budget):
    return width_planner.plan(
      _net().space,
      {"depth": 1.0, "edges": 0.0, "kind": 0.0},
      budget,
      prices,
      scores,
      unit="latency_ms",
    ).config.ratios

  # 20 pays for the widest decoder and an encoder of full width.
  assert ratios(20.0) == (1.0, 1.0, 1.0, 0.25, 0.25)
  # 16 for the widest decoder, and an encoder of half and half.
  assert ratios(16.0) == (0.5, 0.5, 1.0, 0.25, 0.25)
  # 14 for half an encoder and a decoder of two steps, not of three.
  assert ratios(14.0) == (0.5, 0.5, 0.75, 0.25, 0.25)
  # At 9 no decoder can shrink enough.
  assert sorted(ratios(9.0)) == [0.25, 0.25, 0.25, 0.25, 0.5]


@hypothesis.settings(max_examples=10)
@hypothesis.given(_SEEDS)
def test_budgets_below_the_least_say_what_is_feasible(seed):
  world = World(seed)
  equal = (1.0, 1.0, 1.0)
  for rule in width_planner.RULES:
    exact = world.plan(equal, world.low, rule=rule)
    assert exact.price == world.low and exact.slack == 0
    with pytest.raises(
      width_planner.InfeasibleBudget, match="latency_ms buys no configuration"
    ) as caught:
      world.plan(equal, float(np.nextafter(world.low, 0)), rule=rule)
    assert caught.value.least == world.low
    assert world.plan(equal, caught.value.least, rule=rule).price == world.low


@pytest.mark.parametrize(
  ("preference", "message"),
  [
    ({"depth": 1.0, "edges": 1.0}, "task 'kind' has none; expected depth, edg"),
    ({}, "task 'depth' has none"),
    (dict.fromkeys((*_TASKS, "saliency"), 1.0), "unknown task 'saliency'"),
    ({"depth": -0.1, "edges": 1.0, "kind": 1.0}, "depth must be .* got -0.1"),
    (
      {"depth": 1.0, "edges": float("nan"), "kind": 1.0},
      "edges must be a finite number, not negative; got nan",
    ),
    ({"depth": 1.0, "edges": 1.0, "kind": float("inf")}, "kind must be .* inf"),
    (dict.fromkeys(_TASKS, 0.0), "at least one of depth, edges, kind must"),
  ],
)
def test_preferences_that_cannot_be_are_refused(preference, message):
  world = World(0)
  with pytest.raises(ValueError, match=f"^preferences: .*{message}"):
    world.plan(preference, world.high)


def test_preferences_become_shares_in_the_order_of_the_tasks():
  given = {"kind": 3.0, "depth": 1.0, "edges": 0.0}
  shares = width_planner.preference_vector(_TASKS, given)
  np.testing.assert_allclose(shares, [0.25, 0.0, 0.75])


@pytest.mark.parametrize("budget", [-1.0, 0.0, float("nan"), float("inf")])
def test_budgets_that_cannot_be_are_refused(budget):
  with pytest.raises(ValueError, match="positive number of latency_ms, got"):
    World(0).plan((1.0, 1.0, 1.0), budget)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"unit": "stones"}, "budget unit 'stones' is not one of macs"),
    ({"rule": "fair"}, "rule 'fair' is not one of proportional, value, two"),
    ({"search": "random"}, "search 'random' is not one of exhaustive, gre"),
  ],
)
def test_options_that_are_not_known_are_refused(options, message):
  world = World(0)
  equal = dict.fromkeys(_TASKS, 1.0)
  with pytest.raises(ValueError, match=message):
    width_planner.plan(
      world.space, equal, 1.0, world.prices, world.scores, **options
    )


def test_scores_that_are_no_numbers_are_refused():
  world = World(0)
  equal = (1.0, 1.0, 1.0)
  good = world.scores
  for rule in width_planner.RULES:
    world.scores = lambda i: np.where(i[:, :1] == 3, np.nan, good(i))
    with pytest.raises(ValueError, match=r"'depth' has the score nan at the"):
      world.plan(equal, world.high, rule=rule)
    world.scores = lambda i: good(i)[:, :2]
    with pytest.raises(ValueError, match="3 tasks, got an array of"):
      world.plan(equal, world.high, rule=rule)


def test_plans_are_json_with_real_costs():
  net = _net()
  prices = width_prices.WidthPrices(net)
  scores = lambda i: np.stack([i.sum(1)] * 3, 1) * 1.0  # noqa: E731
  equal = dict.fromkeys(_TASKS, 1.0)
  plan = width_planner.plan(net.space, equal, 0.5, prices, scores)
  assert plan.unit == "fraction" and plan.price <= 0.5
  indices = net.space.indices(plan.config)[None]
  assert plan.price == prices(indices, "fraction")[0]
  found = json.loads(json.dumps(plan.to_dict()))
  assert found["config"] == plan.config.to_dict()
  assert found["price"] == plan.price and found["scores"] == plan.scores


@hypothesis.given(seed=_SEEDS)
@hypothesis.settings(max_examples=10, deadline=None)
def test_gains_of_width_are_differences_of_single_widths(seed):
  """Against configurations that are written out."""
  world = World(seed)
  top = len(world.space.menu) - 1
  stages, tasks = len(world.space.encoder), len(_TASKS)
  gains = width_rules.width_gains(world.space, world.scores)
  widest = np.full(stages + tasks, top, np.int32)
  full = world.scores(widest[None])[0]
  for t in range(tasks):
    narrow = widest.copy()
    narrow[stages + t] = 0
    own = full[t] - world.scores(narrow[None])[0, t]
    assert gains.own[t] == pytest.approx(own)
  least = world.scores(np.zeros((1, stages + tasks), np.int32))[0]
  np.testing.assert_allclose(gains.whole, full - least)
