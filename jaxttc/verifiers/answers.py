# SPDX-License-Identifier: Apache-2.0
r"""Are two final answers the same? Canonical texts, verdicts and grading.

An answer is decided as cheaply as it can be: equal texts; exact numbers with
units; words; tuples, sets, intervals and matrices item by item. What is left
(symbolic expressions, equations, inequalities) goes to math-verify in a worker
process with a hard deadline. A pair that cannot be decided is None, and is
counted: it is never scored as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import concurrent.futures
import dataclasses
import queue
import time

from jaxttc.verifiers import answer_text, grading_pool, quantities

_Oracle = Callable[[str, str], bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradeReport:
  """Verdicts on a batch of answers, with what could not be decided.

  Attributes:
    verdicts: True, False or None (undecided) for each pair, in order.
    timeouts: how many of the None are passed deadlines.
    unparsed: how many of the None could not be read as mathematics.
  """

  verdicts: tuple[bool | None, ...]
  timeouts: int
  unparsed: int

  @property
  def correct(self) -> int:
    """Number of answers judged right."""
    return sum(verdict is True for verdict in self.verdicts)


def extract_answer(text: str, *, last_number: bool = False) -> str | None:
  r"""Finds the final answer in a solution; see `answer_text.extract`.

  Args:
    text: a whole solution.
    last_number: fall back on the last number of the text.

  Returns:
    The answer as written, or None.
  """
  return answer_text.extract(text, last_number=last_number)


def checked(answer: str, where: str) -> str:
  """The answer itself; raises TypeError, naming `where`, if it is no str."""
  if not isinstance(answer, str):
    raise TypeError(f"{where}: an answer is a str, got {answer!r}")
  return answer


def checked_timeout(timeout_s: float, where: str) -> float:
  """The limit itself; raises ValueError, naming `where`, if not positive."""
  if not timeout_s > 0:
    raise ValueError(f"{where}: timeout_s must be positive, got {timeout_s}")
  return timeout_s


def canonical(answer: str, *, timeout_s: float = 5.0) -> str:
  r"""Text of the class an answer belongs to: equal texts are equal answers.

  Numbers become reduced fractions without unit ("016" is "16", "50%" is "50",
  "\frac{2}{4}" is "1/2"), words lower case, sets sorted; "x = 5" is "5".
  Expressions are simplified by sympy, which cannot always bring equal ones to
  one text (`AnswerClasses` also compares them). Where sympy fails, or passes
  its deadline, the tidied text stands for itself.

  Args:
    answer: an answer as written.
    timeout_s: seconds sympy may take, for each expression inside.

  Returns:
    The canonical text; "" for a blank answer.

  Raises:
    TypeError: if `answer` is not a string.
    ValueError: if `timeout_s` is not positive.
  """
  checked_timeout(timeout_s, "canonical")
  text = answer_text.normal(checked(answer, "canonical"))
  return text if answer_text.unwieldy(text) else _canonical(text, timeout_s)


def _canonical(text: str, timeout_s: float) -> str:
  text = answer_text.normal(answer_text.named(text)[1])
  quantity = quantities.read(text)
  if quantity is not None:
    return str(quantity.value)
  if not text or (prose := answer_text.words(text)):
    return prose if text else ""
  parts = answer_text.parts(text)
  if parts is not None:
    items = [_canonical(item, timeout_s) for item in parts.items]
    if parts.kind in ("{}", "union"):
      items = sorted(set(items))
    opening, closing = parts.kind if len(parts.kind) == 2 else "{}"
    prefix = "" if len(parts.kind) == 2 else f"{parts.kind} "
    return f"{prefix}{opening}{', '.join(items)}{closing}"
  if _is_based(text) or answer_text.explosive(text):
    return text.replace(" ", "")
  try:
    bare = answer_text.without_unit(text)
    return grading_pool.shared().canonical(bare, timeout_s)
  except grading_pool.Undecided:
    return text.replace(" ", "")


def _is_based(text: str) -> bool:
  """Whether the text is a numeral in a written base, such as 52_8."""
  return _based(text) is not None


def _based(text: str) -> tuple[str, str] | None:
  digits, mark, base = text.replace(" ", "").partition("_")
  base = base.strip("{}")
  whole = digits.replace(",", "")
  if mark and base.isdigit() and whole.isalnum() and whole[0].isdigit():
    return whole.upper(), base
  return None


def _same(pred: str, gold: str, oracle: _Oracle) -> bool:
  """Verdict on two normal texts, asking the oracle where rules end.

  Raises:
    grading_pool.Undecided: if neither rules nor oracle can tell.
  """
  pred_name, pred_value = answer_text.named(pred)
  gold_name, gold_value = answer_text.named(gold)
  if pred_name and gold_name and pred_name != gold_name:
    if len(pred_name) == len(gold_name) == 1:
      return False  # x = 1 is not y = 1
  pred, gold = answer_text.normal(pred_value), answer_text.normal(gold_value)
  if not pred or not gold:
    return False
  if pred.replace(" ", "") == gold.replace(" ", ""):
    return True
  verdict = _same_number(pred, gold)
  if verdict is not None:
    return verdict
  pred_parts, gold_parts = answer_text.parts(pred), answer_text.parts(gold)
  if pred_parts and gold_parts and pred_parts.kind == gold_parts.kind:
    return _same_items(pred_parts, gold_parts, oracle)
  verdict = _same_shape(pred, gold, pred_parts, gold_parts)
  return oracle(pred, gold) if verdict is None else verdict


def _same_number(pred: str, gold: str) -> bool | None:
  """Verdict where both are numbers or words; None if rules do not reach."""
  gold_based, pred_based = _based(gold), _based(pred)
  if gold_based:  # the base may be left unsaid, as the question asks for it
    bare = pred.replace(",", "").replace(" ", "").upper()
    return pred_based == gold_based or bare == gold_based[0]
  if pred_based:
    return False
  a, b = quantities.read(pred), quantities.read(gold)
  if (a is None) != (b is None):  # next to a number, "5 m" is no product
    a = a or quantities.read(pred, letters=True)
    b = b or quantities.read(gold, letters=True)
  if a is not None and b is not None:
    verdict = quantities.equal(a, b)
    if verdict is None:
      raise grading_pool.Undecided(timed_out=False)
    return verdict
  pred_words, gold_words = answer_text.words(pred), answer_text.words(gold)
  if pred_words is not None and gold_words is not None:
    return pred_words == gold_words
  words = pred_words or gold_words
  if (a or b) and words and len(words) > 1:
    return False  # but "e" may be a number
  return None


def _same_shape(
  pred: str,
  gold: str,
  pred_parts: answer_text.Parts | None,
  gold_parts: answer_text.Parts | None,
) -> bool | None:
  """False where two compounds, or a compound and a number, cannot agree."""
  for one, other in ((pred_parts, gold), (gold_parts, pred)):
    if one is not None and len(one.items) > 1:
      if quantities.read(other) is not None:
        return False
  kinds = {p.kind for p in (pred_parts, gold_parts) if p is not None}
  if len(kinds) == 2 and kinds <= {"()", "[]", "(]", "[)"}:
    return False
  if len(kinds) == 2 and all(kind.startswith("matrix") for kind in kinds):
    return False
  return None


def _same_items(
  pred: answer_text.Parts, gold: answer_text.Parts, oracle: _Oracle
) -> bool:
  """Compares items in order, or as sets; a False outweighs an undecided."""
  if len(pred.items) != len(gold.items):
    return False
  if pred.kind in ("{}", "union"):
    return _same_sets(list(pred.items), gold.items, oracle)
  undecided = None
  for a, b in zip(pred.items, gold.items, strict=True):
    try:
      if not _same(answer_text.normal(a), answer_text.normal(b), oracle):
        return False
    except grading_pool.Undecided as error:
      undecided = error
  if undecided is not None:
    raise undecided
  return True


def _same_sets(pred: list[str], gold: Sequence[str], oracle: _Oracle) -> bool:
  """Matches each gold item with a predicted one not matched before."""
  for wanted in gold:
    undecided = None
    for index, item in enumerate(pred):
      try:
        if _same(answer_text.normal(item), answer_text.normal(wanted), oracle):
          del pred[index]
          break
      except grading_pool.Undecided as error:
        undecided = error
    else:
      if undecided is not None:
        raise undecided
      return False
  return True


def _decide(
  pred: str, gold: str, worker: grading_pool.Worker, timeout_s: float
) -> bool:
  """Verdict on answers as written, `timeout_s` for all its oracle calls."""
  left = timeout_s

  def oracle(a: str, b: str) -> bool:
    nonlocal left
    a, b = answer_text.without_unit(a), answer_text.without_unit(b)
    if answer_text.explosive(a) or answer_text.explosive(b):
      raise grading_pool.Undecided(timed_out=False)
    worker.start()  # not charged: waiting for a start is not the pair's fault
    begun = time.monotonic()
    verdict = worker.verify(a, b, left)
    left -= time.monotonic() - begun
    return verdict

  pred, gold = answer_text.normal(pred), answer_text.normal(gold)
  if pred != gold:
    if answer_text.unwieldy(pred) or answer_text.unwieldy(gold):
      raise grading_pool.Undecided(timed_out=False)
  return _same(pred, gold, oracle)


def equivalent(pred: str, gold: str, *, timeout_s: float = 5.0) -> bool | None:
  """Whether a predicted answer is right, given the reference.

  Not symmetric, on purpose: a reference that is an inequality accepts the
  interval it describes, a numeral with a written base accepts its bare digits.

  Args:
    pred: the answer to be judged, as written.
    gold: the reference answer.
    timeout_s: seconds the symbolic comparison may take.

  Returns:
    True or False; None if it passed its deadline or could not be read.

  Raises:
    TypeError: if an answer is not a string.
    ValueError: if `timeout_s` is not positive.
    ImportError: if math-verify is needed and not installed.
  """
  checked_timeout(timeout_s, "equivalent")
  pred, gold = checked(pred, "equivalent"), checked(gold, "equivalent")
  try:
    return _decide(pred, gold, grading_pool.shared(), timeout_s)
  except grading_pool.Undecided:
    return None


def grade_batch(
  preds: Sequence[str | None],
  golds: Sequence[str],
  *,
  timeout_s: float = 5.0,
  processes: int = 1,
) -> GradeReport:
  """Grades many answers; a deadline passed by one costs the others nothing.

  Args:
    preds: answers to be judged; None (no answer was given) is wrong.
    golds: the reference of each.
    timeout_s: seconds of symbolic comparison a pair may take, counted from
      when a worker takes it up.
    processes: math-verify workers; none is started unless one is needed.

  Returns:
    Verdicts in the order given, with counts of what stayed undecided.

  Raises:
    ValueError: on unequal lengths, or a limit that is not positive.
    TypeError: if an answer is not a string.
  """
  checked_timeout(timeout_s, "grade_batch")
  if len(preds) != len(golds):
    raise ValueError(f"grade_batch: {len(preds)} preds for {len(golds)} golds")
  if processes < 1:
    raise ValueError(f"grade_batch: processes must be >= 1, got {processes}")
  pairs = {
    (checked(pred, "grade_batch preds"), checked(gold, "grade_batch golds"))
    for pred, gold in zip(preds, golds, strict=True)
    if pred is not None
  }
  verdicts = _grade_pairs(sorted(pairs), timeout_s, processes)
  found = [
    False if pred is None else verdicts[pred, gold]
    for pred, gold in zip(preds, golds, strict=True)
  ]
  return GradeReport(
    verdicts=tuple(v if isinstance(v, bool) else None for v in found),
    timeouts=sum(v == "timeout" for v in found),
    unparsed=sum(v == "unparsed" for v in found),
  )


def _grade_pairs(
  pairs: Sequence[tuple[str, str]], timeout_s: float, processes: int
) -> dict[tuple[str, str], bool | str]:
  """Verdict of each distinct pair: a bool, "timeout" or "unparsed"."""
  idle: queue.SimpleQueue[grading_pool.Worker] = queue.SimpleQueue()
  for worker in grading_pool.workers(processes):
    idle.put(worker)

  def grade(pair: tuple[str, str]) -> bool | str:
    worker = idle.get()
    try:
      return _decide(*pair, worker, timeout_s)
    except grading_pool.Undecided as error:
      return "timeout" if error.timed_out else "unparsed"
    finally:
      idle.put(worker)

  with concurrent.futures.ThreadPoolExecutor(processes) as threads:
    return dict(zip(pairs, threads.map(grade, pairs), strict=True))
