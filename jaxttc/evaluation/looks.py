# SPDX-License-Identifier: Apache-2.0
"""What a search shows of its answer, without knowing the right one."""

import numpy as np

from jaxttc.decoders import tree as tree_lib
from jaxttc.predictors import answer_trust
from jaxttc.runtime import search as search_lib

FIELDS = answer_trust.FIELDS


def look(result: search_lib.SearchResult) -> answer_trust.Look:
  """All that a cascade may go by: score, agreement, how many solutions."""
  tree, chosen = result.tree, result.tree.chosen
  whole = tree.status == tree_lib.Status.FINISHED
  count = int(whole.sum())
  if result.completion is None or chosen <= 0:
    return answer_trust.Look(0.0, 0.0, float(count), 0.0)
  agree = 0.0
  if tree.answer[chosen] >= 0 and count:
    same = whole & (tree.answer == tree.answer[chosen])
    agree = float(same.sum()) / count
  reward = float(np.nan_to_num(tree.reward[chosen]))
  return answer_trust.Look(reward, agree, float(count), 1.0)
