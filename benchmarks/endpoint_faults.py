# SPDX-License-Identifier: Apache-2.0
r"""Searches over a server that misbehaves, and holds the meters to its books.

    python -m benchmarks.endpoint_faults

A local HTTP server drops, delays, truncates, garbles, rate-limits and forgets
its counts, one kind of fault at a time and all together, while decoders search
over it, policy and rewards both served. It writes down what it sampled and what
it told whom. Half of the problems have a budget that binds, on one of the
counted fields; the others must come to the answers of a calm run. Writes
docs/results/endpoint_faults.json with the claims `lost_problems`,
`double_counted_tokens` and `overspends` (bars <= 0).
"""

import asyncio
from collections.abc import Callable, Sequence
import time
from typing import Any
import zlib

from absl import app, flags
import numpy as np

from jaxttc import decoders, results, script
from jaxttc.cost import budget as budget_lib
from jaxttc.inference import endpoint
from jaxttc.inference.endpoint import transport
from jaxttc.runtime import driver
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.testing import fault_server
from jaxttc.verifiers import endpoint_verifier

FLAGS = flags.FLAGS

DECODERS = {
  "best_of_n": {"n": 4},
  "self_consistency": {"n": 5},
  "prm_beam": {"num_survivors": 2, "num_expansions": 2, "max_steps": 5},
  "astar": {"children": 2, "nodes": 24, "max_steps": 5},
}
SETTINGS = settings_lib.SearchSettings(step_tokens=12, max_tokens=36)
FIELDS = ("generated_tokens", "prompt_tokens", "verifier_calls")
# What the books say of the same: all that was done, and what was told.
_BOOKED = {
  "generated_tokens": ("generated", "told"),
  "prompt_tokens": ("prompts", None),
  "verifier_calls": ("scored", "told_scores"),
}
_TYPICAL = {"generated_tokens": 60, "prompt_tokens": 50, "verifier_calls": 8}
_SLOTS = 8


def run(
  *,
  problems: int,
  rate: float,
  seed: int,
  names: Sequence[str] = tuple(DECODERS),
  faults: Sequence[str] = (*fault_server.FAULTS, "all"),
) -> list[dict[str, Any]]:
  """Searches under every kind of fault.

  Args:
    problems: a decoder and fault.
    rate: chance that an attempt of a request is hit.
    seed: of budgets, faults and sampling.
    names: the decoders.
    faults: the kinds; "all" is each of them at once.

  Returns:
    A row a decoder and fault: what went wrong, over its problems.
  """
  rows = []
  for name in names:
    decoder = decoders.make(name, DECODERS[name])
    limits = budgets(problems, seed, FIELDS[: 3 if decoder.needs_reward else 2])
    calm, _ = _solved(decoder, fault_server.never, limits, seed)
    for fault in faults:
      start = time.perf_counter()
      kinds = fault_server.FAULTS if fault == "all" else (fault,)
      schedule = fault_server.at_random(rate, kinds, salt=seed)
      found, server = _solved(decoder, schedule, limits, seed)
      row = {"decoder": name, "fault": fault}
      row |= compared(found, calm, server, limits)
      rows.append(row)
      print(row, f"({time.perf_counter() - start:.0f} s)", flush=True)
  return rows


def prompts(problems: int) -> list[str]:
  """The problems; the server keeps its books by their first lines."""
  return [f"Problem {i} of {i * i}:\n\n" for i in range(problems)]


def budgets(
  problems: int, seed: int, fields: Sequence[str]
) -> list[budget_lib.Budget]:
  """No limit for every other problem, and a tight one for the rest."""
  rng = np.random.default_rng(seed)
  found = []
  for i in range(problems):
    field = fields[rng.integers(len(fields))]
    limit = int(_TYPICAL[field] * rng.uniform(0.1, 1.5))
    found.append(budget_lib.Budget(**({field: limit} if i % 2 else {})))
  return found


