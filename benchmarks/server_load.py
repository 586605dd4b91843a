# SPDX-License-Identifier: Apache-2.0
"""Loads a real server with concurrent clients: losses, mix-ups, throughput.

    python -m benchmarks.server_load

Starts the server over the embedded model on a free port of this machine. A
number of clients send their requests at once, each over a connection of its
own; then one client sends the same requests one by one, to the same server.
Every reply must be there, and be what the request got alone. A server of one
slot answers them one by one, too: what a server without batches would do.
Seconds are the processor's, of server and clients together, so that what else
the machine does leaves them alone.

Writes docs/results/server_load.json with the claims `lost_requests` (<= 0),
`crosstalk` (<= 0) and `throughput_batched_over_serial` (>= 3).
"""

import asyncio
from collections.abc import Sequence
import dataclasses
import json
import time
from typing import Any

from absl import app, flags, logging
import httpx

from benchmarks import timing
from jaxttc import results, script, serving
from jaxttc.inference import bundle as bundle_lib
from jaxttc.serving import server
from jaxttc.solving import problem_sets, solve_recipe

FLAGS = flags.FLAGS

_MAX_TOKENS = 64
_TIMEOUT_S = 300.0

Reply = tuple[int, str]  # HTTP status, text


@dataclasses.dataclass(frozen=True)
class Load:
  """What one server did with the requests.

  Attributes:
    together: replies of each turn with all clients at once.
    alone: replies of each turn with one client, request after request.
    seconds: CPU seconds of the turns of both, by "together" and "alone".
    tokens: completion tokens of a turn, by the server's count.
    compiled: programs traced during the timed turns.
  """

  together: list[list[Reply]]
  alone: list[list[Reply]]
  seconds: dict[str, list[float]]
  tokens: int
  compiled: int


def bodies(count: int, seed: int) -> list[dict[str, Any]]:
  """Requests for solutions of generated problems; every third is streamed."""
  source = problem_sets.ProblemSource(
    count=count, steps=(3, 5, 8), style="terse", seed=seed
  )
  return [
    {
      "model": "arithmetic_lm",
      "prompt": prompt,
      "seed": seed + i,
      "max_tokens": _MAX_TOKENS,
      "temperature": 0.8,
      "stream": i % 3 == 2,
    }
    for i, prompt in enumerate(source.prompts(source.load()))
  ]


async def _ask(client: httpx.AsyncClient, body: dict[str, Any]) -> Reply:
  """Status and text; a request that gets no reply has status 0."""
  try:
    reply = await client.post("/v1/completions", json=body)
    if reply.status_code != 200:
      return reply.status_code, reply.text
    if not body["stream"]:
      return 200, reply.json()["choices"][0]["text"]
    events = [line[6:] for line in reply.text.splitlines() if line]
    if events[-1] != "[DONE]":
      return 0, "the stream was cut off"
    choices = [json.loads(event)["choices"][0] for event in events[:-1]]
    return 200, "".join(choice["text"] for choice in choices)
  except (httpx.HTTPError, ValueError, LookupError) as error:
    return 0, repr(error)


async def _together(url: str, asks: list[dict[str, Any]]) -> list[Reply]:
  limits = httpx.Limits(max_connections=len(asks))
  async with httpx.AsyncClient(
    base_url=url, limits=limits, timeout=_TIMEOUT_S
  ) as client:
    return await asyncio.gather(*(_ask(client, body) for body in asks))


async def _alone(url: str, asks: list[dict[str, Any]]) -> list[Reply]:
  async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S) as client:
    return [await _ask(client, body) for body in asks]


