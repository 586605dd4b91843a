# SPDX-License-Identifier: Apache-2.0
"""Ledgers in files: a JSON line an entry, each line sealed by its hash.

A line's hash is of the line and of the hash before it, so no line can be
changed, moved or taken out without all that follow disagreeing. The last hash
is the ledger's *head*: whoever wrote it down (a card does) can tell later that
no line was taken off the end. With a secret key the hashes are signatures
(HMAC-SHA256), and nobody without it can write a new chain. Parents are named by
their files, with the head that they had.
"""

from collections.abc import Sequence
import hashlib
import hmac
import json
import os
import pathlib
from typing import Any, NamedTuple

from jaxttc.cost import ledger as ledger_lib

_SCHEMA = 1


class ParentFile(NamedTuple):
  """A parent's file, and what it was to the model."""

  path: str | os.PathLike[str]
  role: str = "base"


def create(
  path: str | os.PathLike[str],
  name: str,
  parents: Sequence[ParentFile] = (),
  key: bytes | None = None,
) -> ledger_lib.Ledger:
  """Starts a file; what is added to the ledger is on disk when `add` returns.

  Args:
    path: a file that does not exist; its folder is made if need be.
    name: of the ledger.
    parents: files of ledgers that it builds on.
    key: signs the lines.

  Raises:
    ValueError: if the file exists or cannot be written, or a parent is not
      whole or leads back to this ledger.
  """
  path = pathlib.Path(path)
  if path.exists():
    raise ValueError(f"{path}: exists; ledger_file.resume goes on with it")
  linked = [
    ledger_lib.Parent(load(parent.path, key=key), parent.role)
    for parent in parents
  ]
  writer = _Writer(path, key, "")
  ledger = ledger_lib.Ledger(name, linked, sink=writer.entry)
  folder = path.parent
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(f"{folder}: cannot be made: {error.strerror}") from None
  links = [
    {
      "path": os.path.relpath(parent.path, folder),
      "role": parent.role,
      "head": head(parent.path),
    }
    for parent in parents
  ]
  writer.line({"schema": _SCHEMA, "ledger": name, "parents": links})
  return ledger


def resume(
  path: str | os.PathLike[str], key: bytes | None = None
) -> ledger_lib.Ledger:
  """Goes on with a file; a line that a crash tore is cut off.

  Raises:
    ValueError: as `load` does.
  """
  path = pathlib.Path(path)
  ledger, last, whole = _read(path, key, ())
  try:
    os.truncate(path, whole)
  except OSError as error:
    raise ValueError(f"{path}: cannot be written: {error.strerror}") from None
  grown = ledger_lib.Ledger(ledger.name, ledger.parents)
  for entry in ledger.entries:
    grown.take(entry)
  grown.sink = _Writer(path, key, last).entry
  return grown


def opened(
  path: str | os.PathLike[str], name: str, key: bytes | None = None
) -> ledger_lib.Ledger:
  """Goes on with a file, or starts it under a name if there is none.

  Raises:
    ValueError: as `resume` and `create` do.
  """
  if pathlib.Path(path).exists():
    return resume(path, key)
  return create(path, name, key=key)


def load(
  path: str | os.PathLike[str],
  *,
  key: bytes | None = None,
  expected_head: str | None = None,
) -> ledger_lib.Ledger:
  """Reads a file and its parents, and checks every hash.

  Args:
    path: the file.
    key: that it was signed with.
    expected_head: the head that it had, as a card tells it; the file may have
      grown since.

  Raises:
    ValueError: naming file and line, for a line that is no JSON or no entry,
      a hash that does not fit, a head that is not there, parents that are
      missing, changed, or lead back to the file.
  """
  return _read(pathlib.Path(path), key, (), expected_head)[0]


def save(
  ledger: ledger_lib.Ledger,
  path: str | os.PathLike[str],
  parents: Sequence[ParentFile] = (),
  key: bytes | None = None,
) -> None:
  """Writes a ledger to a new file; its parents must have files already.

  Raises:
    ValueError: as `create` does, or if the files are not those of its parents.
  """
  wanted = sorted((p.ledger.name, p.role) for p in ledger.parents)
  found = sorted((load(p.path, key=key).name, p.role) for p in parents)
  if wanted != found:
    raise ValueError(
      f"{path}: ledger {ledger.name!r} builds on {wanted}, the files given "
      f"are of {found}"
    )
  written = create(path, ledger.name, parents, key)
  for entry in ledger.entries:
    written.take(entry)


