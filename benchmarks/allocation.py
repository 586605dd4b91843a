# SPDX-License-Identifier: Apache-2.0
r"""How fast rollouts are split exactly, and what the split is worth.

    python -m benchmarks.allocation

*  512 tasks x 4,096 rollouts, split by `rollout_allocation.allocate` (checks
   and copies included, compiling not), by a heap over NumPy tables, and by the
   library's own dynamic programme. CPU seconds, one thread on one core, by
   turns (`timing`).
*  SciPy's integer program (HiGHS), a 0/1 variable a rollout, takes minutes at
   that size; it has a sixteenth of it, and is compared with ours there.
*  The expected share of rollouts in mixed groups, uniform and by the knapsack,
   for three spreads of success rates.
*  A small table trained by GRPO with rates from the tracker
   (`tabular_rollouts`): the knapsack against uniform groups, and against twice
   the rollouts.

Writes docs/results/allocation.json and .png. Trainings of language models are
not part of it.
"""

from collections.abc import Sequence
import dataclasses
import heapq
import pathlib
import statistics
import time
from typing import Any

from absl import app, flags
import jax
import numpy as np
import scipy.optimize
import scipy.sparse

from benchmarks import tabular_rollouts, timing
from jaxttc import page, results
from jaxttc.allocators import (
  rollout_allocation,
  rollout_rules,
  rollout_value,
)

TASKS, TOTAL = 512, 4096
MILP_TASKS = 32  # of as many rollouts each
RULES = rollout_rules.RolloutRules(fallback=False)
SPREADS = {
  "beta_0.3_0.3": (0.3, 0.3),
  "beta_0.3_1.5": (0.3, 1.5),
  "uniform": (1.0, 1.0),
}
STRATEGIES = ("uniform", "knapsack", "uniform_2x")
_BARS = {"beta_0.3_0.3": 25.0, "uniform": 5.0}
_STEPS = np.arange(RULES.n_min, RULES.n_max)


def rates(tasks: int, spread: str, seed: int) -> np.ndarray:
  """Success rates strictly between 0 and 1, f32[tasks]."""
  drawn = np.random.default_rng(seed).beta(*SPREADS[spread], tasks)
  return drawn.clip(1e-4, 1 - 1e-4).astype(np.float32)


def by_heap(p: np.ndarray, total: int) -> np.ndarray:
  """The greedy split as one would write it with NumPy and heapq."""
  table = _increments(p)
  counts = np.full(p.size, RULES.n_min)
  heap = [(-gain, task) for task, gain in enumerate(table[:, 0].tolist())]
  heapq.heapify(heap)
  for _ in range(total - counts.sum()):
    _, task = heap[0]
    counts[task] += 1
    if counts[task] < RULES.n_max:
      gain = table[task, counts[task] - RULES.n_min]
      heapq.heapreplace(heap, (-gain, task))
    else:
      heapq.heappop(heap)
  return counts


def by_milp(p: np.ndarray, total: int) -> np.ndarray:
  """The same by HiGHS: a 0/1 variable a rollout, one row for the total."""
  gains = _increments(p).ravel()
  solved = scipy.optimize.milp(
    -gains,
    integrality=np.ones(gains.size),
    bounds=scipy.optimize.Bounds(0, 1),
    constraints=scipy.optimize.LinearConstraint(
      scipy.sparse.csr_array(np.ones((1, gains.size))),
      -np.inf,
      total - RULES.n_min * p.size,
    ),
  )
  bought = np.round(solved.x).reshape(p.size, -1).sum(1)
  return RULES.n_min + bought.astype(np.int64)


def value(counts: np.ndarray, p: np.ndarray) -> float:
  """What a split is worth, in float64."""
  n, p = np.asarray(counts, np.float64), p.astype(np.float64)
  return float(((1 - p**n - (1 - p) ** n) * p * (1 - p) ** 2).sum())


def _increments(p: np.ndarray) -> np.ndarray:
  p = p.astype(np.float64)[:, None]
  q = 1 - p
  return p * q**2 * (p**_STEPS * q + q**_STEPS * p)


