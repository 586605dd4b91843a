# SPDX-License-Identifier: Apache-2.0
"""Clusters: machines in pools, the rules they follow, and both as numbers.

A split cluster has machines for prompts, machines for tokens, and perhaps mixed
ones. A request's prompt goes to the prompt machine of least load, its tokens to
the token machine with the least KV cache reserved, and the cache travels. Where
a pool is full, mixed machines help; where they cannot, a machine of the other
pool works as a mixed one until it is empty; where even that fails, or neither
machine would be one of its own pool that helps nobody out, one machine does
both. An undivided cluster has mixed machines only, and a router that gives
each of them whole requests.

A machine batches by the iteration. Waiting prompts form batches in the order of
their arrival, up to a number of tokens (a longer prompt stands alone); a batch
starts when the memory of its requests is free, each reserving its prompt and
its whole output. Sequences that decode take part in every iteration; with
prompts among them an iteration takes 1.1 times as long as that many prompt
tokens alone, and no less than without them. With chunks, an iteration is filled
with decodes first, then with as much of the batch as there is room for.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from jaxttc.simulation import traces
from jaxttc.simulation.clusters import machines as machines_lib

PROMPT, TOKEN, MIXED, ABSENT = range(4)  # pools
SPLIT, LEAST, RANDOM, TURNS = "split", "least", "random", "turns"
ROUTERS = ("split", "least_tokens", "least_requests", "random", "turns")
_MIXED_SLOWDOWN = 1.1  # of prompts with decodes among them, as in the source
_MAX_MACHINES = 256
_TABLE_STEP = 16384

Pool = Sequence[tuple[machines_lib.MachineSpec, int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
  """How requests are routed and batched.

  Attributes:
    router: "split" for clusters with pools; for undivided ones "least_tokens"
      and "least_requests" (join the shortest queue by pending tokens or by
      requests), "random" or "turns" (round robin).
    batch_tokens: prompt tokens of one batch.
    chunk_tokens: tokens of an iteration with prompts in it, decodes first;
      None computes prompts whole.
    queue_tokens: a prompt machine with more than so many pending is full.
    max_batch: sequences that decode on a machine at once.
  """

  router: str = "split"
  batch_tokens: int = 2048
  chunk_tokens: int | None = None
  queue_tokens: int = 8192
  max_batch: int = 256

  def __post_init__(self):
    if self.router not in ROUTERS:
      raise ValueError(
        f"router {self.router!r} is not one of {', '.join(ROUTERS)}"
      )
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name != "router" and value is not None:
        traces.check_positive(field.name, value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
  """What KV caches travel over, one after another from each machine.

  Attributes:
    bytes_per_s: of one machine's link; inf for none.
    overlapped: whether caches leave layer by layer under their prompt, which
      hides nine tenths of the time.
  """

  bytes_per_s: float = 200 * 2.0**30
  overlapped: bool = True

  def __post_init__(self):
    if not self.bytes_per_s > 0:
      raise ValueError(
        f"link: bytes_per_s must be positive, not {self.bytes_per_s}"
      )

  def seconds_per_token(self, model: machines_lib.ServedModel) -> float:
    """Seconds that a token's cache adds."""
    seconds = model.kv_bytes_per_token / self.bytes_per_s
    return seconds / 10 if self.overlapped else seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
  """Machines by pool, and their rules.

  Attributes:
    name: of the design.
    model: what is served.
    prompt: kinds and counts of the prompt pool.
    token: of the token pool.
    mixed: of the mixed pool; all machines of an undivided cluster.
    rules: how requests are routed and batched.
    link: between machines.

  Raises:
    ValueError: if a count is negative, a pool is missing, or machines have
      pools that the router does not know.
  """

  name: str
  model: machines_lib.ServedModel
  prompt: Pool = ()
  token: Pool = ()
  mixed: Pool = ()
  rules: Rules = Rules()
  link: Link = Link()

  def __post_init__(self):
    sizes = {}
    for pool in ("prompt", "token", "mixed"):
      counts = [count for _, count in getattr(self, pool)]
      if any(count < 0 for count in counts):
        raise ValueError(f"cluster {self.name}: negative count of {pool}")
      sizes[pool] = sum(counts)
    split = self.rules.router == "split"
    for phase in ("prompt", "token"):
      if split and not sizes[phase] + sizes["mixed"]:
        raise ValueError(
          f"cluster {self.name}: no machine for the {phase} phase"
        )
      if not split and sizes[phase]:
        raise ValueError(
          f"cluster {self.name}: router {self.rules.router} is for mixed "
          f"machines only, but there are {sizes[phase]} {phase} machines"
        )
    if not 1 <= sum(sizes.values()) <= _MAX_MACHINES:
      raise ValueError(
        f"cluster {self.name}: {sum(sizes.values())} machines; expected 1 to "
        f"{_MAX_MACHINES}"
      )

  @property
  def machines(self) -> list[tuple[int, machines_lib.MachineSpec]]:
    """(pool, kind) of each machine, prompt machines first."""
    return [
      (pool, spec)
      for pool, kinds in (
        (PROMPT, self.prompt),
        (TOKEN, self.token),
        (MIXED, self.mixed),
      )
      for spec, count in kinds
      for _ in range(count)
    ]

  @property
  def cost_per_h(self) -> float:
    """Price of all machines."""
    return sum(spec.cost_per_h for _, spec in self.machines)

  @property
  def provisioned(self) -> float:
    """Power set aside for all machines."""
    return sum(spec.provisioned for _, spec in self.machines)


