# SPDX-License-Identifier: Apache-2.0
"""Host-driven models: those served elsewhere, and some in this process.

The policy, the reward model or both may be served: a recipe has a URL in place
of a file. Published models in this process are driven by the host where only
their text says what a search must know (`runtime.compiled.why_host_driven`).
Results come in the order in which they are done.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
from typing import Any

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import endpoint
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import driver, whole_solutions
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.verifiers import (
  answer_classes,
  endpoint_verifier,
  written_checks,
)

_MILLION = 1e6


@dataclasses.dataclass(kw_only=True)
class EndpointOptions:
  """How served models are asked. Mutable, for flags to override.

  Attributes:
    key_variable: the environment variable with the API key; "" for none.
    concurrency: most requests in flight, to each server.
    connect_s: seconds to wait for a connection.
    read_s: seconds to wait for a reply.
    retries: how often a request is sent again.
    chat: ask the chat interface; for decoders of whole solutions only.
    step_end: what ends a step.
    tokenizer: the policy's tokenizer.json; "" asks the server.
    max_length: most tokens of a prompt and its solution; 0 for what the
      server says.
    logprobs: whether to ask for log-probabilities.
    prompt_dollars: price of a million prompt tokens; 0 for none.
    generated_dollars: price of a million sampled tokens; 0 for none.
    reward_api: of the reward model, "pooling" or "score".
    reward_template: what "pooling" reads.
    step_tag: put behind each step that the reward model reads.
    positive: which number of a reward's row counts.
    logits: whether rewards are logits.
  """

  key_variable: str = ""
  concurrency: int = 32
  connect_s: float = 10.0
  read_s: float = 300.0
  retries: int = 5
  chat: bool = False
  step_end: str = "\n\n"
  tokenizer: str = ""
  max_length: int = 0
  logprobs: bool = False
  prompt_dollars: float = 0.0
  generated_dollars: float = 0.0
  reward_api: str = "pooling"
  reward_template: str = "{problem}{solution}"
  step_tag: str = ""
  positive: int = -1
  logits: bool = False

  def identity(self) -> dict[str, Any]:
    """The fields that decide what is sampled, not how fast."""
    fields = dataclasses.asdict(self)
    for name in (
      "key_variable",
      "concurrency",
      "connect_s",
      "read_s",
      "retries",
    ):
      del fields[name]
    return fields

  def connection(self, url: str) -> endpoint.Connection:
    """How the server at a URL is spoken to."""
    return endpoint.Connection(
      url=url,
      key_variable=self.key_variable,
      concurrency=self.concurrency,
      connect_s=self.connect_s,
      read_s=self.read_s,
      total_s=2 * self.read_s + self.connect_s,
      retries=self.retries,
    )

  def policy(self, url: str, model: str) -> endpoint.EndpointSpec:
    """The policy that a server has under a name."""
    priced = self.prompt_dollars > 0 or self.generated_dollars > 0
    return endpoint.EndpointSpec(
      connection=self.connection(url),
      model=model,
      chat=self.chat,
      step_ends=(self.step_end,),
      tokenizer=self.tokenizer,
      max_length=self.max_length or None,
      logprobs=self.logprobs,
      prompt_dollars=self.prompt_dollars / _MILLION if priced else None,
      generated_dollars=self.generated_dollars / _MILLION if priced else None,
    )

  def verifier(
    self, url: str, model: str, settings: settings_lib.SearchSettings
  ) -> endpoint_verifier.RewardSpec:
    """The reward model that a server has under a name."""
    return endpoint_verifier.RewardSpec(
      connection=self.connection(url),
      model=model,
      api=self.reward_api,
      template=self.reward_template,
      step_end=self.step_end,
      step_tag=self.step_tag,
      positive=self.positive,
      logits=self.logits,
      aggregate=settings.aggregate,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
  """An engine and a verifier of a host-driven search, here or on servers.

  Attributes:
    engine: samples.
    verifier: scores; None if the decoder needs no rewards.
  """

  engine: engine_lib.Engine
  verifier: engine_lib.Verifier | None

  def solve(
    self,
    decoder: base.Decoder,
    prompts: Sequence[str],
    names: Sequence[str],
    budget: budget_lib.Budget | Sequence[budget_lib.Budget],
    settings: settings_lib.SearchSettings,
    seed: int,
  ) -> Iterator[search_lib.SearchResult]:
    """Searches, as `driver.drive` does; refuses what cannot be at once."""
    return driver.drive(
      self.engine,
      self.verifier,
      decoder,
      prompts,
      names,
      budget=budget,
      settings=settings,
      seed=seed,
    )

  def close(self) -> None:
    """Hangs up."""
    for model in (self.engine, self.verifier):
      if isinstance(
        model, endpoint.EndpointEngine | endpoint_verifier.EndpointVerifier
      ):
        model.shutdown()


# A language model and a reward model in this process, or wherever they are.
Engine = tuple[bundle_lib.Bundle, bundle_lib.Bundle | None] | Served


def hosted(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle | None,
  decoder: base.Decoder,
  settings: settings_lib.SearchSettings,
  *,
  slots: int,
  shown: Callable[[str], str] | None = None,
) -> Served:
  """Models in this process that a compiled search cannot serve.

  Args:
    policy: the language model.
    verifier: the reward model; None if the decoder needs no rewards.
    decoder: the strategy.
    settings: sampling and sizes.
    slots: problems searched at once.
    shown: from a prompt to what the reward model is shown of it.

  Raises:
    ValueError: if the models do not fit each other or the decoder.
  """
  engine, reader = driver.local_engines(
    policy, verifier, decoder, settings, slots=slots, shown=shown
  )
  return Served(engine=engine, verifier=reader)


def is_url(name: str) -> bool:
  """Whether a model's name says that it is served."""
  return name.startswith(("http://", "https://"))


