# SPDX-License-Identifier: Apache-2.0
import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import controllers, generation, local_engine
from jaxttc.inference import engine as engine_lib
from jaxttc.testing import tiny_models
from jaxttc.verifiers import local_verifier

STEP, END = engine_lib.STEP, engine_lib.END
TEXTS = ("Solve 3 + 4 .\n", "Solve 1 + 2 + 3 + 4 + 5 .\n", "Solve 9 .\n")
SIZES = {"groups": 2, "rows": 2, "steps": 4, "columns": 12}


@functools.lru_cache
def _models():
  return tiny_models.tiny_bundles(0)


@functools.lru_cache
def _engine():
  """One engine for all tests, as its programs are its own."""
  return local_engine.LocalEngine(_models()[0], **SIZES)


@pytest.fixture
def engine():
  engine = _engine()
  yield engine
  for group in range(engine.groups):
    engine.close(group)


def _prompt(text):
  return engine_lib.Prompt(text=text, tokens=_engine().encode(text))


def _ask(ticket=0, *, group=0, node=0, until=STEP, limit=12, seed=None):
  return engine_lib.Request(
    group=group,
    ticket=ticket,
    node=node,
    until=until,
    limit=limit,
    seed=(0, ticket) if seed is None else (7, seed),
  )


def _finish(engine, count):
  """Completions by group and ticket, of so many requests."""
  done = {}
  for _ in range(50):
    if len(done) == count:
      return done
    done |= {(c.group, c.ticket): c for c in engine.step()}
  raise AssertionError(f"{len(done)} of {count} requests came back")


@functools.lru_cache
def _no_cache_step():
  """(tokens i32[1, 64], length, key data, t) -> token and its log-prob."""
  policy = _models()[0]

  @jax.jit
  def draw(tokens, length, seed, t):
    index = jnp.arange(tokens.shape[1])[None]
    mask = (index[:, :, None] >= index[:, None, :])[:, None]
    logits = policy.model.apply(
      {"params": policy.params},
      tokens[:, None],
      index[:, None],
      mask,
      method="everything",
    )
    key = jax.random.fold_in(jax.random.wrap_key_data(seed), t)
    return controllers.sample(key[None], logits[0, 0, length - 1][None])

  return draw


def _without_cache(prefix, request):
  """What a plain loop over whole sequences samples for a request."""
  tokenizer = _models()[0].tokenizer
  tokens, logprob, answering = [], 0.0, False
  seed = np.array(request.seed, np.uint32)
  for t in range(request.limit):
    padded = np.zeros((1, 64), np.int32)
    text = [*prefix, *tokens]
    padded[0, : len(text)] = text
    token, more = _no_cache_step()(padded, len(text), seed, t)
    tokens.append(int(token[0]))
    logprob += float(more[0])
    line = tokens[-1] == tokenizer.newline_id
    answering |= tokens[-1] == tokenizer.answer_marker_id
    if tokens[-1] == tokenizer.eos_id or (line and answering):
      return tokens, logprob, True, True
    if line and request.until == STEP:
      return tokens, logprob, True, False
  return tokens, logprob, False, False


def _agrees(completion, prefix, request):
  tokens, logprob, stopped, finished = _without_cache(prefix, request)
  assert completion.tokens == tuple(tokens)
  assert completion.length == len(tokens)
  assert (completion.stopped, completion.finished) == (stopped, finished)
  assert completion.logprob == pytest.approx(logprob, abs=1e-4)
  assert completion.text == _models()[0].tokenizer.decode(tokens)


def test_is_an_engine(engine):
  assert isinstance(engine, engine_lib.Engine)
  assert "dollars" not in engine.metered and "flops" in engine.metered
  priced = local_engine.LocalEngine(_models()[0], hardware="h100-sxm")
  assert "dollars" in priced.metered


def test_samples_what_a_model_without_a_cache_samples(engine):
  """More requests than rows, of mixed lengths, in two unlike groups."""
  engine.open({0: _prompt(TEXTS[0]), 1: _prompt(TEXTS[1])})
  requests = [
    _ask(i, group=g, until=(STEP, END)[i % 2], limit=(12, 9, 5, 12)[i])
    for g in range(2)
    for i in range(4)
  ]
  engine.submit(requests)
  done = _finish(engine, 8)
  for request in requests:
    prefix = _prompt(TEXTS[request.group]).tokens
    _agrees(done[request.group, request.ticket], prefix, request)
  assert len({c.text for c in done.values()}) > 4


