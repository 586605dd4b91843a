# SPDX-License-Identifier: Apache-2.0
"""The text of a composed policy taken apart: stages, and the arms of decode.

route=first; decode=small: best_of_n(n=4)@96 + guided(budget=14)
"""

from typing import NamedTuple

from jaxttc.tasks import problems as problems_lib

STAGES = ("route", "plan", "decode", "verify")
_OPEN, _CLOSE, _QUOTES = "([{", ")]}", "'\""


class ArmSaid(NamedTuple):
  """An arm as it is written.

  Attributes:
    call: the way to answer.
    cap: generated tokens; None if the text does not say.
    model: who is asked; "" if the text does not say.
  """

  call: str
  cap: int | None
  model: str


def is_composed(text: str) -> bool:
  """Whether a policy's name is a text of stages, not a file or a name."""
  return any(
    part.partition("=")[0].strip() in STAGES for part in split(text, ";")
  )


def parts(text: str) -> dict[str, str]:
  """What a text says of each stage that it names.

  Raises:
    ValueError: if a part is not `stage=value`, or a stage is unknown or said
      twice.
  """
  found: dict[str, str] = {}
  for part in split(text, ";"):
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if not equals or not value:
      raise ValueError(
        f"policy: {part.strip()!r} is not of the form stage=value, e.g. "
        "verify=doubt(sure=0.9)"
      )
    problems_lib.require_name(name, STAGES, "stage of a policy")
    if name in found:
      raise ValueError(f"policy: the stage {name} is said twice")
    found[name] = value
  return found


def arms(text: str) -> list[ArmSaid]:
  """The arms of a decode stage; none of an empty text.

  Raises:
    ValueError: if an arm is empty, or its cap is no whole number above 0.
  """
  if not text.strip():
    return []
  return [_arm(one) for one in split(text, "+", keep_empty=True)]


def _arm(text: str) -> ArmSaid:
  model, colon, call = _outside(text, ":")
  if not colon:
    model, call = "", text
  call, at, cap = _outside(call, "@")
  if not call.strip():
    raise ValueError(
      f"policy: {text.strip()!r} is no arm; expected one such as "
      "best_of_n(n=4)@96"
    )
  if at and not (cap.strip().isdecimal() and int(cap) > 0):
    raise ValueError(
      f"policy: arm {text.strip()!r} has the cap {cap.strip()!r}; expected "
      "whole tokens above 0"
    )
  return ArmSaid(call.strip(), int(cap) if at else None, model.strip())


def _outside(text: str, mark: str) -> tuple[str, str, str]:
  """Before and after the first mark that is outside brackets and quotes."""
  first, *rest = split(text, mark, keep_empty=True)
  return first, mark if rest else "", mark.join(rest)


def split(text: str, mark: str, *, keep_empty: bool = False) -> list[str]:
  """Pieces between marks that are outside brackets and quotes."""
  pieces, depth, quote, begun = [], 0, "", 0
  for place, sign in enumerate(text):
    if quote:
      quote = "" if sign == quote else quote
    elif sign in _QUOTES:
      quote = sign
    elif sign in _OPEN:
      depth += 1
    elif sign in _CLOSE:
      depth -= 1
    elif sign == mark and not depth:
      pieces.append(text[begun:place])
      begun = place + 1
  pieces.append(text[begun:])
  return [piece for piece in pieces if keep_empty or piece.strip()]
