# SPDX-License-Identifier: Apache-2.0
"""The process that runs math-verify: JSON lines in, JSON lines out.

Started by path (see `grading_pool`), so it imports sympy and math-verify and
nothing else: not jax, not this package, not the caller's main module. It pays
for these imports once, then forks a child that serves the requests. Every
request arms an alarm whose default action ends the child, whatever it is
doing and even if nobody waits for it any more; a new child is forked at once.

Requests are {"op": "verify", "pred", "gold", "timeout_s"} and {"op":
"canonical", "text", "timeout_s"}; replies are {"value", "timed_out"}, value
None where a text is not mathematics that math-verify can read.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from typing import Any, TextIO

import latex2sympy2_extended
import math_verify
import sympy

# math-verify's own unit stripping takes algebra for units ("5t" would equal
# "5"), so units are dropped before a text comes here.
_EXTRACTION = math_verify.LatexExtractionConfig(
  normalization_config=latex2sympy2_extended.NormalizationConfig(
    basic_latex=True,
    units=False,
    malformed_operators=True,
    nits=True,
    boxed="none",
    equations=False,
  )
)


def _parse(text: str) -> list[Any]:
  """Sympy objects math-verify reads from a LaTeX text, possibly none."""
  parsed = math_verify.parse(
    f"${text}$",
    extraction_config=[_EXTRACTION],
    parsing_timeout=None,  # the alarm below is the timeout
  )
  return [item for item in parsed if not isinstance(item, str)]


def verify(pred: str, gold: str) -> bool | None:
  """Whether math-verify holds `pred` for `gold`; None if one is unreadable."""
  pred_parsed, gold_parsed = _parse(pred), _parse(gold)
  if not pred_parsed or not gold_parsed:
    return None
  return math_verify.verify(gold_parsed, pred_parsed, timeout_seconds=None)


def canonical(text: str) -> str | None:
  """A simplified text: equal texts are equal answers, not the reverse."""
  parsed = _parse(text)
  if not parsed:
    return None
  expression = parsed[0]
  if not isinstance(expression, sympy.Expr):
    return str(expression)
  exact = {f: sympy.Rational(str(f)) for f in expression.atoms(sympy.Float)}
  simple = sympy.simplify(expression.doit().xreplace(exact))
  return str(sympy.radsimp(sympy.expand(simple)))


def _answer(request: dict[str, Any]) -> bool | str | None:
  if request["op"] == "verify":
    return verify(request["pred"], request["gold"])
  return canonical(request["text"])


def _send(replies: TextIO, value: bool | str | None, timed_out: bool) -> None:
  reply = {"value": value, "timed_out": timed_out}
  print(json.dumps(reply), file=replies, flush=True)


def _serve(replies: TextIO) -> None:
  """The child: answers requests until standard input is closed."""
  for line in sys.stdin:
    request = json.loads(line)
    signal.setitimer(signal.ITIMER_REAL, request["timeout_s"])
    try:
      value = _answer(request)
    except Exception:  # sympy raises everything; unreadable is unreadable
      value = None
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    _send(replies, value, timed_out=False)


def main() -> None:
  """Keeps a child serving requests until standard input is closed."""
  replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
  sys.stdout = sys.stderr  # a library that prints must not garble replies
  logging.disable(logging.CRITICAL)
  signal.signal(signal.SIGALRM, signal.SIG_DFL)
  verify("x", "x+1")  # loads what math-verify loads late
  _send(replies, "ready", timed_out=False)
  while True:
    child = os.fork()
    if child == 0:
      _serve(replies)
      os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
      return
    _send(replies, None, timed_out=os.WTERMSIG(status) == signal.SIGALRM)


if __name__ == "__main__":
  main()
