# SPDX-License-Identifier: Apache-2.0
"""What a run is told: problems, models, how to decode, and with what budget."""

from collections.abc import Mapping
import dataclasses
import json
from typing import Any

from jaxttc.cost import budget as budget_lib
from jaxttc.inference import controllers
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import (
  decoder_text,
  problem_sets,
  router_files,
  served_models,
)
from jaxttc.tasks import problems as problems_lib
from jaxttc.verifiers import process_reward, written_checks


@dataclasses.dataclass(kw_only=True)
class CheckOptions:
  """`verifiers.written_checks.CheckSettings`, mutable, for flags to override.

  Attributes:
    samples: verifications of a solution; a decoder's text may say another
      number.
    temperature: at which they are sampled.
    max_tokens: of one; a longer one says nothing.
    style: how a model trained by this library is asked: "verbose", "terse" or
      "direct".
    template: what any other language model is asked, with {problem} and
      {solution} in it.
  """

  samples: int = 4
  temperature: float = 0.7
  max_tokens: int = 160
  style: str = "verbose"
  template: str = ""


@dataclasses.dataclass(kw_only=True)
class SamplingOptions:
  """`runtime.settings.SearchSettings`, mutable, for flags to override.

  Attributes:
    temperature: >= 0; 0 is greedy.
    top_k: keep so many tokens; 0 for all.
    top_p: in (0, 1].
    min_p: in [0, 1].
    step_tokens: most tokens of one step.
    max_tokens: most tokens of a solution.
    last_tokens: most tokens of a step-wise decoder's last step; 0 for all
      that max_tokens leaves.
    aggregate: of step rewards: "last", "min", "product" or "mean".
    slots: arena slots a problem; 0 for the default.
    hardware: a name of the hardware table; "" for no joules and dollars.
    checks: how a generative verifier is asked.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  step_tokens: int = 32
  max_tokens: int = 128
  last_tokens: int = 0
  aggregate: str = "last"
  slots: int = 0
  hardware: str = ""
  checks: CheckOptions = dataclasses.field(default_factory=CheckOptions)

  def identity(self) -> dict[str, Any]:
    """The fields as a dict, without `checks` that are as they come.

    So files that know nothing of generative verifiers keep their names.
    """
    fields = dataclasses.asdict(self)
    if self.checks == CheckOptions():
      del fields["checks"]
    return fields

  @classmethod
  def from_identity(cls, fields: Mapping[str, Any]) -> "SamplingOptions":
    """Inverse of `identity`."""
    checks = CheckOptions(**fields.get("checks", {}))
    return cls(**{**fields, "checks": checks})

  def build_for(self, decoder: str) -> settings_lib.SearchSettings:
    """The settings, with what a decoder's text says of them.

    Raises:
      ValueError: as `build`, or if the text is malformed.
    """
    said = decoder_text.parse(decoder)
    return self.build(said.temperature, said.verifications)

  def build(
    self, temperature: float | None = None, verifications: int | None = None
  ) -> settings_lib.SearchSettings:
    """The settings, validated.

    Args:
      temperature: in place of the field, if given.
      verifications: in place of `checks.samples`, if given.

    Raises:
      ValueError: naming the field that cannot be.
    """
    known = tuple(a.value for a in process_reward.Aggregate)
    problems_lib.require_name(self.aggregate, known, "aggregate")
    settings = settings_lib.SearchSettings(
      sampler=controllers.Sampler(
        temperature=self.temperature if temperature is None else temperature,
        top_k=self.top_k or None,
        top_p=self.top_p,
        min_p=self.min_p,
      ),
      step_tokens=self.step_tokens,
      max_tokens=self.max_tokens,
      last_tokens=self.last_tokens or None,
      aggregate=process_reward.Aggregate(self.aggregate),
      slots=self.slots or None,
      hardware=self.hardware or None,
      checks=written_checks.CheckSettings(
        **(
          dataclasses.asdict(self.checks)
          | ({} if verifications is None else {"samples": verifications})
        )
      ),
    )
    settings.validate()
    return settings


@dataclasses.dataclass(kw_only=True)
class SolveRecipe:
  """What `solve_to_file` runs.

  Attributes:
    problems: the problems.
    policy: a model file, the name of one that ships, the URL of a server, or a
      router's file (`router_files`), which picks a model for each problem.
    verifier: likewise, but no router: a reward model, or a generative verifier,
      for decoders of whole solutions. Not read if the decoder needs no rewards.
    width: share of the policy's width to use, of those that its recipe names
      (`inference.narrowed`); 1 is the whole of any policy.
    model: what the policy is called on its server.
    verifier_model: what the verifier is called on its server.
    dtype: of models in this process; one of `models.precision.NAMES`.
    attention: how they compute it; one of `models.attention_backend.NAMES`.
    endpoint: how servers are asked.
    routing: how a router picks; not read without one.
    decoder: e.g. "astar(children=4)"; see `decoder_text`.
    thinking: how a model that thinks is decoded in place of a search, e.g.
      "guided(budget=120)"; see `thinking_text`. "" searches.
    budget: of each problem, e.g. "generated_tokens=400,flops=2G"; "" for none.
    sampling: how tokens are drawn; a temperature that the decoder's text names
      goes before.
    seed: of all sampling.
    batch: problems searched at once.
  """

  problems: problem_sets.ProblemSource
  policy: str = "arithmetic_lm"
  verifier: str = "arithmetic_prm"
  width: float = 1.0
  model: str = ""
  verifier_model: str = ""
  dtype: str = "float32"
  attention: str = "auto"
  endpoint: served_models.EndpointOptions = dataclasses.field(
    default_factory=served_models.EndpointOptions
  )
  routing: router_files.RouterOptions = dataclasses.field(
    default_factory=router_files.RouterOptions
  )
  decoder: str = "astar(children=4)"
  thinking: str = ""
  budget: str = "generated_tokens=400"
  sampling: SamplingOptions = dataclasses.field(default_factory=SamplingOptions)
  seed: int = 0
  batch: int = 16


def parsed_budget(text: str) -> budget_lib.Budget:
  """A recipe's budget; `cost.Budget.parse`, but it must buy something.

  Raises:
    ValueError: if the text is malformed, or allows no tokens or no FLOPs.
  """
  budget = budget_lib.Budget.parse(text)
  for name in ("generated_tokens", "flops"):
    if getattr(budget, name) == 0:
      raise ValueError(
        f"budget={text!r}: with {name}=0 nothing can be asked; expected more"
      )
  return budget


def described(recipe: SolveRecipe) -> dict[str, Any]:
  """What of a recipe decides its answers, JSON-ready."""
  found = json.loads(json.dumps(dataclasses.asdict(recipe)))
  # These change how fast answers come, not which.
  del found["batch"], found["attention"]
  found["sampling"] = recipe.sampling.identity()
  if not recipe.thinking:
    del found["thinking"]
  if not router_files.is_router(recipe.policy):
    del found["routing"]
  else:
    del found["routing"]["log"]
  found["endpoint"] = recipe.endpoint.identity()
  return found
