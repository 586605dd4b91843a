# SPDX-License-Identifier: Apache-2.0
"""A model and what serves it: from checked requests to orders of work.

Everything that can be wrong with a request is found here, before any of it is
queued, so that what runs beside it is not disturbed.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import math
import pathlib
import secrets
from typing import Any

import jax

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.decoders import base
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import (
  controllers,
  local_engine,
  local_prices,
  row_sampling,
  thinking_config,
  thinking_span,
  token_scores,
)
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import whole_solutions
from jaxttc.serving import (
  calls,
  errors,
  prompts,
  scheduler,
  searches,
  thought_queue,
)
from jaxttc.serving import recipe as recipe_lib
from jaxttc.solving import decoder_text, loading, thinking_text

# Shares of the server's search budget that an effort stands for.
EFFORT_SHARE = {
  "minimal": 0.05,
  "low": 0.2,
  "medium": 0.5,
  "high": 1.0,
  "xhigh": 1.0,
  "max": 1.0,
}
_SEED_BITS = 63
_LONGEST_DECODER = 256  # characters


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
  """A request as orders.

  Attributes:
    service: whose orders they are.
    call: the request.
    prompt_tokens: over all prompts.
    orders: completions to sample, prompt by prompt.
    search: the search, in their place.
    thoughts: questions to think about, prompt by prompt, in their place.
  """

  service: "Service"
  call: calls.Call
  prompt_tokens: int
  orders: tuple[scheduler.Order, ...] = ()
  search: searches.SearchOrder | None = None
  thoughts: tuple[thought_queue.ThoughtOrder, ...] = ()


class Service:
  """A policy, maybe a verifier, and the two threads that serve them.

  Attributes:
    name: what requests call the model.
    fingerprint: changes with the weights.
    policy: the language model.
    verifier: the reward model; None if there is none.
    limits: of requests.
    context: most tokens of a prompt and its completion.
    settings: sampling and sizes of searches.
    ceiling: the budget that no search exceeds.
    scheduler: samples plain completions.
    searches: runs searches.
    thoughts: thinks; None if the model is not said to.
  """

  def __init__(
    self,
    recipe: recipe_lib.ServeRecipe,
    policy: bundle_lib.Bundle,
    verifier: bundle_lib.Bundle | None,
  ):
    """A service whose threads have not begun.

    Args:
      recipe: sizes, limits and defaults; the models' names are not read.
      policy: the language model.
      verifier: the reward model, if there is one.

    Raises:
      ValueError: naming what cannot be, if the models do not fit each other
        or a field of the recipe is out of range.
    """
    recipe.validate()
    bundle_lib.check_pair(policy, verifier)
    self.name = recipe.name or pathlib.Path(recipe.policy).stem
    self.fingerprint = loading.weights_fingerprint(policy)
    self.policy, self.verifier = policy, verifier
    self.limits, self._recipe = recipe.limits, recipe
    self.settings = recipe.sampling.build()
    row_sampling.check(self.settings.sampler)
    self.ceiling = budget_lib.Budget.parse(recipe.budget)
    self.context = min(
      recipe.limits.context or policy.config.max_length,
      policy.config.max_length,
    )
    self._decoders: dict[str, base.Decoder] = {}
    _, metered = local_prices.local_tariff(
      policy, self.settings.hardware, "policy"
    )
    self._metered = metered | {"seconds"}
    try:
      self._check_metered(self.ceiling, "recipe.budget")
      self._decoder(recipe.decoder, wanted=False)
    except errors.ApiError as error:
      raise ValueError(error.message) from None
    self._words = jax.random.key_data(jax.random.key(0)).shape[-1]
    self.scheduler = scheduler.Scheduler(
      self._make_engine, token_scores.TokenScorer(policy, calls.MAX_LOGPROBS)
    )
    self.searches = searches.SearchQueue(
      policy, verifier, self.settings, slots=recipe.searches
    )
    self.thoughts = self._thinker() if recipe.thinking else None

  @classmethod
  def load(cls, recipe: recipe_lib.ServeRecipe) -> "Service":
    """Reads the models that a recipe names.

    Raises:
      ValueError: if a file is missing or damaged; or as the constructor.
    """
    recipe.validate()
    models = loading.load_models(
      recipe.policy,
      recipe.verifier,
      dtype=recipe.dtype,
      attention=recipe.attention,
      template=recipe.sampling.checks.template,
    )
    return cls(recipe, *models)

  def start(self) -> None:
    """Compiles what requests will need first, and begins the threads."""
    if self._recipe.warm_tokens:
      self.scheduler.warm_up(self._recipe.warm_tokens)
      self._warm_up_search()
      if self.thoughts is not None:
        self.thoughts.warm_up(self._recipe.warm_tokens)
    for queue in self._queues:
      queue.start()

  def abort(self, error: errors.ApiError) -> None:
    """Ends all that runs or waits with an error."""
    for queue in self._queues:
      queue.abort(error)

  def close(self) -> None:
    """Ends the threads."""
    for queue in self._queues:
      queue.close()

  @property
  def _queues(self):
    queues = (self.scheduler, self.searches, self.thoughts)
    return [queue for queue in queues if queue is not None]

  @property
  def parts(self) -> tuple["Service", ...]:
    """The services that work: itself."""
    return (self,)

  @property
  def models(self) -> dict[str, int]:
    """The context, in tokens, of each model that a request may name."""
    return {self.name: self.context}

  def show(self, token: int) -> str:
    """The text of a token, special ones by their names."""
    return self.policy.tokenizer.decode([token], specials=True)

  def count_tokens(self, text: str) -> int:
    """Tokens of a text."""
    return len(self.policy.tokenizer.encode(text))

  def read(self, body: bytes, *, chat: bool) -> Work:
    """Reads a request and makes it work, or says why it cannot be.

    Raises:
      ApiError: 400 or 404, naming the field and what was expected.
    """
    call = calls.parse(body, chat=chat)
    if call.model not in self.models:
      raise errors.no_model(call.model, self.models)
    return self.work(call)

  def work(self, call: calls.Call) -> Work:
    """Makes a request work, whatever model it names, or says why it cannot be.

    Raises:
      ApiError: 400, naming the field and what was expected.
    """
    texts = self.texts(call)
    if len(texts) * call.n > self.limits.choices:
      raise errors.bad(
        "n",
        f"{len(texts)} prompts with n={call.n} make {len(texts) * call.n} "
        f"completions; this server makes up to {self.limits.choices} a request",
      )
    where = "messages" if call.chat else "prompt"
    thinks = self._thinks(call)
    encoded = [self._encode(text, where, thinks) for text in texts]
    seed = secrets.randbits(_SEED_BITS) if call.seed is None else call.seed
    total = sum(len(prompt.tokens) for prompt in encoded)
    if thinks:
      thoughts = self._thoughts(call, encoded, seed)
      return Work(
        service=self, call=call, prompt_tokens=total, thoughts=thoughts
      )
    if call.search is not None and thinks is None:
      search = self._search(call, call.search, encoded, seed)
      return Work(service=self, call=call, prompt_tokens=total, search=search)
    orders = self._orders(call, encoded, seed)
    return Work(service=self, call=call, prompt_tokens=total, orders=orders)

  def texts(self, call: calls.Call) -> tuple[str, ...]:
    """The prompts of a request, as the model is asked them.

    Raises:
      ApiError: 400, if it cannot be asked these messages.
    """
    if call.messages is None:
      return call.prompts
    return (prompts.prompt_of(self.policy, call.messages),)

  def _thinks(self, call: calls.Call) -> bool | None:
    """Whether to think about a call, or to answer at once; None for neither.

    A chat with a model that thinks is thought about unless it says otherwise; a
    plain prompt only if it says so.
    """
    searching = call.search is not None and (
      call.search.decoder is not None or call.search.budget is not None
    )
    if self.thoughts is None or searching:
      return None
    if call.thinking.mode == "auto":
      return True if call.chat else None
    return call.thinking.mode == "on"

  def _thinker(self) -> thought_queue.ThoughtQueue:
    """What thinks; refuses a way whose budget no request could set."""
    text = self._recipe.thinking
    way = thinking_text.build(text, self.policy, limit=self.settings.max_tokens)
    if way.adaptive:
      raise ValueError(
        f"thinking {text!r}: adaptive splits one budget over a set of "
        "questions; a server's requests bring their own"
      )
    if not way.limited or way.words or way.style != "free":
      raise ValueError(
        f"thinking {text!r}: expected a way that keeps a budget by itself, "
        "such as guided() or hard_cap()"
      )
    return thought_queue.ThoughtQueue(
      self.policy, way, rows=self._recipe.thoughts
    )

  def _thoughts(
    self, call: calls.Call, encoded: Sequence[engine_lib.Prompt], seed: int
  ) -> tuple[thought_queue.ThoughtOrder, ...]:
    assert self.thoughts is not None
    for name, given in (("stop", call.stop), ("logprobs", call.logprobs)):
      if given not in (None, ()):
        raise errors.bad(name, f"{name} cannot be given with thinking")
    most = self.thoughts.way.think.limit
    if call.max_tokens is not None and not 2 <= call.max_tokens <= most:
      raise errors.bad(
        "max_tokens",
        f"max_tokens is {call.max_tokens}; expected 2..{most}, for thought and "
        "answer together",
      )
    sampler = self._sampler(self.settings.sampler, call.sampling)
    beside = self.thoughts.way.think.beside
    limits = [
      self._limit(call, len(prompt.tokens) + beside) for prompt in encoded
    ]
    if min(limits) < 2:
      raise errors.bad(
        "messages" if call.chat else "prompt",
        f"the prompt leaves {min(limits)} of a context of {self.context} "
        "tokens; expected 2 at least, for thought and answer",
        code="context_length_exceeded",
      )
    return tuple(
      thought_queue.ThoughtOrder(
        prompt=prompt.tokens,
        budget=self._span(call, limit),
        limit=limit,
        sampler=sampler,
        seed=self._seed(seed, choice),
      )
      for prompt, limit in zip(encoded, limits, strict=True)
      for choice in range(call.n)
    )

  def _span(self, call: calls.Call, limit: int) -> int:
    """Tokens of a call's thinking, of `limit` for thought and answer."""
    assert self.thoughts is not None
    try:
      asked = call.thinking.tokens(limit)
    except thinking_config.RequestError as error:
      raise errors.bad(error.field, str(error)) from None
    if asked is not None:
      return asked
    unlimited = call.thinking.field and call.thinking.mode == "on"
    usual = None if unlimited else self.thoughts.way.budget
    return min(usual or limit, limit - 1)

  def _make_engine(self) -> local_engine.LocalEngine:
    longest = min(self.context, self.settings.max_tokens)
    return local_engine.LocalEngine(
      self.policy,
      row_samplers=True,
      groups=self._recipe.slots,
      rows=1,
      steps=self._recipe.steps,
      nodes=1,
      columns=longest,
      slots=max(self._recipe.warm_tokens, 16),
    )

  def _warm_up_search(self) -> None:
    """Runs one search of the decoder that requests get by default."""
    text = self._recipe.decoder
    decoder = self._decoder(text, wanted=False)
    if decoder.needs_reward and self.verifier is None:
      return
    self.searches.warm_up(
      searches.SearchOrder(
        text=text,
        decoder=decoder,
        prompt="0\n",
        budget=budget_lib.Budget(generated_tokens=4 * self.settings.max_tokens),
        sampler=self.settings.sampler,
        seed=0,
      )
    )

  def _encode(
    self, text: str, where: str, thinks: bool | None
  ) -> engine_lib.Prompt:
    """A prompt; with a span opened, or left empty, unless `thinks` is None."""
    tokenizer = self.policy.tokenizer
    try:
      if thinks is None:
        tokens = tuple(tokenizer.encode_prompt(text))
      else:
        tokens = tuple(thinking_span.prompt(tokenizer, text, thinks=thinks))
    except UnicodeEncodeError:
      raise errors.bad(
        where, f"{where} holds half a surrogate pair; expected valid text"
      ) from None
    return engine_lib.Prompt(text=text, tokens=tokens)

  def _orders(
    self, call: calls.Call, encoded: Sequence[engine_lib.Prompt], seed: int
  ) -> tuple[scheduler.Order, ...]:
    sampler = self._sampler(controllers.Sampler(), call.sampling)
    limits = [self._limit(call, len(prompt.tokens)) for prompt in encoded]
    return tuple(
      scheduler.Order(
        prompt=prompt,
        limit=limit,
        sampler=sampler,
        seed=self._seed(seed, choice),
        stop=call.stop,
        stream=call.stream,
        scored=call.logprobs is not None,
      )
      for prompt, limit in zip(encoded, limits, strict=True)
      for choice in range(call.n)
    )

  def _limit(self, call: calls.Call, length: int) -> int:
    """Most tokens of a completion after so many tokens of a prompt."""
    room = self.context - length
    wanted = call.max_tokens or min(self.settings.max_tokens, max(room, 1))
    if wanted > room:
      raise errors.bad(
        "messages" if call.chat else "prompt",
        f"a prompt of {length} tokens and a completion of {wanted} exceed the "
        f"context of {self.context} tokens",
        code="context_length_exceeded",
      )
    return wanted

  def _seed(self, seed: int, choice: int) -> tuple[int, ...]:
    """Key words of a choice: of the seed, whatever its size, and its number."""
    digest = hashlib.blake2b(
      f"{seed}/{choice}".encode(), digest_size=4 * self._words
    ).digest()
    return tuple(
      int.from_bytes(digest[i : i + 4]) for i in range(0, len(digest), 4)
    )

  def _sampler(
    self, sampler: controllers.Sampler, given: dict[str, Any]
  ) -> controllers.Sampler:
    for name, value in given.items():
      try:
        sampler = dataclasses.replace(sampler, **{name: value})
        sampler.validate()
      except ValueError as error:
        raise errors.bad(name, str(error)) from None
    return sampler

  def _search(
    self,
    call: calls.Call,
    fields: calls.SearchFields,
    encoded: Sequence[engine_lib.Prompt],
    seed: int,
  ) -> searches.SearchOrder:
    if len(encoded) != 1 or call.n != 1:
      raise errors.bad(
        "n", "a search takes one prompt and n=1; it samples as it needs to"
      )
    for name, given in (("stop", call.stop), ("logprobs", call.logprobs)):
      if given:
        raise errors.bad(
          name, f"{name} cannot be given with a decoder or a budget"
        )
    text = fields.decoder or self._recipe.decoder
    decoder = self._decoder(text, wanted=True)
    prompt = encoded[0]
    room = self.context - len(prompt.tokens)
    if room < self.settings.step_tokens:
      raise errors.bad(
        "messages" if call.chat else "prompt",
        f"a prompt of {len(prompt.tokens)} tokens leaves {room} of a context "
        f"of {self.context}; a step needs {self.settings.step_tokens}",
        code="context_length_exceeded",
      )
    temperature = decoder_text.parse(text).temperature
    own = {} if temperature is None else {"temperature": temperature}
    return searches.SearchOrder(
      text=text,
      decoder=decoder,
      prompt=prompt.text,
      budget=self._budget(call, fields),
      sampler=self._sampler(self.settings.sampler, own | call.sampling),
      seed=seed,
    )

  def _decoder(self, text: str, *, wanted: bool) -> base.Decoder:
    """The decoder of a text; one object a text, as its programs go by it.

    Args:
      text: as a request or the recipe has it.
      wanted: whether it is to run, for which it may need a verifier.
    """
    if text not in self._decoders:
      decoder = _built(text)
      shape = decoder.shape
      asked = shape.asks * shape.children
      if shape.nodes > self.limits.nodes or asked > self.limits.children:
        raise errors.bad(
          "decoder",
          f"decoder {text!r} grows {shape.nodes} nodes, {asked} at once; this "
          f"server allows {self.limits.nodes} and {self.limits.children}",
        )
      checks = decoder_text.parse(text).verifications or 0
      if checks > self.limits.children:
        raise errors.bad(
          "decoder",
          f"decoder {text!r} wants {checks} verifications of a solution; this "
          f"server allows {self.limits.children}",
        )
      if why := whole_solutions.why_not(decoder, self.verifier):
        raise errors.bad("decoder", f"decoder {text!r}: {why}")
      if len(self._decoders) >= 256:
        self._decoders.clear()
      self._decoders[text] = decoder
    decoder = self._decoders[text]
    if wanted and decoder.needs_reward and self.verifier is None:
      raise errors.bad(
        "decoder",
        f"decoder {text!r} needs rewards, and this server has no verifier",
      )
    return decoder

  def _budget(
    self, call: calls.Call, fields: calls.SearchFields
  ) -> budget_lib.Budget:
    """What a search may spend: the least of all that limits it."""
    budget = self.ceiling
    if fields.budget is not None:
      try:
        own = budget_lib.Budget.from_dict(fields.budget)
      except (TypeError, ValueError) as error:
        raise errors.bad("budget", str(error)) from None
      self._check_metered(own, "budget")
      budget = budget.tightest(own)
    if fields.effort is not None:
      budget = scaled(budget, EFFORT_SHARE[fields.effort])
    for tokens in (fields.max_thinking_tokens, call.max_tokens):
      if tokens is not None:
        budget = budget.tightest(budget_lib.Budget(generated_tokens=tokens))
    return budget

  def _check_metered(self, budget: budget_lib.Budget, where: str) -> None:
    for name in budget.as_dict():
      if name not in self._metered:
        raise errors.bad(
          "budget",
          f"{where}.{name} cannot be kept: this server does not know what its "
          "hardware draws and costs (sampling.hardware)",
        )


def scaled(budget: budget_lib.Budget, share: float) -> budget_lib.Budget:
  """A share of every limit; counts are rounded down, to 1 at least."""
  limits = {}
  for name, limit in budget.as_dict().items():
    part = limit * share
    limits[name] = (
      max(min(1, limit), math.floor(part)) if name in costs.COUNTS else part
    )
  return budget_lib.Budget(**limits)


def _built(text: str) -> base.Decoder:
  if len(text) > _LONGEST_DECODER:
    raise errors.bad(
      "decoder",
      f"decoder has {len(text)} characters; expected up to {_LONGEST_DECODER}",
    )
  try:
    return decoder_text.build(text)
  except (ValueError, ArithmeticError, RecursionError) as error:
    raise errors.bad("decoder", str(error).splitlines()[0]) from None