def compared(
  found: dict[int, search_lib.SearchResult],
  calm: dict[int, search_lib.SearchResult],
  server: fault_server.FaultServer,
  limits: Sequence[budget_lib.Budget],
) -> dict[str, int]:
  """Holds results against the books, and against a run without faults."""
  row = dict.fromkeys(
    ("lost", "changed", "overspends", "double_counted", "uncounted"), 0
  )
  row |= {"problems": len(limits), "struck": 0, "assumed": 0}
  for i, prompt in enumerate(prompts(len(limits))):
    books = server.ledger(prompt)
    row["struck"] += books.faults.total()
    if i not in found:
      row["lost"] += 1
      continue
    result = found[i]
    free = not limits[i].as_dict()
    row["lost"] += ":" in result.stop or (free and result.completion is None)
    row["changed"] += free and result.completion != calm[i].completion
    row["assumed"] += result.assumed.generated_tokens
    row["overspends"] += not result.cost.fits_within(limits[i])
    for field, (done, told) in _BOOKED.items():
      charged = getattr(result.cost, field)
      limit = getattr(limits[i], field)
      row["overspends"] += limit is not None and getattr(books, done) > limit
      row["uncounted"] += max(0, getattr(books, done) - charged)
      if told is not None:
        known = charged - getattr(result.assumed, field)
        row["double_counted"] += max(0, known - getattr(books, told))
        row["uncounted"] += max(0, getattr(books, told) - known)
  return row


def _solved(decoder, schedule, limits, seed):
  """Results by problem, and the server with its books."""

  async def no_wait(seconds: float) -> None:
    del seconds
    await asyncio.sleep(0)

  with fault_server.FaultServer(schedule=schedule) as server:
    connection = endpoint.Connection(
      url=server.url, read_s=0.5, reply_bytes=1 << 16
    )
    line = lambda: transport.Transport(connection, sleep=no_wait)  # noqa: E731
    engine = endpoint.EndpointEngine(
      endpoint.EndpointSpec(connection=connection, model="tiny"),
      classify=classify,
      groups=_SLOTS,
      line=line(),
    )
    verifier = endpoint_verifier.EndpointVerifier(
      endpoint_verifier.RewardSpec(connection=connection, model="tiny"),
      groups=_SLOTS,
      line=line(),
    )
    try:
      texts = prompts(len(limits))
      found = driver.drive(
        engine,
        verifier,
        decoder,
        texts,
        texts,
        budget=limits,
        settings=SETTINGS,
        seed=seed,
      )
      return {result.problem: result for result in found}, server
    finally:
      engine.shutdown()
      verifier.shutdown()


def classify() -> Callable[[str], int]:
  """Classes by what follows the marker."""

  def of(text: str) -> int:
    _, marker, answer = text.partition("####")
    return zlib.crc32(answer.strip().encode()) & 0xFFFF if marker else -1

  return of


def claims(rows: Sequence[dict[str, Any]]) -> list[results.Claim]:
  """What the rows come to."""

  def total(name: str) -> int:
    return sum(row[name] for row in rows)

  def none(name: str, value: int) -> results.Claim:
    return results.Claim(name, value, bar=0, comparison="<=")

  return [
    none("lost_problems", total("lost")),
    none("double_counted_tokens", total("double_counted")),
    none("overspends", total("overspends")),
    none("uncounted_tokens", total("uncounted")),
    none("changed_answers", total("changed")),
    results.Claim("problems", total("problems")),
    results.Claim("faults", total("struck")),
  ]


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  rows = run(problems=FLAGS.problems, rate=FLAGS.rate, seed=FLAGS.seed)
  found = claims(rows)
  results.write(
    FLAGS.out,
    command=results.command_line(),
    seeds=[FLAGS.seed],
    data={"faults": rows},
    claims=found,
  )
  for claim in found:
    print(f"{claim.name}: {claim.figure}")


def _define_flags() -> None:
  """Only of a program that runs: others may import it beside each other."""
  flags.DEFINE_integer("problems", 8, "Problems a decoder and fault.", 1)
  flags.DEFINE_float("rate", 0.3, "Chance that an attempt is hit.", 0.0, 1.0)
  flags.DEFINE_integer("seed", 0, "Seed of budgets, faults and sampling.")
  flags.DEFINE_string(
    "out", "docs/results/endpoint_faults.json", "Results file."
  )


if __name__ == "__main__":
  _define_flags()
  script.run(main, __file__)