def drive(
  service: serving.Service, asks: list[dict[str, Any]], turns: int
) -> Load:
  """Serves the requests both ways, in turns, after one untimed turn each."""
  ways = {"together": _together, "alone": _alone}
  replies: dict[str, list[list[Reply]]] = {name: [] for name in ways}
  seconds: dict[str, list[float]] = {name: [] for name in ways}
  with server.running(service) as url:
    for send in ways.values():
      asyncio.run(send(url, asks))
    compiled = service.scheduler.compilations
    tokens = _tokens(url)
    for _ in range(turns):
      for name, send in ways.items():
        start = time.process_time()
        replies[name].append(asyncio.run(send(url, asks)))
        seconds[name].append(time.process_time() - start)
    tokens = (_tokens(url) - tokens) // (2 * turns)
    compiled = service.scheduler.compilations - compiled
  return Load(**replies, seconds=seconds, tokens=tokens, compiled=compiled)


def _tokens(url: str) -> int:
  """Completion tokens that the server has counted."""
  for line in httpx.get(f"{url}/metrics").text.splitlines():
    if line.startswith("jaxttc_completion_tokens_total "):
      return int(float(line.split()[1]))
  raise ValueError("the server's metrics lack jaxttc_completion_tokens_total")


def lost(load: Load) -> int:
  """Requests without a whole reply."""
  turns = [*load.together, *load.alone]
  return sum(status != 200 for turn in turns for status, _ in turn)


def crosstalk(load: Load) -> int:
  """Replies with another text than the request gets alone."""
  alone = load.alone[0]
  turns = [*load.together, *load.alone]
  return sum(
    reply[1] != own[1]
    for turn in turns
    for reply, own in zip(turn, alone, strict=True)
  )


def _service(policy: bundle_lib.Bundle, slots: int) -> serving.Service:
  recipe = serving.ServeRecipe(
    verifier="",
    slots=slots,
    sampling=solve_recipe.SamplingOptions(
      step_tokens=12, max_tokens=_MAX_TOKENS
    ),
  )
  return serving.Service(recipe, policy, None)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  logging.set_verbosity(logging.WARNING)  # httpx logs each request
  policy = bundle_lib.load("arithmetic_lm")
  asks = bodies(FLAGS.requests, FLAGS.seed)
  batched = drive(_service(policy, FLAGS.slots), asks, FLAGS.turns)
  single = drive(_service(policy, 1), asks, FLAGS.turns)
  ratio = timing.ratio(batched.seconds, "alone", "together")
  against = timing.ratio(
    {
      "together": batched.seconds["together"],
      "single": single.seconds["alone"],
    },
    "single",
    "together",
  )
  rate = batched.tokens / min(batched.seconds["together"])
  print(f"{rate:.0f} tokens a CPU second; {ratio['value']:.2f} times serial")
  results.write(
    FLAGS.out,
    command=results.command_line(),
    seeds=[FLAGS.seed],
    data={
      "requests": FLAGS.requests,
      "slots": FLAGS.slots,
      "completion_tokens": batched.tokens,
      "seconds": batched.seconds,
      "seconds_of_one_slot": single.seconds,
      "different_texts": len({text for _, text in batched.alone[0]}),
    },
    claims=[
      results.Claim(
        "lost_requests",
        lost(batched) + lost(single),
        bar=0.0,
        comparison="<=",
      ),
      results.Claim(
        "crosstalk",
        crosstalk(batched) + crosstalk(single),
        bar=0.0,
        comparison="<=",
      ),
      results.Claim(
        "throughput_batched_over_serial",
        **ratio,
        bar=3.0,
        comparison=">=",
      ),
      results.Claim("throughput_batched_over_one_slot_server", **against),
      results.Claim("tokens_per_cpu_second", rate),
      results.Claim("recompilations", batched.compiled),
    ],
  )


def _define_flags() -> None:
  """Only of a program that runs: others may import it beside each other."""
  flags.DEFINE_integer("requests", 64, "Requests, one a client.", 1)
  flags.DEFINE_integer("turns", 5, "Timed turns of each way.", 1)
  flags.DEFINE_integer("slots", 32, "Slots of the server.", 1)
  flags.DEFINE_integer("seed", 0, "Seed of problems and sampling.")
  flags.DEFINE_string("out", "docs/results/server_load.json", "Results file.")


if __name__ == "__main__":
  _define_flags()
  script.run(main, __file__)
