# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.inference import engine as engine_lib
from jaxttc.inference import scripted_engine

PROMPT = "What is it ?\n"


def _count(prefix, seed):
  """Counts its own lines; the third holds the answer."""
  lines = prefix.count("\n")
  return f"line {lines}\n" if lines < 3 else "#### 42\n"


def _opened(script=_count, **options):
  engine = scripted_engine.ScriptedEngine(script, groups=2, **options)
  prompt = engine_lib.Prompt(text=PROMPT, tokens=engine.encode(PROMPT))
  engine.open({0: prompt})
  return engine


def _ask(ticket, node=0, until=engine_lib.STEP, limit=20):
  return engine_lib.Request(
    group=0, ticket=ticket, node=node, until=until, limit=limit, seed=(1, 2)
  )


def test_are_what_the_driver_asks_for():
  verifier = scripted_engine.ScriptedVerifier(len)
  assert isinstance(_opened(), engine_lib.Engine)
  assert isinstance(verifier, engine_lib.Verifier)


def test_steps_ends_and_limits():
  engine = _opened()
  engine.submit(
    [
      _ask(0),
      _ask(1, until=engine_lib.END),
      _ask(2, until=engine_lib.END, limit=5),
    ]
  )
  step, end, cut = engine.step()
  assert (step.text, step.length) == ("line 1\n", 2)
  assert step.stopped and not step.finished and step.answer == -1
  assert end.text == "line 1\nline 2\n#### 42\n" and end.length == 6
  assert end.stopped and end.finished and end.answer >= 0
  assert cut.text == "line 1\nline 2\n#### " and cut.length == 5
  assert not cut.stopped and not cut.finished
  engine.file(0, {0: 1})
  engine.submit([_ask(0, node=1)])
  assert engine.step()[0].text == "line 2\n"
  engine.release(0, np.array([True, False]))
  with pytest.raises(ValueError, match="group 0 has no node 1"):
    engine.submit([_ask(0, node=1)])


def test_seeds_decide():
  engine = _opened(lambda prefix, seed: f"draw {seed}\n")
  again = [_ask(0), _ask(1)]
  engine.submit(again)
  first, second = engine.step()
  assert first.text == second.text
  other = engine_lib.Request(
    group=0, ticket=2, node=0, until=0, limit=9, seed=(1, 3)
  )
  engine.submit([other])
  assert engine.step()[0].text != first.text


def test_cancelled_requests_cost_nothing():
  engine = _opened(per_step=1)
  engine.submit([_ask(0), _ask(1)])
  assert [c.ticket for c in engine.step()] == [0]
  (gone,) = engine.cancel(0)
  assert (gone.ticket, gone.length, gone.stopped) == (1, 0, False)
  assert engine.step() == []


def test_verifier_reads_whole_prefixes():
  seen = []
  verifier = scripted_engine.ScriptedVerifier(
    lambda text: seen.append(text) or 0.25
  )
  verifier.open({0: engine_lib.Prompt(text=PROMPT, tokens=(1,))})
  span = engine_lib.Span(
    group=0, ticket=0, parent=0, text="a\n", tokens=(1,), finished=False
  )
  assert verifier.score([span]) == [0.25]
  verifier.file(0, {0: 1})
  deeper = engine_lib.Span(
    group=0, ticket=0, parent=1, text="b\n", tokens=(1,), finished=True
  )
  verifier.score([deeper])
  assert seen == [PROMPT + "a\n", PROMPT + "a\nb\n"]
  assert verifier.passes == 2 and verifier.score([]) == []


def test_bad_input():
  engine = _opened(lambda prefix, seed: "")
  engine.submit([_ask(0)])
  with pytest.raises(ValueError, match="empty step"):
    engine.step()
  with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
    engine.submit([_ask(0, limit=0)])
  with pytest.raises(ValueError, match="group 5 is out of range"):
    engine.open({5: engine_lib.Prompt(text="x", tokens=(1,))})
  with pytest.raises(ValueError, match="groups must be >= 1, got 0"):
    scripted_engine.ScriptedEngine(_count, groups=0)
