# SPDX-License-Identifier: Apache-2.0
"""Programs get what they ask for, within their budgets, in any company."""

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.inference import bundle, local_engine, scripted_engine
from jaxttc.runtime import programs


def _echo(so_far, seed):
  del seed
  return "four words and end #### " + str(len(so_far.split()))


def _engine(**more):
  return scripted_engine.ScriptedEngine(_echo, **more)


def _twice(question):
  (draft,) = yield programs.Ask(question, 50, stage="draft")
  finals = yield programs.Ask(question + " " + draft.text, 50, samples=3)
  return [draft.text, *(final.text for final in finals)]


def _serve(tasks, engine, **more):
  names = [str(i) for i in range(len(tasks))]
  return sorted(programs.serve(tasks, {"policy": engine}, names, **more))


def test_replies_and_tokens_by_stage():
  (done,) = _serve([_twice("one two")], _engine())
  assert done.value[0] == "four words and end #### 2"
  assert done.value[1:] == ["four words and end #### 8"] * 3
  assert done.tokens == {"draft": 6, "answer": 18}
  assert done.prompt_tokens == {"draft": 2, "answer": 8}
  assert done.cost.generated_tokens == 24
  assert done.cost.prompt_tokens == 10


@pytest.mark.parametrize("groups", [1, 3, 16])
def test_company_changes_nothing(groups):
  tasks = [_twice("word " * (n + 1)) for n in range(7)]
  found = _serve(tasks, _engine(groups=groups))
  assert [done.index for done in found] == list(range(7))
  alone = [_serve([_twice("word " * (n + 1))], _engine())[0] for n in range(7)]
  assert [d.value for d in found] == [d.value for d in alone]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 60), st.integers(0, 40))
def test_never_overspends(generated, prompt):
  limits = budget_lib.Budget(generated_tokens=generated, prompt_tokens=prompt)
  (done,) = _serve([_twice("one two")], _engine(), budget=limits)
  assert done.cost.generated_tokens <= generated
  assert done.cost.prompt_tokens <= prompt


def test_short_budget_shortens_one_sample_and_refuses_the_rest():
  def program():
    replies = yield programs.Ask("one two", 6, samples=3)
    return replies

  (done,) = _serve(
    [program()], _engine(), budget=budget_lib.Budget(generated_tokens=4)
  )
  first, *others = done.value
  assert first.tokens == 4 and not first.finished
  assert [other.error for other in others] == ["not paid for"] * 2


def test_local_model_samples_do_not_depend_on_company():
  policy = bundle.load("arithmetic_lm")

  def program(question):
    replies = yield programs.Ask(question, 12, samples=2)
    return [reply.text for reply in replies]

  questions = [f"Modulo 11: start at {n}, add 2.\n" for n in range(3)]
  engine = local_engine.LocalEngine(policy, groups=2, rows=1, slots=64)
  together = _serve([program(q) for q in questions], engine, seed=5)
  again = _serve([program(q) for q in questions], engine, seed=5)
  other = _serve([program(q) for q in questions], engine, seed=6)
  assert [d.value for d in together] == [d.value for d in again]
  assert [d.value for d in together] != [d.value for d in other]


def test_a_prompt_that_outgrew_the_model_is_told_of():
  def program():
    replies = yield programs.Ask("word " * 4096, 5, samples=2)
    return [reply.error for reply in replies]

  (done,) = _serve([program()], _engine())
  line = "a prompt of 4096 tokens leaves no room; model 'policy' takes 4096"
  assert done.value == [line] * 2


def test_a_program_that_gives_up_leaves_the_others():
  def gives_up():
    yield programs.Ask("one", 5)
    raise programs.GaveUp("cannot go on")

  found = _serve([gives_up(), _twice("one two")], _engine())
  assert [done.error for done in found] == ["cannot go on", ""]
  assert found[0].value is None and found[0].cost.generated_tokens == 5
  assert found[1].value[0] == "four words and end #### 2"


def _one(prompt="text", limit=5, samples=1, model="policy"):
  yield programs.Ask(prompt, limit, samples, model)


@pytest.mark.parametrize(
  ("task", "said"),
  [
    (_one(model="nobody"), "asked model 'nobody'; expected one of policy"),
    (_one(limit=0), "1 samples of 0 tokens"),
    (_one(samples=0), "0 samples of 5 tokens"),
    (_one(prompt=" "), "expected at least one of each, and text"),
  ],
)
def test_asks_that_cannot_be(task, said):
  with pytest.raises(ValueError, match=said):
    _serve([task], _engine())


def test_serve_refuses_what_it_cannot_keep():
  engines = {"policy": _engine()}
  with pytest.raises(ValueError, match="1 programs, 2 names and 1 budgets"):
    list(programs.serve([_one()], engines, ["a", "b"]))
  with pytest.raises(ValueError, match="two programs have one name"):
    list(programs.serve([_one(), _one()], engines, ["a", "a"]))
  with pytest.raises(ValueError, match="budget.flops cannot be kept"):
    list(
      programs.serve(
        [_one()], engines, ["a"], budget=budget_lib.Budget(flops=1e9)
      )
    )


def test_engine_serves_on_after_a_failure():
  def fails():
    yield programs.Ask("one", 5)
    raise RuntimeError("own")

  engine = _engine()
  with pytest.raises(RuntimeError, match="own"):
    _serve([fails(), _twice("one two")], engine)
  assert _serve([_twice("one two")], engine)[0].tokens["draft"] == 6
