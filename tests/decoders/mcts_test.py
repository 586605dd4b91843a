# SPDX-License-Identifier: Apache-2.0
import functools
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import (
  array_tree,
  base,
  mcts,
  tree_policies,
  tree_search,
)
from jaxttc.decoders import tree as tree_lib

ROOT = base.Root(prompt_length=jnp.int32(3), reward=jnp.float32(0.5))


def draw(world, path, slot, shape):
  """Child `slot` of the node reached by `path`: any pure function of both."""
  rng = np.random.default_rng([world, *path, slot])
  end = len(path) >= 2 or rng.random() < 0.3
  return SimpleNamespace(
    valid=bool(rng.random() > shape.get("broken", 0.0)),
    finished=bool(end),
    length=int(rng.integers(1, 5)),
    reward=float(np.float32(rng.random())),
    logprob=float(np.float32(-rng.random() * 3)),
    answer=int(rng.integers(0, 3)) if end else -1,
  )


@functools.cache
def compiled(decoder):
  """The decoder's functions, compiled for one problem and for a batch."""
  pick = (decoder.ask, decoder.tell, decoder.answer)
  return tuple(map(jax.jit, pick)), tuple(jax.jit(jax.vmap(f)) for f in pick)


class Run:
  """A host driver for one problem: a world of random steps."""

  def __init__(self, decoder, world, *, budget=None, **shape):
    self.decoder, self.world, self.shape = decoder, world, shape
    self.budget = budget
    self.paths = [()]
    self.asked = []

  def start(self):
    return self.decoder.init(ROOT, budget_lib.Budget())

  def outcome(self, expansion):
    """What came back, or None if nothing was asked or can be paid for."""
    node = int(expansion.node[0])
    wanted = int(expansion.children[0])
    if self.budget is not None:
      wanted = min(wanted, self.budget)
      self.budget -= wanted
    if not wanted:
      return None
    self.asked.append(node)
    width = self.decoder.shape.children
    rows = [draw(self.world, self.paths[node], k, self.shape)
            for k in range(wanted)]  # fmt: skip
    end = int(expansion.until[0]) == base.Until.END
    for row, k in zip(rows, range(wanted), strict=True):
      if end and not row.finished:
        row.finished, row.answer = True, 0
      if row.valid:
        self.paths.append((*self.paths[node], k))

    def column(name, fill, dtype):
      values = [getattr(row, name) for row in rows]
      values += [fill] * (width - wanted)
      return jnp.asarray([values], dtype)

    return base.Outcome(
      valid=column("valid", False, bool),
      finished=column("finished", False, bool),
      length=column("length", 0, jnp.int32),
      reward=column("reward", 0.0, jnp.float32),
      logprob=column("logprob", 0.0, jnp.float32),
      answer=column("answer", -1, jnp.int32),
    )

  def finish(self, state=None, rounds=None):
    """Plays until the search is over, or for so many rounds."""
    (ask, tell, _), _ = compiled(self.decoder)
    state = self.start() if state is None else state
    while rounds is None or rounds > 0:
      expansion = ask(state, jax.random.key(0))
      outcome = self.outcome(expansion)
      if outcome is None:
        break
      state = tell(state, expansion, outcome)
      rounds = None if rounds is None else rounds - 1
    return state


def reference(world, simulations, children, max_depth, score, **shape):
  """Tree search in plain Python; `score(node, kids, root)` rates children."""

  def node(reward, path, finished, answer):
    return SimpleNamespace(
      reward=reward, path=path, kids=[], finished=finished, answer=answer,
      visits=0, total=0.0, dead=False, logprob=0.0,
    )  # fmt: skip

  root = node(0.5, (), False, -1)
  nodes, asked = [root], []
  for _ in range(simulations):
    trail = [root]
    while trail[-1].kids:
      here = trail[-1]
      rates = score(here, here.kids, here is root)
      trail.append(here.kids[int(np.argmax(rates))])
    leaf = trail[-1]
    if leaf.finished:
      value = leaf.reward
    elif leaf.dead:
      value = 0.0
    else:
      asked.append(nodes.index(leaf))
      for k in range(children):
        row = draw(world, leaf.path, k, shape)
        last = len(leaf.path) + 1 >= max_depth
        if row.valid:
          answer = 0 if last and not row.finished else row.answer
          kid = node(row.reward, (*leaf.path, k), row.finished or last, answer)
          kid.logprob = row.logprob
          leaf.kids.append(kid)
      nodes.extend(leaf.kids)
      leaf.dead = not leaf.kids
      rewards = [kid.reward for kid in leaf.kids]
      value = sum(rewards) / len(rewards) if rewards else 0.0
    for here in trail:
      here.visits += 1
      here.total += value
  return nodes, asked