def test_a_row_does_not_depend_on_batch_mates(engine):
  engine.open({0: _prompt(TEXTS[0]), 1: _prompt(TEXTS[2])})
  target = _ask(3, until=END, seed=5)
  engine.submit([target])
  alone = _finish(engine, 1)[0, 3]
  engine.submit([_ask(0), _ask(1, until=END), _ask(2)])
  engine.submit([_ask(i, group=1, until=END) for i in range(3)])
  early = engine.step()
  engine.submit([target])
  crowded = _finish(engine, 7 - len(early))[0, 3]
  assert crowded.tokens == alone.tokens
  assert crowded.logprob == pytest.approx(alone.logprob, abs=1e-5)


@hypothesis.settings(max_examples=12)
@hypothesis.given(st.data())
def test_any_schedule_of_forks_and_prunes_agrees_with_no_cache(data):
  """Grows a random tree, pruning as it goes, with a second search beside."""
  engine, verifier = _engine(), _verifier()
  prompts = {0: _prompt(TEXTS[0]), 1: _prompt(TEXTS[1])}
  engine.open(prompts)
  verifier.open(prompts)
  try:
    tree = {g: {0: prompts[g].tokens} for g in prompts}
    fresh = {g: 1 for g in prompts}
    for turn in range(data.draw(st.integers(2, 4), label="turns")):
      asked = {}
      for g in prompts:
        for ticket in range(data.draw(st.integers(0, 4), label="children")):
          node = data.draw(st.sampled_from(sorted(tree[g])), label="node")
          until = data.draw(st.sampled_from([STEP, END]), label="until")
          limit = data.draw(st.integers(1, 10), label="limit")
          seed = 100 * turn + 10 * g + ticket
          asked[g, ticket] = _ask(
            ticket, group=g, node=node, until=until, limit=limit, seed=seed
          )
      engine.submit(list(asked.values()))
      done = _finish(engine, len(asked))
      _check_round(engine, verifier, data, tree, fresh, asked, done)
  finally:
    for g in prompts:
      engine.close(g)
      verifier.close(g)


def _check_round(engine, verifier, data, tree, fresh, asked, done):
  spans = []
  for at, request in asked.items():
    _agrees(done[at], tree[at[0]][request.node], request)
    if done[at].stopped:
      spans.append(_span(done[at], request.node))
  rewards = verifier.score(spans)
  for span, reward in zip(spans, rewards, strict=True):
    whole = [*tree[span.group][span.parent], *span.tokens]
    assert reward == pytest.approx(_reward(whole), abs=1e-5)
  for g in tree:
    nodes = {}
    for span in spans:
      keep = not span.finished and data.draw(st.booleans(), label="file")
      if span.group == g and keep:
        nodes[span.ticket] = fresh[g]
        tree[g][fresh[g]] = (*tree[g][span.parent], *span.tokens)
        fresh[g] += 1
    pruned = data.draw(st.sets(st.sampled_from(sorted(tree[g]))), label="prune")
    keep = np.ones(64, bool)
    for node in pruned - {0}:
      # A pruned node's descendants go with it, as in a search.
      for other in list(tree[g]):
        if tree[g][other][: len(tree[g][node])] == tree[g][node]:
          keep[other] = False
    keep[0] = True
    tree[g] = {n: tokens for n, tokens in tree[g].items() if keep[n]}
    for served in (engine, verifier):
      served.file(g, nodes)
      served.release(g, keep)


@functools.lru_cache
def _verifier():
  return local_verifier.LocalVerifier(_models()[1], groups=2)


def _span(completion, parent):
  return engine_lib.Span(
    group=completion.group,
    ticket=completion.ticket,
    parent=parent,
    text=completion.text,
    tokens=completion.tokens,
    finished=completion.finished,
  )


