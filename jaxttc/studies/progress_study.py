# SPDX-License-Identifier: Apache-2.0
"""Rewarding progress against rewarding outcomes, where all is known.

A table of logits, a row an episode, says which candidate to test
(`tasks.elimination`). It is trained by policy gradient on sampled traces, with
one method a run; seeds and learning rates are mapped in one program.

*  outcome: GRPO on whether the final answer is right.
*  outcome, equal compute: the same, with as many traces more as the forced
   answers of the others cost; an episode and a forced answer cost one unit.
*  telescoped: progress credited to an episode and all before it.
*  progress: progress credited to its own episode (MRT). Success rates of forced
   answers are estimated by a few samples each.

Each method has the learning rate that is best for it on other seeds.
"""

from collections.abc import Mapping
import dataclasses
import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich import progress as rich_progress

from jaxttc import page, results, simulation
from jaxttc.evaluation import regret
from jaxttc.tasks import elimination
from jaxttc.training import episode_credit

METHODS = (
  "outcome",
  "outcome, equal compute",
  "telescoped",
  "progress",
)


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """The world and how tables are trained.

  Attributes:
    answers: candidates.
    ratio: of a candidate's prior to the one before.
    episodes: of a trace.
    queries: a step.
    rollouts: a query.
    branches: forced answers that estimate a success rate.
    alpha: weight of the bonus.
    steps: of training.
    rates: learning rates to choose from.
    seeds: reported.
    tuning_seeds: that learning rates are chosen on.
    evaluated: traces that a trained table is judged by.
    level: accuracy at which token efficiency is told.
    points: episodes at which regret is told.
  """

  answers: int = 8
  ratio: float = 0.8
  episodes: int = 12
  queries: int = 16
  rollouts: int = 16
  branches: int = 4
  alpha: float = 1.0
  steps: int = 400
  rates: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
  seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
  tuning_seeds: tuple[int, ...] = (100, 101, 102)
  evaluated: int = 20_000
  level: float = 0.9
  points: tuple[int, ...] = (2, 4, 8, 12)

  def check(self) -> None:
    """Raises ValueError if the recipe cannot be run."""
    elimination.geometric(self.answers, self.ratio, self.episodes)
    for name in ("queries", "branches", "steps", "evaluated"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")
    if self.rollouts < 2:
      raise ValueError(f"rollouts is {self.rollouts}; expected >= 2")
    if self.alpha < 0:
      raise ValueError(f"alpha is {self.alpha}; expected 0 or more")
    if set(self.seeds) & set(self.tuning_seeds):
      raise ValueError("seeds and tuning_seeds overlap; expected none in both")
    if not self.rates or not all(rate > 0 for rate in self.rates):
      raise ValueError(f"rates {self.rates}: expected positive ones")
    regret.normalised_regret(
      np.array([1.0]), np.array([1.0]), np.array(self.points, float)
    )


class Method(NamedTuple):
  """How a table is rewarded; static.

  Attributes:
    credit: of progress; "" for none.
    rollouts: traces a query.
  """

  credit: str
  rollouts: int


def methods(recipe: StudyRecipe) -> dict[str, Method]:
  """The methods by name."""
  plain = recipe.episodes + 1  # episodes, and one answer
  branched = recipe.episodes + recipe.branches * recipe.episodes
  more = round(recipe.rollouts * branched / plain)
  return {
    "outcome": Method("", recipe.rollouts),
    "outcome, equal compute": Method("", more),
    "telescoped": Method("telescoped", recipe.rollouts),
    "progress": Method("episode", recipe.rollouts),
  }


def step_gradient(
  recipe: StudyRecipe,
  method: Method,
  world: elimination.Elimination,
  table: jax.Array,
  key: jax.Array,
) -> jax.Array:
  """The sampled gradient of one step, f[J, K], to be added.

  Args:
    recipe: sizes.
    method: how traces are rewarded.
    world: the world.
    table: logits f[J, K].
    key: of all sampling.
  """
  right_key, trace_key, answer_key, branch_key = jax.random.split(key, 4)
  right = jax.random.categorical(
    right_key, jnp.log(world.prior), shape=(recipe.queries, 1)
  )
  right = jnp.broadcast_to(right, (recipe.queries, method.rollouts))
  tested = jax.random.categorical(
    trace_key, table, shape=(*right.shape, recipe.episodes)
  )
  values = elimination.values(world, right, tested)
  outcome = episode_credit.sampled_values(answer_key, values[..., -1:], 1)[
    ..., 0
  ]
  alpha, bonuses = 0.0, jnp.zeros(tested.shape)
  if method.credit:
    alpha = recipe.alpha
    estimated = episode_credit.sampled_values(
      branch_key, values, recipe.branches
    )
    bonuses = episode_credit.bonus(estimated, method.credit)
  advantage = episode_credit.advantages(outcome, bonuses, alpha)

  def surrogate(table):
    logged = jax.nn.log_softmax(table)
    chosen = logged[jnp.arange(recipe.episodes), tested]
    return (advantage * chosen).sum(-1).mean()

  return jax.grad(surrogate)(table)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _train(frozen, method: Method, rates, seeds):
  """Accuracy curves f[R, S, J + 1] of tables, by rate and seed."""
  recipe = StudyRecipe(**dict(frozen))
  world = elimination.geometric(recipe.answers, recipe.ratio, recipe.episodes)

  def run(rate, seed):
    key = jax.random.key(seed)

    def step(table, number):
      gradient = step_gradient(
        recipe, method, world, table, jax.random.fold_in(key, number)
      )
      return table + rate * gradient, None

    blank = jnp.zeros((recipe.episodes, recipe.answers))
    table, _ = jax.lax.scan(step, blank, jnp.arange(recipe.steps))
    return _curve(recipe, world, table, jax.random.fold_in(key, recipe.steps))

  return jax.vmap(jax.vmap(run, (None, 0)), (0, None))(rates, seeds)


def _curve(recipe, world, table, key) -> jax.Array:
  """Mean success rate of forced answers, f[J + 1]."""
  right_key, trace_key = jax.random.split(key)
  right = jax.random.categorical(
    right_key, jnp.log(world.prior), shape=(recipe.evaluated,)
  )
  tested = jax.random.categorical(
    trace_key, table, shape=(recipe.evaluated, recipe.episodes)
  )
  return elimination.values(world, right, tested).mean(0)


def run(recipe: StudyRecipe) -> dict[str, Any]:
  """Trains all tables.

  Returns:
    Tidy data: `curves`, rows of method, seed, learning rate and accuracy after
    each episode; `untrained` and `oracle`, accuracies; `rates`, the mean regret
    of each method and learning rate on the tuning seeds.

  Raises:
    ValueError: if the recipe cannot be run.
  """
  recipe.check()
  frozen = tuple(dataclasses.asdict(recipe).items())
  world = elimination.geometric(recipe.answers, recipe.ratio, recipe.episodes)
  episodes = np.arange(1.0, recipe.episodes + 1)
  rows, rates = [], []
  with rich_progress.Progress(transient=True) as bar:
    shown = bar.add_task("tables", total=len(METHODS))
    for name, method in methods(recipe).items():
      bar.update(shown, description=name)
      tuned = np.asarray(
        _train(
          frozen,
          method,
          jnp.array(recipe.rates),
          jnp.array(recipe.tuning_seeds),
        )
      )
      # By regret over all episodes: what each method would wish to be best at.
      whole = [
        np.mean([_regret(curve, episodes, [episodes[-1]])[0] for curve in runs])
        for runs in tuned
      ]
      best = recipe.rates[int(np.argmin(whole))]
      rates += [
        {"method": name, "rate": rate, "regret": float(value)}
        for rate, value in zip(recipe.rates, whole, strict=True)
      ]
      (curves,) = np.asarray(
        _train(frozen, method, jnp.array([best]), jnp.array(recipe.seeds))
      )
      rows += [
        {
          "method": name,
          "seed": seed,
          "rate": best,
          "accuracy": curve.tolist(),
        }
        for seed, curve in zip(recipe.seeds, curves, strict=True)
      ]
      bar.advance(shown)
  blank = jnp.zeros((recipe.episodes, recipe.answers))
  untrained = _curve(recipe, world, blank, jax.random.key(0))
  return {
    "curves": rows,
    "rates": rates,
    "untrained": np.asarray(untrained).tolist(),
    "oracle": elimination.oracle(world).tolist(),
    "rollouts": {n: m.rollouts for n, m in methods(recipe).items()},
  }


def _regret(curve, episodes, points) -> np.ndarray:
  return regret.normalised_regret(
    episodes, np.asarray(curve)[1:], np.asarray(points, float), float(curve[0])
  )


def report(recipe: StudyRecipe, data: Mapping[str, Any]) -> simulation.Study:
  """Claims of a study.

  Args:
    recipe: that it was run by.
    data: as `run` returns it.
  """
  episodes = np.arange(1.0, recipe.episodes + 1)
  curves = {
    name: np.array(
      [row["accuracy"] for row in data["curves"] if row["method"] == name]
    )
    for name in METHODS
  }
  at = {
    name: np.array([_regret(c, episodes, recipe.points) for c in runs])
    for name, runs in curves.items()
  }
  peer = "outcome, equal compute"

  def efficiency(other, best=False):
    known = np.array(data["oracle"])
    return np.array(
      [
        regret.token_efficiency(
          (episodes, (known if best else mine)[1:]),
          (episodes, theirs[1:]),
          recipe.level,
        )
        for mine, theirs in zip(curves["progress"], curves[other], strict=True)
      ]
    )

  rival = at["progress"] / at[peer]
  oracle = _regret(np.array(data["oracle"]), episodes, recipe.points)
  table = {
    name: dict(zip(map(str, recipe.points), runs.mean(0).tolist(), strict=True))
    for name, runs in at.items()
  }
  kept = dict(data) | {
    "regret": table,
    "oracle_regret": oracle.tolist(),
    "untrained_regret": _regret(
      np.array(data["untrained"]), episodes, recipe.points
    ).tolist(),
    "points": list(recipe.points),
  }
  claims = [
    results.claim_over(
      "token_efficiency_over_outcome_reward", efficiency(peer), 1.5
    ),
    # The largest ratio over the budgets told: below 1 at every one.
    results.claim_over("regret_over_outcome_reward", rival.max(1), 1.0, "<"),
    results.claim_over(
      "token_efficiency_at_equal_rollouts", efficiency("outcome"), None
    ),
    results.claim_over(
      "token_efficiency_of_best_order", efficiency(peer, best=True), None
    ),
    results.claim_over(
      "regret_over_telescoped",
      (at["progress"] / at["telescoped"]).max(1),
      1.0,
      "<",
    ),
    results.claim_over(
      "regret_above_oracle", (at["progress"] - oracle).max(1), None, "<="
    ),
    results.claim_over(
      "final_points_over_outcome_reward",
      100 * (curves["progress"][:, -1] - curves[peer][:, -1]),
      None,
    ),
  ]
  return simulation.Study(
    recipe.seeds, kept, claims, lambda path: draw(kept, path)
  )


_COLOURS = {
  "outcome": "#999999",
  "outcome, equal compute": "#0072B2",
  "telescoped": "#009E73",
  "progress": "#D55E00",
}


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture of a study.

  Args:
    data: as `report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(3.8)
    left, right = figure.subplots(1, 2)
    episodes = np.arange(len(data["oracle"]))
    left.plot(
      episodes,
      data["oracle"],
      color="black",
      ls=(0, (5, 2)),
      lw=1.2,
      label="best order",
    )
    for name, colour in _COLOURS.items():
      runs = np.array(
        [row["accuracy"] for row in data["curves"] if row["method"] == name]
      )
      left.plot(episodes, runs.mean(0), color=colour, lw=1.6, label=name)
      left.fill_between(
        episodes, runs.min(0), runs.max(0), color=colour, alpha=0.15, lw=0
      )
    left.plot(episodes, data["untrained"], color="#CCCCCC", label="untrained")
    left.set(xlabel="episodes before a forced answer", ylabel="accuracy")
    left.set_title("Stopped at any time")
    left.legend(fontsize=8, loc="lower right")
    width = 0.15
    for k, (name, colour) in enumerate(_COLOURS.items()):
      where = np.arange(len(data["points"])) + (k - 2) * width
      heights = [data["regret"][name][str(p)] for p in data["points"]]
      right.bar(where, heights, width=width * 0.92, color=colour, label=name)
    for place, height in enumerate(data["oracle_regret"]):
      right.hlines(height, place - 0.42, place + 0.42, color="black", lw=1.2)
    right.set_xticks(
      range(len(data["points"])), [str(p) for p in data["points"]]
    )
    right.set(xlabel="budget, episodes", ylabel="regret (line: best order)")
    right.set_title("What is missing up to a budget")
    page.save(figure, path)
