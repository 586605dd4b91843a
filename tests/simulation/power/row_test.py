# SPDX-License-Identifier: Apache-2.0
"""The compiled row against plain Python, closed forms and conservation."""

import dataclasses
import math

import hypothesis
from hypothesis import strategies
import jax
import numpy as np
import pytest

from jaxttc.simulation import power as power_lib
from jaxttc.simulation.power import plans, policies, requests
from jaxttc.testing import row_reference

MODEL = power_lib.constant(0.28, 0.70, 1.0)
# Speeds and powers that are short in binary, so that no sum is rounded.
SHORT = power_lib.constant(
  0.25,
  0.5,
  1.0,
  power_lib.Clock(1024.0, 256.0, 1.0, 1.0, 1.0, 0.0),
)
HALVES = plans.FrequencyPlan(
  (
    plans.Level("free"),
    plans.Level("low 512", low_mhz=512.0),
    plans.Level("low 256", low_mhz=256.0),
    plans.Level("low 256, high 512", low_mhz=256.0, high_mhz=512.0),
  )
)
CONTROL = power_lib.Control(2.0, 6.0, 3.0, 8.0)


def _stream(seed, horizon_s, busy, model, short=False):
  stream = requests.diurnal(
    seed,
    servers=1,
    horizon_s=horizon_s,
    power=model,
    busy=busy,
  )
  if short:
    arrival, prompt, token = (np.round(field * 64) / 64 for field in stream[:3])
    stream = stream._replace(
      arrival_s=arrival, prompt_s=prompt + 0.5, token_s=token
    )
  return stream


def _row(seed, policy, *, servers=5, model=MODEL, horizon_s=600.0, **settings):
  busy = settings.pop("busy", (0.5, 0.9))
  budget = settings.pop("budget", 0.65)
  short = settings.pop("short", False)
  streams = [
    _stream([seed, server], horizon_s, busy, model, short)
    for server in range(servers)
  ]
  labels = ["low" if server % 2 == 0 else "high" for server in range(servers)]
  return power_lib.Row(
    requests.assign(streams, labels),
    policy,
    model,
    servers * budget,
    settings.pop("control", CONTROL),
    **settings,
  )


def _in_python(row, decide, state, horizon_s, dt):
  asked = row.requests
  servers = []
  for server in range(len(asked.high)):
    real = np.isfinite(asked.arrival_s[server])
    columns = (field[server][real].tolist() for field in asked[:5])
    servers.append(
      [
        row_reference.Request(
          a, p, t, pw - row.power.idle_w, tw - row.power.idle_w
        )
        for a, p, t, pw, tw in zip(*columns, strict=True)
      ]
    )
  clock, control = row.power.clock, row.control
  rules = row_reference.Rules(
    paces=row.policy.plan.paces(clock).tolist(),
    brake=list(clock.pace(clock.brake_mhz)),
    idle_w=row.power.idle_w,
    budget_w=row.budget_w,
    telemetry=math.ceil(control.telemetry_s / dt),
    cap_latency=math.ceil(control.cap_latency_s / dt),
    brake_latency=math.ceil(control.brake_latency_s / dt),
    brake_hold=math.ceil(control.brake_hold_s / dt),
    dt=dt,
  )
  seen = row_reference.simulate(
    servers, asked.high.tolist(), rules, decide, state, int(horizon_s / dt)
  )
  finish = np.full(asked.arrival_s.shape, math.inf)
  for at, mine in enumerate(servers):
    finish[at, : len(mine)] = [request.finish_s for request in mine]
  return seen, finish


KINDS = {
  "none": (lambda plan: policies.no_cap(), row_reference.no_cap),
  "single": (
    lambda plan: policies.single_threshold("low", 0.85, 0.05),
    lambda: row_reference.single(0.85, 0.05),
  ),
  "dual": (
    lambda plan: policies.dual_threshold(0.75, 0.875, 0.0625, plan),
    lambda: row_reference.dual(0.75, 0.875, 0.0625),
  ),
}


@pytest.mark.parametrize("budget", [0.65, 0.8])
def test_equals_plain_python_bit_for_bit(budget):
  make, reference = KINDS["dual"]
  with jax.enable_x64(True):
    row = _row(
      3, make(HALVES), model=SHORT, budget=budget, short=True, busy=(0.6, 0.95)
    )
    found = power_lib.simulate_row(row, horizon_s=600.0, dt=0.5)
  seen, finish = _in_python(row, *reference(), 600.0, 0.5)
  np.testing.assert_array_equal(found.power_w, seen.power_w)
  np.testing.assert_array_equal(found.level, seen.level)
  np.testing.assert_array_equal(found.braked, seen.braked)
  np.testing.assert_array_equal(found.finish_s, finish)
  assert found.brakes == seen.trips
  assert len(set(seen.level)) > 2