def mean(node):
  return (node.reward + node.total) / (1 + node.visits)


def puct_rates(node, kids, root, prior="uniform"):
  del root
  values = [mean(kid) for kid in kids]
  low, high = min(values + [mean(node)]), max(values + [mean(node)])
  weight = 1.25 + math.log((node.visits + 19653.0) / 19652.0)
  weights = [math.exp(k.logprob if prior == "logprob" else 0.0) for k in kids]
  return [
    (value - low) / max(high - low, 1e-8)
    + weight * p / sum(weights) * math.sqrt(node.visits) / (1 + kid.visits)
    for value, kid, p in zip(values, kids, weights, strict=True)
  ]


def gumbel_rates(simulations, node, kids, root):
  values = np.array([mean(kid) for kid in kids])
  visits = np.array([kid.visits for kid in kids])
  spread = max(values.max() - values.min(), 1e-8)
  sigma = (50 + visits.max()) * 0.1 * (values - values.min()) / spread
  if root:
    turn = tree_policies.halving_schedule(len(kids), simulations)[visits.sum()]
    return np.where(visits == turn, sigma, -np.inf)
  policy = np.exp(sigma) / np.exp(sigma).sum()
  return policy - visits / (1 + visits.sum())


SIMULATIONS = 20
DECODERS = {
  "puct": mcts.puct(simulations=SIMULATIONS, children=3, max_depth=3),
  "gumbel": mcts.gumbel(simulations=SIMULATIONS, children=3, max_depth=3),
}
RATES = {
  "puct": puct_rates,
  "gumbel": functools.partial(gumbel_rates, SIMULATIONS),
}


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("broken", [0.0, 0.5])
def test_equals_plain_python(name, broken):
  for world in range(6):
    run = Run(DECODERS[name], world, broken=broken)
    state = run.finish()
    nodes, asked = reference(
      world, SIMULATIONS, 3, 3, RATES[name], broken=broken
    )
    assert run.asked == asked
    assert int(state.tree.used) == len(nodes)
    count = len(nodes)
    assert state.visits[:count].tolist() == [n.visits for n in nodes]
    np.testing.assert_allclose(
      state.value[:count], [mean(n) for n in nodes], rtol=1e-5
    )


def test_logprob_prior_equals_plain_python():
  decoder = mcts.puct(simulations=12, children=3, max_depth=3, prior="logprob")
  rates = functools.partial(puct_rates, prior="logprob")
  for world in range(4):
    run = Run(decoder, world)
    state = run.finish()
    nodes, asked = reference(world, 12, 3, 3, rates)
    assert run.asked == asked
    assert state.visits[: len(nodes)].tolist() == [n.visits for n in nodes]


@pytest.mark.parametrize("name", DECODERS)
def test_visits_sum_to_simulations(name):
  for world in range(4):
    state = Run(DECODERS[name], world, broken=0.3).finish()
    children, visits = np.asarray(state.children), np.asarray(state.visits)
    assert int(state.simulations) == SIMULATIONS == visits[0]
    below = np.where(children >= 0, visits[children], 0).sum(axis=1)
    expanded = (children >= 0).any(axis=1)
    np.testing.assert_array_equal(visits[expanded], 1 + below[expanded])


def arms(decoder, values):
  """Plays a decoder on first steps that end at once, of given rewards."""
  (ask, tell, answer), _ = compiled(decoder)
  state = decoder.init(ROOT, budget_lib.Budget())
  expansion = ask(state, jax.random.key(0))
  ones = jnp.ones((1, len(values)), jnp.int32)
  outcome = base.Outcome(
    valid=ones > 0,
    finished=ones > 0,
    length=ones,
    reward=jnp.asarray([values], jnp.float32),
    logprob=-1.0 * ones,
    answer=jnp.arange(len(values), dtype=jnp.int32)[None],
  )
  state = tell(state, expansion, outcome)
  assert int(ask(state, jax.random.key(0)).children[0]) == 0
  return state, answer(state)


