# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities against NumPy; in chunks as at once; packed as alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import controllers, local_engine
from jaxttc.inference import engine as engine_lib
from jaxttc.models import config as config_lib
from jaxttc.models import transformer
from jaxttc.testing import tiny_models
from jaxttc.training import log_probs

_CONFIG = config_lib.TransformerConfig(
  vocab_size=19,
  width=16,
  layers=1,
  heads=2,
  kv_heads=1,
  head_dim=8,
  mlp_width=16,
  max_length=32,
)


def test_against_numpy():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, 5)).astype(np.float32)
  targets = rng.integers(5, size=(2, 3)).astype(np.int32)
  found = log_probs.of_logits(jnp.array(logits), jnp.array(targets), 0.5)
  p = np.exp(2.0 * logits.astype(np.float64))
  p /= p.sum(-1, keepdims=True)
  own = np.take_along_axis(p, targets[..., None], -1)[..., 0]
  np.testing.assert_allclose(found.log_probs, np.log(own), rtol=1e-5)
  np.testing.assert_allclose(found.entropy, -(p * np.log(p)).sum(-1), rtol=1e-5)


def test_excluded_tokens_leave_entropy_and_gradient_finite():
  logits = jnp.array([[[0.0, 0.0, -jnp.inf]]])

  def entropy(logits):
    return log_probs.of_logits(logits, jnp.zeros((1, 1), int)).entropy.sum()

  value, slope = jax.value_and_grad(entropy)(logits)
  assert float(value) == pytest.approx(np.log(2))
  assert np.isfinite(slope[..., :2]).all()


def _rows():
  """Three texts, a row each and packed into one; targets follow."""
  rng = np.random.default_rng(1)
  texts = [rng.integers(1, 19, size=n) for n in (5, 3, 6)]
  rows = np.zeros((4, 3, 6), np.int32)  # tokens, segments, positions, targets
  packed = np.zeros((4, 1, 15), np.int32)
  start = 0
  for i, text in enumerate(texts):
    n = len(text)
    for held, row, at in ((rows, i, 0), (packed, 0, start)):
      held[0, row, at : at + n] = text
      held[1, row, at : at + n] = i + 1 if held is packed else 1
      held[2, row, at : at + n] = np.arange(n)
      held[3, row, at : at + n - 1] = text[1:]
    start += n
  return [*map(jnp.array, rows)], [*map(jnp.array, packed)], [5, 3, 6]


@pytest.fixture(scope="module")
def model():
  made = transformer.Transformer(_CONFIG)
  return made, transformer.init(jax.random.key(0), made)


@pytest.mark.parametrize("chunk", [1, 4])
def test_chunks_change_neither_values_nor_gradients(model, chunk):
  rows, _, _ = _rows()

  def total(params, chunk):
    found = log_probs.of_model(model[0], params, *rows, chunk=chunk)
    return found.log_probs.sum() + 0.3 * (found.entropy**2).sum()

  whole = jax.value_and_grad(total)(model[1], None)
  parts = jax.value_and_grad(total)(model[1], chunk)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    whole,
    parts,
  )


def test_packed_equals_a_row_each(model):
  rows, packed, lengths = _rows()
  alone = log_probs.of_model(model[0], model[1], *rows).log_probs
  found = log_probs.of_model(model[0], model[1], *packed).log_probs[0]
  start = 0
  for i, n in enumerate(lengths):
    np.testing.assert_allclose(
      found[start : start + n - 1], alone[i, : n - 1], rtol=1e-4, atol=1e-5
    )
    start += n


def test_agrees_with_what_the_engine_reports_while_sampling():
  policy = tiny_models.tiny_bundles(0)[0]
  engine = local_engine.LocalEngine(
    policy, groups=2, rows=2, steps=4, columns=12
  )
  head = engine.encode("Solve 3 + 4 .\n")
  engine.open({0: engine_lib.Prompt(text="", tokens=head)})
  engine.submit(
    [
      engine_lib.Request(
        group=0, ticket=i, node=0, until=engine_lib.END, limit=12, seed=(0, i)
      )
      for i in range(4)
    ]
  )
  spans = []
  while len(spans) < 4:
    spans += engine.step()
  rows = np.zeros((4, 4, len(head) + 12), np.int32)
  tokens, segments, positions, targets = rows
  for i, span in enumerate(spans):
    text = [*head, *span.tokens]
    tokens[i, : len(text)], segments[i, : len(text)] = text, 1
    positions[i, : len(text)] = np.arange(len(text))
    targets[i, : len(text) - 1] = text[1:]
  found = log_probs.of_model(
    policy.model, policy.params, *map(jnp.array, rows)
  ).log_probs
  for i, span in enumerate(spans):
    first = len(head) - 1
    own = found[i, first : first + span.length].sum()
    assert float(own) == pytest.approx(span.logprob, abs=1e-4)