@pytest.mark.parametrize("kind", KINDS)
def test_equals_plain_python(kind):
  # Numbers that are long in binary: the compiled engine may round a product
  # and a sum once where Python rounds twice, so times differ in last bits;
  # levels and brakes may not.
  make, reference = KINDS[kind]
  with jax.enable_x64(True):
    row = _row(5, make(plans.POLCA))
    found = power_lib.simulate_row(row, horizon_s=600.0, dt=0.5)
  seen, finish = _in_python(row, *reference(), 600.0, 0.5)
  np.testing.assert_array_equal(found.level, seen.level)
  np.testing.assert_array_equal(found.braked, seen.braked)
  assert found.brakes == seen.trips
  assert kind != "none" or seen.trips > 1
  np.testing.assert_allclose(found.power_w, seen.power_w, rtol=1e-12)
  np.testing.assert_allclose(found.finish_s, finish, rtol=1e-12)


@hypothesis.settings(max_examples=15)
@hypothesis.given(
  seed=strategies.integers(0, 1000),
  busy=strategies.floats(0.1, 0.95),
  budget=strategies.floats(0.3, 1.0),
)
def test_conserves_requests_and_energy(seed, busy, budget):
  row = _row(
    seed,
    policies.dual_threshold(),
    servers=4,
    horizon_s=200.0,
    busy=(busy, busy),
    budget=budget,
  )
  found = power_lib.simulate_row(row, horizon_s=256.0, dt=0.5)
  asked = row.requests
  assert found.served + found.unfinished == np.isfinite(asked.arrival_s).sum()
  done = np.isfinite(found.finish_s)
  # No request is faster than at full clock, and a server has one at a time.
  service = asked.prompt_s + asked.token_s
  begin = np.maximum(
    asked.arrival_s,
    np.concatenate([np.zeros((4, 1)), found.finish_s[:, :-1]], 1),
  )
  with np.errstate(invalid="ignore"):
    took = found.finish_s - begin
  assert (took[done] >= service[done] * (1 - 1e-5) - 1e-4).all()
  assert (found.power_w >= 4 * 0.28 * (1 - 1e-6)).all()
  assert (found.power_w <= 4 * (1 + 1e-6)).all()
  assert found.energy_j == pytest.approx(found.power_w.sum() * 0.5)
  if not found.braked.any() and not found.level.any():
    # At full clock joules follow from the work that was done.
    whole = (
      4 * 0.28 * 256.0
      + (asked.prompt_s * 0.72 + asked.token_s * 0.42)[done].sum()
    )
    most = whole + 4 * 0.72 * service.max()
    assert whole * (1 - 1e-5) <= found.energy_j <= most


def test_free_servers_are_a_queue():
  # No policy and full clock: the recursion of Lindley, request by request.
  row = _row(1, policies.no_cap(), horizon_s=2000.0, budget=2.0)
  with jax.enable_x64(True):
    found = power_lib.simulate_row(row, horizon_s=2000.0, dt=0.5)
  asked = row.requests
  for server in range(5):
    free = 0.0
    for at in range(int(np.isfinite(asked.arrival_s[server]).sum())):
      free = max(free, asked.arrival_s[server, at])
      free += asked.prompt_s[server, at] + asked.token_s[server, at]
      if free < 2000.0:
        assert found.finish_s[server, at] == pytest.approx(free, rel=1e-12)


def test_mean_wait_is_pollaczek_and_khinchines():
  horizon, busy = 100_000.0, 0.6
  stream = requests.diurnal(
    0, servers=32, horizon_s=horizon, power=MODEL, busy=(busy, busy)
  )
  row = power_lib.Row(
    requests.assign(requests.route(stream, 32, "random"), ["low"] * 32),
    policies.no_cap(),
    MODEL,
    100.0,
  )
  found = power_lib.simulate_row(row, horizon_s=horizon, dt=1.0)
  asked = row.requests
  done = np.isfinite(found.finish_s)
  service = (asked.prompt_s + asked.token_s)[done]
  wait = (found.finish_s - asked.arrival_s)[done] - service
  second_moment = 4.0**2 * 1.25 + 12.0**2 * 1.25 + 2 * 4 * 12
  expected = busy / 16 * second_moment / (2 * (1 - busy))
  assert wait.mean() == pytest.approx(expected, rel=0.05)
  # Mean power follows from the share of time in each phase.
  level = 0.28 + busy * (0.25 * 0.72 + 0.75 * 0.42)
  assert found.power_w.mean() / 32 == pytest.approx(level, rel=0.02)


