# SPDX-License-Identifier: Apache-2.0
"""Tests of models that carry all that running them takes."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import transformer_flops
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import weights
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.testing import tiny_models


@pytest.fixture(scope="module")
def pair():
  return tiny_models.tiny_bundles(0)


@pytest.fixture
def saved(pair, tmp_path):
  path = str(tmp_path / "model.safetensors")
  bundle_lib.save(path, dataclasses.replace(pair[0], recipe={"steps": 3}))
  return path


def _rewrite(path, **metadata):
  """The same weights under other metadata; None removes an entry."""
  params, old = weights.load_safetensors(path)
  new = {k: v for k, v in (old | metadata).items() if v is not None}
  weights.save_safetensors(path, params, new)
  return path


def _config(pair, **change):
  return json.dumps(pair[0].config.to_dict() | change)


@pytest.mark.parametrize("which", [0, 1])
def test_survives_a_round_trip(pair, tmp_path, which):
  path = str(tmp_path / "model.safetensors")
  bundle_lib.save(path, pair[which])
  back = bundle_lib.load(path)
  assert back.kind == pair[which].kind and back.config == pair[which].config
  assert back.tokenizer.fingerprint == pair[which].tokenizer.fingerprint
  jax.tree.map(np.testing.assert_array_equal, back.params, pair[which].params)
  assert back.shape() == pair[which].shape()
  assert isinstance(back.model, type(pair[which].model))


def test_carries_its_recipe_and_takes_the_dtype_asked_for(saved):
  half = bundle_lib.load(saved, jnp.bfloat16)
  assert half.recipe == {"steps": 3}
  assert half.dtype == jnp.bfloat16 and half.model.dtype == jnp.bfloat16


def test_steps_end_with_lines_and_solutions_with_answers(pair):
  rule = pair[0].stop_rule
  tokenizer = pair[0].tokenizer
  assert rule.eos_id == tokenizer.eos_id
  assert rule.answer_marker_id == tokenizer.id_of("####")
  assert rule.step_end.alphabet.tolist() == [tokenizer.id_of("\n")]


def test_a_missing_truncated_or_garbled_file_is_named(saved, tmp_path):
  gone = str(tmp_path / "gone.safetensors")
  with pytest.raises(ValueError, match="gone.safetensors: no such file"):
    bundle_lib.load(gone)
  data = open(saved, "rb").read()
  for name, damaged in (
    ("short", data[: len(data) // 2]),
    ("empty", b""),
    ("noise", bytes(reversed(data))),
  ):
    path = tmp_path / f"{name}.safetensors"
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=f"{name}.safetensors"):
      bundle_lib.load(str(path))


@pytest.mark.parametrize(
  ("metadata", "message"),
  [
    ({"kind": "diffusion"}, "kind 'diffusion'; expected one of"),
    ({"tokenizer": None}, r"no \['tokenizer'\] in its metadata"),
    ({"tokenizer": "{}"}, "WordTokenizer"),
    ({"config": "{"}, "model.safetensors"),
    ({"recipe": "{"}, "model.safetensors"),
    ({"config": '{"width": 16}'}, "incomplete model config"),
  ],
)
def test_a_bad_description_is_refused(saved, metadata, message):
  with pytest.raises(ValueError, match=message) as caught:
    bundle_lib.load(_rewrite(saved, **metadata))
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"layers": 2}, "missing tensors: attention_1"),
    ({"mlp_width": 24}, "ill-shaped tensors: mlp_0"),
    ({"tie_embeddings": True}, "unexpected tensors: head"),
    ({"vocab_size": 700}, "model.vocab_size=700.*704"),
  ],
)
def test_tensors_that_do_not_fit_the_config_are_named(
  pair, saved, change, message
):
  with pytest.raises(ValueError, match=message):
    bundle_lib.load(_rewrite(saved, config=_config(pair, **change)))


def test_a_reward_model_is_no_language_model(pair, saved):
  with pytest.raises(ValueError, match="missing tensors"):
    bundle_lib.load(_rewrite(saved, kind="process_reward"))


def test_unknown_names_of_shipped_models_list_the_known_ones():
  with pytest.raises(ValueError, match="'arithmetic_ln' ships; expected"):
    bundle_lib.load("arithmetic_ln")


def test_pairs_must_be_of_the_right_kinds_and_of_one_vocabulary(pair):
  policy, verifier = pair
  bundle_lib.check_pair(policy, verifier)
  bundle_lib.check_pair(policy, None)
  with pytest.raises(ValueError, match="policy is a process_reward"):
    bundle_lib.check_pair(verifier, verifier)
  with pytest.raises(ValueError, match="verifier is a language_model"):
    bundle_lib.check_pair(policy, policy)
  words = (*tokenizer_lib.WORDS, " zebra")
  stranger = dataclasses.replace(
    verifier, tokenizer=tokenizer_lib.WordTokenizer(words)
  )
  with pytest.raises(ValueError, match="another vocabulary") as caught:
    bundle_lib.check_pair(policy, stranger)
  assert policy.tokenizer.fingerprint in str(caught.value)


def test_models_of_this_library_have_no_chat_template(pair):
  with pytest.raises(ValueError, match="no chat template; give it a plain"):
    pair[0].chat([{"role": "user", "content": "3 + 4"}])


def test_configs_of_before_there_were_families_still_load(pair, saved):
  old = (
    "vocab_size width layers heads kv_heads head_dim mlp_width max_length"
    " rope_theta norm_eps tie_embeddings reading_layers"
  ).split()
  fields = {name: getattr(pair[0].config, name) for name in old}
  back = bundle_lib.load(_rewrite(saved, config=json.dumps(fields)))
  assert back.config == pair[0].config


def _nested(pair):
  return dataclasses.replace(pair[0], recipe={"widths": [0.5, 1.0]})


def test_a_width_of_the_menu_is_a_model_of_its_own(pair, tmp_path):
  whole = _nested(pair)
  small = bundle_lib.narrowed(whole, 0.5)
  assert small.config.mlp_width == whole.config.mlp_width // 2
  assert small.recipe == {"widths": [], "width": 0.5}
  assert transformer_flops.token_flops(
    small.shape()
  ) < transformer_flops.token_flops(whole.shape())
  path = str(tmp_path / "small.safetensors")
  bundle_lib.save(path, small)
  back = bundle_lib.load(path)
  assert back.config == small.config
  jax.tree.map(np.testing.assert_array_equal, back.params, small.params)
  assert bundle_lib.narrowed(whole, 1) is whole


def test_widths_that_were_not_trained_are_refused(pair):
  whole = _nested(pair)
  with pytest.raises(ValueError, match="width=0.3 .* allowed: 0.5, 1.0$"):
    bundle_lib.narrowed(whole, 0.3)
  for plain in (
    pair[0],
    bundle_lib.narrowed(whole, 0.5),
    dataclasses.replace(pair[0], recipe={"widths": "all"}),
  ):
    with pytest.raises(ValueError, match="allowed: 1 alone.*no menu of widths"):
      bundle_lib.narrowed(plain, 0.5)


def test_the_nested_model_that_ships_has_its_widths():
  whole = bundle_lib.load("nested_lm")
  assert whole.recipe["widths"] == [0.25, 0.5, 0.75, 1.0]
  units = [
    bundle_lib.narrowed(whole, width).config.mlp_width
    for width in whole.recipe["widths"]
  ]
  assert units == [96, 192, 288, 384]
