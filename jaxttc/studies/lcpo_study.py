# SPDX-License-Identifier: Apache-2.0
"""Does a model keep the length that its prompt names, once rewarded for it?

One start, which has read prompts that name a length and texts that mostly do
not keep it, is trained by length-controlled policy optimisation under several
seeds (Aggarwal and Welleck 2025, arXiv:2503.04697). Start and trained models
answer the same test questions under every target, those that training never
drew apart.

A model that ignores its prompt can be near all targets by always writing one
length; the best such length, chosen with hindsight, stands beside.
"""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc import page, results, simulation
from jaxttc.evaluation import length_control
from jaxttc.inference import bundle, rollouts
from jaxttc.tasks import digit_sums, length_prompts
from jaxttc.training import rollout_recipes, thinking


@dataclasses.dataclass(kw_only=True)
class LcpoRecipe:
  """What is trained and asked.

  Attributes:
    arm: the training; of its `task`, `unseen` are the targets that are told
      apart. Its seed is replaced.
    seeds: of the training.
    questions: of the test split, each asked under all targets.
    sample_seed: of what is sampled for the test.
  """

  arm: rollout_recipes.RolloutRecipe
  seeds: tuple[int, ...] = (0,)
  questions: int = 40
  sample_seed: int = 1000

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be."""
    self.arm.validate()
    if not isinstance(self.arm.task, length_prompts.TargetedSums):
      raise ValueError("arm.task: expected length_prompts.TargetedSums")
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise ValueError(f"seeds {self.seeds}: expected different ones")
    least, most = self.arm.task.targets
    inside = [n for n in self.arm.task.unseen if least <= n <= most]
    if not inside or len(self.arm.task.drawn) < 2:
      raise ValueError(
        f"arm.task.unseen={self.arm.task.unseen}: expected some of "
        f"{least}..{most}, and two others left at least"
      )
    base = self.arm.base
    if isinstance(base, thinking.ThinkingModelRecipe):
      met = set(base.mix.targets) & set(self.arm.task.unseen)
      if met:
        raise ValueError(
          f"arm.base.mix.targets hold {sorted(met)}, which are unseen"
        )
    if self.questions < 1:
      raise ValueError(f"questions is {self.questions}; expected >= 1")


def run(
  recipe: LcpoRecipe, workdir: str | os.PathLike[str]
) -> list[dict[str, Any]]:
  """Trains, or takes up what is there, and asks.

  Returns:
    A row of each model, question and target: `seed` (None for the start),
    `target` N, `tokens` n, `right`, `finished`, `unseen`.

  Raises:
    ValueError: if the recipe cannot be, or the folder holds another's.
  """
  recipe.validate()
  folder = pathlib.Path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  start = folder / "start.safetensors"
  policy = recipe.arm.policy(str(folder))
  bundle.save(str(start), policy)
  rows = _asked(recipe, policy, policy.params, None)
  for seed in recipe.seeds:
    arm = dataclasses.replace(
      recipe.arm,
      start=str(start),
      base=None,
      train=dataclasses.replace(recipe.arm.train, seed=seed),
    )
    params = arm.run(str(folder / f"seed_{seed}"))
    rows += _asked(recipe, policy, params, seed)
  return rows


def _asked(recipe, policy, params, seed) -> list[dict[str, Any]]:
  """All test questions under all targets, one sampled response each."""
  task, drawn = recipe.arm.task, recipe.arm.rollouts
  least, most = task.targets
  targets = list(range(least, most + 1))
  # Questions of the test split without their targets, then with each.
  plain = dict.fromkeys(
    p.meta["digits"]
    for p in task.problems(recipe.questions, "test", recipe.sample_seed)
  )
  problems = [
    digit_sums.asked(digit_sums.problem(digits), target)
    for digits in plain
    for target in targets
  ]
  prompts = length_prompts.prompts(problems, policy)
  which = np.arange(len(problems), dtype=np.int32)
  keys = rollouts.row_keys(
    jax.random.key(recipe.sample_seed),
    jnp.asarray(which),
    jnp.zeros_like(which),
  )
  sampled = jax.jit(
    lambda params, table: rollouts.sample(
      policy.model,
      params,
      table,
      jnp.asarray(which),
      keys,
      policy.stop_rule,
      drawn.sampler,
      columns=drawn.max_tokens,
    )
  )(
    params,
    rollouts.Prompts(jnp.asarray(prompts.tokens), jnp.asarray(prompts.length)),
  )
  finished = np.asarray(sampled.finished)
  right = np.where(
    finished, prompts.grade(which, np.asarray(sampled.tokens)), 0
  )
  return [
    {
      "seed": seed,
      "target": int(target),
      "tokens": int(tokens),
      "right": bool(ok),
      "finished": bool(ended),
      "unseen": int(target) in task.unseen,
    }
    for target, tokens, ok, ended in zip(
      prompts.target, np.asarray(sampled.length), right, finished, strict=True
    )
  ]


def slope(targets: np.ndarray, tokens: np.ndarray) -> float:
  """Least-squares slope of lengths n over targets N."""
  return float(np.polyfit(targets, tokens, 1)[0])


def slope_within_tens(targets: np.ndarray, tokens: np.ndarray) -> float:
  """The same among targets of equal tens: 0 if only these are read."""
  tens = targets // 10
  aims, found = (
    x - np.array([x[tens == ten].mean() for ten in tens])
    for x in (targets, tokens)
  )
  return float((aims * found).sum() / max((aims**2).sum(), 1.0))


def best_constant(targets: np.ndarray) -> float:
  """Mean |n - N| / N of the one length n that is nearest to all targets."""
  lengths = np.unique(targets)[:, None]
  return float((np.abs(lengths - targets) / targets).mean(1).min())


def _figures(rows) -> dict[str, float]:
  """Of one model, on some targets."""
  targets = np.array([row["target"] for row in rows])
  tokens = np.array([row["tokens"] for row in rows])
  cut = np.array([not row["finished"] for row in rows])
  kept = length_control.adherence(tokens, targets, cut)
  return {
    "deviation": kept.deviation,
    "error": kept.error,
    "cut": kept.forced,
    "slope": slope(targets, tokens),
    "slope_within_tens": slope_within_tens(targets, tokens),
    "accuracy": float(np.mean([row["right"] for row in rows])),
    "best_constant": best_constant(targets),
  }


def report(recipe: LcpoRecipe, rows: list[dict[str, Any]]) -> simulation.Study:
  """Figures, claims and the picture of a run."""

  def of(seed, unseen):
    return _figures(
      [r for r in rows if r["seed"] == seed and r["unseen"] == unseen]
    )

  kinds = {"trained": False, "unseen": True}
  before = {name: of(None, unseen) for name, unseen in kinds.items()}
  after = {
    name: [of(seed, unseen) for seed in recipe.seeds]
    for name, unseen in kinds.items()
  }
  claims = []
  for name in kinds:
    past = before[name]

    def values(key, found=after[name]):
      return np.array([one[key] for one in found])

    off = values("deviation")
    claims += [
      results.claim_over(
        f"deviation_fell_{name}", past["deviation"] / off, 3.0
      ),
      results.claim_over(f"slope_{name}", values("slope"), 0.8, ">"),
      results.claim_over(
        f"slope_within_tens_{name}", values("slope_within_tens")
      ),
      results.claim_over(f"deviation_{name}", off),
      results.Claim(f"deviation_before_{name}", past["deviation"]),
      results.Claim(f"slope_before_{name}", past["slope"]),
      results.Claim(
        f"deviation_of_best_constant_{name}", past["best_constant"]
      ),
      results.claim_over(
        f"points_of_accuracy_{name}",
        100 * (values("accuracy") - past["accuracy"]),
      ),
      results.claim_over(f"accuracy_{name}", values("accuracy")),
    ]
  lines = []
  for seed in (None, *recipe.seeds):
    mine = [row for row in rows if row["seed"] == seed]
    for target in sorted({row["target"] for row in mine}):
      here = [row for row in mine if row["target"] == target]
      tokens = np.array([row["tokens"] for row in here])
      lines.append(
        {
          "seed": seed,
          "target": target,
          "unseen": here[0]["unseen"],
          "tokens": float(tokens.mean()),
          "spread": float(tokens.std()),
          "accuracy": float(np.mean([row["right"] for row in here])),
        }
      )
  data = {"before": before, "after": after, "lines": lines}
  return simulation.Study(
    recipe.seeds, data, claims, lambda path: draw(data, path)
  )


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture: mean length, and right answers, by target.

  Args:
    data: as `report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(3.8)
    left, right = figure.subplots(1, 2)
    for seed in dict.fromkeys(row["seed"] for row in data["lines"]):
      mine = [row for row in data["lines"] if row["seed"] == seed]
      name = "before" if seed is None else f"seed {seed}"
      targets = [row["target"] for row in mine]
      (line,) = left.plot(targets, [row["tokens"] for row in mine], label=name)
      others = [row for row in mine if row["unseen"]]
      left.plot(
        [row["target"] for row in others],
        [row["tokens"] for row in others],
        "o",
        color=line.get_color(),
      )
      right.plot(targets, [row["accuracy"] for row in mine], label=name)
    left.plot(targets, targets, "k--", lw=1, label="as asked")
    left.set(xlabel="tokens asked for", ylabel="tokens written, mean")
    left.set_title("Dots: targets never trained on")
    left.legend(fontsize=8)
    right.set(xlabel="tokens asked for", ylabel="share of right answers")
    right.set_ylim(0, 1.03)
    page.save(figure, path)