def speed(turns: int, slow_turns: int) -> dict[str, Any]:
  """Seconds of each rival, what their splits are worth, and compilations."""
  full = rates(TASKS, "beta_0.3_0.3", 0)
  part = rates(MILP_TASKS, "beta_0.3_0.3", 0)
  share = TOTAL * MILP_TASKS // TASKS
  start = time.process_time()
  jax.block_until_ready(_ours(full))
  compiling = time.process_time() - start
  fast = {
    "allocate": lambda: _ours(full),
    "heap": lambda: by_heap(full, TOTAL),
    "allocate_small": lambda: _ours(part, share),
  }
  slow = {
    "dynamic_programme": lambda: _ours(full, solver="dp"),
    "milp_small": lambda: by_milp(part, share),
  }
  seconds = timing.by_turns(fast, turns) | timing.by_turns(slow, slow_turns)
  with timing.counting_compilations() as seen:
    for total in range(TOTAL - 300, TOTAL, 50):
      jax.block_until_ready(_ours(full, total))
  found = {name: np.asarray(run()) for name, run in (fast | slow).items()}
  return {
    "seconds": seconds,
    "compiling_seconds": compiling,
    "compilations": seen.count,
    "values": {
      name: value(split, full if split.size == TASKS else part)
      for name, split in found.items()
    },
    "totals": {name: int(split.sum()) for name, split in found.items()},
  }


def _ours(p: np.ndarray, total: int = TOTAL, solver: str = "greedy"):
  rules = dataclasses.replace(RULES, solver=solver)
  return rollout_allocation.allocate(p, total, rules=rules)[0]


def static(seeds: int, tasks: int = 256, each: int = 8) -> list[dict[str, Any]]:
  """Expected effective ratios of uniform groups and the knapsack's."""
  rows = []
  for spread in SPREADS:
    for seed in range(seeds):
      p = rates(tasks, spread, seed)
      counts, info = rollout_allocation.allocate(p, tasks * each, rules=RULES)
      uniform = np.full(tasks, each, np.float32)
      groups = rollout_value.mix_probability(np.asarray(counts), p).mean()
      rows.append(
        {
          "spread": spread,
          "seed": seed,
          "uniform": _ratio(uniform, p),
          "knapsack": _ratio(np.asarray(counts, np.float32), p),
          "uniform_groups": float(
            rollout_value.mix_probability(uniform, p).mean()
          ),
          "knapsack_groups": float(groups),
          "largest": int(counts.max()),
          "price": float(info.price),
        }
      )
  return rows


def _ratio(counts: np.ndarray, p: np.ndarray) -> float:
  return float(
    rollout_value.expected_effective_ratio(
      jax.numpy.asarray(counts), jax.numpy.asarray(p)
    )
  )


def training(seeds: int, steps: int) -> dict[str, tabular_rollouts.Curves]:
  """Curves of each strategy."""
  return {
    name: tabular_rollouts.train(name, seeds, steps=steps)
    for name in STRATEGIES
  }


def claims(
  timed: dict[str, Any],
  rows: Sequence[dict[str, Any]],
  curves: dict[str, tabular_rollouts.Curves],
) -> list[results.Claim]:
  """Every figure beside its bar."""
  ms = [1e3 * x for x in timed["seconds"]["allocate"]]
  values = timed["values"]
  found = [
    results.Claim(
      f"allocate_ms_{TASKS}x{TOTAL}",
      statistics.median(ms),
      min(ms),
      max(ms),
      bar=10.0,
      comparison="<=",
    ),
    results.Claim(
      "compilations_when_the_total_changes",
      timed["compilations"],
      bar=0.0,
      comparison="<=",
    ),
    results.Claim(
      "value_below_exact_solvers",
      max(
        values["heap"] - values["allocate"],
        values["dynamic_programme"] - values["allocate"],
        values["milp_small"] - values["allocate_small"],
      ),
      bar=1e-6,
      comparison="<=",
    ),
    _times_slower(timed, "heap", "allocate"),
    _times_slower(timed, "dynamic_programme", "allocate"),
    _times_slower(timed, "milp_small", "allocate_small"),
  ]
  for spread in SPREADS:
    gains = [
      100 * (row["knapsack"] - row["uniform"])
      for row in rows
      if row["spread"] == spread
    ]
    found.append(
      results.claim_over(f"effective_points_{spread}", gains, _BARS.get(spread))
    )
  return found + _training_claims(curves)


def _times_slower(timed, slow, fast):
  slow_times, fast_times = (timed["seconds"][name] for name in (slow, fast))
  return results.Claim(
    f"{slow}_over_allocate",
    statistics.median(slow_times) / statistics.median(fast_times),
    min(slow_times) / max(fast_times),
    max(slow_times) / min(fast_times),
  )


