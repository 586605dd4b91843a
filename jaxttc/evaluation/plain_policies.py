# SPDX-License-Identifier: Apache-2.0
"""A budget policy for models that no policy was fitted to.

It knows nothing of questions, so every problem gets the same share of the
budget for its first try. With a reward model a try is one solution; of several
tries the best rewarded answer is returned (best-of-n, drawn one by one).
Without one, a try votes until enough solutions agree (adaptive
self-consistency). An answer that its own search makes doubtful is asked for
again with what others left, the least sure first; a try that ended without an
answer is repeated with twice the share.

Of several models the first is asked first, and where its answer is doubtful
the next one is worth most: a cascade by confidence (Chen et al., 2023,
FrugalGPT, arXiv:2305.05176; there with a fitted scorer, here with rewards or
votes as they are).

What a further try is worth is a rule of thumb, and no forecast:
(1 - trust) / 2^(1 + t) after t tries of the model.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json

from jaxtyping import Float
import numpy as np
from scipy import special

from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs, transformer_flops
from jaxttc.decoders import base as decoders_base
from jaxttc.evaluation import (
  budget_policies,
  decoder_text,
  looks,
  served_models,
  solve_recipe,
)
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.tasks import problems as problems_lib

PLAIN = "plain"
_REWARDED, _VOTING = "best_of_n(n=1)", "adaptive_sc(n={})"
_VOTES = 16  # most of a try; of models before the last, a quarter
_SHARES = (1, 2)  # of the mean budget, that tries of a model may cost
_TOKENS = "generated_tokens"
# A language model and a reward model in this process, or wherever they are.
Engine = (
  tuple[bundle_lib.Bundle, bundle_lib.Bundle | None] | served_models.Served
)


@dataclasses.dataclass(frozen=True, eq=False)
class PlainPolicy:
  """An even split, whose remainder goes to doubtful answers; see the module.

  Attributes:
    arms: two a model, of one share and of two, in the order in which models
      are asked.
    each: the mean budget of a problem.
    flops: of a token of each arm's model; infinite if that is not known.
    style: how solutions are asked for, one of `tasks.problems.STYLES`.
    sampling: how tokens are drawn.
    sure: an answer of such a reward is let be, in (0, 1].
    settled: one of such votes, likewise.
    tries: most tries of a problem.
  """

  arms: tuple[budget_policies.Arm, ...]
  each: budget_lib.Budget
  flops: tuple[float, ...]
  style: str
  sampling: solve_recipe.SamplingOptions
  sure: float = 0.95
  settled: float = 0.8
  tries: int = 8

  @property
  def fingerprint(self) -> str:
    """Sixteen hex digits that tell apart any two policies."""
    content = json.dumps(dataclasses.asdict(self), sort_keys=True)
    return hashlib.sha256(f"{PLAIN} {content}".encode()).hexdigest()[:16]

  def check_fields(self, fields: Sequence[str]) -> None:
    """Refuses fields of which a problem has no share.

    Raises:
      ValueError: naming the field.
    """
    for name in fields:
      if name not in self.each.as_dict():
        raise ValueError(f"budget: the plain policy was made without {name}")

  def check_models(self, engines: Mapping[str, object]) -> None:
    """Any models will do that have the arms' names.

    Raises:
      ValueError: if an arm's model is missing.
    """
    for arm in self.arms:
      if arm.model not in engines:
        raise ValueError(
          f"policy: asks the model {arm.model!r}, got {sorted(engines)}"
        )

  def build(
    self, decoder: str
  ) -> tuple[decoders_base.Decoder, settings_lib.SearchSettings]:
    """A decoder of the policy, and how its tokens are drawn."""
    said = decoder_text.parse(decoder)
    return decoder_text.cached(decoder), self.sampling.build(said.temperature)

  def limits(self, arm: int, fields: Sequence[str]) -> budget_lib.Budget:
    """What a search of an arm is held to."""
    del fields
    share = _SHARES[arm % len(_SHARES)]
    held = {name: share * each for name, each in self.each.as_dict().items()}
    return budget_lib.Budget(**(held | {_TOKENS: self.arms[arm].cap}))

  def compose(
    self,
    problems: Sequence[problems_lib.Problem],
    fields: Sequence[str],
    decode: policies.Decode,
  ) -> tuple[budget_policies.Predicted, policies.Policy]:
    """What is expected of each arm, and the policy for `policies.Run`.

    Nothing is forecast: successes are NaN, and tokens what they are at most.

    Args:
      problems: those to be asked, at least one.
      fields: that the budget limits.
      decode: carries a wave out; its results are `runtime.SearchResult`s.
    """
    rows, count = len(problems), len(self.arms)
    caps = np.array([arm.cap for arm in self.arms])
    most = self._most(fields)
    expected = most.copy()
    if "flops" in fields:
      place = list(fields).index("flops")
      whole = np.array(self.flops) * self.sampling.max_tokens
      expected[:, place] = np.minimum(most[:, place], whole)
    # The first model first, and any problem like any other.
    score = np.tile(np.where(np.arange(count) == 0, 0.5, 0.0), (rows, 1))
    composed = policies.compose(
      most,
      caps,
      budget_policies.search_groups(self.arms),
      route=lambda _: policies.Forecast(score, np.tile(expected, (rows, 1, 1))),
      decode=decode,
      verify=self._verify,
    )
    return (
      budget_policies.Predicted(
        np.full((rows, count), np.nan), np.tile(caps.astype(float), (rows, 1))
      ),
      composed,
    )

  def _most(self, fields: Sequence[str]) -> Float[np.ndarray, "K F"]:
    """What arms can cost on the limited fields."""
    limits = [self.limits(i, fields).as_dict() for i in range(len(self.arms))]
    return np.array([[float(held[n]) for n in fields] for held in limits])

  def _verify(
    self,
    place: int,
    attempt: policies.Attempt,
    outcome: policies.Outcome,
    before: Sequence[policies.Tried],
  ) -> policies.Verdict:
    del place
    rewarded = self.build(self.arms[attempt.arm].decoder)[0].needs_reward
    trust = trusted(outcome.result, rewarded)
    gains = np.zeros(len(self.arms))
    best = max([trust, *(one.verdict.trust for one in before)])
    enough = self.sure if rewarded else self.settled
    if best >= enough or attempt.number + 1 >= self.tries:
      return policies.Verdict(trust, gains)
    asked = [one.attempt.arm // len(_SHARES) for one in before]
    asked.append(attempt.arm // len(_SHARES))
    for model in range(max(asked), len(self.arms) // len(_SHARES)):
      # No answer yet: the share was too small for the model.
      wide = trust == 0.0 and model == asked[-1]
      arm = model * len(_SHARES) + int(wide)
      gains[arm] = (1 - best) / 2 ** (1 + asked.count(model))
    return policies.Verdict(trust, gains)


def trusted(result: search_lib.SearchResult, rewarded: bool) -> float:
  """How far an answer is trusted, by what its search shows alone.

  Args:
    result: of the search.
    rewarded: whether a reward model scored its solutions.

  Returns:
    In [0, 1]: the reward of the answer; without rewards the chance that the
    answer of most votes is the model's commonest, P(p1 > p2) = 1 -
    I_{1/2}(n1 + 1, n2 + 1) (Aggarwal et al., 2023, arXiv:2305.11860). 0 if
    there is no answer.
  """
  seen = looks.look(result)
  if not seen.answered:
    return 0.0
  if rewarded:
    return float(np.clip(seen.reward, 0.0, 1.0))
  answers = result.tree.answer[result.tree.finished()]
  chosen = result.tree.answer[result.tree.chosen]
  first = int((answers == chosen).sum()) if chosen >= 0 else 0
  others = answers[(answers >= 0) & (answers != chosen)]
  second = int(np.bincount(others).max()) if others.size else 0
  return float(1.0 - special.betainc(first + 1.0, second + 1.0, 0.5))


def make(
  engines: Mapping[str, Engine],
  each: budget_lib.Budget,
  *,
  style: str,
  sampling: solve_recipe.SamplingOptions,
) -> PlainPolicy:
  """The plain policy of some models under a budget.

  Args:
    engines: by name, in the order in which they are to be asked: the cheapest
      first.
    each: the mean budget of a problem.
    style: how solutions are asked for.
    sampling: how tokens are drawn.

  Raises:
    ValueError: if there are no models, nothing is limited, or a limit of a
      problem is 0.
  """
  if not engines:
    raise ValueError("policy: expected at least one model")
  share = each.validate().as_dict()
  if not share:
    raise ValueError("budget: expected a limit, such as generated_tokens=80")
  for name, value in share.items():
    if not value > 0:
      unit = "a whole unit" if name in costs.COUNTS else "something"
      raise ValueError(
        f"budget: {name}={value:g} a problem; a plain policy splits the budget "
        f"evenly, so expected at least {unit} each"
      )
  arms, flops, last = [], [], list(engines)[-1]
  for name, engine in engines.items():
    votes = _VOTES if name == last else _VOTES // 4
    decoder, solutions = _REWARDED, 1
    if not _has_reward(engine):
      decoder, solutions = _VOTING.format(votes), votes
    most = solutions * sampling.max_tokens
    for times in _SHARES:
      cap = min(times * share.get(_TOKENS, most), most)
      arms.append(budget_policies.Arm(decoder, int(cap), name))
      flops.append(_flops(engine))
  return PlainPolicy(tuple(arms), each, tuple(flops), style, sampling)


def _has_reward(engine: Engine) -> bool:
  if isinstance(engine, served_models.Served):
    return engine.verifier is not None
  return engine[1] is not None


def _flops(engine: Engine) -> float:
  """Of a token; the policy's alone."""
  if isinstance(engine, served_models.Served):
    return np.inf
  return float(transformer_flops.token_flops(engine[0].shape()))
