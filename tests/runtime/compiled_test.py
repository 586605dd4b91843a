# SPDX-License-Identifier: Apache-2.0
"""Tests of whole searches on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import mesh as mesh_lib
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import transformer_flops
from jaxttc.decoders import registry
from jaxttc.decoders import tree as tree_lib
from jaxttc.inference import controllers
from jaxttc.runtime import compiled
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.testing import tiny_models

_SETTINGS = settings_lib.SearchSettings(
  sampler=controllers.Sampler(temperature=1.0), step_tokens=16, max_tokens=48
)
_BEAM = registry.make(
  "prm_beam", {"num_survivors": 2, "num_expansions": 2, "max_steps": 8}
)
_PROBLEMS, _WIDTH = 8, 16


class _Case:
  """A compiled search of eight problems, by steps and, at the end, spans."""

  def __init__(self, policy, verifier):
    self.policy, self.verifier = policy, verifier
    self.search = compiled.compiled_search(policy, verifier, _BEAM, _SETTINGS)
    self._read = jax.jit(self.search.read)
    self._start = jax.jit(self.search.start)
    self._advance = jax.jit(self.search.advance)
    self._answer = jax.jit(self.search.answer)
    rng = np.random.default_rng(0)
    self.length = rng.integers(3, _WIDTH + 1, _PROBLEMS).astype(np.int32)
    self.tokens = rng.integers(300, 400, (_PROBLEMS, _WIDTH)).astype(np.int32)
    self.tokens[np.arange(_WIDTH) >= self.length[:, None]] = 0
    self.keys = jax.random.split(jax.random.key(5), _PROBLEMS)

  def arguments(self, budgets, rows):
    meters = [
      budget_lib.Meter.start(budget).to_arrays() for budget in budgets[rows]
    ]
    return (
      self.policy.params,
      self.verifier.params,
      jnp.asarray(self.tokens[rows]),
      jnp.asarray(self.length[rows]),
      self.keys[rows],
      jax.tree.map(lambda *xs: jnp.stack(xs), *meters),
    )

  def run(self, budgets, rows=slice(None), rounds=(1000,)):
    """(state, answer) of the problems in `rows`, in stretches of rounds."""
    args = self.arguments(budgets, rows)
    state = self._start(self._read(*args[:4]), *args[2:])
    for more in rounds:
      state = self._advance(*args[:2], state, jnp.int32(more))
    return jax.device_get((state, self._answer(state)))


@pytest.fixture(scope="module")
def bundles():
  return tiny_models.tiny_bundles(2)


@pytest.fixture(scope="module")
def case(bundles):
  return _Case(*bundles)


_UNLIMITED = [budget_lib.Budget(generated_tokens=2000)] * _PROBLEMS


@pytest.fixture(scope="module")
def together(case):
  return case.run(_UNLIMITED)


def _numbers(result):
  """What must not depend on how a search was batched; no caches, no keys."""
  state, answer = result
  bare = state.replace(
    policy=None, verifier=None, key=None, meter=None, read=None
  )
  return bare, answer


def _same(got, expected):
  """Equal whole numbers, and real ones equal up to the last bits."""

  def compare(path, a, b):
    a, b = np.asarray(a), np.asarray(b)
    where = jax.tree_util.keystr(path)
    if np.issubdtype(a.dtype, np.floating):
      np.testing.assert_allclose(a, b, atol=2e-5, err_msg=where)
    else:
      np.testing.assert_array_equal(a, b, err_msg=where)

  jax.tree_util.tree_map_with_path(compare, got, expected)


def test_searches_find_answers_and_differ(together):
  state, answer = together
  assert (answer.node > 0).sum() >= 4
  assert not state.running.any()
  # Different problems, different text.
  assert len({row.tobytes() for row in state.text.tokens}) == _PROBLEMS
  finished = state.tree.status == tree_lib.Status.FINISHED
  assert len(set(state.tree.answer[finished].tolist())) > 2


def test_a_problem_alone_is_searched_as_in_a_batch(case, together):
  for i in (0, 3, 7):
    alone = case.run(_UNLIMITED, slice(i, i + 1))
    same_row = jax.tree.map(lambda x, i=i: x[i : i + 1], _numbers(together))
    _same(_numbers(alone), same_row)


def test_stopping_and_going_on_changes_nothing(case, together):
  halves = case.run(_UNLIMITED, rounds=(1, 1, 1000))
  jax.tree.map(
    np.testing.assert_array_equal, _numbers(halves), _numbers(together)
  )
  early, answer = case.run(_UNLIMITED, rounds=(1,))
  assert (early.rounds == 1).all()
  # Anytime: an answer is there or it is not, but nothing breaks.
  assert ((answer.node >= -1) & (answer.node < early.tree.used)).all()


def _spans(state, i):
  """(tokens before, tokens of) every node of problem i but the root."""
  size = (state.text.tokens[i] >= 0).sum(axis=1)
  end = state.text.end[i]
  return [
    (int(end[state.tree.parent[i, n]]), int(size[n]))
    for n in range(1, int(state.tree.used[i]))
  ]


def test_usage_and_cost_are_what_counting_by_hand_gives(case, together):
  state, _ = together
  policy, verifier = case.policy.shape(), case.verifier.shape()
  prices = settings_lib.prices(case.policy, case.verifier, _SETTINGS)
  whole = 0
  for i in range(_PROBLEMS):
    spans, length = _spans(state, i), int(case.length[i])
    usage = jax.tree.map(lambda x, i=i: x[i], state.usage)
    # What is scored has a node; a child that was cut is paid for, and has none.
    assert usage.calls == len(spans)
    assert usage.scored == sum(n for _, n in spans)
    assert int(usage.scored_attended) == sum(
      context + j + 1 for context, n in spans for j in range(n)
    )
    assert usage.generated >= usage.scored
    if usage.generated != usage.scored:
      continue
    whole += 1
    flops = transformer_flops.prefill_flops(policy, length - 1)
    flops += transformer_flops.prefill_flops(verifier, length)
    for context, n in spans:
      flops += transformer_flops.prefill_flops(verifier, n, context)
      for j in range(n):  # a token is drawn by feeding the one before it
        flops += transformer_flops.decode_flops(policy, context - 1 + j)
    cost = search_lib.exact_cost(prices, length, usage, True)
    assert cost.flops == flops
    assert cost.prompt_tokens == length
    assert cost.generated_tokens == usage.scored
    assert cost.verifier_tokens == length + usage.scored
    assert cost.verifier_calls == len(spans)
  assert whole >= 1


def test_nodes_end_where_their_paths_say(case, together):
  state, _ = together
  for i in range(_PROBLEMS):
    for n, (context, size) in enumerate(_spans(state, i), start=1):
      assert state.text.end[i, n] == context + size
      assert state.tree.length[i, n] == size
      assert state.text.last[i, n] == state.text.tokens[i, n, size - 1]
      assert context + size - case.length[i] <= _SETTINGS.max_tokens


def test_no_field_is_ever_overrun(case, together):
  """Random limits on several fields, from nothing to plenty."""
  state, _ = together
  prices = settings_lib.prices(case.policy, case.verifier, _SETTINGS)
  usual = [
    search_lib.exact_cost(
      prices,
      int(case.length[i]),
      jax.tree.map(lambda x, i=i: x[i], state.usage),
      True,
    ).as_dict()
    for i in range(_PROBLEMS)
  ]
  rng = np.random.default_rng(1)
  fields = (
    "prompt_tokens",
    "generated_tokens",
    "verifier_tokens",
    "verifier_calls",
    "flops",
    "bytes",
  )
  stopped_by = set()
  for _ in range(6):
    budgets = []
    for i in range(_PROBLEMS):
      share = rng.choice([0, 0.02, 0.3, 0.7, 1.0, 2.0], len(fields))
      limited = rng.random(len(fields)) < 0.4
      limits = {
        name: int(usual[i][name] * part)
        for name, part, chosen in zip(fields, share, limited, strict=True)
        if chosen
      }
      budgets.append(budget_lib.Budget(**{"generated_tokens": 2000} | limits))
    state, answer = case.run(budgets)
    for i, budget in enumerate(budgets):
      usage = jax.tree.map(lambda x, i=i: x[i], state.usage)
      paid = bool(state.paid[i])
      cost = search_lib.exact_cost(prices, int(case.length[i]), usage, paid)
      for name, limit in budget.as_dict().items():
        assert getattr(cost, name) <= limit, (name, budget)
      meter = jax.tree.map(lambda x, i=i: x[i], state.meter)
      for name in fields:  # the meter never knows of less than was spent
        spent = float(getattr(meter.spent, name))
        assert spent >= getattr(cost, name) * (1 - 1e-6), name
      assert paid or cost.generated_tokens == 0
      assert int(answer.node[i]) < int(state.tree.used[i])
      stopped_by.add((paid, cost.generated_tokens > 0))
  assert len(stopped_by) == 3  # prompt refused, nothing sampled, some sampled


def test_a_budget_that_covers_all_changes_nothing(case, together):
  plenty = budget_lib.Budget(
    prompt_tokens=_WIDTH,
    generated_tokens=2000,
    verifier_calls=100,
    flops=10**12,
    bytes=10**12,
  )
  _same(_numbers(case.run([plenty] * _PROBLEMS)), _numbers(together))


def test_eight_devices_search_as_one_does(case, together):
  def run(*args):
    prompts = case.search.read(*args[:4])
    state = case.search.start(prompts, *args[2:])
    state = case.search.advance(*args[:2], state, jnp.int32(1000))
    return state, case.search.answer(state)

  mesh = mesh_lib.make_mesh(8)
  spread = mesh_lib.data_parallel(run, mesh, replicated_argnums=(0, 1))
  state, answer = spread(*case.arguments(_UNLIMITED, slice(None)))
  assert len(answer.node.sharding.device_set) == 8
  got = jax.device_get((state, answer))
  _same(_numbers(got), _numbers(together))


def test_refuses_models_that_do_not_fit(bundles):
  policy, verifier = bundles
  with pytest.raises(ValueError, match="needs rewards"):
    compiled.compiled_search(policy, None, _BEAM, _SETTINGS)
  with pytest.raises(ValueError, match="policy is a process_reward"):
    compiled.compiled_search(verifier, verifier, _BEAM, _SETTINGS)
  with pytest.raises(ValueError, match="verifier is a language_model"):
    compiled.compiled_search(policy, policy, _BEAM, _SETTINGS)
  bad = settings_lib.SearchSettings(step_tokens=0)
  with pytest.raises(ValueError, match="step_tokens"):
    compiled.compiled_search(policy, verifier, _BEAM, bad)
