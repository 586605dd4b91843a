# SPDX-License-Identifier: Apache-2.0
"""Readers of demonstrations and preference pairs: JSON lines, UTF-8.

A demonstration is one of

    {"messages": [{"role": "user", "content": ..}, ..]}   an assistant's is last
    {"prompt": .., "completion": ..}
    {"question": .., "answer": "worked solution .. #### 72"}           of GSM8K

and a pair is

    {"prompt": .., "chosen": .., "rejected": ..}

where prompt, completion, chosen and rejected are texts or lists of messages. A
pair of lists may leave the prompt out: it is then what both begin with. Every
row is checked. The first bad one ends the reading with its file and line, or is
left out and counted, if the caller says so. GSM8K's calculator marks are cut
out of its solutions.
"""

from collections.abc import Callable, Mapping, Sequence
import os
import re
from typing import Any, NamedTuple

from jaxttc.tasks import jsonl

_CALCULATION = re.compile(r"<<[^<>]*>>")
_DEMONSTRATION = "messages; prompt and completion; or question and answer"
Message = Mapping[str, Any]


class Demonstration(NamedTuple):
  """A prompt and its good answer.

  Attributes:
    prompt: a text, or messages that a chat template makes one of.
    completion: the answer's text.
    where: its file and line.
  """

  prompt: "str | tuple[Message, ...]"
  completion: str
  where: str


class Pair(NamedTuple):
  """A prompt, and a better and a worse answer.

  Attributes:
    prompt: a text, or messages that a chat template makes one of.
    chosen: the better answer's text.
    rejected: the worse one's; another text.
    where: its file and line.
  """

  prompt: "str | tuple[Message, ...]"
  chosen: str
  rejected: str
  where: str


class Loaded(NamedTuple):
  """What a file held.

  Attributes:
    rows: demonstrations or pairs, in file order.
    skipped: what was wrong with each row that was left out.
  """

  rows: tuple[Any, ...]
  skipped: tuple[str, ...]


def load_demonstrations(
  path: str | os.PathLike[str], *, skip_bad: bool = False
) -> Loaded:
  """Reads demonstrations.

  Args:
    path: the file, ".gz" or plain.
    skip_bad: leave out rows that are not valid, and count them. Lines that are
      no JSON end the reading all the same: the file is damaged.

  Raises:
    ValueError: if the file cannot be read, holds no valid row, or, unless bad
      ones are skipped, a row is not valid; file and line are named.
  """
  return _load(path, _demonstration, skip_bad)


def load_pairs(
  path: str | os.PathLike[str], *, skip_bad: bool = False
) -> Loaded:
  """Reads preference pairs; arguments and errors as `load_demonstrations`.

  A pair of two equal answers is not valid, nor is one of two prompts.
  """
  return _load(path, _pair, skip_bad)


def _load(path, read: Callable[[Mapping[str, Any], str], Any], skip_bad: bool):
  rows, skipped = [], []
  for number, row in jsonl.rows(path):
    try:
      rows.append(read(row, f"{path}, line {number}"))
    except ValueError as error:
      if not skip_bad:
        raise
      skipped.append(str(error))
  if not rows:
    raise ValueError(
      f"{path}: no valid row; the first of {len(skipped)}: {skipped[0]}"
    )
  return Loaded(tuple(rows), tuple(skipped))


def _demonstration(row, where) -> Demonstration:
  if "messages" in row:
    *before, last = _messages(row["messages"], "messages", where)
    answer = _answer(last, "messages", where)
    return Demonstration(_turns(before, "messages", where), answer, where)
  if "completion" in row:
    prompt = _prompt(row, where)
    return Demonstration(prompt, _response(row, "completion", where), where)
  if "question" in row and "answer" in row:
    answer = _text(row["answer"], "answer", where)
    if "####" not in answer:
      raise ValueError(
        f"{where}: no '####' before the final answer in 'answer'"
      )
    question = _text(row["question"], "question", where)
    return Demonstration(question, _CALCULATION.sub("", answer), where)
  raise ValueError(
    f"{where}: no demonstration; expected {_DEMONSTRATION}; fields found: "
    f"{', '.join(row) or 'none'}"
  )


