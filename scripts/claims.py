# SPDX-License-Identifier: Apache-2.0
"""Prints every claim of docs/results, and keeps documents true to them.

python scripts/claims.py            # a table of all claims
python scripts/claims.py --missed   # of those that miss their bar
python scripts/claims.py --file=losses.json
python scripts/claims.py --write    # fills the figures into the documents
python scripts/claims.py --check    # fails if a document is out of date
"""

import difflib
import pathlib
import sys

from absl import app, flags

from jaxttc import arguments, results

_ROOT = pathlib.Path(__file__).resolve().parents[1]

_RESULTS = flags.DEFINE_string(
  "results", str(_ROOT / "docs" / "results"), "Folder of results files."
)
_DOCUMENTS = flags.DEFINE_multi_string(
  "document",
  [str(path) for path in sorted((_ROOT / "docs").glob("*.md"))],
  "Document with claim markers; may be repeated.",
)
_FILES = flags.DEFINE_multi_string(
  "file", [], "Show the claims of this results file; may be repeated."
)
_MISSED = flags.DEFINE_bool(
  "missed", False, "Show the claims that miss their bar."
)
_WRITE = flags.DEFINE_bool("write", False, "Fill figures into the documents.")
_CHECK = flags.DEFINE_bool("check", False, "Fail if a document is stale.")
_STRICT = flags.DEFINE_bool("strict", False, "Fail if a claim misses its bar.")


def _shown(
  claims: dict[str, tuple[results.Claim, ...]],
) -> dict[str, list[results.Claim]]:
  """The claims that the flags ask for; of all files without --file."""
  names = _FILES.value or list(claims)
  for name in names:
    if name not in claims:
      near = difflib.get_close_matches(name, claims, n=1)
      hint = f"; did you mean {near[0]}?" if near else ""
      raise ValueError(f"--file={name}: not in {_RESULTS.value}{hint}")
  return {
    name: [
      claim
      for claim in claims[name]
      if not _MISSED.value or claim.holds is False
    ]
    for name in names
  }


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  failures = []
  try:
    claims = results.claims(_RESULTS.value)
    shown = _shown(claims)
    for name in _DOCUMENTS.value:
      document = pathlib.Path(name)
      text = document.read_text(encoding="utf-8")
      filled = results.fill(text, claims)
      if _WRITE.value:
        document.write_text(filled, encoding="utf-8")
      elif _CHECK.value and filled != text:
        failures.append(f"{name} is out of date: run scripts/claims.py --write")
  except (OSError, ValueError) as error:
    sys.exit(f"claims: {error}")
  results.show(shown)
  if _STRICT.value:
    failures += [
      f"{file}: {claim.name} misses its bar"
      for file, held in claims.items()
      for claim in held
      if claim.holds is False
    ]
  if failures:
    sys.exit("\n".join(f"claims: {failure}" for failure in failures))


if __name__ == "__main__":
  arguments.run(main)
