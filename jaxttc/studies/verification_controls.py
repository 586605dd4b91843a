# SPDX-License-Identifier: Apache-2.0
"""Verifiers that write nothing, the controls of the study of verifying."""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import generation
from jaxttc.models import transformer
from jaxttc.studies import verification_recipe
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import verifications
from jaxttc.verifiers import verdicts


def bare_verdicts(
  recipe: verification_recipe.StudyRecipe,
  judge: bundle_lib.Bundle,
  problems: Sequence[problems_lib.Problem],
  texts: Sequence[Sequence[str | None]],
) -> np.ndarray:
  """Probability of yes where no derivation comes first; 0 without an end.

  Args:
    recipe: of the study.
    judge: the generative verifier.
    problems: P of them.
    texts: solutions of each, the verified ones; None without an end.

  Returns:
    f64[P, verified].
  """
  tokenizer = judge.tokenizer
  scorer = verdicts.VerdictScorer(
    judge, *map(tokenizer.id_of, (verifications.YES, verifications.NO))
  )
  out = np.zeros((len(problems), recipe.verified))
  places = [
    (row, column)
    for row, own in enumerate(texts)
    for column, text in enumerate(own)
    if text is not None
  ]
  asked = [
    tokenizer.encode_prompt(
      verifications.prompt(
        problems_lib.prompt(problems[row], recipe.style),
        texts[row][column],
        "direct",
      )
      + problems_lib.ANSWER_MARKER
    )
    for row, column in places
  ]
  found = scorer.probabilities(asked)
  for place, (yes, no) in zip(places, found, strict=True):
    out[place] = yes / max(yes + no, 1e-9)
  return out


def last_rewards(
  recipe: verification_recipe.StudyRecipe,
  problems: Sequence[problems_lib.Problem],
  texts: Sequence[Sequence[str | None]],
) -> np.ndarray:
  """Reward of the last step, by the process-reward model; 0 without an end.

  Args:
    recipe: of the study.
    problems: P of them.
    texts: solutions of each, the verified ones; None without an end.

  Returns:
    f64[P, verified].

  Raises:
    ValueError: if the recipe's reader is no process-reward model.
  """
  bundle = bundle_lib.load(recipe.reader)
  if bundle.kind != "process_reward":
    raise ValueError(
      f"reader={recipe.reader!r} is a {bundle.kind}; expected process_reward"
    )
  out = np.zeros((len(problems), recipe.verified))
  for row, (problem, own) in enumerate(zip(problems, texts, strict=True)):
    solved = problems_lib.prompt(problem, recipe.style)
    ids = [
      bundle.tokenizer.encode_prompt(solved + (text or "\n")) for text in own
    ]
    width = generation.bucket(max(map(len, ids)))
    tokens = np.zeros((len(ids), width), np.int32)
    for column, one in enumerate(ids):
      tokens[column, : len(one)] = one
    length = np.array([len(one) for one in ids])
    rewards = _rewards(bundle.model, bundle.params, tokens, length)
    ended = np.array([text is not None for text in own])
    out[row] = np.where(ended, np.asarray(rewards), 0.0)
  return out


@functools.partial(jax.jit, static_argnums=0)
def _rewards(model, params, tokens, length):
  """f32[B], the probability that a text is right up to its last token."""
  place = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  segments = (place < length[:, None]).astype(jnp.int32)
  logits = transformer.forward(model, params, tokens, segments, place)
  last = jnp.take_along_axis(logits, length[:, None] - 1, axis=1)[:, 0]
  return jax.nn.sigmoid(last)
