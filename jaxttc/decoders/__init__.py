# SPDX-License-Identifier: Apache-2.0
"""Search over partial solutions: pure (init, ask, tell, answer) quadruples.

`base` says what a decoder is, `tree` what it grows, `registry` lists the
strategies by name. Each strategy's module holds its factory:

    decoder = decoders.make("astar", {"children": 4})
    decoder = decoders.beam.prm_beam(num_survivors=4, num_expansions=4)
"""

from jaxttc.decoders import (
  astar,
  base,
  beam,
  finishing,
  gibbs,
  particle,
  rebase,
  registry,
  resampling,
  sampling,
  tree,
  voting,
)
from jaxttc.decoders.base import (
  Answer,
  Decoder,
  Expansion,
  Outcome,
  Root,
  SearchShape,
  Until,
)
from jaxttc.decoders.finishing import with_finish
from jaxttc.decoders.registry import make, names

__all__ = [
  "Answer",
  "Decoder",
  "Expansion",
  "Outcome",
  "Root",
  "SearchShape",
  "Until",
  "astar",
  "base",
  "beam",
  "finishing",
  "gibbs",
  "make",
  "names",
  "particle",
  "rebase",
  "registry",
  "resampling",
  "sampling",
  "tree",
  "voting",
  "with_finish",
]
