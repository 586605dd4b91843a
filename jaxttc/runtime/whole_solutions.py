# SPDX-License-Identifier: Apache-2.0
"""Which decoders a verifier of whole solutions serves."""

from jaxttc.decoders import base
from jaxttc.inference import bundle as bundle_lib


def why_not(decoder: base.Decoder, verifier: bundle_lib.Bundle | None) -> str:
  """Why a verifier cannot score what a decoder asks about; "" if it can.

  Args:
    decoder: the strategy.
    verifier: a reward model, which scores any prefix, or a generative
      verifier, which judges whole solutions only; None for neither.
  """
  if verifier is None or not verifier.writes_verdicts:
    return ""
  if not decoder.needs_reward or base.Until.STEP not in decoder.until:
    return ""
  return (
    "the decoder has partial solutions scored, and a generative verifier "
    "judges whole ones; give a process-reward model, or a decoder of whole "
    "solutions (best_of_n, weighted_best_of_n)"
  )