def _pair(row, where) -> Pair:
  missing = [name for name in ("chosen", "rejected") if name not in row]
  if missing:
    raise ValueError(
      f"{where}: no {missing[0]!r}; expected prompt, chosen and rejected; "
      f"fields found: {', '.join(row) or 'none'}"
    )
  if "prompt" in row:
    prompt = _prompt(row, where)
    chosen, rejected = (
      _response(row, name, where, prompt) for name in ("chosen", "rejected")
    )
  else:
    prompt, chosen, rejected = _implied(row, where)
  if chosen == rejected:
    raise ValueError(f"{where}: chosen and rejected are the same text")
  return Pair(prompt, chosen, rejected, where)


def _implied(row, where):
  """Prompt and answers of two chats that differ in the last message only."""
  sides = []
  for name in ("chosen", "rejected"):
    if not isinstance(row[name], list):
      raise ValueError(
        f"{where}: {name!r} is a text and there is no 'prompt'; expected one"
      )
    sides.append(_messages(row[name], name, where))
  chosen, rejected = sides
  if chosen[:-1] != rejected[:-1]:
    raise ValueError(f"{where}: the prompts of chosen and rejected differ")
  return (
    _turns(chosen[:-1], "chosen", where),
    _answer(chosen[-1], "chosen", where),
    _answer(rejected[-1], "rejected", where),
  )


def _prompt(row, where):
  if "prompt" not in row:
    raise ValueError(f"{where}: no 'prompt'; fields found: {', '.join(row)}")
  if isinstance(row["prompt"], list):
    messages = _messages(row["prompt"], "prompt", where)
    return _turns(messages, "prompt", where)
  return _text(row["prompt"], "prompt", where)


def _response(row, name, where, prompt: Any = None) -> str:
  """A text, one assistant's message, or the whole chat up to it."""
  if not isinstance(row[name], list):
    return _text(row[name], name, where)
  *before, last = _messages(row[name], name, where)
  if before and tuple(before) != prompt:
    raise ValueError(f"{where}: {name!r} does not begin with the prompt")
  return _answer(last, name, where)


def _messages(value: Any, name: str, where: str) -> list[Message]:
  if not isinstance(value, list) or not value:
    raise ValueError(f"{where}: {name!r} must be a list of messages, not empty")
  for i, message in enumerate(value):
    if (
      not isinstance(message, dict)
      or not isinstance(message.get("role"), str)
      or not isinstance(message.get("content"), str)
    ):
      raise ValueError(
        f"{where}: message {i} of {name!r} must have texts 'role' and 'content'"
      )
  return value


def _turns(messages: Sequence[Message], name: str, where: str):
  if not any(message["role"] == "user" for message in messages):
    raise ValueError(f"{where}: {name!r} has no user's message to answer")
  return tuple(messages)


def _answer(message: Message, name: str, where: str) -> str:
  if message["role"] != "assistant":
    raise ValueError(
      f"{where}: the last message of {name!r} is the {message['role']}'s; "
      "expected the assistant's"
    )
  return _text(message["content"], name, where)


def _text(value: Any, name: str, where: str) -> str:
  if not isinstance(value, str) or not value.strip():
    raise ValueError(f"{where}: {name!r} must be a text, not empty")
  return value


def prompt_text(
  prompt: "str | tuple[Message, ...]",
  chat: Callable[[Sequence[Message]], str] | None,
) -> str:
  """The text that a model is given.

  Args:
    prompt: of a demonstration or a pair.
    chat: the model's chat template, as `Bundle.chat`; None if it has none. Then
      messages are joined by line ends, without their roles, and a prompt of
      text gets one line end if it has none: completions begin a line.
  """
  if chat is not None:
    asked = [{"role": "user", "content": prompt}]
    return chat(asked if isinstance(prompt, str) else list(prompt))
  if not isinstance(prompt, str):
    prompt = "\n".join(message["content"] for message in prompt)
  return prompt if prompt.endswith("\n") else prompt + "\n"