@pytest.mark.parametrize("select", mcts.SELECTIONS)
@pytest.mark.parametrize("factory", [mcts.puct, mcts.gumbel])
def test_bandit_with_known_values_picks_the_best_arm(factory, select):
  decoder = factory(simulations=30, children=4, select=select)
  for best in range(4):
    values = [0.2, 0.3, 0.1, 0.4]
    values[best] = 0.9
    state, answer = arms(decoder, values)
    assert int(answer.answer) == best
    assert int(answer.node) == best + 1
    assert int(state.simulations) == 30
    assert int(jnp.argmax(state.visits[1:])) == best


def test_halving_visits():
  # 4 arms, 8 turns: one each, then the better two have two more each.
  decoder = mcts.gumbel(simulations=9, children=4)
  state, _ = arms(decoder, [0.1, 0.9, 0.2, 0.8])
  assert state.visits[:5].tolist() == [9, 1, 3, 1, 3]


def test_vote_adds_rewards_up():
  decoder = mcts.puct(simulations=1, children=3, select="vote")
  state, _ = arms(decoder, [0.5, 0.4, 0.3])
  state = state.replace(
    tree=state.tree.replace(answer=state.tree.answer.at[1:4].set([7, 8, 8]))
  )
  answer = decoder.answer(state)
  assert (int(answer.answer), int(answer.node)) == (8, 2)


def as_search_tree(state, prior):
  """A decoder's state in the arrays of the batched search."""
  nodes = state.children.shape[0]
  seen = jax.vmap(lambda n: mcts.view(state, n, prior))(jnp.arange(nodes))
  zeros = jnp.zeros((nodes,))
  tree = array_tree.SearchTree(
    node_visits=state.visits,
    raw_values=state.tree.reward,
    node_values=state.value,
    node_rewards=zeros,
    node_discounts=zeros + 1,
    parents=state.tree.parent,
    action_from_parent=state.tree.parent,
    children_index=state.children,
    children_prior_logits=seen.prior_logits,
    embeddings=(),
    root_invalid_actions=jnp.zeros(state.children.shape[1:], bool),
  )
  return jax.tree.map(lambda x: x[None], tree)


@pytest.mark.parametrize("prior", mcts.PRIORS)
def test_walk_equals_that_of_the_array_search(prior):
  decoder = mcts.puct(simulations=12, children=3, max_depth=5, prior=prior)

  def select(keys, view):
    del keys
    score = tree_policies.puct_score(view)
    return tree_policies.masked_argmax(score, jnp.zeros(score.shape, bool))

  @jax.jit
  def descend(state):
    keys = jax.random.split(jax.random.key(0), 1)
    tree = as_search_tree(state, prior)
    return tree_search.descend(tree, keys, select, select, 9)[0][0]

  depth = 0
  for world in (1, 3):
    run = Run(decoder, world)
    state = run.start()
    for _ in range(6):
      assert int(state.leaf) == int(descend(state))
      state = run.finish(state, rounds=1)
    depth = max(depth, int(state.tree.depth.max()))
  assert depth == 3


@pytest.mark.parametrize("name", DECODERS)
def test_vmap_equals_loop(name):
  decoder = DECODERS[name]
  _, (ask, tell, answer) = compiled(decoder)
  runs = [Run(decoder, world) for world in range(3)]
  single = [Run(decoder, world).finish() for world in range(3)]

  def stack(trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)

  state = stack([run.start() for run in runs])
  keys = jax.random.split(jax.random.key(0), 3)
  blank = jnp.zeros((1, 3), jnp.int32)
  nothing = base.Outcome(
    blank > 0, blank > 0, blank, blank * 1.0, blank * 1.0, blank - 1
  )
  while True:
    expansion = ask(state, keys)
    rows = [jax.tree.map(lambda x, i=i: x[i], expansion) for i in range(3)]
    outcomes = [r.outcome(e) for r, e in zip(runs, rows, strict=True)]
    if all(o is None for o in outcomes):
      break
    outcomes = [nothing if o is None else o for o in outcomes]
    state = tell(state, expansion, stack(outcomes))
  wanted = stack(single)
  for field in ("visits", "children", "simulations", "path"):
    np.testing.assert_array_equal(getattr(state, field), getattr(wanted, field))
  np.testing.assert_allclose(state.value, wanted.value, rtol=1e-5)
  np.testing.assert_array_equal(
    answer(state).node,
    [int(compiled(decoder)[0][2](one).node) for one in single],
  )


