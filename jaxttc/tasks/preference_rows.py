# SPDX-License-Identifier: Apache-2.0
"""Reader of preference pairs: a prompt, a better answer, a worse one."""

import dataclasses

from jaxttc.tasks import chat_rows, row_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preference:
  """Two answers to one prompt, one of which was preferred.

  Attributes:
    id: "<file stem>-<number of the row>".
    prompt: text, or the messages before the answers.
    chosen: the answer preferred; text if `prompt` is text, else messages, the
      first of which is the assistant's.
    rejected: the other one; likewise.
  """

  id: str
  prompt: str | chat_rows.Messages
  chosen: str | chat_rows.Messages
  rejected: str | chat_rows.Messages


def load(
  path: row_files.Path, *, skip: bool = False
) -> row_files.Loaded[Preference]:
  """Reads rows of `prompt`, `chosen` and `rejected`.

  Each is a string or a list of messages; see `chat_rows.prompt_and_answers` for
  how they are brought into one form. Rows whose answers are whole conversations
  need no prompt.

  Args:
    path: a file of JSON lines, ".gz" or plain, or of Parquet.
    skip: leave out, and count, rows that cannot be used.

  Raises:
    ValueError: naming file and line, if a row lacks one of them, an answer does
      not go on from the prompt, or both answers are the same.
  """

  def read(number: int, row: row_files.Row) -> Preference:
    prompt, (chosen, rejected) = chat_rows.prompt_and_answers(
      row, ("chosen", "rejected")
    )
    if chosen == rejected:
      raise ValueError("chosen and rejected are the same, expected two answers")
    return Preference(
      id=f"{row_files.stem(path)}-{number}",
      prompt=prompt,
      chosen=chosen,
      rejected=rejected,
    )

  return row_files.load(path, read, skip=skip)
