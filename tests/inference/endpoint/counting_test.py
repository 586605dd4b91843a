# SPDX-License-Identifier: Apache-2.0
import asyncio

import pytest

from jaxttc.inference import endpoint
from jaxttc.inference.endpoint import counting, servers, transport
from jaxttc.testing import fault_server

_TEXTS = ("", "a", "so so 4\n\n#### 2", "½ × 8 = 4 — 好的\n", "  \n\n ")


@pytest.fixture
def served():
  """Makes lines to servers, which it ends."""
  opened = []

  def line(**options):
    server = fault_server.FaultServer(lambda prefix, seed: "", **options)
    server.__enter__()
    sent = transport.Transport(endpoint.Connection(url=server.url, retries=0))
    opened.append((sent, server))
    return sent, server

  yield line
  for sent, server in opened:
    sent.close()
    server.__exit__()


@pytest.fixture
def tokenizer_file(tmp_path):
  """A byte-level tokenizer, which makes most of the texts many tokens."""
  tokenizers = pytest.importorskip("tokenizers")
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=True
  )
  trainer = tokenizers.trainers.BpeTrainer(
    special_tokens=["<s>"],
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    vocab_size=260,
  )
  tokenizer.train_from_iterator(_TEXTS, trainer)
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single="<s> $A", special_tokens=[("<s>", 0)]
  )
  path = tmp_path / "tokenizer.json"
  tokenizer.save(str(path))
  return str(path)


@pytest.mark.parametrize("text", _TEXTS)
def test_bytes_bound_what_a_byte_level_tokenizer_makes(text, tokenizer_file):
  ids = asyncio.run(counting.FileTokenizer(tokenizer_file).ids(text))
  bound = asyncio.run(counting.ByteBound().ids(text))
  assert len(ids) <= len(bound) and set(bound) == {-1}
  assert ids[0] == 0 and min(ids) >= 0


@pytest.mark.parametrize("owner", ["vllm", "sglang", "llamacpp"])
def test_the_servers_own_tokenizer(served, owner):
  line, server = served(owner=owner)
  counter = counting.choose(line, servers.SERVERS[owner], "tiny", "")
  assert counter.exact
  assert line.call(counter.ids("so so")) == tuple(server.ids("so so"))


def test_no_tokenizer_leaves_a_bound(served):
  line, server = served(tokenize=False)
  counter = counting.choose(line, servers.SERVERS["vllm"], "tiny", "")
  assert not counter.exact
  line, server = served(owner="who")
  counter = counting.choose(line, servers.SERVERS[""], "tiny", "")
  assert not counter.exact and server.tokenized == 0


def test_a_file_of_another_model_is_refused(served, tokenizer_file):
  line, _ = served()
  with pytest.raises(ValueError, match="not the tokenizer of 'tiny'"):
    counting.choose(line, servers.SERVERS["vllm"], "tiny", tokenizer_file)
  line, _ = served(tokenize=False)
  counter = counting.choose(
    line, servers.SERVERS["vllm"], "tiny", tokenizer_file
  )
  assert counter.exact


def test_bad_tokenizer_files(tmp_path):
  pytest.importorskip("tokenizers")
  with pytest.raises(ValueError, match="there is no such tokenizer file"):
    counting.FileTokenizer(str(tmp_path / "none.json"))
  (tmp_path / "bad.json").write_text("{}")
  with pytest.raises(ValueError, match="bad.json: no tokenizer file") as caught:
    counting.FileTokenizer(str(tmp_path / "bad.json"))
  assert "\n" not in str(caught.value)
