# SPDX-License-Identifier: Apache-2.0
"""Readers of texts to imitate: chats, and prompts with their completions.

`load_chats` reads rows with `messages`, `load_completions` rows with `prompt`
and `completion`, each a string or a list of messages; JSON lines or Parquet. A
message is a dict of a role and text, which is what chat templates take.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from jaxttc.tasks import row_files

ROLES = ("system", "developer", "user", "assistant", "tool")
Message = dict[str, str]
Messages = tuple[Message, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chat:
  """A conversation that has been had.

  Attributes:
    id: "<file stem>-<number of the row>".
    messages: each {"role", "content"}, of `ROLES`, oldest first; at least one
      is the assistant's.
  """

  id: str
  messages: Messages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Completion:
  """How a prompt was gone on from.

  Attributes:
    id: "<file stem>-<number of the row>".
    prompt: text, or the messages before the answer.
    completion: text if `prompt` is text, else messages; the first of them is
      the assistant's.
  """

  id: str
  prompt: str | Messages
  completion: str | Messages


def load_chats(
  path: row_files.Path, *, skip: bool = False
) -> row_files.Loaded[Chat]:
  """Reads rows of `messages`.

  Args:
    path: a file of JSON lines, ".gz" or plain, or of Parquet.
    skip: leave out, and count, rows that cannot be used.

  Raises:
    ValueError: naming file and line, if a row has no messages, a message no
      role or text, or no message is the assistant's.
  """

  def read(number: int, row: row_files.Row) -> Chat:
    found = messages(row_files.get(row, "messages"), "messages", row)
    if all(message["role"] != "assistant" for message in found):
      raise ValueError("messages: none is the assistant's, expected at least 1")
    return Chat(id=f"{row_files.stem(path)}-{number}", messages=found)

  return row_files.load(path, read, skip=skip)


def load_completions(
  path: row_files.Path, *, skip: bool = False
) -> row_files.Loaded[Completion]:
  """Reads rows of `prompt` and `completion`, strings or lists of messages.

  Args:
    path: a file of JSON lines, ".gz" or plain, or of Parquet.
    skip: leave out, and count, rows that cannot be used.

  Raises:
    ValueError: naming file and line, if a row lacks one of them, or one does
      not go on from the other.
  """

  def read(number: int, row: row_files.Row) -> Completion:
    prompt, (completion,) = prompt_and_answers(row, ("completion",))
    return Completion(
      id=f"{row_files.stem(path)}-{number}",
      prompt=prompt,
      completion=completion,
    )

  return row_files.load(path, read, skip=skip)


def prompt_and_answers(
  row: row_files.Row, fields: Sequence[str]
) -> tuple[str | Messages, tuple[str | Messages, ...]]:
  """The prompt of a row, and what goes on from it, in one form.

  All are texts, exactly as the row has them, or all are messages. A prompt that
  is text beside answers of messages becomes what a user says; a string beside a
  prompt of messages, what the assistant does. Answers that repeat the prompt's
  messages lose them. A row without a prompt has the messages that all its
  answers begin with.

  Args:
    row: with `prompt`, and the fields of the answers.
    fields: names of the answers.

  Raises:
    ValueError: naming the field, if one is absent or empty, has no role or
      text, or answers do not begin with the assistant.
  """
  prompt = row_files.get(row, "prompt")
  answers = {field: row_files.get(row, field) for field in fields}
  values = (
    [*answers.values()] if prompt is None else [prompt, *answers.values()]
  )
  if prompt is not None and all(isinstance(value, str) for value in values):
    whole = [_text_of(row, field) for field in ("prompt", *fields)]
    return whole[0], tuple(whole[1:])
  lists = {
    field: messages(_as_messages(value, "assistant"), field, row)
    for field, value in answers.items()
  }
  if prompt is None:
    before = _common(list(lists.values()))
    if not before:
      raise row_files.missing(row, "text or messages", "prompt")
  else:
    before = messages(_as_messages(prompt, "user"), "prompt", row)
  if before[-1]["role"] == "assistant":
    raise ValueError("prompt ends with the assistant, expected one to answer")
  return before, tuple(
    _answer(field, found, before) for field, found in lists.items()
  )


def messages(value: Any, field: str, row: row_files.Row) -> Messages:
  """Messages as roles and texts.

  Content in parts is joined, if all parts are text. Other keys that hold
  nothing are dropped; Parquet gives every message the keys of all.

  Args:
    value: what the field holds.
    field: its name, for errors.
    row: the whole row, for errors.

  Raises:
    ValueError: naming the field and the message.
  """
  if not isinstance(value, list | tuple) or not value:
    raise row_files.missing(row, "list of messages", field)
  return tuple(_message(one, f"{field}[{i}]", i) for i, one in enumerate(value))


def _message(value: Any, name: str, place: int) -> Message:
  if not isinstance(value, dict):
    raise ValueError(
      f"{name} is a {type(value).__name__}, expected an object with role and "
      "content"
    )
  role = value.get("role")
  if role not in ROLES:
    raise ValueError(
      f"{name} has role {role!r}, expected one of {', '.join(ROLES)}"
    )
  if role in ROLES[:2] and place:
    raise ValueError(f"{name} is the {role}'s, expected it to come first")
  for key in ("tool_calls", "function_call"):
    if value.get(key):
      raise ValueError(f"{name} holds {key}, expected text alone")
  content = value.get("content")
  if isinstance(content, list):
    content = "".join(_part(part, name) for part in content)
  if not isinstance(content, str) or not content.strip():
    raise ValueError(f"{name} has no text in content")
  return {"role": role, "content": content}


def _part(part: Any, name: str) -> str:
  text = part.get("text") if isinstance(part, dict) else None
  if not isinstance(text, str) or part.get("type", "text") != "text":
    raise ValueError(f"{name} holds a part that is no text")
  return text


def _text_of(row: row_files.Row, field: str) -> str:
  value = row_files.get(row, field)
  if not value.strip():
    raise row_files.missing(row, "text", field)
  return value


def _as_messages(value: Any, role: str) -> Any:
  if isinstance(value, str):
    return [{"role": role, "content": value}]
  return [value] if isinstance(value, dict) else value


def _common(lists: Sequence[Messages]) -> Messages:
  """What all begin with, up to the last message that is no assistant's."""
  length = 0
  for i, together in enumerate(zip(*lists, strict=False)):
    if any(one != together[0] for one in together):
      break
    if together[0]["role"] != "assistant":
      length = i + 1
  return lists[0][:length]


def _answer(field: str, found: Messages, before: Messages) -> Messages:
  if found[: len(before)] == before:
    found = found[len(before) :]
  if not found or found[0]["role"] != "assistant":
    raise ValueError(
      f"{field} does not go on from the prompt, expected the assistant's "
      "message first"
    )
  return found
