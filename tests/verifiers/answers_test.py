# SPDX-License-Identifier: Apache-2.0
"""Tests of answer extraction, canonical texts, verdicts and classes."""

import fractions
import json
import pathlib
import subprocess
import sys
import threading

import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.tasks import jsonl
from jaxttc.verifiers import (
  agreement,
  answer_classes,
  answer_text,
  answers,
  grading_pool,
  quantities,
)

pytest.importorskip("math_verify")

_PAIRS = json.loads(
  pathlib.Path(__file__).with_name("answer_pairs.json").read_text("utf-8")
)
_FEW = hypothesis.settings(deadline=None, max_examples=60)
# Runs out of any deadline in sympy, and no rule refuses it beforehand.
_SLOW = r"((9^{999})^{999})^{999}"


def _name(row):
  return f"{row['kind']}: {row['pred']} ~ {row['gold']}"


@pytest.mark.parametrize("row", _PAIRS, ids=_name)
def test_golden_verdict(row):
  verdict = answers.equivalent(row["pred"], row["gold"], timeout_s=20.0)
  assert verdict is row["expected"]


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    (r"So \boxed{3} or rather \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    (r"\boxed{x^{2}} and \boxed{unclosed", "x^{2}"),
    (r"\fbox{7}", "7"),
    (r"thus $\boxed 5$", "5"),
    ("2+2=4\n#### 4\n", "4"),
    ("#### 1\nno:\n#### 2", "2"),
    ("She has 3 left.\nA: 1,200", "1,200"),
    ("A: 12\nB: 14\nI would guess", None),
    ("The final answer is 5. I hope it is correct.", "5"),
    ("the answer is: $2.50.", "$2.50"),
    ("**Final Answer:** 12", "12"),
    ("Answer: no solution", "no solution"),
    (r"A: 3, but \boxed{4}", "4"),
    ("there are 3 of them", None),
    ("", None),
  ],
)
def test_extract_answer(text, expected):
  assert answers.extract_answer(text) == expected


def test_extract_last_number_only_if_asked():
  text = "first 3, then -1,234.5 of them"
  assert answers.extract_answer(text) is None
  assert answers.extract_answer(text, last_number=True) == "-1,234.5"
  assert answers.extract_answer("none", last_number=True) is None


@_FEW
@hypothesis.given(st.text(alphabet="ab{}\\1 $", max_size=30))
def test_extract_finds_any_balanced_box(inner):
  depth = 0
  for position, character in enumerate(inner):
    escaped = len(inner[:position]) - len(inner[:position].rstrip("\\"))
    if escaped % 2 == 0 and character in "{}":
      depth += 1 if character == "{" else -1
      hypothesis.assume(depth >= 0)
  trailing = len(inner) - len(inner.rstrip("\\"))
  hypothesis.assume(depth == 0 and trailing % 2 == 0 and inner.strip())
  found = answers.extract_answer(f"text \\boxed{{{inner}}} text")
  assert found == inner.strip()


@pytest.mark.parametrize(
  ("answer", "expected"),
  [
    ("016", "16"),
    ("27.0", "27"),
    (r"\frac{2}{4}", "1/2"),
    ("0.50", "1/2"),
    ("$1,234$", "1234"),
    ("50%", "50"),
    (r"15\mbox{ cm}^2", "15"),
    ("x = 5", "5"),
    ("-2,1", "{-2, 1}"),
    (r"\{1, -2, 1\}", "{-2, 1}"),
    ("(3,4]", "(3, 4]"),
    (r"\sqrt{49}", "7"),
    (r"\text{East}", "east"),
    ("5^{5^5}", "5^{5^5}"),
    (r"\begin{pmatrix} 1 & 2 \\ 3 & 0.5 \end{pmatrix}", None),
    ("", ""),
  ],
)
def test_canonical(answer, expected):
  if expected is None:
    expected = "matrix 2x2 {1, 2, 3, 1/2}"
  assert answers.canonical(answer) == expected


