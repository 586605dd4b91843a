# SPDX-License-Identifier: Apache-2.0
"""Published models: read, run, compared with transformers, written again.

The folders under tests/data/hf hold small random models that transformers
made, and what it computed with them (benchmarks/parity.py --goldens).
"""

import dataclasses
import functools
import json
import pathlib
import shutil
import struct
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from benchmarks import parity, parity_rewards, parity_text
from jaxttc import decoders, inference
from jaxttc import mesh as mesh_lib
from jaxttc.cost import budget as budget_lib
from jaxttc.inference import controllers, hugging_face, stop
from jaxttc.models import families, int8_weights, stored_tensors, transformer
from jaxttc.runtime import driver, search
from jaxttc.runtime import settings as settings_lib
from jaxttc.tasks import pretrained_tokenizer

pytest.importorskip("tokenizers")

_DATA = pathlib.Path(__file__).parents[1] / "data" / "hf"
_FAMILIES = sorted(p.parent.name for p in _DATA.glob("*/expected.npz"))


def _copied(name, folder):
  """A golden model with the tokenizer beside it."""
  shutil.copytree(_DATA / name, folder)
  parity_text.save_tokenizer(folder)
  return folder


@pytest.fixture
def llama(tmp_path):
  return _copied("llama", tmp_path / "llama")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
  folder = tmp_path_factory.mktemp("models") / "qwen2"
  return inference.load(str(_copied("qwen2", folder)))


@pytest.mark.parametrize("name", _FAMILIES)
def test_logits_and_greedy_tokens_are_those_of_transformers(name, tmp_path):
  bundle = inference.load(str(_copied(name, tmp_path / name)))
  with np.load(_DATA / name / "expected.npz") as expected:
    tokens, length = expected["tokens"], expected["length"]
    ours = parity.our_logits(bundle, tokens, length)[..., ::8]
    assert parity.difference(ours, expected["logits"], length) <= 1e-4
    greedy = parity.our_greedy(bundle, tokens, length)
    np.testing.assert_array_equal(greedy, expected["greedy"])


@pytest.mark.parametrize("name", ["gemma3", "llama3"])
def test_export_gives_back_every_stored_number(name, tmp_path):
  folder = _copied(name, tmp_path / name)
  bundle = inference.load(str(folder), jnp.bfloat16)
  assert bundle.dtype == jnp.bfloat16
  inference.export(str(tmp_path / "out"), bundle)
  stored = safetensors.numpy.load_file(folder / "model.safetensors")
  written = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
  assert stored.keys() == written.keys()
  for key, value in stored.items():
    np.testing.assert_array_equal(written[key], value, err_msg=key)
  back = inference.load(str(tmp_path / "out"), jnp.bfloat16)
  assert back.config == bundle.config
  assert back.tokenizer.fingerprint == bundle.tokenizer.fingerprint
  jax.tree.map(np.testing.assert_array_equal, back.params, bundle.params)


def test_shards_are_written_and_read(llama, tmp_path):
  bundle = inference.load(str(llama))
  out = tmp_path / "out"
  hugging_face.write(
    out,
    hugging_face.Checkpoint(
      "LlamaForCausalLM", bundle.config, bundle.params, bundle.tokenizer
    ),
    shard_bytes=40_000,
  )
  files = sorted(p.name for p in out.glob("*.safetensors"))
  assert len(files) > 2 and files[0].startswith("model-00001-of-0000")
  assert all((out / f).stat().st_size < 50_000 for f in files)
  back = inference.load(str(out))
  jax.tree.map(np.testing.assert_array_equal, back.params, bundle.params)
  (out / files[1]).unlink()
  with pytest.raises(ValueError, match=f"names {files[1]}, which is missing"):
    inference.load(str(out))


def test_parameters_go_to_their_shardings_the_largest_first(llama):
  mesh = mesh_lib.make_mesh(data=4, tensor=2)
  seen = []

  def placement(path, shape):
    seen.append((np.prod(shape), path))
    split = path[-1] == "gate_up"
    spec = jax.P(None, None, "tensor") if split else jax.P()
    return jax.NamedSharding(mesh, spec)

  found = hugging_face.read(llama, placement=placement)
  assert [size for size, _ in seen] == sorted(
    (s for s, _ in seen), reverse=True
  )
  gate_up = found.params["mlp_0"]["gate_up"]
  assert gate_up.addressable_shards[0].data.shape == (24, 2, 16)
  assert found.params["embed"]["embedding"].sharding.is_fully_replicated


