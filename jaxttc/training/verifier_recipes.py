# SPDX-License-Identifier: Apache-2.0
"""A recipe: a language model learns to write verifications of its own work."""

from collections.abc import Callable, Sequence
import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import transformer
from jaxttc.tasks import arithmetic, modular, verifications
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import (
  language_model,
  loop,
  packing,
  process_reward,
  recipe_parts,
)


@dataclasses.dataclass(kw_only=True)
class GenerativeVerifierRecipe:
  """Goes on training a policy, on gold verifications of its own solutions.

  Attributes:
    policy: who solves, and whose weights training starts from: a file, or the
      name of a model that ships.
    shares: weights of the styles of `verifications.STYLES`, in that order.
    problems: how many training problems the policy solves.
    held_out: how many test problems, for the figures of each evaluation.
    samples: its solutions a problem.
    style: the style that solutions are asked for.
    temperature: at which they are sampled.
    max_tokens: longer solutions are left out.
    train: length, rate and bookkeeping of the run.
  """

  policy: str = "arithmetic_lm"
  shares: tuple[float, ...] = (0.6, 0.25, 0.15)
  problems: int = 4096
  held_out: int = 128
  samples: int = 4
  style: str = "terse"
  temperature: float = 1.0
  max_tokens: int = 96
  train: loop.TrainConfig

  def run(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> dict[str, Any]:
    """Samples, writes verifications and trains; returns the parameters.

    Raises:
      ValueError: if the recipe cannot be.
    """
    self.validate()
    policy = bundle_lib.load(self.policy)
    bundle_lib.check_pair(policy, None)
    folder = pathlib.Path(workdir)
    batches, held_out = (
      self._batches(policy, folder / f"{split}.jsonl", split, count)
      for split, count in (("train", self.problems), ("test", self.held_out))
    )
    objective = language_model.objective(
      transformer.Transformer(policy.config, **self.train.compute())
    )
    return loop.fit(
      self.train,
      objective,
      lambda _: policy.params,
      batches,
      workdir,
      tx=loop.optimizer(self.train, transformer.matrix_axes),
      evaluate=recipe_parts.held_out(
        objective, [held_out(i) for i in range(4)]
      ),
      mesh=mesh,
      meta=self.describe(),
      ledger=ledger,
    ).params

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for name in ("problems", "held_out", "samples", "max_tokens"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    problems_lib.require_name(
      self.style, problems_lib.SOLUTION_STYLES, "solution style"
    )
    shares = tuple(map(float, self.shares))
    if (
      len(shares) != len(verifications.STYLES)
      or min(shares) < 0
      or sum(shares) <= 0
    ):
      raise ValueError(
        f"shares is {self.shares}, expected a weight for each of "
        f"{', '.join(verifications.STYLES)}, none negative, not all 0"
      )
    self.train.validate()

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("generative_verifier", self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model, with this recipe, as one .safetensors file."""
    policy = bundle_lib.load(self.policy)
    bundle_lib.save(
      path,
      dataclasses.replace(policy, params=params, recipe=self.describe()),
    )

  def _batches(self, policy, path, split, count):
    """Batches of verified solutions, which are sampled first."""
    problems = arithmetic.problems(
      count, family=modular.NAME, split=split, seed=self.train.seed
    )
    solutions = process_reward.sample_solutions(
      policy,
      problems,
      [self.style] * count,
      path,
      samples=self.samples,
      temperature=self.temperature,
      max_tokens=self.max_tokens,
      seed=self.train.seed,
    )
    return verification_batches(
      policy.tokenizer,
      {problems_lib.prompt(p, self.style): p for p in problems},
      solutions,
      np.asarray(self.shares, np.float64),
      self.train.batch_size,
      self.train.length,
      self.train.seed + (split == "test"),
    )


def verification_batches(
  tokenizer: tokenizer_lib.WordTokenizer,
  problems: dict[str, problems_lib.Problem],
  solutions: Sequence[process_reward.LabelledSolution],
  shares: np.ndarray,
  rows: int,
  length: int,
  seed: int,
) -> Callable[[int], packing.Packed]:
  """Batches of gold verifications of solutions drawn at random.

  Args:
    tokenizer: of the model.
    problems: the problem behind each solution's prompt.
    solutions: what is verified, at least one.
    shares: f64[3], weights of `verifications.STYLES`.
    rows: B.
    length: T, tokens a row.
    seed: of all draws.

  Returns:
    batch(step) -> `packing.Packed`, a pure function of the step. Only the
    verification's tokens are targets.

  Raises:
    ValueError: if there are no solutions; from a batch, if no verification is
      as short as `length`.
  """
  if not solutions:
    raise ValueError("there are no solutions to verify; expected at least one")

  def example(index: int, style: str) -> packing.Example:
    solution = solutions[index]
    return language_model.example(
      tokenizer,
      verifications.prompt(solution.prompt, solution.completion, style),
      verifications.write(
        problems[solution.prompt], solution.completion, style
      ),
    )

  def batch(step: int) -> packing.Packed:
    rng = np.random.default_rng((seed, step))
    drawn = rng.integers(len(solutions), size=64 * rows)
    styles = rng.choice(
      verifications.STYLES, size=drawn.size, p=shares / shares.sum()
    )
    packed = packing.pack(
      (example(int(i), str(s)) for i, s in zip(drawn, styles, strict=True)),
      rows,
      length,
    )
    if not packed.segments.any():
      raise ValueError(f"no verification fits train.length={length}")
    return packed

  return batch
