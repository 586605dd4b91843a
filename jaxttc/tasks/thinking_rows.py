# SPDX-License-Identifier: Apache-2.0
"""Reader of worked thoughts: chats whose last answer holds a thinking span.

Rows have `messages`, each of a `role` and `content`, as public sets of
reasoning traces do; JSON lines or Parquet. The last message is the
assistant's, "<think>thought</think>solution". `concise` writes the copy with a
short thought that length predictors learn from beside it (Li et al. 2025).
"""

import dataclasses
import re

from jaxttc.tasks import chat_rows, digit_sums, row_files

THINK, END_THINK = digit_sums.THINK, digit_sums.END_THINK
# A heading, at the beginning of a line, behind which the result is repeated.
_FINAL = re.compile(r"^[#* ]*final answer\b", re.IGNORECASE | re.MULTILINE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thought:
  """A worked thought.

  Attributes:
    id: "<file stem>-<number of the row>".
    asked: messages before the answer.
    thought: the text of the thinking span.
    solution: the text after it; "" if it was never closed.
  """

  id: str
  asked: chat_rows.Messages
  thought: str
  solution: str


def split(content: str, *, strict: bool = True) -> tuple[str, str]:
  """The thought and the solution of an answer.

  Args:
    content: "<think>thought</think>solution"; what stands before the opening
      tag must be blank.
    strict: refuses an answer whose span is not closed; else all of it is
      thought.

  Raises:
    ValueError: if there is no opening tag, more than one of either, or, where
      it is asked for, no closing one.
  """
  before, opened, rest = content.partition(THINK)
  if not opened or before.strip():
    raise ValueError(f"content: expected it to begin with {THINK}")
  thought, closed, solution = rest.partition(END_THINK)
  if strict and not closed:
    raise ValueError(f"content: {THINK} is never closed, expected {END_THINK}")
  for tag in (THINK, END_THINK):
    if tag in thought or tag in solution:
      raise ValueError(f"content: more than one {tag}, expected one")
  return thought, solution


def concise(thought: Thought) -> Thought:
  """A copy that thinks no more than its solution says.

  A "Final Answer" block at the end of the thought is kept behind that.

  Raises:
    ValueError: if there is no solution to think.
  """
  if not thought.solution.strip():
    raise ValueError(f"{thought.id}: no solution, expected one to copy")
  found = list(_FINAL.finditer(thought.thought))
  kept = [thought.thought[found[-1].start() :].strip()] if found else []
  short = "\n\n".join([thought.solution.strip(), *kept])
  return dataclasses.replace(thought, thought=f"{short}\n")


def load(
  path: row_files.Path, *, skip: bool = False, strict: bool = True
) -> row_files.Loaded[Thought]:
  """Reads worked thoughts.

  Args:
    path: a file of JSON lines, ".gz" or plain, or of Parquet.
    skip: leave out, and count, rows that cannot be used.
    strict: as `split`.

  Raises:
    ValueError: naming file and line, if a row's messages cannot be used, the
      last is not the assistant's or the only one, or its content cannot be
      split.
  """

  def read(number: int, row: row_files.Row) -> Thought:
    messages = chat_rows.messages(
      row_files.get(row, "messages"), "messages", row
    )
    last = len(messages) - 1
    if last < 1 or messages[-1]["role"] != "assistant":
      raise ValueError(
        "messages: expected a question, and the assistant's answer last"
      )
    try:
      thought, solution = split(messages[-1]["content"], strict=strict)
    except ValueError as error:
      raise ValueError(f"messages[{last}].{error}") from None
    return Thought(
      id=f"{row_files.stem(path)}-{number}",
      asked=messages[:-1],
      thought=thought,
      solution=solution,
    )

  return row_files.load(path, read, skip=skip)