def _training_claims(curves):
  success = {name: c.finish.mean(1) for name, c in curves.items()}
  effective = {name: c.effective.mean(1) for name, c in curves.items()}
  gain = success["knapsack"] - success["uniform"]
  gap = success["uniform_2x"] - success["uniform"]
  stuck = {name: (c.finish < 0.1).mean(1) for name, c in curves.items()}
  return [
    results.claim_over(
      "table_effective_ratio_over_uniform",
      effective["knapsack"] / effective["uniform"],
      1.2,
    ),
    results.claim_over("table_points_over_uniform", 100 * gain, 3.0),
    results.claim_over("table_share_of_gap_to_2x_closed", gain / gap, 0.5),
    results.claim_over(
      "table_points_fewer_tasks_below_a_tenth",
      100 * (stuck["uniform"] - stuck["knapsack"]),
      None,
    ),
    results.Claim(
      "table_largest_group", curves["knapsack"].largest.max().item()
    ),
  ]


def draw(
  path: str,
  timed: dict[str, Any],
  curves: dict[str, tabular_rollouts.Curves],
) -> None:
  """Who gets rollouts, what training makes of them, and how long it took."""
  with page.style():
    figure = page.figure(3.6)
    given, trained, times = figure.subplots(1, 3)
    _draw_counts(given)
    _draw_training(trained, curves)
    _draw_times(times, timed)
    page.save(figure, path)


def _draw_counts(axes):
  p = np.linspace(0.002, 0.998, TASKS).astype(np.float32)
  for each, colour in ((4, "#9ecae1"), (8, "#4292c6"), (16, "#084594")):
    counts, _ = rollout_allocation.allocate(p, each * TASKS, rules=RULES)
    axes.plot(p, counts, color=colour, label=f"{each} a task")
  axes.axhline(8, color="#999999", lw=1, ls="--", label="uniform, 8")
  axes.set(xlabel="success rate", ylabel="rollouts")
  axes.set_title("Hard tasks get the rollouts")
  axes.legend(fontsize=8)


def _draw_training(axes, curves):
  styles = {
    "uniform": ("#777777", "uniform"),
    "knapsack": ("#4292c6", "knapsack, same rollouts"),
    "uniform_2x": ("#cc7722", "uniform, twice as many"),
  }
  for name, (colour, label) in styles.items():
    success = curves[name].success
    steps = np.arange(success.shape[1])
    axes.plot(steps, success.mean(0), color=colour, label=label)
    axes.fill_between(
      steps, success.min(0), success.max(0), color=colour, alpha=0.2, lw=0
    )
  axes.set(xlabel="training step", ylabel="mean success rate")
  axes.set_title("A table trained by GRPO")
  axes.legend(fontsize=8, loc="lower right")


def _draw_times(axes, timed):
  names = {
    "allocate": "ours",
    "heap": "NumPy heap",
    "dynamic_programme": "our DP",
    "allocate_small": f"ours, {MILP_TASKS} tasks",
    "milp_small": f"SciPy milp, {MILP_TASKS} tasks",
  }
  medians = [1e3 * statistics.median(timed["seconds"][n]) for n in names]
  bars = axes.barh(
    list(names.values()),
    medians,
    color=["#4292c6", "#bbbbbb", "#bbbbbb", "#4292c6", "#bbbbbb"],
  )
  axes.bar_label(
    bars, [f"{ms:.3g} ms" for ms in medians], padding=3, fontsize=8
  )
  axes.set_xscale("log")
  axes.set_xlim(min(medians) / 3, max(medians) * 30)
  axes.invert_yaxis()
  axes.set_xlabel("CPU time, one core")
  axes.set_title(f"{TASKS} tasks, {TOTAL:,} rollouts")


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  timing.use_one_thread()
  seeds = FLAGS.seeds
  timed = speed(FLAGS.turns, FLAGS.slow_turns)
  rows, curves = static(seeds), training(seeds, FLAGS.steps)
  results.write(
    FLAGS.out,
    command=results.command_line(),
    seeds=list(range(seeds)),
    data={
      "speed": timed,
      "static": rows,
      "training": {
        name: {
          "success": c.success.round(5),
          "effective": c.effective.round(5),
          "groups": c.groups.round(5),
        }
        for name, c in curves.items()
      },
    },
    claims=claims(timed, rows, curves),
  )
  try:
    draw(str(pathlib.Path(FLAGS.out).with_suffix(".png")), timed, curves)
  except ImportError as error:
    print(f"no picture: {error}")


FLAGS = flags.FLAGS


def _define_flags() -> None:
  """Only of a program that runs: others may import it beside each other."""
  flags.DEFINE_integer("seeds", 3, "Seeds of rates and trainings.", 1)
  flags.DEFINE_integer("steps", 120, "Of training.", 1)
  flags.DEFINE_integer("turns", 30, "Turns of the fast rivals.", 1)
  flags.DEFINE_integer("slow_turns", 2, "Turns of the slow rivals.", 1)
  flags.DEFINE_string("out", "docs/results/allocation.json", "Results file.")


if __name__ == "__main__":
  _define_flags()
  app.run(main)
