# SPDX-License-Identifier: Apache-2.0
"""Bytes that collectives send, read from the text of a compiled program.

Where arrays are sharded and `jit` finds out what must be exchanged, the
collectives exist in the compiled program alone:

    text = jax.jit(step).lower(params, batch).compile().as_text()
    hlo_collectives.count(text)        # {"all_reduce": 1_572_864}

Bodies of loops count as often as the compiler knows that they run.
"""

import dataclasses
import math
import re

from jaxttc.cost import collective_bytes

_OF_OPCODE = {
  "all-reduce": "all_reduce",
  "all-gather": "all_gather",
  "reduce-scatter": "reduce_scatter",
  "all-to-all": "all_to_all",
  "collective-permute": "permute",
  "collective-broadcast": "broadcast",
}
_BITS = {"pred": 8, "token": 0, "opaque": 0}  # others end in their bits
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(
  r"^(?:ROOT )?%?[\w.\-]+ = (?P<type>\(.*?\)|[\w]+\[[^\]]*\]\S*) "
  r"(?P<opcode>[\w\-]+)\("
)
_ARRAY = re.compile(r"(?P<dtype>[a-z]\w*)\[(?P<shape>[\d,<=]*)\]")
_CALLED = re.compile(
  r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)="
  r"%?(?P<name>[\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{(?P<names>[^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(?P<trips>\d+)"\}')
_COMMENT = re.compile(r"/\*.*?\*/")


@dataclasses.dataclass
class _Computation:
  """What one computation sends itself, and which others it runs how often."""

  sent: list[tuple[str, int]] = dataclasses.field(default_factory=list)
  calls: list[tuple[str, int | None]] = dataclasses.field(default_factory=list)
  branches: list[list[str]] = dataclasses.field(default_factory=list)


def count(text: str, while_trips: int | None = None) -> dict[str, int]:
  """Bytes that one device sends in a compiled program, by kind.

  Args:
    text: `compiled.as_text()`.
    while_trips: trips of loops that communicate and whose number of trips the
      compiler does not know.

  Returns:
    Bytes a kind of `collective_bytes.KINDS`, of the kinds that occur.

  Raises:
    ValueError: for text that is no compiled program, a group of devices that
      cannot be read, or a loop that communicates an unknown number of times.
  """
  computations, entry = _parse(text)
  total: dict[str, int] = {}
  for kind, sent in _sent(computations, entry, while_trips):
    total[kind] = total.get(kind, 0) + sent
  kinds = collective_bytes.KINDS
  return {kind: total[kind] for kind in kinds if total.get(kind)}


def _sent(
  computations: dict[str, _Computation], name: str, trips: int | None
) -> list[tuple[str, int]]:
  """All that a computation sends, with what it runs."""
  here = computations.get(name, _Computation())
  found = list(here.sent)
  for called, times in here.calls:
    inner = _sent(computations, called, trips)
    if inner and times is None:
      times = trips
      if times is None:
        raise ValueError(
          "a loop that communicates runs an unknown number of times; pass "
          "while_trips=..."
        )
    found += [(kind, (times or 0) * sent) for kind, sent in inner]
  for names in here.branches:  # the dearest, as in the jaxpr
    each = [_sent(computations, branch, trips) for branch in names]
    found += max(each, key=lambda pairs: sum(sent for _, sent in pairs))
  return found


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
  computations: dict[str, _Computation] = {}
  entry, here = "", None
  everyone = _all_devices(text)
  for raw in text.splitlines():
    line = _COMMENT.sub("", raw).strip()
    head = _COMPUTATION.match(line)
    if head and " = " not in line.split("(")[0]:
      here = computations.setdefault(head["name"], _Computation())
      entry = head["name"] if head["entry"] else entry
    elif here is not None and (found := _INSTRUCTION.match(line)):
      _read(here, found, line, everyone)
  if not entry:
    raise ValueError(
      "expected the text of a compiled program (compiled.as_text()), found "
      "no ENTRY computation"
    )
  return computations, entry


def _read(
  here: _Computation, found: re.Match[str], line: str, everyone: int
) -> None:
  """Notes what one instruction sends or runs."""
  opcode = found["opcode"]
  started = opcode.endswith("-start")
  kind = _OF_OPCODE.get(opcode.removesuffix("-start"))
  if kind is not None:
    here.sent.append((kind, _bytes_sent(kind, found, line, started, everyone)))
    return  # what it applies is arithmetic
  if branches := _BRANCHES.search(line):
    names = [name.strip().lstrip("%") for name in branches["names"].split(",")]
    here.branches.append(names)
    return
  if opcode == "conditional":
    here.branches.append([c["name"] for c in _CALLED.finditer(line)])
    return
  times: int | None = 1
  if opcode == "while":
    known = _TRIPS.search(line)
    times = int(known["trips"]) if known else None
  here.calls += [(called["name"], times) for called in _CALLED.finditer(line)]


def _bytes_sent(
  kind: str, found: re.Match[str], line: str, started: bool, everyone: int
) -> int:
  arrays = [_bytes(match) for match in _ARRAY.finditer(found["type"])]
  if started and kind in ("all_gather", "permute"):  # operands come first
    arrays = arrays[1:2] if kind == "permute" else arrays[len(arrays) // 2 :]
  payload = sum(arrays)
  if kind == "permute":
    pairs = re.search(r"source_target_pairs=\{(.*?)\}[,\s]", line + " ")
    ends = re.findall(r"\{(\d+),(\d+)\}", pairs[0] if pairs else "")
    devices = 2 if any(a != b for a, b in ends) else 1
  else:
    devices = _group(line, everyone)
  if kind == "reduce_scatter":
    payload *= devices
  return collective_bytes.ring_bytes(kind, payload, devices)


def _bytes(match: re.Match[str]) -> int:
  dtype = match["dtype"]
  bits = _BITS.get(dtype)
  if bits is None:
    number = re.search(r"\d+", dtype)  # f8e4m3 has 8, bf16 has 16
    bits = int(number[0]) if number else 0
  sizes = re.findall(r"\d+", match["shape"])
  return math.prod(map(int, sizes)) * bits // 8


def _group(line: str, everyone: int) -> int:
  """Devices of one group, in any of the three ways they are written."""
  if written := re.search(r"replica_groups=\{\{([\d,]*)\}", line):
    return len(written[1].split(","))
  if written := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
    return int(written[2])
  if written := re.search(r"replica_groups=mesh\[(.*?)\]\s*\{(.*?)\}", line):
    sizes = dict(re.findall(r"'([^']+)'=(\d+)", written[1]))
    axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", written[2])
    return math.prod(int(part or sizes[axis]) for axis, part in axes)
  if "replica_groups={}" in line:
    return everyone
  raise ValueError(f"cannot read the devices of: {line[:120]}")


def _all_devices(text: str) -> int:
  head = text.split("\n", 1)[0]
  sizes = re.findall(r"(?:num_partitions|replica_count)=(\d+)", head)
  return math.prod(map(int, sizes)) if sizes else 1
