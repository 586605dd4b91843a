# SPDX-License-Identifier: Apache-2.0
"""Finetuning on a policy's own best traces: STaR, and MRT's form of it.

Traces are sampled, and of every problem one that ends right is kept: the first,
or, by progress, the one of the least regret, which gained most while it was
short. The policy then imitates what was kept.

References:
  Zelikman et al. (2022), STaR, arXiv:2203.14465.
  Qu et al. (2025), Optimizing Test-Time Compute via Meta Reinforcement
  Fine-Tuning, arXiv:2503.07572 (MRT-STaR).
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
from jaxtyping import Int
import numpy as np

from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle
from jaxttc.models import transformer
from jaxttc.tasks import hidden_numbers, prompt_sets
from jaxttc.training import (
  language_model,
  loop,
  packing,
  prompt_files,
  recipe_parts,
  rollout_progress,
  stopped_traces,
  tuning_batches,
)

KEPT = ("right", "progress")


@dataclasses.dataclass(kw_only=True)
class FilteredRecipe:
  """Samples traces once, keeps the best, and finetunes on them.

  Attributes:
    start: the policy's file, or the name of one that ships.
    task: what is asked: generated problems, or those of files.
    problems: training problems.
    samples: traces a problem.
    max_tokens: longest trace.
    temperature: of the sampler.
    keep: which of a problem's right traces: "right", the first; "progress", the
      one of the least regret.
    progress: how answers are forced, to tell regret.
    train: length, rate and bookkeeping of the finetuning.
  """

  start: str
  task: (
    prompt_sets.ModularTask
    | hidden_numbers.HiddenTask
    | prompt_files.PromptFile
  )
  problems: int = 512
  samples: int = 8
  max_tokens: int = 64
  temperature: float = 1.0
  keep: str = "progress"
  progress: rollout_progress.ProgressConfig = dataclasses.field(
    default_factory=rollout_progress.ProgressConfig
  )
  train: loop.TrainConfig

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be."""
    for part in (self.task, self.progress, self.train):
      part.validate()
    if self.keep not in KEPT:
      raise ValueError(f"keep={self.keep!r} is not one of {', '.join(KEPT)}")
    for name in ("problems", "samples", "max_tokens"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    if not self.temperature > 0:
      raise ValueError(f"temperature must be positive, got {self.temperature}")
    if self.train.length <= self.max_tokens + 1:
      raise ValueError(
        f"train.length={self.train.length} leaves no room for a prompt before "
        f"max_tokens={self.max_tokens} and the end token"
      )

  def run(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> dict[str, Any]:
    """Samples, filters and finetunes; returns the parameters.

    `traces.json` of the workdir says what was sampled and kept. A run that is
    resumed samples the same traces again. A ledger gets the finetuning.

    Raises:
      ValueError: if the recipe cannot be, or no trace is right.
    """
    self.validate()
    policy = bundle.load(self.start)
    if policy.kind != "language_model":
      raise ValueError(
        f"start={self.start!r} holds a {policy.kind}, not a language_model"
      )
    prompts = self.task.prompt_set(
      "train",
      self.problems,
      self.train.seed,
      policy,
      width=self.train.length - self.max_tokens - 1,
      check_steps=False,
    )
    traces = self._traces(policy, prompts)
    kept = choose(traces, self.keep, self.max_tokens)
    if not kept.size:
      raise ValueError(
        f"none of {len(traces.which)} traces is right: there is nothing to keep"
      )
    folder = pathlib.Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    books = {
      "traces": len(traces.which),
      "right": float(traces.right.mean()),
      "kept": len(kept),
      "sampled_tokens": traces.spent,
    }
    (folder / "traces.json").write_text(json.dumps(books), encoding="utf-8")
    state = loop.fit(
      self.train,
      language_model.objective(
        transformer.Transformer(policy.config, **self.train.compute())
      ),
      lambda _: policy.params,
      tuning_batches.demonstration_batches(
        [_example(prompts, traces, row) for row in kept],
        self.train.batch_size,
        self.train.length,
        self.train.seed,
      ),
      workdir,
      tx=loop.optimizer(self.train, transformer.matrix_axes),
      mesh=mesh,
      meta=self.describe(),
      ledger=ledger,
    )
    return state.params

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("filtered", self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model: a file, or a directory if it began as one."""
    recipe_parts.export_tuned(self, params, path)

  def _traces(self, policy, prompts) -> stopped_traces.Traces:
    return stopped_traces.draw(
      policy,
      prompts,
      self.progress if self.keep == "progress" else None,
      samples=self.samples,
      columns=self.max_tokens,
      temperature=self.temperature,
      seed=self.train.seed,
    )


def choose(
  traces: stopped_traces.Traces, keep: str, longest: int
) -> Int[np.ndarray, " k"]:
  """Rows of the traces to imitate, one a problem that has a right one.

  Args:
    traces: sampled ones.
    keep: one of `KEPT`.
    longest: tokens up to which regret is told.
  """
  rows = np.flatnonzero(traces.right == 1)
  if keep == "progress" and rows.size:
    lost = traces.regret(np.array([float(longest)]))[:, 0]
    rows = rows[np.argsort(lost[rows], kind="stable")]
  _, first = np.unique(traces.which[rows], return_index=True)
  return rows[first]


def _example(prompts, traces, row) -> packing.Example:
  which = traces.which[row]
  head = prompts.tokens[which, : prompts.length[which]].tolist()
  written = traces.written[row]
  tail = [*written[written >= 0].tolist()]
  if tail[-1] != prompts.tokenizer.eos_id:
    tail.append(prompts.tokenizer.eos_id)
  return packing.Example(
    tokens=head + tail, weights=[0.0] * len(head) + [1.0] * len(tail)
  )
