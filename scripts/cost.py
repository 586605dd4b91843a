# SPDX-License-Identifier: Apache-2.0
r"""Tells what a model has cost, or would: a card of FLOP, energy, money, rules.

Of a recipe of ours, before it is run:

    python scripts/cost.py --config=configs/arithmetic_lm.py

Of a model that ships, a file of ours, or a Hugging Face directory:

    python scripts/cost.py --model=arithmetic_prm
    python scripts/cost.py --model=Llama-3.1-8B --tokens=15e12 --length=8192 \
      --hardware=h100-sxm --devices=2048 --queries=1e9 --prompt_tokens=500 \
      --answer_tokens=500

Of hours on hardware alone, whatever ran:

    python scripts/cost.py --hardware=h100-sxm --devices=16384 --hours=1300

Of a ledger that runs have written (scripts/train.py --ledger, solve.py
--ledger):

    python scripts/cost.py --ledger=runs/mine.jsonl --format=json

Facts that rules ask about are answered as --fact="QUESTION=yes"; --rules=all
checks those, too, that are not in force. Not legal advice.
"""

import datetime
import json
import pathlib

from absl import app, flags

from jaxttc import arguments
from jaxttc.cost import carbon, energy, ledger_file, verdicts
from jaxttc.cost import card as card_lib
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import ledger as ledger_lib
from jaxttc.cost import rules as rules_lib
from jaxttc.evaluation import model_accounts

_CONFIG = arguments.define_config(
  "config", None, "File with get_config() -> recipe that trains a model."
)
_MODEL = flags.DEFINE_string(
  "model", None, "Hugging Face directory, file of ours, or name that ships."
)
_LEDGER = flags.DEFINE_string("ledger", None, "Ledger of runs, JSON lines.")
_TOKENS = flags.DEFINE_float("tokens", 0.0, "Tokens of planned training.", 0.0)
_LENGTH = flags.DEFINE_integer("length", 2048, "Tokens of a sequence.", 1)
_PHASE = flags.DEFINE_enum(
  "phase", "pre_training", list(ledger_lib.PHASES), "Phase of the training."
)
_REMAT = flags.DEFINE_bool("remat", False, "Full rematerialisation.")
_QUERIES = flags.DEFINE_float("queries", 0.0, "Planned queries.", 0.0)
_PROMPT = flags.DEFINE_integer("prompt_tokens", 0, "Tokens of a query.", 0)
_ANSWER = flags.DEFINE_integer("answer_tokens", 0, "Tokens of an answer.", 0)
_SAMPLES = flags.DEFINE_integer("samples", 1, "Answers a query (search).", 1)
_HARDWARE = flags.DEFINE_string(
  "hardware", None, "Device, of the registry, e.g. h100-sxm."
)
_DEVICES = flags.DEFINE_integer("devices", 1, "How many.", 1)
_HOURS = flags.DEFINE_float(
  "hours", None, "Hours of training on all devices.", 0.0
)
_DTYPE = flags.DEFINE_string("dtype", "bfloat16", "Of the products.")
_UTILISATION = flags.DEFINE_float(
  "utilisation", None, "Share of the peak that is reached; 0.3 if unknown."
)
_PUE = flags.DEFINE_float("pue", 1.0, "Power usage effectiveness.")
_KWH = flags.DEFINE_float(
  "dollars_per_kwh", None, "Of electricity, on top of rent."
)
_CARBON = flags.DEFINE_float("g_per_kwh", None, "Carbon intensity.")
_AS_OF = flags.DEFINE_string("as_of", None, "Day of the rules; today if none.")
_RULES = flags.DEFINE_string(
  "rules", None, "Names, or all; those in force if none."
)
_FACTS = flags.DEFINE_multi_string("fact", [], "QUESTION=yes or QUESTION=no.")
_REFERENCE = flags.DEFINE_string(
  "reference", None, "Day whose algorithms effective FLOP are told in."
)
_FORMAT = flags.DEFINE_enum("format", "markdown", ["markdown", "json"], "Card.")
_ROUNDED = flags.DEFINE_bool("rounded", False, "JSON with powers of ten alone.")
_OUT = flags.DEFINE_string(
  "out", None, "Write PATH.md and PATH.json instead of printing."
)


