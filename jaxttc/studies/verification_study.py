# SPDX-License-Identifier: Apache-2.0
"""Samples pools of solutions and of written verifications, resumably.

Solutions are sampled by the policy and verified by the generative verifier; a
line a problem is kept of each, so a run that was stopped goes on where it was.
The same verifier's bare verdicts, without any derivation before them, are the
control. Nothing is fitted or chosen here.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import os
import pathlib
import shutil
from typing import NamedTuple

import numpy as np
from rich import progress

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base, voting
from jaxttc.evaluation import verification_pools
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers
from jaxttc.runtime import search
from jaxttc.runtime import settings as settings_lib
from jaxttc.studies import (
  verification_controls,
  verification_lines,
  verification_recipe,
)
from jaxttc.tasks import arithmetic, verifications
from jaxttc.tasks import problems as problems_lib

FAMILY = "modular"  # whose solutions the verifier was trained on
_SOLUTIONS = "solutions.jsonl"
_PROMPT_TOKENS = 128  # room for a problem, and for its solution behind it


class Checked(NamedTuple):
  """Verifications of one style.

  Attributes:
    pool: scores and tokens.
    read: mean tokens that a verifier reads first.
  """

  pool: verification_pools.VerificationPool
  read: float


class Found(NamedTuple):
  """All that a study samples.

  Attributes:
    solutions: the whole pool, n a problem.
    verified: the first solutions of each problem, those that are verified.
    checked: verifications of them, by style.
    bare: f64[P, verified], probability of yes without a derivation.
    read: f64[P, verified], reward of the last step by the model that reads.
  """

  solutions: verification_pools.SolutionPool
  verified: verification_pools.SolutionPool
  checked: dict[str, Checked]
  bare: np.ndarray
  read: np.ndarray


def run(
  recipe: verification_recipe.StudyRecipe, workdir: str | os.PathLike[str]
) -> Found:
  """Samples what is not there yet, and returns everything.

  Args:
    recipe: what to sample.
    workdir: where pools are kept; made if absent.

  Raises:
    ValueError: if the recipe cannot be, the folder holds pools of another
      one, or a file in it is damaged.
  """
  recipe.check()
  policy = bundle_lib.load(recipe.policy)
  judge = bundle_lib.load(recipe.verifier)
  bundle_lib.check_pair(judge, None)
  files = verification_lines.Files(pathlib.Path(workdir), recipe)
  problems = [
    arithmetic.problem(
      i,
      family=FAMILY,
      steps=recipe.steps[i % len(recipe.steps)],
      split="test",
      seed=recipe.seed,
    )
    for i in range(recipe.problems)
  ]
  texts = _solutions(recipe, policy, problems, files)
  whole = _pool(recipe, policy, problems, texts)
  first = dataclasses.replace(
    whole,
    answers=whole.answers[:, : recipe.verified],
    correct=whole.correct[:, : recipe.verified],
    tokens=whole.tokens[:, : recipe.verified],
  )
  shown = [own[: recipe.verified] for own in texts]
  checked = {
    style: _verifications(recipe, judge, problems, shown, style, files)
    for style in recipe.checks
  }
  bare = verification_controls.bare_verdicts(recipe, judge, problems, shown)
  read = verification_controls.last_rewards(recipe, problems, shown)
  return Found(whole, first, checked, bare, read)


def run_all(
  recipe: verification_recipe.StudyRecipe, workdir: str | os.PathLike[str]
) -> dict[str, Found]:
  """As `run`, with each verifier in turn, on the same solutions.

  Args:
    recipe: what to sample.
    workdir: where pools are kept; those of the further verifiers in folders of
      their names.

  Returns:
    By the verifiers' names, the recipe's own first.

  Raises:
    ValueError: as `run`, or if a verifier cannot be read; that is seen before
      anything is sampled.
  """
  recipe.check()
  for name in recipe.more_verifiers:
    bundle_lib.check_pair(bundle_lib.load(name), None)
  folder = pathlib.Path(workdir)
  found = {recipe.verifier: run(recipe, folder)}
  for name in recipe.more_verifiers:
    own = folder / pathlib.Path(name).stem
    own.mkdir(exist_ok=True)
    shutil.copyfile(folder / _SOLUTIONS, own / _SOLUTIONS)
    other = dataclasses.replace(recipe, verifier=name, more_verifiers=())
    found[name] = run(other, own)
  return found


def _solutions(recipe, policy, problems, files) -> list[list[str | None]]:
  """n solutions a problem; None for one that was not finished in time."""
  name = _SOLUTIONS
  done = files.read(name)
  left = [p for p in problems if p.id not in done]
  for part in _chunks(left, recipe.chunk, "sampling solutions"):
    sampled = _sample(
      policy,
      [problems_lib.prompt(p, recipe.style) for p in part],
      [p.id for p in part],
      n=recipe.solutions,
      temperature=recipe.temperature,
      max_tokens=recipe.max_tokens,
      seed=recipe.seed,
      batch=recipe.chunk,
    )
    rows = [
      {"id": p.id, "texts": texts}
      for p, texts in zip(part, sampled, strict=True)
    ]
    files.add(name, rows)
    done |= {row["id"]: row for row in rows}
  return [done[p.id]["texts"] for p in problems]


def _verifications(recipe, judge, problems, texts, style, files) -> Checked:
  """Vmax verifications of each solution that has an end."""
  name = f"verifications_{style}.jsonl"
  done = files.read(name)
  known = dict(zip((p.id for p in problems), texts, strict=True))
  left = [p for p in problems if p.id not in done]
  encode = judge.tokenizer.encode
  for part in _chunks(left, recipe.chunk, f"sampling {style} verifications"):
    places = [
      (row, column)
      for row, p in enumerate(part)
      for column, text in enumerate(known[p.id])
      if text is not None
    ]
    asked = [
      _asked(recipe, part[row], known[part[row].id][column], style)
      for row, column in places
    ]
    written = _sample(
      judge,
      asked,
      [f"{part[row].id}-{style}-{column}" for row, column in places],
      n=recipe.verifications,
      temperature=recipe.verifier_temperature,
      max_tokens=recipe.max_verification_tokens,
      seed=recipe.seed + 1,
      batch=64,
    )
    shape = (len(part), recipe.verified, recipe.verifications)
    said, size = np.full(shape, -1, int), np.zeros(shape, int)
    for (row, column), own in zip(places, written, strict=True):
      for v, text in enumerate(own):
        verdict = None if text is None else verifications.verdict(text)
        said[row, column, v] = -1 if verdict is None else int(verdict)
        size[row, column, v] = (
          recipe.max_verification_tokens if text is None else len(encode(text))
        )
    reads = np.zeros(len(part))
    for (row, _), text in zip(places, asked, strict=True):
      reads[row] += len(encode(text)) + 1
    rows = [
      {
        "id": p.id,
        "verdicts": said[i].tolist(),
        "tokens": size[i].tolist(),
        "read": float(reads[i]),
      }
      for i, p in enumerate(part)
    ]
    files.add(name, rows)
    done |= {row["id"]: row for row in rows}
  found = [done[p.id] for p in problems]
  scores = np.array([row["verdicts"] for row in found], np.float64)
  ended = sum(text is not None for own in texts for text in own)
  pool = verification_pools.VerificationPool(
    ids=tuple(p.id for p in problems),
    scores=np.where(scores < 0, np.nan, scores),
    tokens=np.array([row["tokens"] for row in found]),
  )
  return Checked(pool, sum(row["read"] for row in found) / max(ended, 1))


def _asked(recipe, problem, text: str, style: str) -> str:
  solved = problems_lib.prompt(problem, recipe.style)
  return verifications.prompt(solved, text, style)


@functools.cache
def _all(n: int) -> base.Decoder:
  """n samples; one object, since what is compiled is kept by it."""
  return voting.self_consistency(n=n)


def _sample(
  policy: bundle_lib.Bundle,
  prompts: Sequence[str],
  names: Sequence[str],
  *,
  n: int,
  temperature: float,
  max_tokens: int,
  seed: int,
  batch: int,
) -> list[list[str | None]]:
  """n samples a prompt, in order; None for those without an end."""
  if not prompts:
    return []
  settings = settings_lib.SearchSettings(
    sampler=controllers.Sampler(temperature=temperature),
    step_tokens=1,  # solutions and verifications are sampled whole
    max_tokens=max_tokens,
    prompt_tokens=_PROMPT_TOKENS,
  )
  results = search.solve(
    prompts,
    names,
    policy,
    None,
    _all(n),
    budget=budget_lib.Budget(),
    settings=settings,
    seed=seed,
    batch=batch,
  )
  samples = []
  for result in results:
    tree = result.tree
    texts: list[str | None] = [tree.completion(i) for i in tree.finished()]
    samples.append(texts + [None] * (n - len(texts)))
  return samples


def _pool(recipe, policy, problems, texts) -> verification_pools.SolutionPool:
  """Solutions as classes of answers; equal texts of answers are one class."""
  shape = (len(problems), recipe.solutions)
  answers = np.full(shape, -1)
  correct, tokens = np.zeros(shape, bool), np.full(shape, recipe.max_tokens)
  for row, (problem, own) in enumerate(zip(problems, texts, strict=True)):
    classes: dict[str, int] = {}
    for column, text in enumerate(own):
      if text is None:
        continue
      tokens[row, column] = len(policy.tokenizer.encode(text))
      answer = problems_lib.find_answer(text)
      if answer is not None:
        answers[row, column] = classes.setdefault(answer, len(classes))
        correct[row, column] = arithmetic.is_correct(problem, text)
  return verification_pools.SolutionPool(
    ids=tuple(p.id for p in problems),
    answers=answers,
    correct=correct,
    tokens=tokens,
  )


def _chunks(items: list, size: int, label: str) -> Iterator[list]:
  """Problems in order, so that those done are the first ones; like with like.

  Inside a chunk by difficulty: a batch is as slow as its longest sample.
  """
  starts = range(0, len(items), size)
  for start in progress.track(starts, label, disable=not items):
    yield sorted(items[start : start + size], key=lambda p: p.steps)
