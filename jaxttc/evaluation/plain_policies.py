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

It is a composed policy (`composed_policies`) whose arms are chosen here; what a
further try is worth is told there (`verify_stages.doubt`).
"""

from collections.abc import Mapping

import numpy as np

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs, transformer_flops
from jaxttc.evaluation import (
  budget_policies,
  composed_policies,
  served_models,
  solve_recipe,
)

PLAIN = "plain"
_REWARDED, _VOTING = "best_of_n(n=1)", "adaptive_sc(n={})"
_VOTES = 16  # most of a try; of models before the last, a quarter
_SHARES = (1, 2)  # of the mean budget, that tries of a model may cost
_TOKENS = "generated_tokens"


def make(
  engines: Mapping[str, served_models.Engine],
  each: budget_lib.Budget,
  *,
  style: str,
  sampling: solve_recipe.SamplingOptions,
) -> composed_policies.ComposedPolicy:
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
  count = len(_SHARES)
  return composed_policies.ComposedPolicy(
    tuple(arms),
    each,
    style,
    sampling,
    ranks=tuple(place // count for place in range(len(arms))),
    shares=tuple(map(float, _SHARES)) * len(engines),
    flops=tuple(flops),
  )


def _has_reward(engine: served_models.Engine) -> bool:
  if isinstance(engine, served_models.Served):
    return engine.verifier is not None
  return engine[1] is not None


def _flops(engine: served_models.Engine) -> float:
  """Of a token; the policy's alone."""
  if isinstance(engine, served_models.Served):
    return np.inf
  return float(transformer_flops.token_flops(engine[0].shape()))