def _steady(prompt_s, token_s, servers=6):
  one = requests.Stream(
    *(np.array([value]) for value in (0.0, prompt_s, token_s, 1.0, 0.7))
  )
  return requests.assign([one] * servers, ["low", "high"] * (servers // 2))


def test_power_of_idle_and_of_prompts():
  row = power_lib.Row(_steady(50.0, 50.0), policies.no_cap(), MODEL, 6.0)
  found = power_lib.simulate_row(row, horizon_s=150.0, dt=0.5)
  np.testing.assert_allclose(found.power_w[:100], 6.0, rtol=1e-6)
  np.testing.assert_allclose(found.power_w[100:200], 4.2, rtol=1e-6)
  np.testing.assert_allclose(found.power_w[200:], 6 * 0.28, rtol=1e-6)


def test_commands_take_effect_in_order_one_latency_later():
  row = power_lib.Row(
    _steady(200.0, 0.0),
    policies.dual_threshold(),
    MODEL,
    6.2,
    power_lib.Control(cap_latency_s=30.0),
  )
  found = power_lib.simulate_row(row, horizon_s=120.0, dt=0.5)
  # The first reading is idle; the second, at 2 s, is 0.97 of the budget.
  changes = np.flatnonzero(np.diff(found.level)) + 1
  np.testing.assert_array_equal(changes[0], (2.0 + 30.0) / 0.5)
  assert found.level[changes[0]] == 2
  later = found.commanded[: -int(30.0 / 0.5)]
  np.testing.assert_array_equal(found.level[60:], later)


def test_brake_is_held_and_bounds_power():
  row = power_lib.Row(
    _steady(300.0, 0.0),
    policies.no_cap(),
    MODEL,
    5.0,
    power_lib.Control(brake_latency_s=5.0, brake_hold_s=20.0),
  )
  found = power_lib.simulate_row(row, horizon_s=150.0, dt=0.5)
  bound = 6 * (0.28 + 0.72 * (288 / 1410) ** 1.6)
  assert found.power_w[found.braked].max() <= bound * (1 + 1e-6)
  starts = np.flatnonzero(np.diff(found.braked.astype(int)) == 1) + 1
  assert starts[0] == 14  # Read at 2 s, braked 5 s later.
  assert found.braked[14 : 14 + 40].all() and not found.braked[54]
  # A brake is called for again only when the last one was let go.
  tripped = np.flatnonzero(found.tripped)
  assert (np.diff(tripped) >= (5 + 20) / 0.5).all()
  assert found.brakes == len(tripped) > 3


def test_watt_caps_leave_decoding_alone():
  plan = plans.FrequencyPlan(
    (plans.Level("cap", low_cap_w=0.75, high_cap_w=0.75),)
  )
  policy = policies.no_cap()._replace(plan=plan)
  row = power_lib.Row(_steady(20.0, 40.0), policy, MODEL, 6.0)
  found = power_lib.simulate_row(row, horizon_s=120.0, dt=0.5)
  prompt, token = plans.capped_stretch(0.75, MODEL, 1.0, 0.7)
  assert prompt == pytest.approx((0.72 / 0.47) ** (1 / 1.6))
  assert token == 1.0
  np.testing.assert_allclose(found.finish_s[:, 0], 20 * prompt + 40, rtol=1e-5)
  np.testing.assert_allclose(found.power_w[:40], 6 * 0.75, rtol=1e-6)


def test_locks_stretch_phases_as_the_plan_says():
  policy = policies.no_cap()._replace(
    plan=plans.FrequencyPlan((plans.Level("low", low_mhz=1110.0),))
  )
  row = power_lib.Row(_steady(20.0, 40.0), policy, MODEL, 6.0)
  found = power_lib.simulate_row(row, horizon_s=120.0, dt=0.5)
  prompt, token = policy.plan.stretch(0, "low", MODEL.clock)
  np.testing.assert_allclose(
    found.finish_s[::2, 0], 20 * prompt + 40 * token, rtol=1e-5
  )
  np.testing.assert_allclose(found.finish_s[1::2, 0], 60.0, rtol=1e-5)


def test_oracle_without_latency_stays_below_budget():
  row = _row(2, policies.oracle(0.95), servers=8, budget=0.75, horizon_s=1000.0)
  found = power_lib.simulate_row(row, horizon_s=1000.0, dt=0.5)
  free = power_lib.simulate_row(
    dataclasses.replace(row, policy=policies.no_cap()),
    horizon_s=1000.0,
    dt=0.5,
  )
  # It sees phases at the start of a step; what begins within it comes on top.
  starts = 8 * 0.72 * 0.5
  assert found.power_w.max() <= max(0.95 * row.budget_w + starts, 0)
  assert found.brakes < free.brakes
  assert set(found.level) > {0}


def test_rows_do_not_feel_their_company():
  first = _row(1, policies.dual_threshold())
  other = _row(2, policies.no_cap(), servers=9)
  third = dataclasses.replace(other, policy=policies.proportional())
  alone = power_lib.simulate_row(first, horizon_s=300.0)
  _, beside, _ = power_lib.simulate_rows([other, first, third], horizon_s=300.0)
  np.testing.assert_array_equal(alone.level, beside.level)
  np.testing.assert_allclose(alone.power_w, beside.power_w, rtol=1e-6)
  np.testing.assert_allclose(alone.finish_s, beside.finish_s, rtol=1e-6)


def test_same_seed_same_result_and_progress():
  row = _row(1, policies.proportional())
  seen = []
  one, two = (
    power_lib.simulate_rows([row], horizon_s=300.0, progress=seen.append)[0]
    for _ in range(2)
  )
  np.testing.assert_array_equal(one.power_w, two.power_w)
  assert seen[-1] == 300.0


def test_latency_counts_what_is_not_done():
  row = power_lib.Row(_steady(100.0, 100.0), policies.no_cap(), MODEL, 9.0)
  found = power_lib.simulate_row(row, horizon_s=60.0)
  assert found.unfinished == 6 and found.served == 0
  np.testing.assert_allclose(found.latency_s("low"), 60.0)
  with pytest.raises(ValueError, match="priority 'middle'"):
    found.latency_s("middle")


@pytest.mark.parametrize(
  "change, message",
  [
    ({"budget_w": 1.0}, "even idle"),
    ({"budget_w": math.nan}, "a budget of nan"),
    (
      {"power": power_lib.constant(0.75, 0.8, 1.0), "budget_w": 9.0},
      "server 0, request 0: prompt 1 W, token 0.7 W, idle 0.75 W",
    ),
    (
      {
        "policy": policies.no_cap()._replace(
          plan=plans.FrequencyPlan((plans.Level("cap", low_cap_w=0.2),))
        )
      },
      "a cap of 0.2 W for low priority",
    ),
    (
      {
        "policy": policies.no_cap()._replace(
          plan=plans.FrequencyPlan((plans.Level("up", high_mhz=1500.0),))
        )
      },
      "level 'up': a lock at 1500 MHz",
    ),
  ],
)
def test_refuses_rows_that_cannot_be(change, message):
  row = power_lib.Row(_steady(10.0, 10.0), policies.no_cap(), MODEL, 6.0)
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(row, **change)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"dt": 4.0}, "longer than the telemetry period"),
    ({"dt": 0.3}, "not a whole number of steps"),
    ({"dt": 0.0}, "dt is 0.0"),
    ({"horizon_s": math.inf}, "horizon_s is inf"),
    ({"horizon_s": 1e8}, "at most 16777216 steps"),
  ],
)
def test_refuses_steps_that_cannot_be(settings, message):
  row = power_lib.Row(_steady(10.0, 10.0), policies.no_cap(), MODEL, 6.0)
  with pytest.raises(ValueError, match=message):
    power_lib.simulate_row(row, **{"horizon_s": 10.0, "dt": 0.5} | settings)


def test_refuses_requests_shorter_than_a_step():
  row = power_lib.Row(_steady(0.3, 0.1), policies.no_cap(), MODEL, 6.0)
  with pytest.raises(ValueError, match="row 0: server 0, request 0 takes 0.4"):
    power_lib.simulate_row(row, horizon_s=10.0, dt=0.5)
  with pytest.raises(ValueError, match="no rows"):
    power_lib.simulate_rows([], horizon_s=10.0)


@pytest.mark.parametrize(
  "field, value", [("cap_latency_s", -1.0), ("telemetry_s", 0.0)]
)
def test_refuses_controls_that_cannot_be(field, value):
  with pytest.raises(ValueError, match=field):
    power_lib.Control(**{field: value})
