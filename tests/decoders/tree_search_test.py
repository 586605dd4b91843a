# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.decoders import array_tree, tree_policies, tree_search

WIDTH = 8

# These programs run for milliseconds and compile for seconds.
quick_jit = functools.partial(
  jax.jit,
  compiler_options={
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
  },
)


def problem(seed, batch, actions):
  """Parameters of a small random recurrent net, and its view of the roots."""
  keys = jax.random.split(jax.random.key(seed), 9)
  params = {
    "hidden": jax.random.normal(keys[0], (WIDTH, WIDTH)),
    "action": jax.random.normal(keys[1], (actions, WIDTH)),
    "logits": jax.random.normal(keys[2], (WIDTH, actions)),
    "value": jax.random.normal(keys[3], (WIDTH,)),
    "reward": jax.random.normal(keys[4], (WIDTH,)),
    "discount": jax.random.normal(keys[5], (WIDTH,)),
  }
  root = tree_search.RootOutput(
    prior_logits=jax.random.normal(keys[6], (batch, actions)),
    value=jax.random.normal(keys[7], (batch,)),
    embedding={"state": jax.random.normal(keys[8], (batch, WIDTH))},
  )
  return params, root


def recurrent_fn(params, key, action, embedding):
  hidden = embedding["state"] @ params["hidden"] + params["action"][action]
  hidden = jnp.tanh(hidden / WIDTH**0.5)
  # The key takes part, so that equal trees need equal keys.
  noise = 0.1 * jax.random.normal(key, action.shape)
  return tree_search.RecurrentOutput(
    reward=hidden @ params["reward"] + noise,
    discount=jax.nn.sigmoid(hidden @ params["discount"]),
    prior_logits=hidden @ params["logits"],
    value=hidden @ params["value"],
  ), {"state": hidden}


def some_invalid(batch, actions):
  """Every other action of every other row is invalid."""
  rows = jnp.arange(batch)[:, None] % 2 == 0
  return rows & (jnp.arange(actions)[None] % 2 == 1)


def policies(name, simulations, invalid, **options):
  """Our policy and mctx's, both compiled: (params, key, root) -> output."""
  mctx = pytest.importorskip("mctx")
  ours, theirs = {
    "puct": (tree_search.puct_policy, mctx.muzero_policy),
    "gumbel": (tree_search.gumbel_policy, mctx.gumbel_muzero_policy),
  }[name]

  def their_fn(*args):
    step, embedding = recurrent_fn(*args)
    return mctx.RecurrentFnOutput(**step._asdict()), embedding

  def run_ours(params, key, root):
    return ours(
      params, key, root, recurrent_fn, simulations, invalid, **options
    )

  def run_theirs(params, key, root):
    if invalid is not None:
      options["invalid_actions"] = invalid.astype(jnp.float32)
    root = mctx.RootFnOutput(**root._asdict())
    return theirs(params, key, root, their_fn, simulations, **options)

  return quick_jit(run_ours), quick_jit(run_theirs)


@pytest.mark.parametrize(
  "name, batch, actions, simulations, masked, options",
  [
    ("puct", 5, 4, 40, True, {"temperature": 0.0}),
    (
      "puct",
      3,
      6,
      33,
      False,
      {"max_depth": 3, "pb_c_init": 0.5, "pb_c_base": 20.0},
    ),
    ("gumbel", 6, 5, 48, True, {"max_num_considered_actions": 3}),
    ("gumbel", 3, 4, 30, False, {"max_depth": 2, "gumbel_scale": 0.0}),
  ],
)
def test_equals_mctx_node_for_node(
  name, batch, actions, simulations, masked, options
):
  invalid = some_invalid(batch, actions) if masked else None
  ours, theirs = policies(name, simulations, invalid, **options)
  for seed in range(3):
    params, root = problem(seed, batch, actions)
    key = jax.random.key(100 + seed)
    mine, other = ours(params, key, root), theirs(params, key, root)
    np.testing.assert_array_equal(mine.action, other.action)
    np.testing.assert_allclose(
      mine.action_weights, other.action_weights, rtol=1e-5, atol=1e-5
    )
    for field in (
      "node_visits", "parents", "action_from_parent", "children_index",
      "children_visits",
    ):  # fmt: skip
      np.testing.assert_array_equal(
        getattr(mine.search_tree, field), getattr(other.search_tree, field)
      )
    for field in (
      "raw_values", "node_values", "children_prior_logits", "children_values",
      "children_rewards", "children_discounts",
    ):  # fmt: skip
      np.testing.assert_allclose(
        getattr(mine.search_tree, field),
        getattr(other.search_tree, field),
        rtol=1e-5,
        atol=1e-5,
      )
    np.testing.assert_allclose(
      mine.search_tree.embeddings["state"],
      other.search_tree.embeddings["state"],
      rtol=1e-5,
      atol=1e-5,
    )


@pytest.fixture(scope="module", params=["puct", "gumbel"])
def output(request):
  policy = {
    "puct": tree_search.puct_policy,
    "gumbel": tree_search.gumbel_policy,
  }[request.param]
  params, root = problem(3, 4, 3)
  run = quick_jit(
    functools.partial(
      policy,
      recurrent_fn=recurrent_fn,
      num_simulations=30,
      invalid_actions=some_invalid(4, 3),
    )
  )
  return run(params, jax.random.key(0), root)


def test_visits_of_a_node_are_one_more_than_of_its_children(output):
  tree = output.search_tree
  assert (tree.node_visits[:, 0] == 31).all()
  np.testing.assert_array_equal(
    tree.node_visits, 1 + tree.children_visits.sum(axis=-1)
  )