@functools.lru_cache
def _full_reward():
  verifier = _models()[1]

  @jax.jit
  def run(tokens):
    index = jnp.arange(tokens.shape[1])[None]
    mask = (index[:, :, None] >= index[:, None, :])[:, None]
    judged, _ = verifier.model.apply(
      {"params": verifier.params}, tokens[:, None], index[:, None], mask
    )
    return jax.nn.sigmoid(judged.logits[0, 0])

  return run


def _reward(tokens):
  """Reward of a sequence, by one forward pass over all of it."""
  padded = np.zeros((1, 64), np.int32)
  padded[0, : len(tokens)] = tokens
  return float(_full_reward()(padded)[len(tokens) - 1])


def test_nothing_recompiles_in_steady_state(engine):
  """Two hundred requests of mixed lengths, over two dozen searches."""
  verifier = _verifier()

  def search(seed):
    rng = np.random.default_rng(seed)
    texts = [TEXTS[i] for i in rng.integers(0, 3, size=2)]
    prompts = {g: _prompt(text) for g, text in enumerate(texts)}
    engine.open(prompts)
    verifier.open(prompts)
    for _ in range(2):
      asked = [
        _ask(
          i,
          group=g,
          until=int(rng.integers(2)),
          limit=int(rng.integers(1, 13)),
          seed=int(rng.integers(10**6)),
        )
        for g in range(2)
        for i in range(4)
      ]
      engine.submit(asked)
      done = _finish(engine, len(asked))
      spans = [_span(c, 0) for c in done.values() if c.stopped]
      verifier.score(spans)
      for g in range(2):
        nodes = [s.ticket for s in spans if s.group == g and not s.finished]
        for served in (engine, verifier):
          served.file(g, {ticket: 1 + i for i, ticket in enumerate(nodes)})
    for g in range(2):
      engine.close(g)
      verifier.close(g)
    return len(asked) * 2

  for seed in range(24):
    search(seed)
  before = engine.compilations, verifier.compilations
  assert sum(search(seed) for seed in range(24, 38)) >= 200
  assert (engine.compilations, verifier.compilations) == before


def test_capacities_grow_when_they_must():
  engine = local_engine.LocalEngine(
    _models()[0], groups=1, rows=1, steps=4, columns=4, slots=16, nodes=2
  )
  prompt = _prompt(TEXTS[0])
  engine.open({0: prompt})
  prefix, node, seed = prompt.tokens, 0, 0
  while node < 20:  # a path of more nodes, tokens and slots than there is room
    request = _ask(40, node=node, limit=24, seed=seed)
    engine.submit([request])
    completion = _finish(engine, 1)[0, 40]
    _agrees(completion, prefix, request)
    seed += 1
    extends = completion.stopped and not completion.finished
    engine.file(0, {40: node + 1} if extends else {})
    if extends and len(prefix) + completion.length < 38:
      node, prefix = node + 1, (*prefix, *completion.tokens)
    elif extends:
      break
  assert node >= 5


def test_rows_are_refilled_while_others_go_on(engine):
  prompt = _prompt(TEXTS[0])
  long = (_ask(0, until=END, seed=seed) for seed in range(100))
  long = next(r for r in long if len(_without_cache(prompt.tokens, r)[0]) == 12)
  engine.open({0: prompt})
  engine.submit([long, *(_ask(i, limit=2, seed=i) for i in range(1, 5))])
  arrived = []
  for _ in range(12):
    arrived += [c.ticket for c in engine.step()]
  # The other of the two rows did the short ones meanwhile.
  assert arrived.index(0) >= 2
  assert sorted(arrived) == [0, 1, 2, 3, 4]


