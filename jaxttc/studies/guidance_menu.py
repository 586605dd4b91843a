# SPDX-License-Identifier: Apache-2.0
"""The policies that the guidance study compares, and their settings."""

from collections.abc import Mapping

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import guidance, thinking_policies
from jaxttc.predictors import length_predictor, remaining_length

_TOP_K = 16  # candidates; the model's own choices at a line start are two
# At 0 nothing is bent, which is best where no thought fits the budget.
_STRENGTHS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)
_PLAIN = "strength 1"
MODERATE = ("strength 2", "strength 4", "strength 8")
GUIDED = "guidance, line starts"
EVERY = "guidance, every token"
PLAIN = "guidance, strength 1"
NO_CAP = "guidance, strength 1, no cap"
EVERY_PLAIN = "guidance, every token, strength 1"
BINS = "guidance, discrete law"
BINS_PLAIN = "guidance, discrete law, strength 1"
BINS_EVERY_PLAIN = "guidance, discrete law, every token, strength 1"
UNFILTERED = "guidance, unfiltered"

Candidates = Mapping[str, thinking_policies.ThinkingPolicy]


def policies(
  policy: bundle_lib.Bundle,
  predictor: length_predictor.LengthPredictor,
  discrete: length_predictor.LengthPredictor,
  confidence: thinking_policies.Confidence,
) -> dict[str, Candidates]:
  """The policies with a budget, each with the settings to choose from.

  At every token, all candidates are believed: inside a line the model's one
  choice may be one of which the predictor is unsure.

  Args:
    policy: the language model.
    predictor: its length predictor.
    discrete: another, whose law is discrete.
    confidence: of early exits.
  """
  words = policy.tokenizer
  end, lines = words.end_think_id, guidance.line_tokens(words)
  answer, wait = words.id_of("####"), words.id_of("Wait")

  def guided(law, every_token=False, capped=True, strengths=_STRENGTHS):
    trust = None if every_token else remaining_length.TRUST
    return {
      f"strength {strength:g}": thinking_policies.guided(
        law.chance(policy, trust=trust),
        end=end,
        lines=lines,
        every_token=every_token,
        strength=strength,
        top_k=_TOP_K,
        capped=capped,
      )
      for strength in strengths
    }

  def plain(candidates):
    return {_PLAIN: candidates[_PLAIN]}

  exits = {
    f"from {threshold:g}": thinking_policies.early_exit(
      confidence,
      threshold=threshold,
      end=end,
      lines=lines,
      vocab_size=policy.config.vocab_size,
    )
    for threshold in (0.5, 0.9)
  }
  forced = {
    f"least {share:g}": thinking_policies.forced(
      end=end, wait=[wait], least_share=share, ignores=1
    )
    for share in (0.5, 1.0)
  }
  starts = guided(predictor)
  every = guided(predictor, every_token=True, strengths=_STRENGTHS[:5])
  bins = guided(discrete)
  return {
    "hard cap": {
      "end": thinking_policies.hard_cap(end=end),
      "end and marker": thinking_policies.hard_cap(
        end=end, close=[end, answer]
      ),
    },
    "budget forcing": forced,
    "prompt hint": {"terse": thinking_policies.hinted(end=end)},
    "early exit": exits,
    GUIDED: starts,
    EVERY: every,
    BINS: bins,
    PLAIN: plain(starts),
    NO_CAP: guided(predictor, capped=False, strengths=(1.0,)),
    EVERY_PLAIN: plain(every),
    BINS_PLAIN: plain(bins),
    BINS_EVERY_PLAIN: guided(discrete, every_token=True, strengths=(1.0,)),
  }
