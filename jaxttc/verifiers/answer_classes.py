# SPDX-License-Identifier: Apache-2.0
"""Class ids for answers: what votes count and decoders see."""

from collections.abc import Iterable

from jaxttc.verifiers import answer_text, answers


class AnswerClasses:
  """Stable class ids for the answers of ONE problem: what votes count.

  Ids are given in order of first occurrence; equivalent answers share one.
  Equivalence is judged against the first answer of each class, in either
  direction, so the classes do not depend on later answers.
  """

  def __init__(self, *, timeout_s: float = 5.0):
    """Starts without classes.

    Args:
      timeout_s: seconds a symbolic comparison may take.

    Raises:
      ValueError: if `timeout_s` is not positive.
    """
    self._timeout_s = answers.checked_timeout(timeout_s, "AnswerClasses")
    self._ids: dict[str, int] = {}
    self._first: list[str] = []
    self._undecided = 0

  def __len__(self) -> int:
    return len(self._first)

  @property
  def undecided(self) -> int:
    """Comparisons that stayed undecided and so kept two classes apart."""
    return self._undecided

  def representative(self, class_id: int) -> str:
    """The first answer seen of a class.

    Raises:
      ValueError: if there is no such class.
    """
    if not 0 <= class_id < len(self._first):
      raise ValueError(
        f"AnswerClasses: no class {class_id}, have {len(self._first)}"
      )
    return self._first[class_id]

  def class_id(self, answer: str | None) -> int:
    """Id of the answer's class, opening one if needed.

    Args:
      answer: an answer as written; None or blank is no answer.

    Returns:
      An id >= 0, or -1 for no answer.

    Raises:
      TypeError: if `answer` is neither a string nor None.
    """
    if answer is None:
      return -1
    text = answer_text.normal(answers.checked(answer, "AnswerClasses"))
    if not text:
      return -1
    if text not in self._ids:
      self._ids[text] = self._place(answer)
    return self._ids[text]

  def of_solution(self, text: str) -> int:
    """Id of the class of a whole solution's answer, -1 if it has none."""
    return self.class_id(answers.extract_answer(text))

  def class_ids(self, texts: Iterable[str | None]) -> list[int]:
    """Ids of many answers, in order; see `class_id`."""
    return [self.class_id(text) for text in texts]

  def _place(self, answer: str) -> int:
    for class_id, first in enumerate(self._first):
      verdicts = []
      for pair in ((answer, first), (first, answer)):
        verdict = answers.equivalent(*pair, timeout_s=self._timeout_s)
        if verdict:
          return class_id
        verdicts.append(verdict)
      self._undecided += None in verdicts
    self._first.append(answer)
    return len(self._first) - 1
