# SPDX-License-Identifier: Apache-2.0
"""Decoders written as calls, for flags and config files.

    decoder_text.build("astar(children=4, f_tolerance=0.05)")

Beside the decoder's own arguments a text may name the temperature of sampling,
and how often a generative verifier checks a solution (verifications=4). Nothing
is evaluated: the text is parsed, and its arguments must be literals.
"""

import functools
from typing import Any, NamedTuple

from jaxttc.decoders import base, registry
from jaxttc.solving import call_text

_READ_LOGPROBS = ("likelihood_beam",)
_LOGPROB_VALUES = ("logprob", "neglogp")  # of arguments, whatever their name
# The engine's controller makes these what they are; a name alone does not.
_NEED_CONTROLLER = ("budget_forcing",)


class Described(NamedTuple):
  """What a text says.

  Attributes:
    name: the decoder's.
    arguments: of its factory.
    temperature: of sampling; None if the text does not say.
    verifications: of a solution; likewise.
  """

  name: str
  arguments: dict[str, Any]
  temperature: float | None
  verifications: int | None = None


def parse(text: str, setting: str = "") -> Described:
  """Reads a decoder's name, its arguments, and how it is sampled and scored.

  Args:
    text: `name` or `name(key=literal, ...)`. "greedy" says temperature 0.
    setting: more arguments, `key=literal, ...`; they go before those of the
      text.

  Returns:
    What it says. Name and arguments are not checked: `build` does.

  Raises:
    ValueError: if the text is not of that form, its temperature is no number,
      or its verifications are no whole number of at least 1.
  """
  name, arguments = call_text.parse(
    text, "decoder", "astar(children=4)", setting
  )
  temperature = arguments.pop("temperature", None)
  if name == "greedy" and temperature is None:
    temperature = 0.0
  if not isinstance(temperature, int | float | None) or temperature is True:
    raise ValueError(
      f"decoder {text!r}: temperature must be a number, got {temperature!r}"
    )
  checks = arguments.pop("verifications", None)
  if checks is not None and (type(checks) is not int or checks < 1):
    raise ValueError(
      f"decoder {text!r}: verifications must be a whole number >= 1, got "
      f"{checks!r}"
    )
  return Described(name, arguments, temperature, checks)


def written(text: str, setting: str = "") -> str:
  """One text that says what a text and a setting say together; see `parse`.

  Raises:
    ValueError: as `parse`.
  """
  said = parse(text, setting)
  arguments = dict(said.arguments)
  if said.temperature is not None:
    arguments["temperature"] = said.temperature
  if said.verifications is not None:
    arguments["verifications"] = said.verifications
  return f"{said.name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"


def build(text: str, setting: str = "") -> base.Decoder:
  """The decoder that a text describes; see `parse`.

  Raises:
    ValueError: if the text is malformed, the name or an argument is unknown
      (the nearest is named), a value is refused, or the decoder is one that
      only a controller makes different from `sample`.
  """
  name, arguments, *_ = parse(text, setting)
  if name in _NEED_CONTROLLER:
    raise ValueError(
      f"decoder {name!r} needs a controller, which a text cannot name; call "
      "runtime.search.solve with one"
    )
  try:
    return registry.make(name, arguments)
  except TypeError as error:
    first = str(error).splitlines()[0]
    raise ValueError(f"decoder {text!r}: {first}") from None


# One decoder for equal texts, so that its search is compiled once in a process.
cached = functools.lru_cache(build)


def reads_logprobs(text: str) -> bool:
  """Whether a decoder decides by log-probabilities of spans; see `parse`.

  Raises:
    ValueError: if the text is malformed.
  """
  said = parse(text)
  return said.name in _READ_LOGPROBS or any(
    value in _LOGPROB_VALUES for value in said.arguments.values()
  )