@pytest.mark.parametrize("name", DECODERS)
def test_resumed_search_gives_the_same_answer(name):
  decoder = DECODERS[name]
  whole = Run(decoder, 5).finish()
  run = Run(decoder, 5)
  state = run.finish(rounds=3)
  leaves, treedef = jax.tree.flatten(state)
  saved = [np.asarray(leaf).copy() for leaf in leaves]
  state = run.finish(
    jax.tree.unflatten(treedef, [jnp.asarray(x) for x in saved])
  )
  for one, other in zip(
    jax.tree.leaves(state), jax.tree.leaves(whole), strict=True
  ):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("budget", [0, 1, 2, 4, 11])
def test_small_budgets(name, budget):
  decoder = DECODERS[name]
  state = Run(decoder, 2, budget=budget).finish()
  assert int(state.tree.used) == 1 + budget
  answer = compiled(decoder)[0][2](state)
  finished = np.asarray(state.tree.finished)
  assert (int(answer.node) >= 0) == finished.any()
  assert (int(answer.node) < 0) or finished[int(answer.node)]
  assert np.isfinite(np.asarray(state.value)).all()


def test_nothing_paid_for_changes_nothing():
  decoder = DECODERS["puct"]
  (ask, tell, _), _ = compiled(decoder)
  state = Run(decoder, 1).finish(rounds=2)
  expansion = ask(state, jax.random.key(0))
  blank = jnp.zeros((1, 3), jnp.int32)
  outcome = base.Outcome(
    blank > 0, blank > 0, blank, blank * 1.0, blank * 1.0, blank - 1
  )
  again = tell(state, expansion, outcome)
  np.testing.assert_array_equal(again.visits, state.visits)
  np.testing.assert_array_equal(
    ask(again, jax.random.key(0)).node, expansion.node
  )


def test_dead_root_ends_the_search():
  decoder = DECODERS["gumbel"]
  run = Run(decoder, 0, broken=1.0)
  state = run.finish()
  assert run.asked == [0]
  assert int(state.simulations) == SIMULATIONS
  assert int(state.tree.status[0]) == tree_lib.Status.CLOSED
  answer = compiled(decoder)[0][2](state)
  assert (int(answer.answer), int(answer.node)) == (-1, -1)


def test_last_step_is_sampled_to_the_end():
  decoder = mcts.puct(simulations=6, children=2, root_children=5, max_depth=2)
  assert decoder.shape == base.SearchShape(nodes=16, asks=1, children=5)
  run = Run(decoder, 7)
  (ask, _, _), _ = compiled(decoder)
  state = run.start()
  expansion = ask(state, jax.random.key(0))
  assert expansion.until.tolist() == [base.Until.STEP]
  assert expansion.children.tolist() == [5]
  state = run.finish(state, rounds=1)
  expansion = ask(state, jax.random.key(0))
  assert expansion.until.tolist() == [base.Until.END]
  assert expansion.children.tolist() == [2]
  assert int(run.finish(state).tree.depth.max()) == 2


@pytest.mark.parametrize("factory", [mcts.puct, mcts.gumbel])
@pytest.mark.parametrize(
  "options, message",
  [
    ({"simulations": 0}, "simulations must be at least 1, got 0"),
    ({"simulations": 4, "children": 0}, "children must be at least 1"),
    ({"simulations": 4, "root_children": -2}, "root_children must be"),
    ({"simulations": 4, "max_depth": 0}, "max_depth must be at least 1"),
    ({"simulations": 4, "prior": "uniforn"}, "did you mean 'uniform'"),
    ({"simulations": 4, "select": "votes"}, "did you mean 'vote'"),
  ],
)
def test_refuses_bad_options(factory, options, message):
  with pytest.raises(ValueError, match=message):
    factory(**options)
