# SPDX-License-Identifier: Apache-2.0
"""A budget policy for models that no policy was fitted to.

It knows nothing of questions, so all get the same first try, and what that
leaves goes to the answers that their own search makes doubtful, the least sure
first. With a reward model the first try is one greedy solution, and the next
are A*-decoding: most of what is easy needs no search, and what a greedy
solution costs is soon made up for. A server's model is asked for single
solutions instead, drawn one by one, each with the same share of the budget
(best-of-n). Without a reward model a try votes until enough solutions agree
(adaptive self-consistency), and one that ended without an answer gets twice the
share.

Of several models the first is asked first, and where its answer is doubtful
the next one is worth most: a cascade by confidence (Chen et al., 2023,
FrugalGPT, arXiv:2305.05176; there with a fitted scorer, here with rewards or
votes as they are).

It is a composed policy (`composed_policies`) whose arms are chosen here; what a
further try is worth is told there (`verify_stages.doubt`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs, transformer_flops
from jaxttc.solving import (
  budget_policies,
  composed_policies,
  served_models,
  solve_recipe,
)

PLAIN = "plain"
_DRAWN, _VOTING = "best_of_n(n=1)", "adaptive_sc(n={})"
# Chosen on problems of the training split; docs/policies.md says how.
_GREEDY = "best_of_n(n=1, temperature=0.0)"
_SEARCH = (
  "astar(children=1, reopen_penalty=0.4, f_tolerance=0.2, temperature=1.0)"
)
_SOLUTIONS = (3.0, 1.5)  # whole solutions that a search may cost
_VOTES = 16  # most of a try; of models before the last, a quarter
_SHARES = (1.0, 2.0)  # of the mean budget, that tries of a model may cost
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
  rows: list[_Row] = []
  for rank, (name, engine) in enumerate(engines.items()):
    last = rank == len(engines) - 1
    rows += _of_model(name, engine, rank, last, share, sampling.max_tokens)
  return composed_policies.ComposedPolicy(
    tuple(row.arm for row in rows),
    each,
    style,
    sampling,
    ranks=tuple(row.rank for row in rows),
    shares=tuple(row.share for row in rows),
    flops=tuple(_flops(engines[row.arm.model]) for row in rows),
  )


class _Row(NamedTuple):
  """An arm, its rank, and the share of other fields that it may cost."""

  arm: budget_policies.Arm
  rank: int
  share: float


def _of_model(name, engine, rank, last, share, longest) -> list[_Row]:
  """The arms of one model; `longest` is most tokens of a solution."""
  tokens = share.get(_TOKENS)
  if _scores_steps(engine):
    caps = [longest] if tokens is None else [longest, min(tokens, longest)]
    rows = [
      _Row(budget_policies.Arm(_GREEDY, int(cap), name), rank, 1.0)
      for cap in dict.fromkeys(caps)
    ]
    if not last:  # the next model is worth more than a search of this one
      return rows
    caps = [times * longest for times in _SOLUTIONS]
    caps += [] if tokens is None else [min(tokens, caps[-1])]
    return rows + [
      _Row(budget_policies.Arm(_SEARCH, int(cap), name), rank + 1, 2.0)
      for cap in dict.fromkeys(caps)
    ]
  decoder, solutions = _DRAWN, 1
  if not _has_reward(engine):
    solutions = _VOTES if last else _VOTES // 4
    decoder = _VOTING.format(solutions)
  most = solutions * longest
  return [
    _Row(
      budget_policies.Arm(
        decoder,
        int(most if tokens is None else min(times * tokens, most)),
        name,
      ),
      rank,
      times,
    )
    for times in _SHARES
  ]


def _scores_steps(engine: served_models.Engine) -> bool:
  """Whether there is a reward model of this process, not one that writes."""
  if isinstance(engine, served_models.Served) or engine[1] is None:
    return False
  return not engine[1].writes_verdicts


def _has_reward(engine: served_models.Engine) -> bool:
  if isinstance(engine, served_models.Served):
    return engine.verifier is not None
  return engine[1] is not None


def _flops(engine: served_models.Engine) -> float:
  """Of a token; the policy's alone."""
  if isinstance(engine, served_models.Served):
    return np.inf
  return float(transformer_flops.token_flops(engine[0].shape()))
