# SPDX-License-Identifier: Apache-2.0
"""Data that routers learn from: tables of scores and costs, and fair splits."""

from jaxttc.tasks.routing import question_kinds
from jaxttc.tasks.routing.latent_skill import LatentSkill
from jaxttc.tasks.routing.loading import load
from jaxttc.tasks.routing.readers import (
  load_long,
  load_scores,
  load_solutions,
  parameters,
)
from jaxttc.tasks.routing.splits import (
  crossings,
  folds,
  left_out,
  near_duplicate_groups,
)
from jaxttc.tasks.routing.table import RoutingTable
from jaxttc.tasks.routing.wide_files import (
  Battles,
  load_arena,
  load_routellm,
  load_routerbench,
)

__all__ = (
  "Battles",
  "LatentSkill",
  "RoutingTable",
  "crossings",
  "folds",
  "left_out",
  "load",
  "load_arena",
  "load_long",
  "load_routellm",
  "load_routerbench",
  "load_scores",
  "load_solutions",
  "near_duplicate_groups",
  "parameters",
  "question_kinds",
)
