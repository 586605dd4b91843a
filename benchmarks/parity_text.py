# SPDX-License-Identifier: Apache-2.0
"""Tokenization and chat templates, compared with transformers.

The tokenizer is a small byte-level BPE, trained on this project's own pages
with the pre-tokenization that recent families share. The templates are written
after the manner of each family.
"""

import json
import pathlib

from jaxttc import results
from jaxttc.tasks import pretrained_tokenizer

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_DATA = _ROOT / "tests" / "data" / "hf"
_PATTERN = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = ("<|begin|>", "<|end|>", "<|pad|>", "<|turn|>", "<|step|>")
SAMPLE = (
  "",
  " ",
  "Solve 12 + 34.\n\nStep 1: add the units.\n",
  "Größe, naïve café – „Anführung“",
  "数学の問題:3の倍数を求めよ。",
  "Сколько будет 2 × 2?\r\n",
  "مسألة: كم يساوي ٣ + ٤؟",
  "हल करो: x² = 9",
  "👩🏽‍🔬 emoji, tabs\tand   spaces  ",
  "\\boxed{\\frac{1}{2}}\n\n\n\nx = 007, 1234567",
  "it's <|turn|>user and <|end|> spelled out",
)
CHATS = (
  [{"role": "user", "content": "What is 3 + 4?"}],
  [
    {"role": "system", "content": "Reason step by step."},
    {"role": "user", "content": "  Größe? 数学\n\n"},
  ],
  [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello & <welcome>"},
    {"role": "user", "content": "2 × 2"},
  ],
)


def save_tokenizer(directory: pathlib.Path) -> None:
  """Copies the tokenizer of the test data to a model's directory."""
  for file in ("tokenizer.json", "tokenizer_config.json"):
    text = (_DATA / "tokenizer" / file).read_text(encoding="utf-8")
    (directory / file).write_text(text, encoding="utf-8")


def train(directory: pathlib.Path, size: int = 384) -> None:
  """Trains the tokenizer and writes its two files."""
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, processors, trainers

  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(_PATTERN), "isolated"),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=size,
    special_tokens=list(SPECIALS),
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  pages = sorted(_ROOT.glob("docs/*.md")) + [_ROOT / "README.md"]
  texts = [page.read_text(encoding="utf-8") for page in pages]
  tokenizer.train_from_iterator([*texts, *SAMPLE * 3], trainer)
  tokenizer.post_processor = processors.TemplateProcessing(
    single=f"{SPECIALS[0]} $A",
    pair=f"{SPECIALS[0]} $A {SPECIALS[0]} $B",
    special_tokens=[(SPECIALS[0], 0)],
  )
  directory.mkdir(parents=True, exist_ok=True)
  tokenizer.save(str(directory / "tokenizer.json"))
  config = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": SPECIALS[0],
    "eos_token": SPECIALS[1],
    "pad_token": SPECIALS[2],
    "clean_up_tokenization_spaces": False,
  }
  (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def theirs(folder: pathlib.Path) -> dict:
  """What transformers makes of the samples and chats."""
  import transformers

  tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
  chats = {}
  for path in sorted((folder / "templates").glob("*.jinja")):
    template = path.read_text(encoding="utf-8")
    chats[path.stem] = [
      tokenizer.apply_chat_template(
        chat,
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
      )
      for chat in CHATS
    ]
  return {
    "plain": [tokenizer.encode(t, add_special_tokens=False) for t in SAMPLE],
    "begun": [tokenizer.encode(t) for t in SAMPLE],
    "chats": chats,
  }


def ours(folder: pathlib.Path) -> dict:
  """What jaxttc makes of them."""
  plain = pretrained_tokenizer.PretrainedTokenizer.from_directory(
    folder / "tokenizer"
  )
  chats = {}
  for path in sorted((folder / "templates").glob("*.jinja")):
    files = {**plain.files, "chat_template.jinja": path.read_text("utf-8")}
    tokenizer = pretrained_tokenizer.PretrainedTokenizer(files)
    chats[path.stem] = [tokenizer.chat(chat) for chat in CHATS]
  return {
    "plain": [plain.encode(t, specials=True) for t in SAMPLE],
    "begun": [plain.encode_prompt(t) for t in SAMPLE],
    "chats": chats,
  }


def write_goldens(folder: pathlib.Path) -> None:
  """Writes the tokenizer and what transformers makes of the samples."""
  train(folder / "tokenizer")
  text = json.dumps(theirs(folder), ensure_ascii=False, indent=1)
  (folder / "text.json").write_text(text, encoding="utf-8")


def claims() -> list[results.Claim]:
  """Shares of samples and chats on which both agree."""
  left, right = ours(_DATA), theirs(_DATA)
  ids = [
    a == b
    for kind in ("plain", "begun")
    for a, b in zip(left[kind], right[kind], strict=True)
  ]
  chats = [
    a == b
    for name, texts in right["chats"].items()
    for a, b in zip(left["chats"][name], texts, strict=True)
  ]
  return [
    results.Claim("tokenizations_equal", sum(ids) / len(ids), bar=1.0),
    results.Claim("chats_equal", sum(chats) / len(chats), bar=1.0),
  ]
