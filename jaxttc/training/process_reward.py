# SPDX-License-Identifier: Apache-2.0
"""Process-reward training: which step of a solution goes wrong.

Solutions are sampled from the policy that the reward model will judge, and
every step is labelled by the task's checker: 1 while the solution is right so
far, 0 from its first error on (Lightman et al. 2023; Wang et al. 2024 label by
rollouts instead, for want of a checker). The trunk is a language model that
computes better than the policy, and stays as it is: what is trained are the
layers above it, which read how it expected each token, and the head.
"""

from collections.abc import Callable, Sequence
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich import progress as rich_progress

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import voting
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers
from jaxttc.models import reward_model, transformer
from jaxttc.runtime import search
from jaxttc.runtime import settings as settings_lib
from jaxttc.tasks import arithmetic
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import accumulation, language_model, packing


class LabelledSolution(NamedTuple):
  """A sampled solution and its steps' labels.

  Attributes:
    prompt: what the policy was given.
    completion: what it wrote, newline-ended steps.
    right: a label a step.
  """

  prompt: str
  completion: str
  right: list[bool]


def objective(
  model: reward_model.ProcessRewardModel, trunk: dict[str, Any]
) -> Callable:
  """Binary cross-entropy at step ends.

  Args:
    model: the reward model.
    trunk: parameters of its trunk, which are not trained.

  Returns:
    loss(params, batch, key) -> (f32[], metrics) on the parameters beside the
    trunk's and `packing.Packed` batches. Metrics: `loss` (nats a step),
    `accuracy` (share of steps on the right side of 1/2) and `weight` (steps).
  """

  def loss(params, batch: packing.Packed, key: jax.Array):
    del key
    reward = transformer.forward(
      model,
      params | {"trunk": trunk},
      batch.tokens,
      batch.segments,
      batch.positions,
    )
    judged = batch.labels >= 0
    nats = optax.sigmoid_binary_cross_entropy(
      reward, jnp.maximum(batch.labels, 0.0)
    )
    steps = jnp.maximum(judged.sum(), 1)
    mean = jnp.where(judged, nats, 0.0).sum() / steps
    agrees = judged & ((reward > 0) == (batch.labels > 0.5))
    return mean, {
      "loss": mean,
      "accuracy": agrees.sum() / steps,
      accumulation.WEIGHT: judged.sum().astype(jnp.float32),
    }

  return loss


def sample_solutions(
  policy: bundle_lib.Bundle,
  problems: Sequence[problems_lib.Problem],
  styles: Sequence[str],
  path: pathlib.Path,
  *,
  samples: int,
  temperature: float,
  max_tokens: int,
  seed: int,
  batch: int = 64,
) -> list[LabelledSolution]:
  """Samples and labels solutions, a JSON line each; resumes from the file.

  Args:
    policy: who solves.
    problems: what is solved.
    styles: the style asked for, a problem.
    path: where the lines go. Lines that are there are not sampled again.
    samples: solutions a problem.
    temperature: of sampling.
    max_tokens: most tokens of a solution; longer ones are left out.
    seed: of sampling.
    batch: problems sampled at once.

  Returns:
    All solutions, problem by problem.
  """
  rows = _read(path)
  done = {row["id"] for row in rows}
  left = [
    (p, s) for p, s in zip(problems, styles, strict=True) if p.id not in done
  ]
  # A batch is as slow as its longest solution: like with like.
  left.sort(key=lambda pair: (pair[1], pair[0].steps))
  settings = settings_lib.SearchSettings(
    sampler=controllers.Sampler(temperature=temperature),
    step_tokens=1,  # solutions are sampled whole
    max_tokens=max_tokens,
  )
  if left:
    path.parent.mkdir(parents=True, exist_ok=True)
    results = search.solve(
      [problems_lib.prompt(p, s) for p, s in left],
      [p.id for p, _ in left],
      policy,
      None,
      voting.self_consistency(n=samples),
      budget=budget_lib.Budget(),
      settings=settings,
      seed=seed,
      batch=batch,
    )
    with path.open("a", encoding="utf-8") as file:
      for result in rich_progress.track(
        results, "sampling solutions", total=len(left)
      ):
        problem, style = left[result.problem]
        rows.append(_labelled(problem, style, result))
        file.write(json.dumps(rows[-1]) + "\n")
  return [
    LabelledSolution(row["prompt"], text, right)
    for row in rows
    for text, right in zip(row["completions"], row["right"], strict=True)
  ]


def _labelled(problem, style, result) -> dict[str, Any]:
  texts = [result.tree.completion(n) for n in result.tree.finished()]
  return {
    "id": problem.id,
    "prompt": problems_lib.prompt(problem, style),
    "completions": texts,
    "right": [arithmetic.check_steps(problem, text) for text in texts],
  }


def _read(path: pathlib.Path) -> list[dict[str, Any]]:
  """The complete lines of a file; a torn last line is cut off."""
  if not path.exists():
    return []
  text = path.read_text(encoding="utf-8")
  whole = text[: text.rfind("\n") + 1]
  if whole != text:
    path.write_text(whole, encoding="utf-8")
  rows = []
  for number, line in enumerate(whole.splitlines(), 1):
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError as error:
      raise ValueError(
        f"{path}, line {number}: expected a JSON object of a sampled problem "
        f"({error.msg}); delete the file to sample anew"
      ) from None
  return rows


def example(
  tokenizer: tokenizer_lib.WordTokenizer, solution: LabelledSolution
) -> packing.Example:
  """A solution with its labels at the last token of each step."""
  plain = language_model.example(
    tokenizer, solution.prompt, solution.completion
  )
  labels = [-1.0] * len(plain.tokens)
  start = 1 + len(tokenizer.encode(solution.prompt))
  ends = [
    i
    for i, token in enumerate(plain.tokens)
    if i >= start and token == tokenizer.newline_id
  ]
  for end, right in zip(ends, solution.right, strict=False):
    labels[end] = float(right)
  return plain._replace(labels=labels)


def batches(
  tokenizer: tokenizer_lib.WordTokenizer,
  solutions: Sequence[LabelledSolution],
  rows: int,
  length: int,
  seed: int,
) -> Callable[[int], packing.Packed]:
  """Batches of solutions drawn at random; a pure function of the step."""

  def batch(step: int) -> packing.Packed:
    order = np.random.default_rng((seed, step))
    drawn = (
      example(tokenizer, solutions[i])
      for i in order.integers(len(solutions), size=64 * rows)
    )
    return packing.pack(drawn, rows, length)

  return batch