def main(argv: list[str]) -> None:
  """Parses the flags and prints the card."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  try:
    _write(_card())
  except (ValueError, OSError) as error:
    raise SystemExit(f"cost.py: {error}") from None


def _card() -> card_lib.Card:
  ledger, shape, head = _subject()
  plan = _plan()
  if ledger is None:
    ledger = ledger_lib.Ledger("planned")
  model_accounts.add_plan(ledger, shape, plan)
  as_of = _day(_AS_OF.value, "--as_of") or datetime.date.today()
  rules, force = _rules()
  cluster = None
  if plan.hardware is not None:
    cluster = verdicts.Cluster(
      hardware=plan.hardware,
      count=plan.devices,
      dtype=plan.dtype,
      utilisation=plan.utilisation,
    )
  return card_lib.build(
    ledger,
    as_of=as_of,
    rules=rules,
    facts=_facts(),
    cluster=cluster,
    force=force,
    reference=_day(_REFERENCE.value, "--reference"),
    head=head,
  )


def _subject():
  """The ledger, sizes and head of what the flags name."""
  named = [f.name for f in (_CONFIG, _MODEL, _LEDGER) if f.value is not None]
  if len(named) > 1 and named != ["model", "ledger"]:
    raise ValueError(f"--{named[0]} and --{named[1]}: expected one of them")
  if _CONFIG.value is not None:
    file = flags.FLAGS["config"].config_filename.split(":")[0]
    if not hasattr(_CONFIG.value, "describe"):
      raise ValueError(f"{file}: expected a recipe that trains a model")
    described = _CONFIG.value.describe()
    ledger = model_accounts.of_recipe(described, pathlib.Path(file).stem)
    return ledger, None, ""
  ledger, shape, head = None, None, ""
  if _MODEL.value is not None:
    ledger, shape = model_accounts.of_model(_MODEL.value)
  if _LEDGER.value is not None:
    ledger = ledger_file.load(_LEDGER.value)
    head = ledger_file.head(_LEDGER.value)
  if ledger is None and _HOURS.value is None:
    raise ValueError(
      "nothing to tell of: name --config, --model or --ledger, or --hardware "
      "and --hours; --help says how"
    )
  return ledger, shape, head


def _plan() -> model_accounts.Plan:
  intensity = None
  if _CARBON.value is not None:
    intensity = carbon.Intensity.constant(_CARBON.value, "--g_per_kwh")
  return model_accounts.Plan(
    tokens=_TOKENS.value,
    length=_LENGTH.value,
    phase=_PHASE.value,
    remat=_REMAT.value,
    queries=int(_QUERIES.value),
    prompt_tokens=_PROMPT.value,
    answer_tokens=_ANSWER.value,
    samples=_SAMPLES.value,
    hardware=_HARDWARE.value and hardware_lib.lookup(_HARDWARE.value),
    devices=_DEVICES.value,
    hours=_HOURS.value,
    dtype=_DTYPE.value,
    utilisation=_UTILISATION.value,
    prices=energy.Prices(dollars_per_kwh=_KWH.value, pue=_PUE.value),
    intensity=intensity,
  )


def _rules():
  """The rules named, and whether they may be out of force."""
  if _RULES.value is None:
    return None, False
  if _RULES.value == "all":
    return rules_lib.everything(), True
  names = [name.strip() for name in _RULES.value.split(",")]
  return [rules_lib.lookup(name) for name in names], True


def _facts() -> dict[str, bool]:
  found = {}
  for text in _FACTS.value:
    question, equals, answer = text.rpartition("=")
    if not equals or answer not in ("yes", "no"):
      raise ValueError(f"--fact={text!r}: expected QUESTION=yes or QUESTION=no")
    found[question] = answer == "yes"
  return found


def _day(text: str | None, flag: str) -> datetime.date | None:
  try:
    return text and datetime.date.fromisoformat(text)
  except ValueError:
    raise ValueError(f"{flag}={text}: expected YYYY-MM-DD") from None


def _write(card: card_lib.Card) -> None:
  told = json.dumps(card.as_dict(_ROUNDED.value), indent=1, allow_nan=False)
  if _OUT.value is None:
    print(card.markdown() if _FORMAT.value == "markdown" else told)
    return
  out = pathlib.Path(_OUT.value)
  out.parent.mkdir(parents=True, exist_ok=True)
  texts = {".json": told + "\n"}
  if not _ROUNDED.value:
    texts[".md"] = card.markdown()
  for suffix, text in texts.items():
    path = out.with_name(out.name + suffix)
    path.write_text(text, encoding="utf-8")
    print(path)


if __name__ == "__main__":
  arguments.run(main)
