# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.inference import thinking_config

_read = thinking_config.ThinkingConfig.from_request


@pytest.mark.parametrize(
  "fields",
  [
    {"thinking": {"type": "enabled", "budget_tokens": 40}},
    {"reasoning": {"max_tokens": 40}},
    {"reasoning": {"max_tokens": 40, "enabled": True, "effort": None}},
    {"thinking_config": {"thinking_budget": 40}},
    {"enable_thinking": True, "thinking_budget": 40},
    {"chat_template_kwargs": {"enable_thinking": True, "thinking_budget": 40}},
    {"thinking_token_budget": 40},
    {"thinking_budget_tokens": 40},
    {"reasoning_budget": 40},
    {"nvext": {"max_thinking_tokens": 40}},
    {"max_thinking_tokens": 40},
    {"max_tokens_thinking": 40},
    {"token_budget": 40},
    {"think": 40},
    {"think": 40, "max_thinking_tokens": 40, "reasoning_effort": None},
  ],
)
def test_every_dialect_says_forty_tokens(fields):
  found = _read(fields)
  assert (found.mode, found.max_thinking_tokens) == ("on", 40)
  assert found.effort is None and found.show
  assert found.tokens(100) == 40
  with pytest.raises(thinking_config.RequestError, match="less than the 40"):
    found.tokens(40)


@pytest.mark.parametrize(
  "fields",
  [
    {"thinking": {"type": "disabled"}},
    {"reasoning": {"enabled": False}},
    {"reasoning_effort": "none"},
    {"reasoning": {"effort": "none"}},
    {"thinking_config": {"thinking_budget": 0}},
    {"enable_thinking": False, "thinking_budget": 0},
    {"think": False},
    {"max_thinking_tokens": 0},
  ],
)
def test_every_dialect_says_no(fields):
  found = _read(fields)
  assert (found.mode, found.effort, found.max_thinking_tokens) == (
    "off",
    None,
    None,
  )


@pytest.mark.parametrize(
  "fields",
  [
    {"reasoning_effort": "low"},
    {"reasoning": {"effort": "low"}},
    {"think": "low"},
  ],
)
def test_efforts_are_shares_of_the_response(fields):
  found = _read(fields)
  assert (found.mode, found.effort) == ("on", "low")
  assert found.tokens(64) == 12
  assert found.tokens(2) == 1
  assert found.tokens(10, {"low": 0.5}) == 5


def test_every_effort_leaves_an_answer():
  for effort in thinking_config.EFFORTS[1:]:
    for allowance in (2, 3, 17, 4096):
      cap = _read({"reasoning_effort": effort}).tokens(allowance)
      assert 1 <= cap < allowance


def test_nothing_said_and_no_limit():
  assert _read({}) == thinking_config.ThinkingConfig()
  assert _read({"thinking_budget": None}).mode == "auto"
  free = _read({"thinking_budget": -1})
  assert (free.mode, free.tokens(50)) == ("on", None)
  assert _read({"thinking": {"type": "enabled"}}).tokens(50) is None
  assert not _read({"reasoning": {"exclude": True}}).show
  assert not _read({"thinking_config": {"include_thoughts": False}}).show


@pytest.mark.parametrize(
  ("fields", "field", "message"),
  [
    ({"thinkng": {}}, "thinkng", "did you mean 'thinking'"),
    ({"thinking": {"budget": 4}}, "thinking", "unknown field thinking.budget"),
    ({"thinking": True}, "thinking", "expected an object of type, budget"),
    ({"thinking": {"type": "on"}}, "thinking.type", "enabled or disabled"),
    ({"reasoning": {"summary": "auto"}}, "reasoning", "reasoning.summary"),
    ({"reasoning_effort": "extreme"}, "reasoning_effort", "one of none"),
    ({"thinking_budget": 2.5}, "thinking_budget", "expected an integer"),
    ({"thinking_budget": True}, "thinking_budget", "expected an integer"),
    ({"thinking_budget": -2}, "thinking_budget", "is -2; expected"),
    ({"enable_thinking": 1}, "enable_thinking", "true or false"),
    ({"min_thinking_tokens": 5}, "min_thinking_tokens", "not supported"),
    ({"reasoning_budget_message": "x"}, "reasoning_budget_message", "leave"),
    (
      {"thinking_budget": 5, "max_thinking_tokens": 6},
      "max_thinking_tokens",
      "thinking_budget=5 and max_thinking_tokens=6 differ",
    ),
    (
      {"reasoning": {"effort": "low", "max_tokens": 5}},
      "reasoning.effort",
      "both say how long",
    ),
    (
      {"thinking": {"type": "disabled", "budget_tokens": 5}},
      "thinking.type",
      "disagree about whether to think",
    ),
    (
      {"enable_thinking": True, "reasoning_effort": "none"},
      "enable_thinking",
      "disagree",
    ),
    (
      {"enable_thinking": True, "think": False},
      "think",
      "enable_thinking=True and think=False differ",
    ),
  ],
)
def test_mistakes_are_named(fields, field, message):
  with pytest.raises(thinking_config.RequestError, match=message) as caught:
    _read(fields)
  assert caught.value.field == field
  assert "\n" not in str(caught.value)


_VALUES = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-3, 50)
  | st.sampled_from(["low", "x"]),
  lambda inner: st.dictionaries(
    st.sampled_from(["type", "effort", "budget_tokens", "enabled"]), inner
  ),
  max_leaves=3,
)


@hypothesis.given(
  st.dictionaries(st.sampled_from(thinking_config.FIELDS), _VALUES, max_size=3)
)
def test_any_fields_are_read_or_refused_in_one_line(fields):
  try:
    found = _read(fields)
  except thinking_config.RequestError as error:
    assert str(error) and "\n" not in str(error)
    assert error.field.split(".")[0] in fields
  else:
    assert found.mode in thinking_config.MODES
    assert found.mode != "off" or found.tokens(9) is None
