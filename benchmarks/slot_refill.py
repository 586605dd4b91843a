# SPDX-License-Identifier: Apache-2.0
"""Refilling finished slots, against static batches that wait for the longest.

Requests bring prompts of one length and ask for numbers of tokens that are
log-normal, as answers' lengths are. One engine serves them in two ways:

*  static: requests are taken in batches as they come, and a batch ends with
   its longest request;
*  refill: a slot gets the next request as soon as the engine hands back the
   last one.

A request's tokens come from its own key, so both ways write the same.
"""

from collections.abc import Iterable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import decoding, timing
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, local_engine
from jaxttc.inference import engine as engine_lib

_LONGEST = 400


@dataclasses.dataclass(frozen=True)
class Workload:
  """Requests in the order they come.

  Attributes:
    prompts: i32[N, T].
    limits: i32[N], tokens to write.
    seeds: u32[N, words], key data, one a request.
  """

  prompts: np.ndarray
  limits: np.ndarray
  seeds: np.ndarray


def lognormal(
  vocab_size: int, requests: int, seed: int, prompt_tokens: int = 32
) -> Workload:
  """Requests with a median of 32 tokens and sigma 1, 4 to 400 tokens long."""
  rng = np.random.default_rng(seed)
  limits = np.exp(rng.normal(np.log(32), 1.0, requests)).round()
  keys = jax.random.split(jax.random.key(seed), requests)
  return Workload(
    prompts=decoding.random_prompts(vocab_size, requests, prompt_tokens, seed),
    limits=np.clip(limits, 4, _LONGEST).astype(np.int32),
    seeds=np.asarray(jax.random.key_data(keys)),
  )


def engine(
  policy: bundle_lib.Bundle, slots: int = 32, steps: int = 16
) -> local_engine.LocalEngine:
  """An engine of one-row slots, in which only its limit ends a request."""
  tokenizer = policy.tokenizer
  ends = jnp.asarray([tokenizer.eos_id, tokenizer.answer_marker_id])
  return local_engine.LocalEngine(
    policy,
    controller=controllers.stateless(
      lambda logits: logits.at[:, ends].set(-jnp.inf)
    ),
    groups=slots,
    rows=1,
    steps=steps,
    columns=_LONGEST,
    slots=32,
    nodes=1,
  )


def _submit(
  server: local_engine.LocalEngine, load: Workload, work: dict[int, int]
) -> None:
  """Starts requests `work[slot]` in their slots."""
  server.open(
    {
      slot: engine_lib.Prompt(text="", tokens=tuple(load.prompts[i].tolist()))
      for slot, i in work.items()
    }
  )
  server.submit(
    [
      engine_lib.Request(
        group=slot,
        ticket=0,
        node=0,
        until=engine_lib.END,
        limit=int(load.limits[i]),
        seed=tuple(load.seeds[i].tolist()),
      )
      for slot, i in work.items()
    ]
  )


def _finished(server, work, tokens) -> list[int]:
  """Runs one step; files what came back, and returns the slots it left."""
  free = []
  for done in server.step():
    tokens[work.pop(done.group)] = done.tokens
    server.close(done.group)
    free.append(done.group)
  return free


def warm_up(server: local_engine.LocalEngine, load: Workload) -> None:
  """Has the engine read every number of prompts that is a shape of its own."""
  count = 1
  while count <= server.groups:
    _submit(server, load, {slot: 0 for slot in range(count)})
    for slot in range(count):
      server.close(slot)
    count *= 2


def serve_static(
  server: local_engine.LocalEngine, load: Workload
) -> list[tuple[int, ...]]:
  """Tokens of each request; batches run to their longest request."""
  tokens: dict[int, tuple[int, ...]] = {}
  total = len(load.limits)
  for start in range(0, total, server.groups):
    work = dict(enumerate(range(start, min(start + server.groups, total))))
    _submit(server, load, work)
    while work:
      _finished(server, work, tokens)
  return [tokens[i] for i in range(total)]


def serve_refilling(
  server: local_engine.LocalEngine, load: Workload
) -> list[tuple[int, ...]]:
  """Tokens of each request; a slot is refilled once it is free."""
  tokens: dict[int, tuple[int, ...]] = {}
  work: dict[int, int] = {}
  waiting = iter(range(len(load.limits)))
  free: Iterable[int] = range(server.groups)
  while len(tokens) < len(load.limits):
    fresh = dict(zip(free, waiting, strict=False))
    if fresh:
      _submit(server, load, fresh)
      work |= fresh
    free = _finished(server, work, tokens)
  return [tokens[i] for i in range(len(load.limits))]


def against_static(
  policy: bundle_lib.Bundle,
  *,
  requests: int = 512,
  repeats: int = 3,
  seed: int = 0,
) -> dict[str, Any]:
  """Times both ways on the same requests, and counts compilations.

  Args:
    policy: the model.
    requests: how many.
    repeats: timed turns.
    seed: of prompts, lengths and sampling.

  Returns:
    Seconds of both, their `ratio`, and `recompiles`: compilations while
    further requests, of other lengths, were served after the warm-up and the
    first ones.

  Raises:
    RuntimeError: if the two write different tokens for any request, or not as
      many as asked for.
  """
  load = lognormal(policy.config.vocab_size, requests, seed)
  server = engine(policy)
  warm_up(server, load)
  static = serve_static(server, load)
  refilled = serve_refilling(server, load)
  differing = sum(a != b for a, b in zip(static, refilled, strict=True))
  if differing or list(map(len, refilled)) != load.limits.tolist():
    raise RuntimeError(f"{differing} of {requests} requests differ in tokens")
  other = lognormal(policy.config.vocab_size, requests, seed + 1)
  with timing.counting_compilations() as compilations:
    serve_refilling(server, other)
  seconds = timing.by_turns(
    {
      "refill": functools.partial(serve_refilling, server, load),
      "static": functools.partial(serve_static, server, load),
    },
    repeats,
  )
  return {
    "requests": requests,
    "tokens": int(load.limits.sum()),
    "seconds": seconds,
    "ratio": timing.ratio(seconds, "static", "refill"),
    "recompiles": compilations.count,
    "programs": server.compilations,
  }
