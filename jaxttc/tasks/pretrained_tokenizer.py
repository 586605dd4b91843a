# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a Hugging Face directory, as `WordTokenizer` would be.

`tokenizer.json` goes to the `tokenizers` library, which defines what it means.
Special tokens, ends of texts and the chat template come from the files beside
it.
"""

from collections.abc import Iterable, Mapping, Sequence
import functools
import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from jaxttc.tasks import chat_template

_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
FILES = (  # what makes a tokenizer, in a directory
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "generation_config.json",
  "chat_template.jinja",
)


class PretrainedTokenizer:
  """Turns text into a published model's token ids and back.

  Attributes:
    vocab_size: one more than the largest id; a model may have rows for more.
    bos_id: begins a text; -1 if the model has none.
    eos_ids: each of them ends a text.
    special_tokens: texts of special tokens by name, such as "bos_token".
    files: what it was made from, by name, for an export to carry.
  """

  def __init__(self, files: Mapping[str, str], eos_ids: Sequence[int] = ()):
    """Builds a tokenizer from the texts of its files.

    Args:
      files: those of `FILES` that there are, by name.
      eos_ids: ends of texts, where neither generation_config.json nor
        tokenizer_config.json names one.

    Raises:
      ValueError: if the `tokenizers` library is missing, a file is missing or
        damaged, or nothing says which token ends a text.
    """
    self.files = {name: files[name] for name in FILES if name in files}
    self._backend = _backend(self.files.get("tokenizer.json"))
    self._settings = _object(self.files, "tokenizer_config.json")
    named = _object(self.files, "special_tokens_map.json") | self._settings
    self.special_tokens = {
      name: text
      for name in _NAMED
      if (text := _text_of(named.get(name))) is not None
    }
    vocabulary = self._backend.get_vocab(with_added_tokens=True)
    self.vocab_size = max(vocabulary.values(), default=-1) + 1
    self.bos_id = self._id("bos_token")
    self.eos_ids = self._ends(eos_ids)

  @classmethod
  def from_directory(
    cls, directory: pathlib.Path, eos_ids: Sequence[int] = ()
  ) -> "PretrainedTokenizer":
    """Reads a directory.

    Args:
      directory: where the files are.
      eos_ids: as the constructor takes them.

    Raises:
      ValueError: naming the directory, and what is wrong.
    """
    files = {}
    for name in FILES:
      if (directory / name).is_file():
        try:
          files[name] = (directory / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
          raise ValueError(f"{directory / name}: {error}") from None
    try:
      return cls(files, eos_ids)
    except ValueError as error:
      raise ValueError(f"{directory}: {error}") from None

  @property
  def eos_id(self) -> int:
    """The first of the ends of texts."""
    return self.eos_ids[0]

  def encode(self, text: str, *, specials: bool = False) -> list[int]:
    """Turns text into ids; nothing is added in front or behind.

    Args:
      text: any text.
      specials: whether special tokens that the text spells become their ids;
        by default they are spelled out, so that a text from outside cannot
        end a generation.
    """
    backend = self._backend if specials else self._spelling
    return backend.encode(text, add_special_tokens=False).ids

  def encode_prompt(self, text: str) -> list[int]:
    """Token ids of a text from its beginning, special tokens included.

    The one that begins a text is put in front if the model wants it and the
    text, which a chat template may have made, does not spell it.
    """
    ids = self.encode(text, specials=True)
    if self._begins and ids[:1] != [self.bos_id]:
      return [self.bos_id, *ids]
    return ids

  def decode(
    self, ids: Iterable[int] | np.ndarray, *, specials: bool = False
  ) -> str:
    """The text that ids add to what stands before them.

    Args:
      ids: in 0..vocab_size - 1; others say nothing.
      specials: whether special tokens are written out; else they vanish.
    """
    anchor, known = self._anchor
    # Some decoders drop a text's first space, which is none of a span's.
    text = self._backend.decode(
      [anchor, *map(int, ids)], skip_special_tokens=not specials
    )
    return text[len(known) :]

  @functools.cached_property
  def token_texts(self) -> tuple[str, ...]:
    """What each id adds to a text, by id; "" for special and unused ids."""
    anchor, known = self._anchor
    rows = [[anchor, i] for i in range(self.vocab_size)]
    texts = self._backend.decode_batch(rows, skip_special_tokens=True)
    return tuple(text[len(known) :] for text in texts)

  @functools.cached_property
  def fingerprint(self) -> str:
    """Identifies the vocabulary: models that differ in it cannot be mixed."""
    vocabulary = self._backend.get_vocab(with_added_tokens=True)
    text = json.dumps(sorted(vocabulary.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def id_of(self, piece: str) -> int:
    """The id of a token by its name in the vocabulary.

    Raises:
      ValueError: if the vocabulary does not hold it.
    """
    found = self._backend.token_to_id(piece)
    if found is None:
      raise ValueError(f"{piece!r} is not in the tokenizer's vocabulary")
    return found

  def chat(
    self,
    messages: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any] | None = None,
  ) -> str:
    """The prompt of a chat, up to where the assistant begins to write.

    Args:
      messages: each with "role" and "content", oldest first.
      variables: further names for the template, such as "enable_thinking".

    Raises:
      ValueError: if the model has no chat template, or it refuses.
    """
    return chat_template.render(
      self._template(),
      messages,
      special_tokens=self.special_tokens,
      variables=variables,
    )

  @property
  def has_template(self) -> bool:
    """Whether there is a chat template."""
    return self._found_template() is not None

  def _found_template(self) -> str | None:
    template = self.files.get("chat_template.jinja")
    if template is None:
      template = self._settings.get("chat_template")
    if isinstance(template, list):  # several, by name
      named = {t.get("name"): t.get("template") for t in template}
      template = named.get("default")
    return template if isinstance(template, str) else None

  def _template(self) -> str:
    template = self._found_template()
    if template is None:
      raise ValueError(
        "the model has no chat template (chat_template.jinja, or chat_template "
        "in tokenizer_config.json); give it a plain prompt"
      )
    return template

  @functools.cached_property
  def _spelling(self):
    """A tokenizer that reads special tokens as text."""
    backend = _backend(self.files["tokenizer.json"])
    backend.encode_special_tokens = True
    return backend

  @functools.cached_property
  def _begins(self) -> bool:
    """Whether texts begin with the token for it."""
    added = self._backend.encode("", add_special_tokens=True).ids
    return self.bos_id >= 0 and added[:1] == [self.bos_id]

  @functools.cached_property
  def _anchor(self) -> tuple[int, str]:
    """A plain token, and its text where a text begins with it."""
    anchor = self.encode("a")[-1]
    return anchor, self._backend.decode([anchor])

  def _id(self, name: str) -> int:
    found = self._backend.token_to_id(self.special_tokens.get(name, ""))
    return -1 if found is None else found

  def _ends(self, given: Sequence[int]) -> tuple[int, ...]:
    own = _object(self.files, "generation_config.json").get("eos_token_id")
    ids = [own] if isinstance(own, int) else list(own or ())
    ids = ids or list(given) or [self._id("eos_token")]
    if not all(isinstance(i, int) and i >= 0 for i in ids):
      raise ValueError(
        "no token ends a text; expected eos_token_id in generation_config.json "
        "or config.json, or eos_token in tokenizer_config.json"
      )
    return tuple(ids)


def _backend(text: str | None):
  """The library's tokenizer of a tokenizer.json."""
  if text is None:
    raise ValueError(
      "no tokenizer.json; expected the fast tokenizer beside the weights "
      "(transformers writes it: AutoTokenizer.from_pretrained(..)"
      ".save_pretrained(..))"
    )
  try:
    import tokenizers
  except ImportError:
    raise ValueError(
      "tokenizer.json needs tokenizers: pip install 'jaxttc[hf]'"
    ) from None
  try:
    return tokenizers.Tokenizer.from_str(text)
  except Exception as error:  # the library raises nothing narrower
    line = " ".join(str(error).split())
    raise ValueError(f"tokenizer.json cannot be read: {line}") from None


def _object(files: Mapping[str, str], name: str) -> dict[str, Any]:
  """The fields of a JSON file; none if there is no such file."""
  try:
    fields = json.loads(files.get(name, "{}"))
  except ValueError as error:
    raise ValueError(f"{name}: not JSON: {error}") from None
  if not isinstance(fields, dict):
    raise ValueError(f"{name}: expected a JSON object")
  return fields


def _text_of(token: Any) -> str | None:
  """A special token's text, given plain or with its properties."""
  return token.get("content") if isinstance(token, dict) else token
