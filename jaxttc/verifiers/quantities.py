# SPDX-License-Identifier: Apache-2.0
r"""Numbers with units, read exactly.

Most final answers are numbers, so they are read here as exact rationals,
without a computer algebra system: integers with thousands commas, decimals,
repeating decimals, fractions, mixed numbers, powers of ten, number words,
percentages, currencies and units of measure. Anything else is None.
"""

from __future__ import annotations

import dataclasses
import fractions
import re

Fraction = fractions.Fraction

# A decimal written with at least these many places and significant digits may
# stand for the rounding of a number without a finite decimal form (0.333333
# for 1/3). math-verify rounds to the same number of places.
ROUNDING_PLACES = 6
ROUNDING_DIGITS = 4
_MAX_DIGITS = 400  # longer literals are left to the deadline of the worker


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
  """A unit of measure.

  Attributes:
    name: singular lower-case name, as written when the unit is not known.
    dimension: what it measures ("length", "money", ...); "" if not known.
    power: 1, or 2 and 3 for areas and volumes.
    factor: size in the base unit of the dimension, already raised to `power`.
  """

  name: str
  dimension: str = ""
  power: int = 1
  factor: Fraction = Fraction(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantity:
  """An exact value, its unit, and how precisely it was written.

  Attributes:
    value: the number, with no unit applied (50 for "50%").
    unit: the unit written next to it, or None.
    places: decimal places written, or None unless it is a plain decimal.
    digits: significant digits written, 0 unless it is a plain decimal.
  """

  value: Fraction
  unit: Unit | None = None
  places: int | None = None
  digits: int = 0


# dimension -> {spellings separated by spaces: size in the base unit}.
_UNIT_TABLE: dict[str, dict[str, str]] = {
  "length": {
    "mm millimeter millimetre": "1/1000",
    "cm centimeter centimetre": "1/100",
    "m meter metre": "1",
    "km kilometer kilometre": "1000",
    "in inch inches": "127/5000",
    "ft foot feet": "381/1250",
    "yd yard": "1143/1250",
    "mi mile": "201168/125",
  },
  "mass": {
    "mg milligram": "1/1000",
    "g gram": "1",
    "kg kilogram": "1000",
    "oz ounce": "45359237/1600000",
    "lb lbs pound": "45359237/100000",
  },
  "time": {
    "s sec second": "1",
    "min minute": "60",
    "h hr hrs hour": "3600",
    "day": "86400",
    "week": "604800",
  },
  "calendar": {"month": "1", "yr year": "12"},
  "volume": {
    "ml milliliter millilitre": "1/1000",
    "l liter litre": "1",
  },
  "money": {"dollar usd bucks": "1", "cent penny pennies": "1/100"},
  "euro": {"euro eur": "1"},
  "sterling": {"gbp": "1"},
  "angle": {"degree deg °": "1"},
  "radian": {"rad radian": "1"},
  "percent": {"percent percentage": "1"},
  "morning": {"am a.m": "1"},
  "afternoon": {"pm p.m": "1"},
}
_UNITS = {
  spelling: (dimension, Fraction(size))
  for dimension, sizes in _UNIT_TABLE.items()
  for spellings, size in sizes.items()
  for spelling in spellings.split()
}
_CURRENCY = {"$": "dollar", "€": "euro", "£": "gbp"}
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9}
_SCALES["trillion"] = 12
_FUNCTIONS = frozenset(
  "sin cos tan cot sec csc log ln exp sqrt mod min max gcd lcm inf".split()
)
_SMALL = (
  "zero one two three four five six seven eight nine ten eleven twelve "
  "thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
).split()
NUMBER_WORDS = {word: value for value, word in enumerate(_SMALL)}
NUMBER_WORDS |= {
  word: 10 * tens
  for tens, word in enumerate(
    "thirty forty fifty sixty seventy eighty ninety hundred".split(), start=3
  )
}

