# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxttc.solving import call_text


def _plain(kit, *, tries: int = 3, share: float = 0.5, deep: bool = False):
  return kit, tries, share, deep


def _needy(kit, *, name: str):
  return kit, name


_KNOWN = {"plain": _plain, "needy": _needy}


def test_names_and_literals():
  parse = lambda *text: call_text.parse(text[0], "thing", "a(b=1)", *text[1:])  # noqa: E731
  assert parse("plain") == ("plain", {})
  assert parse(" plain(tries=2, share=.1) ") == (
    "plain",
    {"tries": 2, "share": 0.1},
  )
  assert parse("plain(tries=2)", "tries=3") == ("plain", {"tries": 3})
  for text in ("", "plain(2)", "a.b()", "plain(**{})", "plain(", "1"):
    with pytest.raises(ValueError, match="not of the form name.*a\\(b=1\\)"):
      parse(text)
  with pytest.raises(ValueError, match="tries must be a literal"):
    parse("plain(tries=open)")


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("plian", {}, "unknown thing 'plian', .*; did you mean 'plain'"),
    ("plain", {"trise": 3}, "no argument 'trise'; did you mean 'tries'"),
    ("plain", {"kit": 3}, "no argument 'kit'"),
    ("plain", {"tries": 2.5}, "tries is 2.5; expected int"),
    ("plain", {"tries": True}, "tries is True; expected int"),
    ("plain", {"deep": 1}, "deep is 1; expected bool"),
    ("plain", {"share": "x"}, "share is 'x'; expected float"),
    ("needy", {}, "needs the argument 'name'"),
  ],
)
def test_calls_that_cannot_be(name, arguments, message):
  with pytest.raises(ValueError, match=message):
    call_text.checked(name, arguments, _KNOWN, "thing")


def test_calls_that_can():
  found = call_text.checked(
    "plain", {"share": 1, "deep": True}, _KNOWN, "thing"
  )
  assert found == {"share": 1.0, "deep": True}
  assert type(found["share"]) is float
  call_text.checked("needy", {"name": "x"}, _KNOWN, "thing")
  more = {"size": int}
  shared = call_text.checked("plain", {"size": 3}, _KNOWN, "thing", more)
  assert shared == {"size": 3}
  with pytest.raises(ValueError, match="did you mean 'size'"):
    call_text.checked("plain", {"siz": 3}, _KNOWN, "thing", more)
