# SPDX-License-Identifier: Apache-2.0
"""What a server serves, and how much of it at a time."""

import dataclasses

from jaxttc.solving import router_files, solve_recipe


@dataclasses.dataclass(kw_only=True)
class Limits:
  """What one request, and all together, may ask for.

  Attributes:
    body_bytes: most bytes of a request's body; more is a 413.
    requests: requests worked on at once.
    queue: requests that may wait for that; more get a 429.
    choices: most completions of one request: prompts times n.
    context: most tokens of a prompt and its completion; 0 for the model's.
    nodes: most nodes of a search tree.
    children: most spans that a search may sample at once.
    drain_s: seconds that requests get to end after SIGTERM.
  """

  body_bytes: int = 1 << 20
  requests: int = 64
  queue: int = 256
  choices: int = 64
  context: int = 0
  nodes: int = 1024
  children: int = 64
  drain_s: float = 30.0

  def validate(self) -> None:
    """Raises ValueError, naming the field, for limits that cannot be."""
    for field in dataclasses.fields(self):
      least = 0 if field.name in ("queue", "context", "drain_s") else 1
      value = getattr(self, field.name)
      if not value >= least:
        raise ValueError(
          f"limits.{field.name} must be at least {least}, got {value}"
        )


@dataclasses.dataclass(kw_only=True)
class ServeRecipe:
  """What `scripts/serve.py` serves.

  Attributes:
    policy: a model file, the name of one that ships, or a router's file, whose
      models are then all served, and one more that picks among them.
    verifier: a model file or name, for searches; "" for none.
    dtype: of both; one of `models.precision.NAMES`.
    attention: how both compute it; one of `models.attention_backend.NAMES`.
    name: what requests call the model; "" for the policy's own name.
    routing: how a router picks; not read without one.
    decoder: of searches that name none, e.g. "astar(children=4)".
    budget: most that one search may spend, and what it gets if it names no
      budget of its own, e.g. "generated_tokens=2k".
    thinking: how a model that thinks keeps a request's budget, e.g.
      "guided()" (`solving.thinking_text`); "" for models that do not.
    sampling: of searches and thoughts: how tokens are drawn where a request
      does not say, and sizes. `max_tokens` is also what a plain completion gets
      that names no limit, and the most that thought and answer get together.
    slots: plain completions sampled at once.
    steps: most tokens between two looks at the queue; streams come so many
      tokens at a time.
    searches: searches driven at once.
    thoughts: requests thought about at once.
    warm_tokens: prompts of up to so many tokens find their programs compiled;
      0 to begin at once.
    limits: of requests.
  """

  policy: str = "arithmetic_lm"
  verifier: str = "arithmetic_prm"
  dtype: str = "float32"
  attention: str = "auto"
  name: str = ""
  routing: router_files.RouterOptions = dataclasses.field(
    default_factory=router_files.RouterOptions
  )
  decoder: str = "astar(children=4)"
  budget: str = "generated_tokens=2k"
  thinking: str = ""
  sampling: solve_recipe.SamplingOptions = dataclasses.field(
    default_factory=solve_recipe.SamplingOptions
  )
  slots: int = 32
  steps: int = 8
  searches: int = 8
  thoughts: int = 8
  warm_tokens: int = 128
  limits: Limits = dataclasses.field(default_factory=Limits)

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for name, least in (
      ("slots", 1),
      ("steps", 1),
      ("searches", 1),
      ("thoughts", 1),
      ("warm_tokens", 0),
    ):
      if getattr(self, name) < least:
        raise ValueError(
          f"{name} must be at least {least}, got {getattr(self, name)}"
        )
    self.limits.validate()