_INTEGER = r"\d{1,3}(?:,\d{3})+(?!\d)|\d+"
_DECIMAL = rf"(?:(?:{_INTEGER})(?:\.\d*)?|\.\d+)"
_TEN_POWER = r"10\s*\^\s*(?:\{\s*([+-]?\d+)\s*\}|([+-]?\d+))"
_WRAPPERS = r"(?:text|mbox|mathrm|textrm|textbf|textit|mathbf|operatorname)"
_NUMBER_FORMS = (
  ("mixed", re.compile(r"(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}")),
  ("mixed", re.compile(r"(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])")),
  (
    "ratio",
    re.compile(rf"\\frac\{{\s*(-?{_DECIMAL})\s*\}}\{{\s*(-?{_DECIMAL})\s*\}}"),
  ),
  ("ratio", re.compile(rf"({_DECIMAL})\s*/\s*({_DECIMAL})(?![\d.])")),
  ("repeat", re.compile(r"(\d*)\.(\d*)\\overline\{(\d+)\}")),
  (
    "science",
    re.compile(rf"({_DECIMAL})\s*(?:\\times|\\cdot|\*)\s*{_TEN_POWER}"),
  ),
  ("science", re.compile(rf"({_DECIMAL})[eE]([+-]?\d+)()")),
  ("science", re.compile(rf"()(?<![\d.]){_TEN_POWER}")),
  ("decimal", re.compile(rf"({_DECIMAL})")),
)
_SIGN = re.compile(r"\s*([+-]?)\s*")
_UNIT_WORDS = re.compile(
  r"(?P<area>(?:square|sq\.?|cubic|cu\.?)\s+)?"
  r"(?P<name>[A-Za-z°][A-Za-z .'-]*?(?:\s*/\s*[A-Za-z ]+?)?)"
  r"\s*\.?(?:\s*\^\s*\{?(?P<power>[23])\}?)?\.?"
)


def _number(text: str) -> tuple[Quantity, str] | None:
  """Longest-form number at the start of `text`, and what follows it."""
  for form, pattern in _NUMBER_FORMS:
    match = pattern.match(text)
    if match is None or len(match.group()) > _MAX_DIGITS:
      continue
    groups = [(g or "").replace(",", "") for g in match.groups()]
    try:
      quantity = _read(form, groups)
    except (ZeroDivisionError, OverflowError):
      return None
    return quantity, text[match.end() :]
  return None


def _read(form: str, groups: list[str]) -> Quantity:
  """Value of a matched number form; may divide by zero."""
  if form == "mixed":
    whole, top, bottom = map(int, groups)
    return Quantity(value=whole + Fraction(top, bottom))
  if form == "ratio":
    return Quantity(value=_decimal(groups[0]) / _decimal(groups[1]))
  if form == "repeat":
    whole, fixed, cycle = groups
    tail = Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(fixed))
    return Quantity(value=_decimal(f"{whole or 0}.{fixed or 0}") + tail)
  if form == "science":
    exponent = int(groups[1] or groups[2])
    if abs(exponent) > _MAX_DIGITS:
      raise OverflowError(exponent)
    return Quantity(value=_decimal(groups[0] or "1") * Fraction(10) ** exponent)
  places = len(groups[0].partition(".")[2])
  digits = len(groups[0].replace(".", "").lstrip("0"))
  return Quantity(value=_decimal(groups[0]), places=places, digits=digits)


def _decimal(text: str) -> Fraction:
  return Fraction(text.rstrip(".") or "0")


def _singular(word: str) -> str:
  return word[:-1] if len(word) > 3 and word.endswith("s") else word


def _unit(text: str, letters: bool = False) -> Unit | None:
  """Reads what follows a number as a unit; None if it cannot be one.

  A single bare letter is algebra (5m is five times m) unless LaTeX set it as
  text, and so are two letters that are not a known unit. With `letters`, a
  known one-letter unit after a space counts too.
  """
  wrapped = re.search(rf"\\{_WRAPPERS}\b", text) is not None
  bare = re.sub(rf"\\{_WRAPPERS}\s*\{{([^{{}}]*)\}}", r" \1 ", text)
  bare = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degree|\\circ", "°", bare)
  bare = bare.replace("\\", " ") if bare.strip() in ("\\%", "%") else bare
  if bare.strip() == "%":
    return Unit(name="percent", dimension="percent")
  match = _UNIT_WORDS.fullmatch(bare.strip())
  if match is None:
    return None
  words = match["name"].lower().strip().split()
  if not words or any(word in _FUNCTIONS for word in words):
    return None
  name = " ".join(words[:-1] + [_singular(words[-1])])
  known = _UNITS.get(name) or _UNITS.get(" ".join(words))
  spaced = text[:1].isspace()
  algebra = known is None and not (spaced and len(words[0]) >= 3)
  if len(name) == 1 and name != "°":
    algebra = known is None or not (letters and spaced)
  if algebra and not wrapped:
    return None
  return _with_power(name, known, match)