def test_canonical_texts_agree_for_equal_expressions():
  texts = ["(x+1)^2", "x^2+2x+1", "1+2x+x^2", "x(x+2)+1"]
  assert len({answers.canonical(text) for text in texts}) == 1
  assert answers.canonical(r"\frac{1}{\sqrt{3}}") == answers.canonical(
    r"\frac{\sqrt{3}}{3}"
  )


_WRITINGS = (
  lambda v: f"{v.numerator}/{v.denominator}",
  lambda v: rf"\frac{{{v.numerator}}}{{{v.denominator}}}",
  lambda v: rf"$\dfrac{{{3 * v.numerator}}}{{{3 * v.denominator}}}$.",
  lambda v: rf"\boxed{{{v}}}",
)


@_FEW
@hypothesis.given(
  st.fractions(max_denominator=999),
  st.sampled_from(_WRITINGS),
  st.sampled_from(_WRITINGS),
)
def test_every_writing_of_a_fraction_is_one_class(value, one, other):
  assert answers.canonical(one(value)) == str(value)
  assert answers.equivalent(one(value), other(value)) is True
  wrong = value + fractions.Fraction(1, 7 * 10**6)
  assert answers.equivalent(one(value), other(wrong)) is False


@_FEW
@hypothesis.given(st.decimals(-(10**9), 10**9, places=4))
def test_decimals_read_exactly(value):
  expected = fractions.Fraction(value)
  for text in (f"{value}", f"{value:,}", f"${value}", f"{value} cm"):
    quantity = quantities.read(answer_text.normal(text))
    assert quantity is not None and quantity.value == expected


@_FEW
@hypothesis.given(st.text(max_size=80))
def test_any_text_is_its_own_class_and_text_rules_never_fail(text):
  tidy = answer_text.normal(text)
  assert answer_text.normal(tidy) is not None
  answer_text.parts(tidy)
  answer_text.words(tidy)
  answer_text.explosive(tidy)
  quantities.read(tidy)
  answers.extract_answer(text, last_number=True)
  if tidy:
    assert answers.equivalent(text, text) is True


@_FEW
@hypothesis.given(st.lists(st.integers(-9, 9), min_size=2, max_size=5))
def test_sets_ignore_order_and_tuples_do_not(values):
  forward, backward = map(str, values), map(str, reversed(values))
  one, other = ", ".join(forward), ", ".join(backward)
  assert answers.equivalent(one, rf"\{{{other}\}}") is True
  same = values == values[::-1]
  assert answers.equivalent(f"({one})", f"({other})") is same


def test_grade_batch_counts_what_stays_undecided():
  preds = ["1", "2", None, _SLOW, "5^{5^5}", r"\frac{1}{", "0.5"]
  golds = ["1", "1", "1", "7", "1", "2", r"\frac12"]
  report = answers.grade_batch(preds, golds, timeout_s=0.5)
  assert report.verdicts == (True, False, False, None, None, None, True)
  assert (report.timeouts, report.unparsed, report.correct) == (1, 2, 2)


def test_a_deadline_costs_the_next_answer_nothing():
  assert answers.equivalent(_SLOW, "7", timeout_s=0.3) is None
  assert answers.equivalent("x+1", "1+x", timeout_s=20.0) is True


def test_long_and_deep_texts_are_undecided_not_errors():
  deep = "(1," * 600 + "2" + ")" * 600
  for text in (deep, "(" * 5000 + "1" + ")" * 5000, "{" * 900, "\\" * 99):
    assert answers.equivalent(text, "x+2") is None
    assert answers.equivalent(text, text) is True
    assert answers.canonical(text)


def test_equivalent_off_the_main_thread():
  verdicts = []
  thread = threading.Thread(
    target=lambda: verdicts.append(answers.equivalent("a+b", "b+a"))
  )
  thread.start()
  thread.join()
  assert verdicts == [True]


def test_a_killed_worker_is_replaced():
  worker = grading_pool.shared()
  with pytest.raises(grading_pool.Undecided) as caught:
    worker.verify(_SLOW, "7", 0.2)
  assert caught.value.timed_out
  assert worker.verify("x+y", "y+x", 20.0)
  worker._process.kill()
  worker._process.wait()
  assert worker.verify("x+y", "y+x", 20.0)