def test_a_mesh_splits_a_directory_as_it_splits_a_bundle(llama):
  mesh = mesh_lib.make_mesh(data=4, tensor=2)
  whole = inference.load(str(llama))
  loaded = inference.load(str(llama), mesh=mesh)
  sharded = inference.shard(whole, mesh)
  for one, other in zip(
    jax.tree.leaves(loaded.params), jax.tree.leaves(sharded.params), strict=True
  ):
    assert one.sharding == other.sharding
    np.testing.assert_array_equal(one, other)
  with pytest.raises(ValueError, match="model.kv_heads=2 cannot be split"):
    inference.load(str(llama), mesh=mesh_lib.make_mesh(data=1, tensor=8))


@pytest.mark.parametrize("name", _FAMILIES)
def test_int8_is_close_to_float32(name, tmp_path):
  """Of random models this narrow, whose logits have deviation 1 or so."""
  folder = str(_copied(name, tmp_path / name))
  floats, int8 = inference.load(folder), inference.load(folder, "int8")
  assert int8.stored_dtype == jnp.int8 and int8.dtype == jnp.float32
  with np.load(_DATA / name / "expected.npz") as expected:
    tokens, length = expected["tokens"], expected["length"]
  ours = parity.our_logits(int8, tokens, length)
  assert (
    parity.difference(ours, parity.our_logits(floats, tokens, length), length)
    <= 0.25
  )
  there = dataclasses.replace(
    int8, params=int8_weights.dequantised(int8.params)
  )
  exact = parity.our_logits(there, tokens, length)
  assert parity.difference(ours, exact, length) <= 1e-5


def test_int8_is_read_straight_to_a_mesh_and_not_written(llama, tmp_path):
  mesh = mesh_lib.make_mesh(data=4, tensor=2)
  whole = inference.load(str(llama), "int8")
  loaded = inference.load(str(llama), jnp.int8, mesh)
  sharded = inference.shard(whole, mesh)
  for one, other in zip(
    jax.tree.leaves(loaded.params), jax.tree.leaves(sharded.params), strict=True
  ):
    assert one.sharding == other.sharding
    np.testing.assert_array_equal(one, other)
  with pytest.raises(ValueError, match="weights are int8, which is not writ"):
    inference.export(str(tmp_path / "out"), whole)
  with pytest.raises(ValueError, match="dtype is 'int4'; expected one of"):
    inference.load(str(llama), "int4")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_loading_holds_little_more_than_the_checkpoint(tmp_path, llama, dtype):
  """Counts what Python allocates while a model of 40 MB is read."""
  raw = json.loads((llama / "config.json").read_text())
  raw |= {"hidden_size": 256, "intermediate_size": 2048, "num_hidden_layers": 6}
  raw |= {"head_dim": 64, "tie_word_embeddings": True}
  (llama / "config.json").write_text(json.dumps(raw))
  small = families.read_config(raw)
  table = stored_tensors.parameters(small, "LlamaForCausalLM")
  rng = np.random.default_rng(0)
  tensors = {
    piece.name: rng.normal(size=piece.shape).astype(np.float32)
    for one in table.values()
    for piece in one.pieces
  }
  total = sum(t.nbytes for t in tensors.values())
  safetensors.numpy.save_file(tensors, llama / "model.safetensors")
  del tensors
  kept = []

  def placement(path, shape):
    if not path[-1].endswith(int8_weights.SUFFIX):
      kept.append(4 * int(np.prod(shape)))

  tracemalloc.start()
  bundle = hugging_face.read(llama, dtype, placement)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  # Whether a device's memory is counted here, or is NumPy's own, depends on
  # its alignment: at worst, all of it comes on top, but for the last ones.
  largest = max(kept)
  assert peak < 1.2 * total
  assert sum(kept) == total and 2 * largest < 0.2 * total + largest
  assert bundle.params["mlp_0"]["down"].dtype == dtype


def _edited(folder, **fields):
  raw = json.loads((folder / "config.json").read_text()) | fields
  (folder / "config.json").write_text(json.dumps(raw))


def _tensors(folder, change):
  file = folder / "model.safetensors"
  tensors = safetensors.numpy.load_file(file)
  change(tensors)
  safetensors.numpy.save_file(tensors, file)