def _with_power(
  name: str, known: tuple[str, Fraction] | None, match: re.Match[str]
) -> Unit:
  power = int(match["power"] or 1)
  if match["area"]:
    power = 3 if match["area"].startswith("c") else 2
  if known is None:
    return Unit(name=name, power=power)
  dimension, factor = known
  return Unit(name=name, dimension=dimension, power=power, factor=factor**power)


def _scaled(quantity: Quantity, rest: str) -> tuple[Quantity, str]:
  """Applies a scale word: "1.8 billion" is 1.8e9."""
  match = re.match(r"\s*([A-Za-z]+)\b", rest)
  if match is None or match[1].lower() not in _SCALES:
    return quantity, rest
  scale = 10 ** _SCALES[match[1].lower()]
  return Quantity(value=quantity.value * scale), rest[match.end() :]


def read(text: str, *, letters: bool = False) -> Quantity | None:
  r"""Reads a whole text as one exact number with an optional unit.

  Args:
    text: e.g. "1,234", "-3/8", "1\frac{4}{5}", "$18.90", "50%", "15 cm^2".
    letters: read "5 m" as five metres; otherwise it is five times m, unless
      the letter is set as text.

  Returns:
    The quantity, or None if the text is not exactly one number.
  """
  word = text.strip().lower()
  if word in NUMBER_WORDS:
    return Quantity(value=Fraction(NUMBER_WORDS[word]))
  sign = _SIGN.match(text)
  assert sign is not None  # the pattern matches the empty string
  rest, minus, currency = text[sign.end() :], sign[1] == "-", None
  if rest[:1] in _CURRENCY:
    currency = _unit(f" {_CURRENCY[rest[0]]}")
    inner = _SIGN.match(rest, 1)
    assert inner is not None
    minus ^= inner[1] == "-"
    rest = rest[inner.end() :]
  found = _number(rest)
  if found is None:
    return None
  quantity, rest = _scaled(*found)
  unit = _unit(rest, letters) if rest.strip() else currency
  if rest.strip() and (unit is None or not _agree(unit, currency)):
    return None
  value = -quantity.value if minus else quantity.value
  return dataclasses.replace(quantity, value=value, unit=unit)


def _agree(unit: Unit, currency: Unit | None) -> bool:
  return currency is None or unit.dimension in ("", currency.dimension)


def _finite(value: Fraction) -> bool:
  """Whether the value has a finite decimal expansion."""
  rest = value.denominator
  for prime in (2, 5):
    while rest % prime == 0:
      rest //= prime
  return rest == 1


def _rounds_to(decimal: Quantity, other: Quantity) -> bool:
  if decimal.places is None or decimal.places < ROUNDING_PLACES:
    return False
  if decimal.digits < ROUNDING_DIGITS or _finite(other.value):
    return False
  return round(other.value, decimal.places) == decimal.value


def equal(pred: Quantity, gold: Quantity) -> bool | None:
  """Whether two quantities are the same answer.

  A missing unit agrees with any. Known units are converted (450 cents are
  4.50 dollars); different dimensions differ. A percentage equals the bare
  number written before its sign and also its value (50% is 50 and is 0.5),
  because questions ask for either.

  Args:
    pred: the quantity to be judged.
    gold: the reference.

  Returns:
    True or False; None for equal numbers of two different unknown units.
  """
  a, b = pred.unit, gold.unit
  numbers = (
    pred.value == gold.value or _rounds_to(pred, gold) or _rounds_to(gold, pred)
  )
  if a is None or b is None:
    return numbers or _percent_value(pred) == _percent_value(gold)
  if a.dimension and b.dimension:
    if (a.dimension, a.power) != (b.dimension, b.power):
      return False
    return numbers if a == b else pred.value * a.factor == gold.value * b.factor
  if (a.name, a.power) == (b.name, b.power) or not numbers:
    return numbers
  return None


def _percent_value(quantity: Quantity) -> Fraction:
  percent = quantity.unit and quantity.unit.dimension == "percent"
  return quantity.value / 100 if percent else quantity.value
