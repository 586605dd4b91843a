# SPDX-License-Identifier: Apache-2.0
r"""Whether a plan's split of a budget beats others, where all is known.

    python -m benchmarks.budget_splits

No language model is run: a problem has five sub-questions, tokens buy samples
of each, answers are voted on, and the problem is solved if every vote is
right. The accuracy of a vote is exact (`vote_curves`): a sample is right with a
probability that its kind has, and wrong answers scatter over 99 others.

*  Splits of 40 samples: one pool spent in order, equal shares, shares by a
   planner's noisy credits, the budget allocation model fitted to a noisy
   pilot, and the best split of all. "vanilla" has 24 samples each.
*  Decay schedules, with credits that are right or that overpay the end, and
   work that is early, late or anywhere.
*  Roll-over: steps of random length under hard caps.

Writes docs/results/budget_splits.json and .png.
"""

from collections.abc import Mapping, Sequence
import functools
import itertools
import pathlib
from typing import Any

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import vote_curves
from jaxttc import page, results
from jaxttc.allocators import (
  budget_model,
  choice_knapsack,
  decay_schedules,
  local_budgets,
  pilot_fit,
)
from jaxttc.evaluation import thrift

RATES = (0.97, 0.80, 0.55, 0.40, 0.30)  # of one sample, easy to hard
ANSWERS = 100  # that a sample may give, as in the library's generated tasks
VANILLA, BUDGET = 24, 40
PILOT = (1, 2, 4, 8, 16, 32)
SPLITS = ("in_order", "uniform", "weighted", "model", "oracle", "vanilla")
_MOST = BUDGET
_MEAN, _SPREAD = 60.0, 0.5  # of the lengths of steps, log-normal


@functools.cache
def curves() -> np.ndarray:
  """Accuracy of a vote, f64[5, _MOST + 1]."""
  return np.stack([vote_curves.plurality(p, _MOST, ANSWERS) for p in RATES])


def solved(samples: Sequence[int], order: Sequence[int]) -> float:
  """Chance that all votes are right; sample counts are by position."""
  return float(
    np.prod([curves()[k, n] for k, n in zip(order, samples, strict=True)])
  )


def in_order(budget: int) -> list[int]:
  """Each step takes what vanilla would, but leaves one sample for the rest."""
  given = []
  for left in range(len(RATES) - 1, -1, -1):
    given.append(min(VANILLA, budget - sum(given) - left))
  return given


def credits(seed: int) -> np.ndarray:
  """A planner's: work in proportion to difficulty's rank, with noise."""
  noise = np.random.default_rng(seed).lognormal(sigma=0.2, size=len(RATES))
  work = np.arange(1, len(RATES) + 1) * noise
  return 100 * work / work.sum()


def by_model(seed: int, budget: int, questions: int = 400) -> np.ndarray:
  """Whole samples by the allocation model, fitted to a pilot of each kind."""
  rng = np.random.default_rng([seed, 1])
  fits = []
  for curve in curves():
    right = rng.random((len(PILOT), questions)) < curve[list(PILOT)][:, None]
    fits.append(pilot_fit.fit(PILOT, 1.0 - right, resamples=1))
  c, beta = (
    jnp.array([getattr(fit, name).value for fit in fits])
    for name in ("c", "beta")
  )
  return np.asarray(budget_model.solve_integer(c, beta, budget))


def by_oracle(budget: int) -> np.ndarray:
  """The best split of all, from the exact curves."""
  values = jnp.asarray(np.log(curves()), jnp.float32)
  costs = jnp.broadcast_to(jnp.arange(_MOST + 1), values.shape)
  found, _ = choice_knapsack.solve(values, costs, jnp.int32(budget), _MOST)
  return np.asarray(found)


def splits(seeds: int) -> list[dict[str, Any]]:
  """Accuracy and E^3 of each split and seed; kinds come in any order."""
  orders = list(itertools.permutations(range(len(RATES))))
  pool = in_order(BUDGET)
  anywhere = np.mean([solved(pool, order) for order in orders])
  kinds = range(len(RATES))
  rows = []
  for seed in range(seeds):
    weighted = decay_schedules.allocate_tokens(
      credits(seed), BUDGET, "constant", floor=1
    )
    samples = {
      "uniform": decay_schedules.uniform_tokens(len(RATES), BUDGET),
      "weighted": weighted,
      "model": by_model(seed, BUDGET),
      "oracle": by_oracle(BUDGET),
      "vanilla": np.full(len(RATES), VANILLA),
    }
    found = {name: solved(n, kinds) for name, n in samples.items()}
    for name in SPLITS:
      accuracy = anywhere if name == "in_order" else found[name]
      spent = VANILLA * len(RATES) if name == "vanilla" else BUDGET
      given = pool if name == "in_order" else samples[name].tolist()
      rows.append(
        {
          "split": name,
          "seed": seed,
          "accuracy": accuracy,
          "samples": spent,
          "shares": given,
          "e3": thrift.e3(100 * accuracy, spent),
        }
      )
  return rows