def test_bad_options_are_refused(model):
  rows, _, _ = _rows()
  with pytest.raises(ValueError, match="temperature must be positive"):
    log_probs.of_logits(jnp.zeros((1, 1, 2)), jnp.zeros((1, 1), int), 0.0)
  with pytest.raises(ValueError, match="chunk must be at least 1"):
    log_probs.of_model(model[0], model[1], *rows, chunk=0)


_CUTS = (
  {"temperature": 0.7, "top_k": 3},
  {"temperature": 0.7, "top_p": 0.6},
  {"min_p": 0.4},
  {"temperature": 1.3, "top_k": 5, "top_p": 0.8, "min_p": 0.1},
)


def _cut(p, top_k=None, top_p=1.0, min_p=0.0):
  """A law f64[V] with its rare tokens cut, one filter after the other."""
  if top_k is not None:
    p = np.where(p >= np.sort(p)[-top_k], p, 0)
    p = p / p.sum()
  order = np.argsort(-p, kind="stable")
  before = np.cumsum(p[order]) - p[order]
  p[order[before >= top_p]] = 0
  p = np.where(p >= min_p * p.max(), p, 0)
  return p / p.sum()


@pytest.mark.parametrize("cuts", _CUTS)
def test_the_law_of_a_sampler_is_what_is_left_after_cutting(cuts):
  rng = np.random.default_rng(3)
  logits = rng.normal(size=(2, 3, 8)).astype(np.float32)
  targets = rng.integers(8, size=(2, 3)).astype(np.int32)
  found = log_probs.of_sampler(
    jnp.array(logits), jnp.array(targets), controllers.Sampler(**cuts)
  )
  cuts = dict(cuts)
  p = np.exp(logits.astype(np.float64) / cuts.pop("temperature", 1.0))
  p /= p.sum(-1, keepdims=True)
  seen = []
  for place in np.ndindex(2, 3):
    left = _cut(p[place].copy(), **cuts)
    own = targets[place]
    seen.append(left[own] > 0)
    # A target that was cut counts as the one more that is kept.
    kept = (left > 0) | (np.arange(8) == own)
    left = np.where(kept, p[place], 0) / p[place][kept].sum()
    assert float(found.log_probs[place]) == pytest.approx(
      np.log(left[own]), abs=1e-5
    )
    entropy = -(left[kept] * np.log(left[kept])).sum()
    assert float(found.entropy[place]) == pytest.approx(entropy, abs=1e-5)
  assert any(seen) and not all(seen)


@pytest.mark.parametrize("cuts", _CUTS)
def test_its_gradient_is_that_of_the_reward_of_what_it_samples(cuts):
  """By enumeration: sum of p A grad log p over all tokens that are kept."""
  rng = np.random.default_rng(4)
  logits = jnp.array(0.3 * rng.normal(size=8), jnp.float32)  # several stay
  rewards = jnp.array(rng.normal(size=8), jnp.float32)
  sampler = controllers.Sampler(**cuts)
  controller = sampler.controller()
  bent = controller.apply(controller.init(1), logits[None])[0]
  law = jax.nn.softmax(bent)

  def said(logits):
    rows = jnp.broadcast_to(logits, (1, 8, 8))
    return log_probs.of_sampler(rows, jnp.arange(8)[None], sampler).log_probs[0]

  np.testing.assert_allclose(
    np.exp(said(logits))[law > 0], law[law > 0], rtol=1e-5
  )
  surrogate = lambda x: (law * rewards * said(x)).sum()  # noqa: E731
  kept = law > 0

  def expected(logits):
    cut = jnp.where(kept, logits / sampler.temperature, -jnp.inf)
    return (jax.nn.softmax(cut) * rewards).sum()

  found, wanted = jax.grad(surrogate)(logits), jax.grad(expected)(logits)
  np.testing.assert_allclose(found, wanted, atol=1e-6)
  assert np.abs(wanted).max() > 1e-2


def test_a_law_that_looks_back_is_refused():
  with pytest.raises(ValueError, match="no repetition_penalty"):
    log_probs.of_sampler(
      jnp.zeros((1, 1, 2)),
      jnp.zeros((1, 1), int),
      controllers.Sampler(repetition_penalty=1.1),
    )