def connect(
  policy: str,
  verifier: str,
  decoder: base.Decoder,
  settings: settings_lib.SearchSettings,
  options: EndpointOptions,
  *,
  model: str,
  verifier_model: str,
  slots: int,
  dtype: str = "float32",
  attention: str = "auto",
) -> Served:
  """Connects to the models that are served, and loads the other.

  Args:
    policy: a URL, or the name of a model file.
    verifier: likewise, of a generative verifier; not read if the decoder needs
      no rewards.
    decoder: the strategy.
    settings: sampling and sizes.
    options: how servers are asked.
    model: the policy's name on its server.
    verifier_model: the reward model's name on its server.
    slots: problems searched at once.
    dtype: of a policy in this process.
    attention: how it computes it.

  Raises:
    ValueError: in one line, if a server cannot be reached or lacks what is
      needed, or the two models cannot work together.
  """
  _check(policy, verifier, decoder, options, model, verifier_model)
  scorer = None
  if decoder.needs_reward and is_url(verifier):
    scorer = endpoint_verifier.EndpointVerifier(
      options.verifier(verifier, verifier_model, settings), groups=slots
    )
  elif decoder.needs_reward:
    scorer = _writer(policy, verifier, decoder, settings, slots, dtype)
  try:
    if is_url(policy):
      engine = endpoint.EndpointEngine(
        options.policy(policy, model),
        classify=lambda: answer_classes.AnswerClasses().of_solution,
        sampler=settings.sampler,
        groups=slots,
      )
    else:  # the rewards come from elsewhere
      alone = decoder._replace(needs_reward=False)
      engine, _ = driver.local_engines(
        bundle_lib.load(policy, dtype, attention=attention),
        None,
        alone,
        settings,
        slots=slots,
      )
  except BaseException:
    if isinstance(scorer, endpoint_verifier.EndpointVerifier):
      scorer.shutdown()
    raise
  return Served(engine=engine, verifier=scorer)


def _check(policy, verifier, decoder, options, model, verifier_model) -> None:
  if is_url(policy) and not model:
    raise ValueError(f"model must name the model that {policy} is to serve")
  if is_url(policy) and options.chat and base.Until.STEP in decoder.until:
    raise ValueError(
      "the decoder samples step by step, and a chat cannot be continued; set "
      "endpoint.chat to False"
    )
  if not decoder.needs_reward:
    return
  if not verifier:
    raise ValueError("the decoder needs rewards: give a verifier")
  if is_url(verifier) and not verifier_model:
    raise ValueError(
      f"verifier_model must name the reward model that {verifier} is to serve"
    )


def _writer(policy, verifier, decoder, settings, slots, dtype):
  """A generative verifier in this process, of a served policy's solutions."""
  judge = bundle_lib.load(verifier, dtype)
  if settings.checks.template:
    judge = bundle_lib.as_verifier(judge)
  if not judge.writes_verdicts:
    raise ValueError(
      f"the verifier {verifier!r} reads token ids, which the policy at "
      f"{policy} does not give; serve the reward model too, and give its URL"
    )
  if why := whole_solutions.why_not(decoder, judge):
    raise ValueError(why)
  return written_checks.verifier(
    judge,
    None,
    settings.checks,
    hardware=settings.hardware,
    groups=slots,
  )
