# SPDX-License-Identifier: Apache-2.0
"""A reward model as a gauge: the reward of a whole text, read in batches."""

from collections.abc import Sequence

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.verifiers import local_verifier


class RewardGauge:
  """What programs ask for rewards of texts (`runtime.programs.Measure`).

  Attributes:
    max_length: most tokens of a text.
    tariff: what reading a text costs: its tokens, and a call.
    metered: the fields of `Cost` that the tariff knows.
  """

  def __init__(
    self,
    verifier: bundle_lib.Bundle,
    *,
    hardware: str | None = None,
    groups: int = 8,
  ):
    """A gauge of a reward model.

    Args:
      verifier: the model; the reward is that of a text's last token.
      hardware: a name of the hardware table, to price joules and dollars.
      groups: texts read at once.

    Raises:
      ValueError: if the bundle is no reward model of this library's, or as
        `LocalVerifier`.
    """
    if verifier.step_format is not None:
      raise ValueError(
        "this reward model reads steps in a format of its own; expected one "
        "that reads plain text"
      )
    self._verifier = local_verifier.LocalVerifier(
      verifier, hardware=hardware, groups=groups, nodes=1
    )
    self._encode = verifier.tokenizer.encode_prompt
    self.max_length = verifier.config.max_length
    self.tariff = self._verifier.tariff
    self.metered = self._verifier.metered

  def encode(self, text: str) -> tuple[int, ...]:
    """Token ids of a text."""
    return tuple(self._encode(text))

  def measure(self, texts: Sequence[str]) -> list[float]:
    """Rewards of texts, in [0, 1].

    Raises:
      ValueError: if a text has fewer than two tokens.
    """
    found: list[float] = []
    groups = self._verifier.groups
    for start in range(0, len(texts), groups):
      found += self._read(texts[start : start + groups])
    return found

  def _read(self, texts: Sequence[str]) -> list[float]:
    tokens = [self.encode(text) for text in texts]
    for text, ids in zip(texts, tokens, strict=True):
      if len(ids) < 2:
        raise ValueError(f"expected a text of two tokens or more, got {text!r}")
    # All but the last token as a prompt, which is then a span: what is scored.
    self._verifier.open(
      {
        group: engine_lib.Prompt(text=text, tokens=ids[:-1])
        for group, (text, ids) in enumerate(zip(texts, tokens, strict=True))
      }
    )
    try:
      said = self._verifier.score(
        [
          engine_lib.Span(
            group=group,
            ticket=0,
            parent=0,
            text="",
            tokens=ids[-1:],
            finished=True,
          )
          for group, ids in enumerate(tokens)
        ]
      )
    finally:
      for group in range(len(texts)):
        self._verifier.close(group)
    return [
      one.reward if isinstance(one, engine_lib.Verdict) else float(one)
      for one in said
    ]
