# SPDX-License-Identifier: Apache-2.0
"""What a written verification is worth: its verdict, or how sure it was.

A verification ends in yes or no. Its score is that verdict as 1 or 0, or the
probability that the model gave to yes where the verdict stands. A verification
without either is missing (None): it is not a no, and a probability of 0.0 is
not missing.

Reference:
  Zhang et al. (2024), Generative Verifiers: reward modeling as next-token
    prediction, arXiv:2408.15240.
"""

from collections.abc import Sequence
import math
import re

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import generation

HOW = ("text", "probability", "hybrid")
_ROWS = 64  # texts of one pass
_VERDICTS = (
  r"\(\s*yes\s*/\s*no\s*\)\s*\?\s*\**\s*(yes|no)\b",
  r"^####\s*(yes|no)\s*$",
  r"\b(?:verdict|final answer)\s*(?:is)?\s*:?\s*\**\s*(yes|no)\b",
  r"^\W*(yes|no)\W*$",
)
_PATTERNS = tuple(
  re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in _VERDICTS
)


def parse(text: str) -> bool | None:
  """The verdict in a verification's text; None if it has none.

  Tried in turn, the last match of each counting: "(Yes/No)? X", a line
  "#### X", "verdict: X", and a line that is X alone.
  """
  for pattern in _PATTERNS:
    found = pattern.findall(text)
    if found:
      return found[-1].lower() == "yes"
  return None


def score(
  text: str,
  yes: float | None = None,
  no: float | None = None,
  *,
  how: str = "hybrid",
) -> float | None:
  """Score of one verification, in [0, 1]; None if it is missing.

  Args:
    text: the verification.
    yes: probability of yes at the verdict; None if it is not known.
    no: probability of no there; None if it is not known.
    how: "text" takes the verdict, "probability" that of yes (or one less that
      of no, where only that is known), "hybrid" the probability where it is
      known and the verdict where not.

  Raises:
    ValueError: if `how` is unknown, or a probability is out of [0, 1].
  """
  if how not in HOW:
    raise ValueError(f"how={how!r}, expected one of {', '.join(HOW)}")
  for name, value in (("yes", yes), ("no", no)):
    if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
      raise ValueError(f"p({name}) is {value}, expected 0..1 or None")
  if how != "text":
    if yes is not None:
      return float(yes)
    if no is not None:
      return 1.0 - float(no)
    if how == "probability":
      return None
  said = parse(text)
  return None if said is None else float(said)


class VerdictScorer:
  """Probabilities of yes and no after given texts, in batched passes.

  Attributes:
    judge: the language model.
  """

  def __init__(self, judge: bundle_lib.Bundle, yes: int, no: int):
    """A scorer.

    Args:
      judge: the language model.
      yes: id of the verdict token that accepts.
      no: id of the one that refuses.

    Raises:
      ValueError: if the bundle is no language model, or an id is out of its
        vocabulary.
    """
    bundle_lib.check_pair(judge, None)
    for name, token in (("yes", yes), ("no", no)):
      if not 0 <= token < judge.config.vocab_size:
        raise ValueError(
          f"{name}={token}, expected an id below {judge.config.vocab_size}"
        )
    self.judge = judge
    self._ids = jnp.array([yes, no])
    self._pass = jax.jit(self._traced_pass)

  def probabilities(
    self, texts: Sequence[Sequence[int]]
  ) -> Float[np.ndarray, "N 2"]:
    """Probabilities of yes and of no as the token that follows each text.

    Args:
      texts: token ids; what the verdict follows.

    Raises:
      ValueError: if a text is empty.
    """
    if any(not len(text) for text in texts):
      raise ValueError("a text is empty; expected at least one token")
    out = np.zeros((len(texts), 2), np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for start in range(0, len(order), _ROWS):
      part = order[start : start + _ROWS]
      width = generation.bucket(len(texts[part[-1]]))
      ids = np.zeros((_ROWS, width), np.int32)
      length = np.ones((_ROWS,), np.int32)
      for row, i in enumerate(part):
        ids[row, : len(texts[i])], length[row] = texts[i], len(texts[i])
      found = self._pass(self.judge.params, ids, length)
      out[part] = np.asarray(found)[: len(part)]
    return out

  def _traced_pass(self, params, ids, length):
    model = self.judge.model
    _, hidden = generation.prefill(model, params, ids, length)
    last = jnp.take_along_axis(hidden, (length - 1)[:, None, None], axis=1)
    logits = model.apply({"params": params}, last, method="logits")[:, 0]
    return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)[:, self._ids]
