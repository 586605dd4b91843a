# SPDX-License-Identifier: Apache-2.0
"""What a whole or partial solution is worth."""

from jaxttc.verifiers.answer_classes import AnswerClasses
from jaxttc.verifiers.answers import (
  GradeReport,
  canonical,
  equivalent,
  extract_answer,
  grade_batch,
)

__all__ = (
  "AnswerClasses",
  "GradeReport",
  "canonical",
  "equivalent",
  "extract_answer",
  "grade_batch",
)