def head(path: str | os.PathLike[str]) -> str:
  """The last whole line's hash.

  Raises:
    ValueError: if there is none.
  """
  lines = _lines(pathlib.Path(path))[0]
  try:
    return json.loads(lines[-1])["hash"]
  except (IndexError, KeyError, TypeError, ValueError):
    raise ValueError(f"{path}: no file of a ledger") from None


class _Writer:
  """Appends sealed lines."""

  def __init__(self, path: pathlib.Path, key: bytes | None, last: str):
    self._path, self._key, self._last = path, key, last

  def entry(self, entry: ledger_lib.Entry) -> None:
    self.line({"entry": entry.as_dict()})

  def line(self, content: dict[str, Any]) -> None:
    sealed = _seal(content, self._last, self._key)
    data = json.dumps(content | {"hash": sealed}) + "\n"
    try:
      with self._path.open("ab") as file:
        file.write(data.encode())
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
      raise ValueError(
        f"{self._path}: cannot be written: {error.strerror}"
      ) from None
    self._last = sealed


def _seal(content: dict[str, Any], last: str, key: bytes | None) -> str:
  text = json.dumps(content, sort_keys=True, separators=(",", ":"))
  data = (last + text).encode()
  if key is None:
    return hashlib.sha256(data).hexdigest()
  return hmac.new(key, data, hashlib.sha256).hexdigest()


def _lines(path: pathlib.Path) -> tuple[list[bytes], int]:
  """Whole lines, and how many bytes they take."""
  try:
    data = path.read_bytes()
  except OSError as error:
    raise ValueError(f"{path}: {error.strerror}") from None
  whole = data[: data.rfind(b"\n") + 1]
  return whole.splitlines(), len(whole)


def _read(
  path: pathlib.Path,
  key: bytes | None,
  above: tuple[pathlib.Path, ...],
  expected_head: str | None = None,
) -> tuple[ledger_lib.Ledger, str, int]:
  """The ledger, its head, and the bytes of its whole lines."""
  place = path.resolve()
  if place in above:
    raise ValueError(f"{path}: its parents lead back to it")
  lines, whole = _lines(path)
  ledger, last, seen = None, "", set()
  for number, line in enumerate(lines, 1):
    where = f"{path}, line {number}"
    try:
      content = json.loads(line)
      sealed = content.pop("hash")
    except (AttributeError, KeyError, TypeError, ValueError):
      raise ValueError(f"{where}: expected a JSON object with a hash") from None
    if not hmac.compare_digest(str(sealed), _seal(content, last, key)):
      raise ValueError(
        f"{where}: the hash does not fit: this line or one before it was "
        "changed, or signed with another key"
      )
    last = sealed
    seen.add(sealed)
    try:
      if ledger is None:
        ledger = _begun(path, content, key, (*above, place))
      else:
        ledger.take(ledger_lib.Entry.from_dict(content["entry"]))
    except (KeyError, TypeError, ValueError) as error:
      raise ValueError(f"{where}: {error}") from None
  if ledger is None:
    raise ValueError(f"{path}: no line of a ledger in it")
  if expected_head is not None and expected_head not in seen:
    raise ValueError(
      f"{path}: no line has the hash {expected_head}, which was its head: "
      "lines were taken off its end, or it is another ledger"
    )
  return ledger, last, whole


def _begun(path, content, key, above) -> ledger_lib.Ledger:
  """The empty ledger that a first line announces."""
  if content.get("schema") != _SCHEMA:
    raise ValueError(f"schema {content.get('schema')!r}, expected {_SCHEMA}")
  parents = []
  for link in content["parents"]:
    file = path.parent / link["path"]
    found = _read(file, key, above, link["head"])[0]
    parents.append(ledger_lib.Parent(found, link["role"]))
  return ledger_lib.Ledger(content["ledger"], parents)