def test_a_controller_is_told_the_tokens_before_its_span():
  def init(batch, prompt=None):
    if prompt is None:
      return jnp.zeros((batch,), jnp.int32)
    return (prompt >= 0).sum(axis=1).astype(jnp.int32)

  # Writes as many tokens as its prefix had, then ends the solution.
  eos = _models()[0].tokenizer.eos_id
  digit = _models()[0].tokenizer.id_of("1")

  def apply(state, logits, context=None):
    token = jnp.where(state > 0, digit, eos)[:, None]
    ids = jnp.arange(logits.shape[1])[None]
    return jnp.where(ids == token, 0.0, -jnp.inf)

  def commit(state, token, active):
    return token, state - active

  engine = local_engine.LocalEngine(
    _models()[0],
    controller=controllers.Controller(init, apply, commit),
    **(SIZES | {"columns": 24}),
  )
  prompts = {0: _prompt(TEXTS[0]), 1: _prompt(TEXTS[1])}
  engine.open(prompts)
  engine.submit([_ask(i, group=i, until=END, limit=24) for i in prompts])
  done = _finish(engine, 2)
  for g, prompt in prompts.items():
    assert done[g, g].length == len(prompt.tokens) + 1
    assert done[g, g].finished


def test_cancel_tells_what_was_spent_and_frees_the_rows(engine):
  engine.open({0: _prompt(TEXTS[0]), 1: _prompt(TEXTS[1])})
  other = _ask(0, group=1, until=END, limit=12, seed=3)
  engine.submit([_ask(i, until=END, limit=12) for i in range(4)] + [other])
  early = engine.step()
  gone = engine.cancel(0)
  tickets = [c.ticket for c in early + gone if c.group == 0]
  assert sorted(tickets) == [0, 1, 2, 3]
  assert all(not c.stopped and c.length <= 4 for c in gone)
  assert [c.length for c in gone if c.ticket == 3] == [0]  # it never ran
  engine.file(0, {})
  again = _ask(1, seed=9)
  engine.submit([again])
  done = {(c.group, c.ticket): c for c in early}
  for _ in range(12):
    done |= {(c.group, c.ticket): c for c in engine.step()}
  _agrees(done[0, 1], _prompt(TEXTS[0]).tokens, again)
  _agrees(done[1, 0], _prompt(TEXTS[1]).tokens, other)


@pytest.mark.parametrize(
  "request_, message",
  [
    (_ask(group=1), "group 1 is not open"),
    (_ask(node=3), "group 0 has no node 3"),
    (_ask(limit=0), "limit must be at least 1, got 0"),
  ],
)
def test_bad_requests(engine, request_, message):
  engine.open({0: _prompt(TEXTS[0])})
  with pytest.raises(ValueError, match=message):
    engine.submit([request_])


def test_bad_calls(engine):
  engine.open({0: _prompt(TEXTS[0])})
  with pytest.raises(ValueError, match="group 0 is open already"):
    engine.open({0: _prompt(TEXTS[0])})
  with pytest.raises(ValueError, match="group 2 is out of range"):
    engine.open({2: _prompt(TEXTS[0])})
  with pytest.raises(ValueError, match="the prompt has no tokens"):
    engine.open({1: engine_lib.Prompt(text="", tokens=())})
  with pytest.raises(ValueError, match="no span that can be extended"):
    engine.file(0, {5: 1})
  engine.submit([_ask(0)])
  with pytest.raises(ValueError, match="ticket 0 of group 0 is taken"):
    engine.submit([_ask(0)])
  with pytest.raises(ValueError, match="groups must be at least 1, got 0"):
    local_engine.LocalEngine(_models()[0], groups=0)
  with pytest.raises(ValueError, match="expected language_model"):
    local_engine.LocalEngine(_models()[1])


def test_bad_calls_of_the_verifier():
  verifier = _verifier()
  span = engine_lib.Span(
    group=0, ticket=0, parent=0, text="1", tokens=(17,), finished=False
  )
  with pytest.raises(ValueError, match="group 0 is not open"):
    verifier.score([span])
  with pytest.raises(ValueError, match="expected process_reward"):
    local_verifier.LocalVerifier(_models()[0])
  verifier.open({0: _prompt(TEXTS[0])})
  try:
    with pytest.raises(ValueError, match="no span that was scored"):
      verifier.file(0, {0: 1})
  finally:
    verifier.close(0)


def test_scratch_sizes_are_few():
  sizes = {local_engine._columns(n) for n in range(1, 257)}
  assert sizes == {16, 24, 32, 48, 64, 96, 128, 192, 256}
  assert all(local_engine._columns(n) >= n for n in range(1, 257))
  assert generation.bucket(1) == 16
