# SPDX-License-Identifier: Apache-2.0
"""Which technique saves which resource, which it spends, and where it is here.

A technique seldom saves everything: a cache saves compute and spends memory,
recomputation does the reverse. The survey sorts techniques by stage of life and
by resource (Bai et al. 2024, "Beyond efficiency", arXiv:2401.00625); this is
that map, for what this library does. `joint` says what two of them come to, and
where one takes back what the other gave.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import difflib

RESOURCES = ("compute", "memory", "energy", "money", "network", "latency")
STAGES = ("architecture", "pre-training", "fine-tuning", "inference", "system")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Technique:
  """One way to spend less of something.

  Attributes:
    name: what it is called.
    stage: of `STAGES`, where it acts.
    saves: resource -> what of it.
    spends: resource -> what of it.
    module: where it is in this library.
  """

  name: str
  stage: str
  saves: Mapping[str, str]
  spends: Mapping[str, str]
  module: str

  def __post_init__(self):
    if self.stage not in STAGES:
      raise ValueError(
        f"stage of {self.name!r} must be one of {', '.join(STAGES)}, got "
        f"{self.stage!r}"
      )
    for resource in (*self.saves, *self.spends):
      if resource not in RESOURCES:
        raise ValueError(
          f"{self.name!r}: unknown resource {resource!r}; expected one of "
          f"{', '.join(RESOURCES)}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Joint:
  """What techniques come to together.

  Attributes:
    saves: resource -> techniques that save it.
    spends: resource -> techniques that spend it.
    conflicts: (technique, other, resource) where one spends what another
      saves.
  """

  saves: dict[str, tuple[str, ...]]
  spends: dict[str, tuple[str, ...]]
  conflicts: tuple[tuple[str, str, str], ...]


_REGISTRY: dict[str, Technique] = {}


def register(technique: Technique) -> Technique:
  """Adds a technique and returns it.

  Raises:
    ValueError: for a name already taken.
  """
  if technique.name in _REGISTRY:
    raise ValueError(f"technique {technique.name!r} is registered already")
  _REGISTRY[technique.name] = technique
  return technique


def names() -> list[str]:
  """All names, in the order in which they came."""
  return list(_REGISTRY)


def lookup(name: str) -> Technique:
  """The technique of that name.

  Raises:
    ValueError: if there is none; the nearest name is suggested.
  """
  if name in _REGISTRY:
    return _REGISTRY[name]
  near = difflib.get_close_matches(name, _REGISTRY, n=1, cutoff=0.4)
  hint = f"did you mean {near[0]!r}?" if near else f"expected one of {names()}"
  raise ValueError(f"unknown technique {name!r}; {hint}")


def saving(resource: str, stage: str | None = None) -> list[Technique]:
  """Techniques that save a resource, at a stage or at any.

  Raises:
    ValueError: for an unknown resource or stage.
  """
  if resource not in RESOURCES:
    raise ValueError(
      f"unknown resource {resource!r}; expected one of {', '.join(RESOURCES)}"
    )
  if stage is not None and stage not in STAGES:
    raise ValueError(
      f"unknown stage {stage!r}; expected one of {', '.join(STAGES)}"
    )
  return [
    technique
    for technique in _REGISTRY.values()
    if resource in technique.saves and stage in (None, technique.stage)
  ]


def joint(chosen: Sequence[str]) -> Joint:
  """What techniques save and spend together, and where they are at odds.

  Raises:
    ValueError: for an unknown name.
  """
  used = [lookup(name) for name in chosen]

  def by_resource(part: str) -> dict[str, tuple[str, ...]]:
    found = {
      resource: tuple(t.name for t in used if resource in getattr(t, part))
      for resource in RESOURCES
    }
    return {resource: named for resource, named in found.items() if named}

  return Joint(
    saves=by_resource("saves"),
    spends=by_resource("spends"),
    conflicts=tuple(
      (one.name, other.name, resource)
      for one in used
      for other in used
      if one is not other
      for resource in one.spends
      if resource in other.saves
    ),
  )


def _entry(name, stage, saves, spends, module) -> None:
  register(
    Technique(
      name=name,
      stage=stage,
      saves=saves,
      spends=spends,
      module=f"jaxttc/{module}",
    )
  )


_entry(
  "KV cache",
  "inference",
  {"compute": "of prefixes", "latency": "of each token"},
  {"memory": "keys and values of every token"},
  "inference/tree_cache.py",
)
_entry(
  "grouped-query attention",
  "architecture",
  {"memory": "of the cache", "latency": "of decoding"},
  {},
  "models/transformer.py",
)
_entry(
  "sliding windows",
  "architecture",
  {"memory": "of the cache"},
  {},
  "models/transformer.py",
)
_entry(
  "int8 weights",
  "inference",
  {"memory": "of weights", "latency": "of decoding", "network": "of loading"},
  {"compute": "of scaling back"},
  "models/int8_weights.py",
)
_entry(
  "widths cut out",
  "architecture",
  {"compute": "of each token", "memory": "of weights", "latency": "of both"},
  {},
  "models/nested_transformer.py",
)
_entry(
  "training of many widths at once",
  "pre-training",
  {"money": "of a model a width"},
  {"compute": "of each step"},
  "training/nested_language_model.py",
)
_entry(
  "slimmable networks",
  "architecture",
  {"compute": "of each example", "latency": "of each example"},
  {"compute": "of training"},
  "models/slimmable/network.py",
)
_entry(
  "distillation",
  "pre-training",
  {"compute": "of a smaller model's answers"},
  {"compute": "of the teacher"},
  "training/nested_language_model.py",
)
_entry(
  "packing of sequences",
  "pre-training",
  {"compute": "of padding"},
  {},
  "training/packing.py",
)
_entry(
  "data parallelism",
  "system",
  {"latency": "of a step"},
  {"network": "all-reduce of gradients"},
  "mesh.py",
)
_entry(
  "tensor parallelism",
  "system",
  {"memory": "of weights, a device", "latency": "of a token"},
  {"network": "two all-reduces a layer"},
  "models/sharding.py",
)
_entry(
  "continuous batching",
  "system",
  {"money": "of idle rows", "energy": "of idle rows"},
  {"latency": "of each token, where rows share a device"},
  "inference/local_engine.py",
)
_entry(
  "search at test time",
  "inference",
  {"money": "of training a larger model"},
  {"compute": "of each query", "latency": "of each query"},
  "decoders/__init__.py",
)
_entry(
  "budget forcing",
  "inference",
  {"compute": "of long thoughts", "latency": "of long thoughts"},
  {},
  "inference/budget_forcing.py",
)
_entry(
  "adaptive self-consistency",
  "inference",
  {"compute": "of votes that are settled"},
  {},
  "decoders/voting.py",
)
_entry(
  "width chosen by the budget",
  "inference",
  {"compute": "of easy budgets"},
  {},
  "allocators/model_width.py",
)
