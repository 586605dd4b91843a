# SPDX-License-Identifier: Apache-2.0
"""Looks for overspends: random searches under random budgets.

The rule of the house is that no search ever spends more than its budget, on
any field. `compiled_audit` and `driven_audit` try to break it with budgets
from nothing to plenty on random fields, and report what they saw.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from jaxttc import decoders
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import driver
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib

# Known before they are spent. Seconds are measured, and not audited.
AUDITED = tuple(name for name in costs.FIELDS if name != "seconds")
_ZERO, _PLENTY = 0.1, 3.0  # chance of a limit of 0, largest over a typical one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
  """What a number of searches did with their budgets.

  Attributes:
    draws: searches run.
    limits: limited fields, over all draws.
    binding: draws that a budget ended.
    answered: draws with an answer.
    overspends: fields that were overrun, over all draws.
    worst: per field, the most that was spent above a limit, in the field's
      unit; at most 0 if it was never overrun. Fields never limited are
      absent.
  """

  draws: int
  limits: int
  binding: int
  answered: int
  overspends: int
  worst: dict[str, float]

  def __add__(self, other: "Audit") -> "Audit":
    both = [*self.worst.items(), *other.worst.items()]
    return Audit(
      draws=self.draws + other.draws,
      limits=self.limits + other.limits,
      binding=self.binding + other.binding,
      answered=self.answered + other.answered,
      overspends=self.overspends + other.overspends,
      worst={
        name: max(x for other_name, x in both if other_name == name)
        for name in dict(both)
      },
    )


def random_budget(
  rng: np.random.Generator,
  typical: costs.Cost,
  fields: Sequence[str] = AUDITED,
) -> budget_lib.Budget:
  """A budget on one to three random fields, from nothing to plenty.

  Args:
    rng: consumed.
    typical: what a search costs, about. A limit is 0 with chance 0.1, else
      log-uniform from a ten-thousandth of the typical cost to three times it;
      a field that costs nothing is limited to at most 3.
    fields: to choose from.
  """
  chosen = rng.choice(
    len(fields), size=rng.integers(1, min(3, len(fields)) + 1), replace=False
  )
  limits: dict[str, Any] = {}
  for name in (fields[i] for i in chosen):
    size = max(getattr(typical, name), 1) * _PLENTY
    limit = size * 10 ** rng.uniform(-4.5, 0) * (rng.random() >= _ZERO)
    limits[name] = int(limit) if name in costs.COUNTS else float(limit)
  return budget_lib.Budget(**limits)


def examine(
  results: Sequence[search_lib.SearchResult],
  budgets: Sequence[budget_lib.Budget],
) -> Audit:
  """Compares what searches spent with their budgets.

  Args:
    results: of the searches, in any order.
    budgets: by problem.
  """
  worst: dict[str, float] = {}
  limited = overspent = 0
  for result in results:
    for name, limit in budgets[result.problem].as_dict().items():
      if name == "seconds":
        continue
      over = float(getattr(result.cost, name) - limit)
      worst[name] = max(worst.get(name, over), over)
      limited, overspent = limited + 1, overspent + (over > 0)
  return Audit(
    draws=len(results),
    limits=limited,
    binding=sum(result.stop in costs.FIELDS for result in results),
    answered=sum(result.completion is not None for result in results),
    overspends=overspent,
    worst=worst,
  )


def compiled_audit(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle,
  name: str,
  config: Mapping[str, Any],
  settings: settings_lib.SearchSettings,
  *,
  draws: int,
  seed: int,
  batch: int = 256,
) -> Audit:
  """Audits one decoder in the compiled form, a budget a problem.

  Args:
    policy: the language model.
    verifier: the reward model.
    name: of the decoder.
    config: its factory's arguments.
    settings: sampling and sizes; with `hardware`, joules and dollars are
      limited too.
    draws: searches.
    seed: of problems, budgets and sampling.
    batch: searches in one program.
  """
  prompts, budgets = _drawn(policy, verifier, settings, draws, seed)
  results = search_lib.solve(
    prompts,
    [f"{name} {i}" for i in range(draws)],
    policy,
    verifier,
    decoders.make(name, config),
    budget=budgets,
    settings=settings,
    seed=seed,
    batch=batch,
  )
  return examine(list(results), budgets)


def driven_audit(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle,
  name: str,
  config: Mapping[str, Any],
  settings: settings_lib.SearchSettings,
  *,
  draws: int,
  seed: int,
  slots: int = 16,
) -> Audit:
  """Audits one decoder in the host-driven form; see `compiled_audit`."""
  prompts, budgets = _drawn(policy, verifier, settings, draws, seed)
  decoder = decoders.make(name, config)
  results = driver.drive(
    *driver.local_engines(policy, verifier, decoder, settings, slots=slots),
    decoder,
    prompts,
    [f"{name} {i}" for i in range(draws)],
    budget=budgets,
    settings=settings,
    seed=seed,
  )
  return examine(list(results), budgets)


def _drawn(policy, verifier, settings, draws, seed):
  """Sums to solve, of two to six terms, and a budget for each."""
  rng = np.random.default_rng(seed)
  prompts = [
    f"Solve {' + '.join(map(str, rng.integers(0, 10, rng.integers(2, 7))))} .\n"
    for _ in range(draws)
  ]
  prices = settings_lib.prices(policy, verifier, settings)
  typical = prices.root(12) + prices.child(settings.max_tokens // 2, 20) * 4
  fields = AUDITED
  if settings.hardware is None:
    fields = tuple(f for f in fields if f not in ("joules", "dollars"))
  budgets = [random_budget(rng, typical, fields) for _ in range(draws)]
  return prompts, budgets