def decays() -> list[dict[str, Any]]:
  """Accuracy of each schedule where credits and work lie as named."""
  kinds = list(range(len(RATES)))
  late = 100 * np.arange(1, 6) / 15  # overpays the end
  right = np.arange(1, 6) / 15 * 100  # of kinds 0..4
  orders = {
    "credits late, work early": ([kinds[::-1]], late),
    "credits right, work anywhere": (
      list(itertools.permutations(kinds)),
      None,
    ),
    "credits right, work late": ([kinds], None),
  }
  rows = []
  for place, (some, fixed) in orders.items():
    for budget, name in itertools.product(
      (24, BUDGET), decay_schedules.SCHEDULES
    ):
      accuracy = []
      for order in some:
        held = right[list(order)] if fixed is None else fixed
        shares = decay_schedules.allocate_tokens(held, budget, name, floor=1)
        accuracy.append(solved(shares, order))
      rows.append(
        {
          "place": place,
          "samples": budget,
          "schedule": name,
          "accuracy": float(np.mean(accuracy)),
        }
      )
  return rows


def roll_overs(plans: int, seed: int) -> dict[str, Any]:
  """Share of plans that finish whole, by rule and budget over mean need."""
  rng = np.random.default_rng([seed, 2])
  drawn = rng.lognormal(
    np.log(_MEAN) - _SPREAD**2 / 2, _SPREAD, (plans, len(RATES))
  )
  needs = jnp.asarray(np.ceil(drawn), jnp.int32)
  multiples = np.arange(0.6, 2.41, 0.1).round(2)
  shares = jnp.asarray(multiples * _MEAN, jnp.int32)
  finished, broken = {}, 0
  for name in local_budgets.ROLL_OVERS:
    run = jax.vmap(
      jax.vmap(
        lambda share, need, rule=name: local_budgets.run(
          jnp.full(need.shape, share), need, rule
        ).finished.all(),
        in_axes=(None, 0),
      ),
      in_axes=(0, None),
    )
    finished[name] = np.asarray(jax.jit(run)(shares, needs))
  for better in ("next", "spread"):
    broken += int((finished["none"] > finished[better]).sum())
    broken += int((finished[better] > finished["pool"]).sum())
  return {
    "multiples": multiples,
    "finished": {name: x.mean(1) for name, x in finished.items()},
    "broken": broken,
  }


def claims(
  rows: Sequence[Mapping[str, Any]],
  decayed: Sequence[Mapping[str, Any]],
  rolled: Mapping[str, Any],
) -> list[results.Claim]:
  """The sheet of orderings, as figures beside their bars."""
  of = {
    name: np.array([row["accuracy"] for row in rows if row["split"] == name])
    for name in SPLITS
  }
  e3 = {
    name: np.array([row["e3"] for row in rows if row["split"] == name])
    for name in SPLITS
  }
  at = {
    (row["place"], row["samples"], row["schedule"]): row["accuracy"]
    for row in decayed
  }
  early, anywhere, late = dict.fromkeys(row["place"] for row in decayed)
  losses = [
    at[anywhere, BUDGET, "constant"] - at[anywhere, BUDGET, name]
    for name in decay_schedules.SCHEDULES
    if name != "constant"
  ]
  near = int(np.argmin(np.abs(rolled["multiples"] - 1.2)))
  points = lambda x: 100 * x  # noqa: E731
  return [
    results.claim_over(
      "points_oracle_over_model", points(of["oracle"] - of["model"]), 0
    ),
    results.claim_over(
      "points_model_over_weighted", points(of["model"] - of["weighted"]), 0
    ),
    results.claim_over(
      "points_weighted_over_uniform", points(of["weighted"] - of["uniform"]), 8
    ),
    results.claim_over(
      "points_uniform_over_in_order", points(of["uniform"] - of["in_order"]), 0
    ),
    results.claim_over(
      "e3_weighted_over_vanilla", e3["weighted"] / e3["vanilla"], 1.5
    ),
    results.claim_over(
      "e3_model_over_vanilla", e3["model"] / e3["vanilla"], 1.5
    ),
    *(
      results.Claim(
        f"points_linear_over_constant_credits_late_{budget}",
        100 * (at[early, budget, "linear"] - at[early, budget, "constant"]),
        bar=0.0,
        comparison=">",
      )
      for budget in (24, BUDGET)
    ),
    results.Claim(
      "points_least_loss_by_decay_credits_right",
      100 * min(losses),
      bar=0.0,
      comparison=">",
    ),
    results.Claim(
      "points_lost_by_polynomial_work_late",
      100 * (at[late, BUDGET, "constant"] - at[late, BUDGET, "polynomial"]),
      bar=10.0,
    ),
    results.Claim(
      "roll_over_orderings_broken", rolled["broken"], bar=0, comparison="<="
    ),
    results.Claim(
      "points_pool_over_hard_caps_at_1.2",
      100
      * (rolled["finished"]["pool"][near] - rolled["finished"]["none"][near]),
      bar=20.0,
    ),
  ]