def test_values_are_means_over_the_subtree(output):
  tree = jax.device_get(output.search_tree)
  batch, nodes = tree.node_visits.shape
  for row in range(batch):
    total = tree.raw_values[row].astype(np.float64)
    # Children come after their parents, so one sweep backwards suffices. A
    # node's value is its raw value and the returns through its children.
    for node in range(nodes - 1, 0, -1):
      parent = tree.parents[row, node]
      visits = tree.node_visits[row, node]
      total[parent] += (
        tree.node_rewards[row, node] * visits
        + tree.node_discounts[row, node] * total[node]
      )
    np.testing.assert_allclose(
      tree.node_values[row], total / tree.node_visits[row], atol=1e-5
    )


def test_weights_are_distributions_over_valid_actions(output):
  invalid = some_invalid(4, 3)
  np.testing.assert_allclose(output.action_weights.sum(-1), 1.0, rtol=1e-5)
  assert (jnp.where(invalid, output.action_weights, 0.0) < 1e-6).all()
  assert not invalid[jnp.arange(4), output.action].any()


@pytest.mark.parametrize(
  "policy, options",
  [
    (
      tree_search.puct_policy,
      {"max_depth": 1, "temperature": 0.0, "dirichlet_fraction": 0.0},
    ),
    (tree_search.gumbel_policy, {"gumbel_scale": 0.0}),
  ],
)
def test_finds_the_best_arm(policy, options):
  def arms(values, key, action, embedding):
    del key
    zeros = jnp.zeros(action.shape)
    return tree_search.RecurrentOutput(
      reward=values[action],
      discount=zeros,
      prior_logits=jnp.zeros((*action.shape, 4)),
      value=zeros,
    ), embedding

  root = tree_search.RootOutput(
    jnp.zeros((2, 4)), jnp.zeros((2,)), jnp.zeros((2, 1))
  )
  run = quick_jit(
    lambda values: (
      policy(values, jax.random.key(0), root, arms, 40, **options).action
    )
  )
  for best in range(4):
    assert (run(jnp.full((4,), 0.2).at[best].set(0.9)) == best).all()


def test_gumbel_improves_on_the_prior():
  # E_improved[q] >= E_prior[q] for the completed q (Danihelka et al. 2022).
  params, root = problem(5, 16, 4)
  output = quick_jit(
    lambda p, k, r: tree_search.gumbel_policy(p, k, r, recurrent_fn, 8)
  )(params, jax.random.key(2), root)
  top = array_tree.view(output.search_tree, jnp.zeros((16,), jnp.int32))
  q = tree_policies.q_completed_by_mixed_value(top)
  prior = jax.nn.softmax(top.prior_logits)
  gain = ((output.action_weights - prior) * q).sum(axis=-1)
  assert (gain >= -1e-5).all()
  assert gain.max() > 0.01


def test_halving_schedule_by_hand():
  # 4 children, 8 simulations, 2 phases: one lap of four, then two of two.
  schedule = tree_policies.halving_schedule(4, 8)
  assert schedule.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
  assert tree_policies.halving_schedule(1, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("considered", range(9))
@pytest.mark.parametrize("simulations", [1, 5, 16, 50])
def test_halving_schedule_always_finds_a_child(considered, simulations):
  visits = np.zeros(max(considered, 1), int)
  for turn in tree_policies.halving_schedule(considered, simulations):
    candidates = np.flatnonzero(visits == turn)
    assert candidates.size
    visits[candidates[0]] += 1
  assert visits.sum() == simulations


def test_halving_table_equals_mctx():
  seq_halving = pytest.importorskip("mctx._src.seq_halving")
  for considered, simulations in ((1, 4), (7, 40), (16, 32), (16, 200)):
    np.testing.assert_array_equal(
      tree_policies.halving_table(considered, simulations),
      seq_halving.get_table_of_considered_visits(considered, simulations),
    )


def test_min_max_transform():
  view = tree_policies.View(
    visits=jnp.array(3),
    value=jnp.array(0.0),
    raw_value=jnp.array(0.0),
    child_visits=jnp.array([1, 1, 0]),
    child_q=jnp.array([1.0, 3.0, 9.0]),
    child_known=jnp.array([True, True, False]),
    prior_logits=jnp.zeros((3,)),
  )
  q = tree_policies.q_by_min_max(view, min_value=-1.0, max_value=3.0)
  np.testing.assert_allclose(q, [0.5, 1.0, 0.0])
  with pytest.raises(ValueError, match="min_value 2.0 must be below"):
    tree_policies.q_by_min_max(view, min_value=2.0, max_value=2.0)


@pytest.mark.parametrize(
  "options, message",
  [
    ({"num_simulations": 0}, "num_simulations and max_depth"),
    ({"num_simulations": 4, "max_depth": 0}, "num_simulations and max_depth"),
    (
      {"num_simulations": 4, "invalid_actions": jnp.zeros((1, 3), bool)},
      r"invalid_actions must be \[2, 3\]",
    ),
  ],
)
def test_search_refuses_bad_input(options, message):
  params, root = problem(0, 2, 3)

  def first(keys, view):
    del keys
    return jnp.zeros_like(view.visits)

  with pytest.raises(ValueError, match=message):
    tree_search.search(
      params,
      jax.random.key(0),
      root=root,
      recurrent_fn=recurrent_fn,
      root_select=first,
      interior_select=first,
      **options,
    )


def test_policies_refuse_bad_input():
  params, root = problem(0, 2, 3)
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="num_simulations"):
    tree_search.puct_policy(params, key, root, recurrent_fn, 0)
  with pytest.raises(ValueError, match="max_num_considered_actions"):
    tree_search.gumbel_policy(
      params, key, root, recurrent_fn, 4, max_num_considered_actions=0
    )
  with pytest.raises(ValueError, match="halving_schedule"):
    tree_policies.halving_schedule(-1, 4)
