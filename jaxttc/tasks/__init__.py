# SPDX-License-Identifier: Apache-2.0
"""Problems, generated arithmetic tasks, and the tokenizer that fits them.

`jaxttc.tasks.problems` is the module; the function that generates a list is
`jaxttc.tasks.arithmetic.problems`.
"""

from jaxttc.tasks.arithmetic import (
  FAMILIES,
  TrainingMix,
  check_steps,
  is_correct,
  problem,
  solution,
  training_example,
)
from jaxttc.tasks.pretrained_tokenizer import PretrainedTokenizer
from jaxttc.tasks.problems import STYLES, Problem, prompt
from jaxttc.tasks.tokenizer import WordTokenizer

__all__ = (
  "FAMILIES",
  "STYLES",
  "PretrainedTokenizer",
  "Problem",
  "TrainingMix",
  "WordTokenizer",
  "check_steps",
  "is_correct",
  "problem",
  "prompt",
  "solution",
  "training_example",
)