def test_workers_are_kept_between_calls():
  assert grading_pool.workers(1)[0] is grading_pool.shared()
  assert grading_pool.workers(2)[:1] == grading_pool.workers(1)


def test_the_worker_imports_neither_jax_nor_this_package():
  script = pathlib.Path(grading_pool.__file__).with_name("grading_worker.py")
  code = (
    "import runpy, sys; runpy.run_path(sys.argv[1]);"
    "print([m for m in ('jax', 'jaxttc') if m in sys.modules])"
  )
  done = subprocess.run(
    [sys.executable, "-P", "-c", code, str(script)],
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.strip() == "[]"


def test_classes_are_stable_and_merge_equivalent_answers():
  classes = answer_classes.AnswerClasses()
  texts = ["1/2", "3", None, "0.5", "1+x", "", "x+1", r"\frac{2}{4}", "3.0"]
  ids = classes.class_ids(texts)
  assert ids == [0, 1, -1, 0, 2, -1, 2, 0, 1]
  assert len(classes) == 3 and classes.undecided == 0
  assert [classes.representative(i) for i in range(3)] == ["1/2", "3", "1+x"]
  assert classes.class_ids(texts) == ids


def test_classes_count_what_kept_them_apart():
  classes = answer_classes.AnswerClasses(timeout_s=0.2)
  assert classes.class_ids([_SLOW, "x+1", _SLOW]) == [0, 1, 0]
  assert classes.undecided == 1


@_FEW
@hypothesis.given(st.lists(st.integers(0, 5).map(str) | st.none(), max_size=12))
def test_classes_number_first_occurrences(texts):
  ids = answer_classes.AnswerClasses().class_ids(texts)
  order = list(dict.fromkeys(t for t in texts if t is not None))
  assert ids == [-1 if t is None else order.index(t) for t in texts]


def _solution(text, is_correct):
  return jsonl.LabelledSolution(
    question_id="q", system="s", text=text, gold="4", is_correct=is_correct
  )


def test_agreement_lists_every_difference():
  solutions = [
    _solution("A: 4.0", True),
    _solution("A: 5", True),
    _solution("A: 4", False),
    _solution("nothing", False),
    _solution("A: 5^{5^5}", False),
  ]
  found = agreement.measure(solutions)
  assert (found.total, found.agreeing, found.no_answer) == (5, 2, 1)
  assert [d.verdict for d in found.disagreements] == [False, True, None]
  assert found.confusion["wrong", "undecided"] == 1
  assert sum(found.confusion.values()) == 5
  assert "label right, verdict wrong" in agreement.describe(
    found.disagreements[0]
  )


def test_agreement_picture(tmp_path):
  pytest.importorskip("matplotlib")
  path = tmp_path / "new" / "agreement.png"
  agreement.plot({"a": agreement.measure([_solution("A: 4", True)])}, path)
  assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
  ("call", "words"),
  [
    (lambda: answers.canonical("3", timeout_s=0.0), "timeout_s"),
    (lambda: answers.equivalent("3", "3", timeout_s=-1.0), "got -1"),
    (lambda: answers.grade_batch(["1"], []), "1 preds for 0"),
    (
      lambda: answers.grade_batch([], [], processes=0),
      "processes must be >= 1",
    ),
    (
      lambda: answer_classes.AnswerClasses(timeout_s=0.0),
      "timeout_s",
    ),
    (
      lambda: answer_classes.AnswerClasses().representative(0),
      "no class 0",
    ),
    (lambda: agreement.measure([]), "no solutions"),
  ],
)
def test_bad_input_is_one_clear_line(call, words):
  with pytest.raises(ValueError, match=words) as caught:
    call()
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "call",
  [
    lambda: answers.extract_answer(None),
    lambda: answers.canonical(3),
    lambda: answers.equivalent(3, "3"),
    lambda: answers.equivalent("3", None),
    lambda: answers.grade_batch(["1"], [None]),
    lambda: answer_classes.AnswerClasses().class_id(3),
  ],
)
def test_answers_that_are_not_text_are_type_errors(call):
  with pytest.raises(TypeError):
    call()
