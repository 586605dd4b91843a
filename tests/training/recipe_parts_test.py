# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax.numpy as jnp
import pytest

from jaxttc.models import config as config_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import accumulation, recipe_parts

_CONFIG = config_lib.TransformerConfig(
  vocab_size=4,
  width=8,
  layers=1,
  heads=2,
  kv_heads=1,
  head_dim=4,
  mlp_width=16,
  max_length=8,
)


@dataclasses.dataclass(kw_only=True)
class _Inner:
  sizes: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(kw_only=True)
class _Recipe:
  inner: _Inner
  rate: float = 0.5


def test_a_description_is_what_json_gives_back():
  assert recipe_parts.described("kind", _Recipe(inner=_Inner())) == {
    "kind": "kind",
    "inner": {"sizes": [1, 2]},
    "rate": 0.5,
  }


def test_held_out_batches_count_by_their_weight():
  def objective(params, batch, key):
    del key
    loss = (params * batch).mean()
    return loss, {"loss": loss, accumulation.WEIGHT: jnp.float32(batch.size)}

  batches = [jnp.array([1.0, 3.0]), jnp.array([5.0])]
  evaluate = recipe_parts.held_out(objective, batches)
  found = evaluate(jnp.float32(2.0), 7)
  assert list(found) == ["held_out_loss"]
  assert found["held_out_loss"] == pytest.approx(2 * (1 + 3 + 5) / 3)
  assert recipe_parts.held_out(objective, []) is None


def test_a_model_has_an_embedding_for_each_word():
  tokenizer = tokenizer_lib.WordTokenizer()
  config = dataclasses.replace(_CONFIG, vocab_size=tokenizer.vocab_size)
  recipe_parts.check_vocabulary(config, tokenizer)
  wrong = dataclasses.replace(config, vocab_size=tokenizer.vocab_size - 1)
  with pytest.raises(ValueError, match=f"tokenizer's {tokenizer.vocab_size}"):
    recipe_parts.check_vocabulary(wrong, tokenizer)


def test_a_model_is_kept_with_its_recipe():
  made = recipe_parts.word_model(
    "language_model", _CONFIG, {"w": jnp.ones(2)}, {"kind": "k"}
  )
  assert (made.kind, made.config) == ("language_model", _CONFIG)
  assert made.recipe == {"kind": "k"}
