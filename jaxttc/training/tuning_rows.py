# SPDX-License-Identifier: Apache-2.0
"""Demonstrations and pairs of any layout, as prompts and answers of text.

The readers in `tasks` check rows and keep their layouts apart. Here each row
becomes a prompt, of text or of messages that a chat template makes text of, and
the text of what the assistant answers.
"""

from collections.abc import Callable, Sequence
import pathlib
from typing import Any, NamedTuple

from jaxttc.tasks import (
  chat_rows,
  jsonl,
  math_rows,
  preference_rows,
  row_files,
)

Chat = Callable[[Sequence[chat_rows.Message]], str]


class Row(NamedTuple):
  """A prompt, and one answer to it or two.

  Attributes:
    prompt: text, or the messages before the answer.
    answers: texts: the demonstration, or the chosen and the rejected one.
  """

  prompt: str | chat_rows.Messages
  answers: tuple[str, ...]


def demonstrations(
  path: row_files.Path, *, skip: bool = False
) -> row_files.Loaded[Row]:
  """Reads demonstrations; the first row's fields tell which layout it is.

  Args:
    path: JSON lines or Parquet, with `messages` (the assistant's last one is
      the answer), `prompt` and `completion`, GSM8K's `question` and `answer`,
      or MATH's `problem` and `solution`; or a folder of MATH's.
    skip: leave out, and count, rows that cannot be used; the first that is of
      a known layout tells it.

  Raises:
    ValueError: naming file and row, if the layout is another or a row cannot
      be used.
  """
  load, of = math_rows.load, _of_worked
  if not pathlib.Path(path).is_dir():
    load, of = row_files.layout(
      path,
      _reader,
      "no demonstration; expected messages, prompt and completion, question "
      "and answer, or problem, level, type and solution",
      skip=skip,
    )
  return load(path, skip=skip).then(lambda row: Row(*of(row)), skip=skip)


def _reader(row: row_files.Row) -> tuple[Any, Any] | None:
  """What reads rows like this one, and makes a demonstration of each."""
  if row_files.get(row, "messages") is not None:
    return chat_rows.load_chats, _of_chat
  if row_files.get(row, "completion") is not None:
    return chat_rows.load_completions, _of_completion
  if row_files.get(row, "question") is not None:
    return jsonl.load_gsm8k, _of_problem
  if math_rows.is_layout(row):
    return math_rows.load, _of_worked
  return None


def pairs(path: row_files.Path, *, skip: bool = False) -> row_files.Loaded[Row]:
  """Reads preference pairs; the answers of each are (chosen, rejected).

  Args:
    path: JSON lines or Parquet, as `preference_rows.load` reads them.
    skip: leave out, and count, rows that cannot be used.

  Raises:
    ValueError: naming file and row, if one cannot be used.
  """
  return preference_rows.load(path, skip=skip).then(
    lambda row: Row(row.prompt, (_said(row.chosen), _said(row.rejected))),
    skip=skip,
  )


def prompt_text(
  prompt: str | chat_rows.Messages, chat: Chat | None = None
) -> str:
  """The text that a model is given.

  Args:
    prompt: of a row.
    chat: the model's chat template, as `Bundle.chat`; None if it has none. Then
      messages are joined by line ends, without their roles, and there is a line
      end after the prompt: an answer begins a line.
  """
  if chat is not None:
    if isinstance(prompt, str):
      prompt = ({"role": "user", "content": prompt},)
    return chat(prompt)
  if not isinstance(prompt, str):
    prompt = "\n".join(message["content"] for message in prompt)
  return prompt if prompt.endswith("\n") else prompt + "\n"


def _of_chat(chat: chat_rows.Chat):
  turns = [m["role"] == "assistant" for m in chat.messages]
  last = len(turns) - 1 - turns[::-1].index(True)
  if not last:
    raise ValueError("messages: the assistant's comes first, expected a prompt")
  return chat.messages[:last], (chat.messages[last]["content"],)


def _of_completion(row: chat_rows.Completion):
  return row.prompt, (_said(row.completion),)


def _of_problem(problem):
  solution = problem.meta["solution"]
  return problem.text, (f"{solution}\n#### {problem.answer}\n",)


def _of_worked(problem):
  return problem.text, (problem.meta["solution"] + "\n",)


def _said(answer: str | chat_rows.Messages) -> str:
  """The text of an answer."""
  if isinstance(answer, str):
    return answer
  if len(answer) > 1:
    raise ValueError(
      f"an answer has {len(answer)} messages, expected the assistant's one"
    )
  return answer[0]["content"]