def _truncated(folder):
  data = (folder / "model.safetensors").read_bytes()
  (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _pointer(folder):
  text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
  (folder / "model.safetensors").write_text(text)


def _pickled(folder):
  (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _indexed(folder, weight_map):
  (folder / "model.safetensors").rename(folder / "part.safetensors")
  index = {"weight_map": weight_map}
  file = folder / "model.safetensors.index.json"
  file.write_text(json.dumps(index))


def _shape(tensors):
  tensors["model.norm.weight"] = tensors["model.norm.weight"][:-1]


def _kind(tensors):
  old = tensors["model.norm.weight"]
  tensors["model.norm.weight"] = old.astype(np.int8)


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (_truncated, r"model.safetensors: not a whole .*half downloaded"),
    (_pointer, "model.safetensors: not a whole .*Git LFS pointer"),
    (_pickled, "pytorch_model.bin: a pickle can run any code.*convert it"),
    (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors and"),
    (lambda f: (f / "config.json").unlink(), "config.json: no such file"),
    (lambda f: (f / "config.json").write_text("{"), "config.json: not JSON"),
    (lambda f: (f / "config.json").write_text("[]"), "expected a JSON object"),
    (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
    (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot be read"),
    (lambda f: _edited(f, architectures=["XForCausalLM"]), "is not known"),
    (lambda f: _edited(f, vocab_size=100), "ids up to 383.*vocab_size=100"),
    (
      lambda f: _edited(f, num_hidden_layers=4),
      "missing tensors: model.layers",
    ),
    (
      lambda f: _edited(f, num_hidden_layers=1),
      "unexpected tensors: model.lay",
    ),
    (lambda f: _edited(f, intermediate_size=40), "ill-shaped tensors: model.l"),
    (lambda f: _tensors(f, _shape), r"norm.weight is \(23,\).* says \(24,\)"),
    (lambda f: _tensors(f, _kind), "norm.weight is I8, expected one of F64"),
    (lambda f: _indexed(f, {"a": "gone.safetensors"}), "gone.*is missing"),
    (lambda f: _indexed(f, {"a": "part.safetensors"}), "index promises: a"),
    (lambda f: _indexed(f, {"a": "../part.safetensors"}), "beside the index"),
    (lambda f: _indexed(f, {}), "no weight_map"),
  ],
)
def test_damaged_directories_are_refused_in_one_line(llama, damage, message):
  damage(llama)
  with pytest.raises(ValueError, match=message) as caught:
    inference.load(str(llama))
  assert "\n" not in str(caught.value) and str(llama) in str(caught.value)


def test_a_garbled_header_is_refused(llama):
  file = llama / "model.safetensors"
  data = bytearray(file.read_bytes())
  data[:8] = struct.pack("<Q", 1 << 40)
  file.write_bytes(bytes(data))
  with pytest.raises(ValueError, match="not a whole safetensors file"):
    inference.load(str(llama))


def test_no_single_file_holds_a_published_model(qwen, tmp_path):
  with pytest.raises(ValueError, match="inference.export"):
    inference.save(str(tmp_path / "model.safetensors"), qwen)
  with pytest.raises(ValueError, match="`save` writes"):
    inference.export(str(tmp_path), inference.load("arithmetic_lm"))


@pytest.mark.parametrize("name", parity_rewards.NAMES)
def test_rewards_are_those_of_transformers(name, tmp_path):
  folder = _copied(f"reward_{name}", tmp_path / name)
  expected = json.loads((folder / "rewards.json").read_text())
  assert np.std(expected) > 0.004
  np.testing.assert_allclose(parity_rewards.ours(folder), expected, atol=2e-5)


def test_reward_models_say_how_they_are_shown_steps(tmp_path, qwen):
  folder = _copied("reward_mlp", tmp_path / "mlp")
  with pytest.raises(ValueError, match="cannot write the step mark"):
    form = dataclasses.replace(parity_rewards.FORMAT, separator="")
    inference.load(str(folder), step_format=form)
  verifier = inference.load(str(folder), step_format=parity_rewards.FORMAT)
  assert verifier.kind == "process_reward"
  decoder = decoders.make("best_of_n", {"n": 2})
  with pytest.raises(ValueError, match="shown steps as text.*host-driven"):
    search.compiled.compiled_search(qwen, verifier, decoder, _SETTINGS)
  with pytest.raises(ValueError, match="language model with a published"):
    inference.export(str(tmp_path / "out"), verifier)
  engines = driver.local_engines(qwen, verifier, decoder, _SETTINGS, slots=2)
  blind = budget_lib.Budget(verifier_tokens=100)
  with pytest.raises(ValueError, match="budget.verifier_tokens cannot be kept"):
    driver.drive(
      *engines, decoder, _PROMPTS, _NAMES, budget=blind, settings=_SETTINGS
    )
  _edited(folder, architectures=["Qwen2ForTokenClassification"])
  with pytest.raises(ValueError, match="give a StepFormat"):
    inference.load(str(folder))


_SETTINGS = settings_lib.SearchSettings(
  sampler=controllers.Sampler(temperature=1.0), step_tokens=8, max_tokens=24
)
_PROMPTS = ["What is 3 + 4?\n", "Größe?", "x"]
_NAMES = ["a", "b", "c"]
_BUDGET = budget_lib.Budget(generated_tokens=100)


@pytest.mark.slow
def test_the_compiled_and_the_driven_form_find_the_same(tmp_path):
  """In steps, on a model with local layers; one token in eight ends a step."""
  bundle = inference.load(str(_copied("gemma3", tmp_path / "gemma3")))
  ends = stop.build([[token] for token in range(8, 384, 8)])
  rule = dataclasses.replace(bundle.stop_rule, step_end=ends)
  vars(bundle)["stop_rule"] = rule
  decoder = decoders.make(
    "likelihood_beam", {"width": 2, "expansions": 2, "max_steps": 3}
  )
  assert not decoder.needs_reward
  options = dict(budget=_BUDGET, settings=_SETTINGS)
  whole = list(
    search.solve(_PROMPTS, _NAMES, bundle, None, decoder, batch=3, **options)
  )
  engine, _ = driver.local_engines(bundle, None, decoder, _SETTINGS, slots=2)
  depths = []
  for result in driver.drive(
    engine, None, decoder, _PROMPTS, _NAMES, **options
  ):
    twin = whole[result.problem]
    assert result.tree.text == twin.tree.text
    assert result.cost.generated_tokens == twin.cost.generated_tokens > 0
    depths += [len(twin.tree.path(n)) for n in range(len(twin.tree.parent))]
  assert max(depths) >= 2


@pytest.mark.slow
def test_a_search_reads_the_rewards_of_a_published_model(tmp_path, qwen):
  """Every node's reward, against one plain pass over its whole text."""
  policy = dataclasses.replace(qwen)
  ends = stop.build([[token] for token in range(8, 384, 8)])
  rule = dataclasses.replace(policy.stop_rule, step_end=ends)
  vars(policy)["stop_rule"] = rule
  folder = _copied("reward_classifier", tmp_path / "prm")
  form = parity_rewards.FORMAT
  verifier = inference.load(str(folder), step_format=form)
  decoder = decoders.make(
    "prm_beam", {"num_survivors": 2, "num_expansions": 2, "max_steps": 3}
  )
  engines = driver.local_engines(policy, verifier, decoder, _SETTINGS, slots=1)
  (result,) = driver.drive(
    *engines,
    decoder,
    _PROMPTS[:1],
    _NAMES[:1],
    budget=_BUDGET,
    settings=_SETTINGS,
  )
  tree, tokenizer = result.tree, verifier.tokenizer
  read = jax.jit(functools.partial(transformer.forward, verifier.model))
  assert len(tree.parent) > 4 and tree.reward[1:].std() > 0
  for node in range(1, len(tree.parent)):
    ids = tokenizer.encode_prompt(_PROMPTS[0])
    for i, step in enumerate(tree.path(node)):
      ids += form.encode(tokenizer, tree.text[step], i == 0)[0]
    row = np.zeros((1, 128), np.int32)
    row[0, : len(ids)] = ids
    index = np.arange(128)[None]
    real = (index < len(ids)).astype(np.int32)
    logit = read(verifier.params, row, real, index)[0, len(ids) - 1]
    np.testing.assert_allclose(
      tree.reward[node], jax.nn.sigmoid(logit), atol=2e-5
    )


def test_votes_need_the_host(qwen):
  decoder = decoders.make("self_consistency", {"n": 3})
  with pytest.raises(ValueError, match="host-driven form"):
    search.compiled.compiled_search(qwen, None, decoder, _SETTINGS)


class _Forced:
  """A tokenizer that reads every whole solution as one of two answers."""

  def __init__(self, tokenizer):
    self._tokenizer = tokenizer

  def __getattr__(self, name):
    return getattr(self._tokenizer, name)

  def decode(self, ids):
    return f"so \\boxed{{{sum(ids) % 2}.0}}" if len(ids) else ""


def test_the_driven_form_votes_over_answers_read_from_text(qwen):
  """Half of the tokens are ends, so that solutions finish."""
  ends = pretrained_tokenizer.PretrainedTokenizer(
    {
      **qwen.tokenizer.files,
      "generation_config.json": json.dumps({"eos_token_id": list(range(200))}),
    }
  )
  bundle = inference.Bundle(
    kind="language_model",
    config=qwen.config,
    params=qwen.params,
    tokenizer=_Forced(ends),
  )
  assert len(bundle.stop_rule.other_eos_ids) == 199
  decoder = decoders.make("self_consistency", {"n": 6})
  engine, _ = driver.local_engines(bundle, None, decoder, _SETTINGS, slots=2)
  results = driver.drive(
    engine,
    None,
    decoder,
    _PROMPTS,
    _NAMES,
    budget=_BUDGET,
    settings=_SETTINGS,
  )
  for result in results:
    done = result.tree.finished()
    answers = [int(result.tree.answer[n]) for n in done]
    texts = [result.tree.text[n] for n in done]
    assert len(done) > 2 and set(answers) <= {0, 1}
    for a, text in zip(answers, texts, strict=True):
      assert (a == answers[0]) == (text == texts[0])
    votes = np.bincount(answers)
    chosen = result.tree.answer[result.tree.chosen]
    assert votes[chosen] == votes.max()