class CompiledKind(NamedTuple):
  """A kind of machine in numbers: whole ticks of seconds, whole tokens."""

  c0: float
  c1: float
  c2: float
  capacity: int
  seat: int
  prompt_s: list[float]
  mixed_s: list[float]


class CompiledRules(NamedTuple):
  """Rules in numbers."""

  router: str
  prompt_weight: int
  queue_limit: int
  batch_tokens: int
  chunk: float
  transfer_s: float


class CompiledCluster(NamedTuple):
  """A cluster in numbers: each machine's (pool, row of `kinds`)."""

  kinds: list[CompiledKind]
  machines: list[tuple[int, int]]
  rules: CompiledRules


def ticks(seconds: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
  """Rounds to multiples of 2^-33 s, whose sums float64 holds exactly."""
  return np.rint(np.asarray(seconds, np.float64) * 2.0**33) / 2.0**33


def draws(requests: int, seed: int) -> Float[np.ndarray, " n"]:
  """A number in [0, 1) for each request, for the random router."""
  return np.random.default_rng(seed).random(requests)


def compile_cluster(cluster: Cluster, trace: traces.Trace) -> CompiledCluster:
  """Turns a cluster into numbers, and checks that it can serve a trace.

  Raises:
    ValueError: if a request's KV cache fits in some machine never, or its
      prompt is outside what a machine's performance model reaches.
  """
  rules = cluster.rules
  specs = list(dict.fromkeys(spec for _, spec in cluster.machines))
  longest = max(rules.batch_tokens, int(trace.prompt_tokens.max()))
  kinds = [_compile_kind(spec, cluster.model, rules, longest) for spec in specs]
  _check_fits(cluster, specs, trace)
  router = {"least_tokens": LEAST, "least_requests": LEAST}.get(
    rules.router, rules.router
  )
  return CompiledCluster(
    kinds,
    [(pool, specs.index(spec)) for pool, spec in cluster.machines],
    CompiledRules(
      router,
      int(rules.router != "least_requests"),
      rules.queue_tokens,
      rules.batch_tokens,
      math.inf if rules.chunk_tokens is None else rules.chunk_tokens,
      ticks(np.array([cluster.link.seconds_per_token(cluster.model)])).item(),
    ),
  )


@functools.lru_cache(maxsize=256)
def _compile_kind(
  spec: machines_lib.MachineSpec,
  model: machines_lib.ServedModel,
  rules: Rules,
  longest: int,
) -> CompiledKind:
  decode = ticks(np.array(spec.performance.decode)).tolist()
  if decode[0] + decode[1] <= 0:
    raise ValueError(f"machine {spec.name}: a decode iteration takes no time")
  capacity = spec.capacity_tokens(model)
  # Whole steps, so that sweeps over traces share one compiled program.
  size = math.ceil((longest + rules.max_batch + 1) / _TABLE_STEP) * _TABLE_STEP
  tokens = np.minimum(np.arange(size), longest + rules.max_batch)
  prompt = np.asarray(spec.performance.prompt_s(np.maximum(tokens, 1)))
  return CompiledKind(
    *decode,
    capacity,
    # Reserving a share of the memory each, no more sequences get in than seats.
    math.ceil(capacity / rules.max_batch),
    np.maximum(ticks(prompt), 2.0**-33).tolist(),
    np.maximum(ticks(_MIXED_SLOWDOWN * prompt), 2.0**-33).tolist(),
  )


def _check_fits(
  cluster: Cluster,
  specs: list[machines_lib.MachineSpec],
  trace: traces.Trace,
) -> None:
  tokens = trace.prompt_tokens + trace.output_tokens
  largest = int(np.argmax(tokens))
  for spec in specs:
    capacity = spec.capacity_tokens(cluster.model)
    if tokens[largest] > capacity:
      raise ValueError(
        f"cluster {cluster.name}: request {largest} needs a KV cache of "
        f"{tokens[largest]} tokens, and a {spec.name} holds {capacity}"
      )