def draw(path, rows, decayed, rolled) -> None:
  """Splits, schedules and roll-over, side by side."""
  with page.style():
    figure = page.figure(3.7)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1.25, 1))
    _draw_splits(left, rows)
    _draw_decays(middle, decayed)
    _draw_roll_overs(right, rolled)
    page.save(figure, path)


def _draw_splits(axes, rows):
  labels = ("pool, in order", "uniform", "credits", "model", "best", "vanilla")
  for at, name in enumerate(SPLITS):
    found = [100 * row["accuracy"] for row in rows if row["split"] == name]
    e3 = np.mean([row["e3"] for row in rows if row["split"] == name])
    colour = "#cc7722" if name == "vanilla" else "#4292c6"
    axes.barh(at, np.mean(found), color=colour)
    axes.plot([min(found), max(found)], [at, at], color="#222222", lw=1.5)
    axes.text(2, at, f"E$^3$ {e3:.0f}", va="center", fontsize=8, color="white")
  axes.set_yticks(range(len(SPLITS)), labels)
  axes.invert_yaxis()
  axes.set(xlabel="problems solved, %", xlim=(0, 100))
  axes.set_title(f"{BUDGET} samples (vanilla: {VANILLA * len(RATES)})")


def _draw_decays(axes, decayed):
  places = list(dict.fromkeys(row["place"] for row in decayed))
  names = list(decay_schedules.SCHEDULES)
  colours = ("#444444", "#084594", "#cc7722", "#6baed6", "#c6dbef")
  for k, (name, colour) in enumerate(zip(names, colours, strict=True)):
    found = [
      100 * row["accuracy"]
      for place in places
      for row in decayed
      if (row["place"], row["schedule"], row["samples"])
      == (place, name, BUDGET)
    ]
    where = np.arange(len(places)) + (k - 2) * 0.16
    axes.bar(where, found, width=0.15, color=colour, label=name)
  axes.set_xticks(
    range(len(places)), [place.replace(", ", ",\n") for place in places]
  )
  axes.tick_params(axis="x", labelsize=8)
  axes.set(ylabel="problems solved, %", ylim=(0, 125), yticks=range(0, 101, 20))
  axes.set_title("Decay schedules")
  axes.legend(fontsize=7.5, ncols=3, loc="upper center", columnspacing=0.8)


def _draw_roll_overs(axes, rolled):
  styles = {
    "none": ("#cc7722", "hard caps"),
    "spread": ("#6baed6", "rest spread"),
    "next": ("#2171b5", "rest to the next"),
    "pool": ("#444444", "one pool"),
  }
  for name, (colour, label) in styles.items():
    axes.plot(
      rolled["multiples"],
      100 * np.asarray(rolled["finished"][name]),
      color=colour,
      label=label,
    )
  axes.set(xlabel="budget / mean need", ylabel="plans finished, %")
  axes.set(ylim=(0, 125), yticks=range(0, 101, 20))
  axes.set_title("What steps do not use")
  axes.legend(fontsize=7.5, ncols=2, loc="upper center", columnspacing=0.8)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  rows, decayed = splits(FLAGS.seeds), decays()
  rolled = roll_overs(FLAGS.plans, 0)
  results.write(
    FLAGS.out,
    command=results.command_line(),
    seeds=list(range(FLAGS.seeds)),
    data={
      "rates": RATES,
      "curves": curves().round(6),
      "splits": rows,
      "decays": decayed,
      "roll_over": rolled,
    },
    claims=claims(rows, decayed, rolled),
  )
  try:
    draw(
      str(pathlib.Path(FLAGS.out).with_suffix(".png")), rows, decayed, rolled
    )
  except ImportError as error:
    print(f"no picture: {error}")


FLAGS = flags.FLAGS


def _define_flags() -> None:
  """Only of a program that runs: others may import it beside each other."""
  flags.DEFINE_integer("seeds", 5, "Seeds of credits and pilots.", 1)
  flags.DEFINE_integer("plans", 4000, "Plans of random lengths.", 1)
  flags.DEFINE_string("out", "docs/results/budget_splits.json", "Results file.")


if __name__ == "__main__":
  _define_flags()
  app.run(main)
