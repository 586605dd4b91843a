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
import hashlib
import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich import progress

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base, voting
from jaxttc.evaluation import verification_pools
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, generation
from jaxttc.models import transformer
from jaxttc.runtime import search
from jaxttc.runtime import settings as settings_lib
from jaxttc.tasks import arithmetic, verifications
from jaxttc.tasks import problems as problems_lib
from jaxttc.verifiers import verdicts

FAMILY = "modular"  # whose solutions the verifier was trained on
_PROMPT_TOKENS = 128  # room for a problem, and for its solution behind it


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """What is sampled, and how it is compared.

  Attributes:
    policy: who solves: a file, or a model that ships.
    verifier: who verifies.
    reader: a process-reward model that reads solutions, for comparison.
    problems: held-out problems P.
    steps: their difficulties, in turn.
    seed: of problems, samples and resamples.
    style: the style that solutions are asked for.
    temperature: of solutions.
    solutions: n, sampled a problem, for votes.
    verified: of them, the first so many are verified.
    verifications: Vmax, of each.
    verifier_temperature: of verifications.
    max_tokens: of a solution; longer ones have no answer.
    max_verification_tokens: longer ones say nothing.
    checks: styles of verification, the first one the study's; the others are
      compared by what they can tell.
    chunk: problems sampled at once.
    grid: S of the surface; those above `verified` are left out.
    small_budget: up to which voting is said to lead.
    fit_budgets: budgets that the law of the best split is fitted on.
    test_budgets: larger ones that it is tested on.
    resamples: of problems.
  """

  policy: str = "arithmetic_lm"
  verifier: str = "arithmetic_verifier"
  reader: str = "arithmetic_prm"
  problems: int = 96
  steps: tuple[int, ...] = (6, 8, 10)
  seed: int = 23
  style: str = "terse"
  temperature: float = 1.0
  solutions: int = 64
  verified: int = 48
  verifications: int = 6
  verifier_temperature: float = 0.7
  max_tokens: int = 96
  max_verification_tokens: int = 160
  checks: tuple[str, ...] = ("verbose",)
  chunk: int = 24
  grid: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
  small_budget: float = 8.0
  fit_budgets: tuple[float, ...] = (8.0, 12.0, 16.0, 24.0, 32.0)
  test_budgets: tuple[float, ...] = (48.0, 64.0, 96.0, 128.0)
  resamples: int = 500

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for name in (
      "problems",
      "solutions",
      "verified",
      "verifications",
      "chunk",
      "resamples",
    ):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    if self.verified > self.solutions:
      raise ValueError(
        f"verified={self.verified} exceeds solutions={self.solutions}"
      )
    if self.problems < 4:
      raise ValueError("problems must be at least 4: splits are chosen on half")
    if not self.checks or not self.steps:
      raise ValueError("checks and steps must not be empty")
    for style in self.checks:
      problems_lib.require_name(
        style, verifications.STYLES[:2], "verification style"
      )
    if max(self.fit_budgets) >= min(self.test_budgets):
      raise ValueError(
        f"test_budgets={self.test_budgets} must all exceed "
        f"fit_budgets={self.fit_budgets}"
      )


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


def run(recipe: StudyRecipe, workdir: str | os.PathLike[str]) -> Found:
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
  files = _Files(pathlib.Path(workdir), recipe)
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
  bare = _bare_verdicts(recipe, judge, problems, shown)
  read = _last_rewards(recipe, problems, shown)
  return Found(whole, first, checked, bare, read)


def _solutions(recipe, policy, problems, files) -> list[list[str | None]]:
  """n solutions a problem; None for one that was not finished in time."""
  name = "solutions.jsonl"
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


def _bare_verdicts(recipe, judge, problems, texts) -> np.ndarray:
  """Probability of yes where no derivation comes first."""
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
      _asked(recipe, problems[row], texts[row][column], "direct")
      + problems_lib.ANSWER_MARKER
    )
    for row, column in places
  ]
  found = scorer.probabilities(asked)
  for place, (yes, no) in zip(places, found, strict=True):
    out[place] = yes / max(yes + no, 1e-9)
  return out


def _last_rewards(recipe, problems, texts) -> np.ndarray:
  """Reward of the last step, by the process-reward model; 0 without an end."""
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


class _Files:
  """Pools on disk, a JSON line a problem, of one recipe."""

  def __init__(self, folder: pathlib.Path, recipe: StudyRecipe):
    self._folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    mark, own = folder / "recipe.txt", _fingerprint(recipe)
    if mark.exists() and mark.read_text(encoding="utf-8") != own:
      raise ValueError(
        f"{folder}: holds pools of another recipe; expected an empty folder"
      )
    mark.write_text(own, encoding="utf-8")

  def read(self, name: str) -> dict[str, dict[str, Any]]:
    """Rows by id; a torn last line is cut off."""
    path = self._folder / name
    if not path.exists():
      return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
      path.write_text(whole, encoding="utf-8")
    rows = {}
    for number, line in enumerate(whole.splitlines(), 1):
      try:
        row = json.loads(line)
        rows[row["id"]] = row
      except (ValueError, KeyError, TypeError):
        raise ValueError(
          f"{path}, line {number}: expected a JSON object of a problem's "
          "samples; delete the file to sample anew"
        ) from None
    return rows

  def add(self, name: str, rows: list[dict[str, Any]]) -> None:
    with (self._folder / name).open("a", encoding="utf-8") as file:
      file.write("".join(json.dumps(row) + "\n" for row in rows))


def _fingerprint(recipe: StudyRecipe) -> str:
  """Changes with whatever changes a pool's samples.

  Not with the number of problems, or what only the report reads.
  """
  settings = dataclasses.asdict(recipe)
  for name in (
    "problems",
    "reader",
    "checks",
    "chunk",
    "grid",
    "small_budget",
    "fit_budgets",
    "test_budgets",
    "resamples",
  ):
    del settings[name]
  digest = hashlib.sha256(repr(sorted(settings.items())).encode())
  for name in (recipe.policy, recipe.verifier):
    bundle = bundle_lib.load(name)
    digest.update(json.dumps(bundle.recipe, sort_keys=True).encode())
  return digest.hexdigest()
