# SPDX-License-Identifier: Apache-2.0
"""Kills a training run again and again, and spreads one over devices.

    python -m benchmarks.training_faults

Runs scripts/train.py on a small model of worked problems, undisturbed; then a
second time, where the process is killed (SIGKILL) at random moments, of its
start, of steps and of saves, and started again with the same command until
nothing is left to train. (Each start is forked from a process that has imported
the libraries, which is most of a start and none of the training.) The two must
have written the same metrics, to the last bit, and the same model. Then trains
the recipe for 50 steps in float32 on one device, on 8 simulated ones that share
each batch, on 8 that share parameters and the optimizer's state, too, also with
each batch taken in two parts, and in two processes of two devices each, and
compares the losses of all steps with those of the one device.

Writes docs/results/training_faults.json.
"""

from collections.abc import Sequence
import json
import multiprocessing
import os
import pathlib
import runpy
import signal
import sys
import tempfile
import time
from typing import Any

from absl import app, flags, logging
import jax
import numpy as np

from jaxttc import mesh as mesh_lib
from jaxttc import results, script
from jaxttc.models import config as config_lib
from jaxttc.tasks import arithmetic
from jaxttc.testing import processes
from jaxttc.training import loop, recipes
from jaxttc.training import metrics as metrics_lib

MODEL = {
  "vocab_size": 704,
  "width": 32,
  "layers": 2,
  "heads": 2,
  "kv_heads": 2,
  "head_dim": 16,
  "mlp_width": 64,
}
KILLED = {
  "batch_size": 2,
  "length": 128,
  "learning_rate": 0.01,
  "warmup_steps": 5,
  "weight_decay": 0.02,
  "log_every": 1,
  "evaluate_every": 25,
  "checkpoint_every": 4,
}
SPREAD = KILLED | {"batch_size": 16, "checkpoint_every": 25}
_AHEAD = 6  # most steps that a run is given before it is killed
_PATIENCE = (
  "--xla_cpu_collective_call_terminate_timeout_seconds=1800",
  "--xla_cpu_collective_timeout_seconds=1800",
)
_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONTEXT = multiprocessing.get_context("forkserver")


def command(workdir: pathlib.Path, train: dict[str, Any]) -> list[str]:
  """Arguments of Python that train the model, and export it."""
  return [
    str(_ROOT / "scripts" / "train.py"),
    f"--config={_ROOT / 'configs' / 'arithmetic_lm.py'}",
    f"--workdir={workdir}",
    f"--export={workdir / 'model.safetensors'}",
    f"--config.train.decay_steps={train['steps']}",
    *(f"--config.model.{name}={value}" for name, value in MODEL.items()),
    *(f"--config.train.{name}={value}" for name, value in train.items()),
  ]


def until_done(
  workdir: pathlib.Path, train: dict[str, Any], kills: int, seed: int
) -> list[dict[str, Any]]:
  """Runs the command, killing it so many times, until it is done.

  Every fourth run is killed at a moment of its start; the others once they
  have recorded a random number of steps more than there were, and a random
  fraction of a second later, so that saves are hit, too.

  Args:
    workdir: of the run.
    train: its overrides.
    kills: how many times it is killed; less if it is done before.
    seed: of the moments.

  Returns:
    A row a kill: steps recorded, the last checkpoint, whether it cut a save
    short, and steps that the next run has to take again.

  Raises:
    RuntimeError: if the command fails of itself; with its last line.
  """
  rng = np.random.default_rng(seed)
  rows, startup = [], 5.0
  while True:
    doomed, starting = len(rows) < kills, len(rows) % 4 == 3
    began, recorded = time.monotonic(), _recorded(workdir)
    before = _unfinished(workdir)
    process = _CONTEXT.Process(
      target=_train, args=(command(workdir, train), str(workdir) + ".log")
    )
    process.start()
    if doomed and starting:
      until = began + rng.uniform(0, startup)
      while process.is_alive() and time.monotonic() < until:
        process.join(0.03)
        if _recorded(workdir) > recorded:
          break
    elif doomed:
      wanted = recorded + rng.integers(1, _AHEAD, endpoint=True)
      while process.is_alive() and _recorded(workdir) < wanted:
        process.join(0.03)
      startup = time.monotonic() - began
      process.join(rng.uniform(0, 0.2))
    if doomed:
      process.kill()
    process.join()
    if process.exitcode == 0:
      return rows
    if process.exitcode != -signal.SIGKILL:
      said = pathlib.Path(str(workdir) + ".log").read_text().strip()
      raise RuntimeError(f"train.py failed: {said[-300:]}")
    rows.append(_state(workdir, starting, before))
    print(rows[-1], f"({time.monotonic() - began:.0f} s)", flush=True)


def _train(arguments: list[str], log: str) -> None:
  """Becomes the script, in a process of its own."""
  with open(log, "w", encoding="utf-8") as said:
    os.dup2(said.fileno(), sys.stdout.fileno())
    os.dup2(said.fileno(), sys.stderr.fileno())
  sys.argv = arguments
  runpy.run_path(arguments[0], run_name="__main__")


def compared(
  calm: pathlib.Path, killed: pathlib.Path, steps: int
) -> dict[str, int]:
  """How a run differs from an undisturbed one."""
  found, expected = (metrics_lib.read(str(path)) for path in (killed, calm))
  trained = [record["step"] for record in found if "loss" in record]
  models = [
    (path / "model.safetensors").read_bytes() for path in (calm, killed)
  ]
  return {
    "steps": steps,
    "lost": len(set(range(1, steps + 1)) - set(trained)),
    "repeated": len(trained) - len(set(trained)),
    "records": len(expected),
    "different_records": sum(
      a != b for a, b in zip(found, expected, strict=False)
    )
    + abs(len(found) - len(expected)),
    "different_models": int(models[0] != models[1]),
  }


def spread(
  folder: pathlib.Path, steps: int
) -> dict[str, dict[str, list[float]]]:
  """The loss of every step, and of evaluations, on one device and on many."""
  mesh = mesh_lib.make_mesh(8)
  ways = {
    "one device": (None, {}),
    "8 devices, data parallel": (mesh, {}),
    "8 devices, fully sharded": (mesh, {"fully_sharded": True}),
    "8 devices, fully sharded, in 2 parts": (
      mesh,
      {"fully_sharded": True, "accumulate": 2},
    ),
  }
  found = {}
  for name, (devices, changes) in ways.items():
    start = time.perf_counter()
    recipe = recipes.LanguageModelRecipe(
      model=config_lib.TransformerConfig(**MODEL),
      mix=arithmetic.TrainingMix(),
      train=loop.TrainConfig(steps=steps, **SPREAD | changes),
    )
    workdir = folder / name.replace(" ", "_")
    recipe.run(str(workdir), devices)
    found[name] = _losses(workdir)
    print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
  train = SPREAD | {"steps": steps, "fully_sharded": True}
  for one in processes.run(command(folder / "two", train), timeout_s=1800):
    if one.returncode:
      raise RuntimeError(f"train.py failed: {one.stderr.strip()[-300:]}")
  found["2 processes of 2 devices, fully sharded"] = _losses(folder / "two")
  return found


def claims(
  rows: Sequence[dict[str, Any]],
  after: dict[str, int],
  losses: dict[str, dict[str, list[float]]],
) -> list[results.Claim]:
  """What was killed, what that changed, and how far the losses lie apart."""
  again = [row["steps_again"] for row in rows]

  def none(name: str, value: float, bar: float = 0.0) -> results.Claim:
    return results.Claim(name, value, bar=bar, comparison="<=")

  found = [
    results.Claim("kills", len(rows), bar=20),
    none("lost_or_repeated_steps", after["lost"] + after["repeated"]),
    none("different_records", after["different_records"]),
    none("different_models", after["different_models"]),
    results.Claim("saves_cut_short", sum(row["cut_short"] for row in rows)),
    results.Claim("steps_computed_again_a_kill", float(np.mean(again))),
  ]
  if losses:
    alone, *others = losses.values()
    apart = {
      kind: max(np.abs(np.subtract(x[kind], alone[kind])).max() for x in others)
      for kind in alone
    }
    found += [
      none("sharded_loss_difference", float(apart["loss"]), 1e-5),
      none(
        "sharded_evaluation_difference", float(apart["held_out_loss"]), 1e-4
      ),
    ]
  return found


def _recorded(workdir: pathlib.Path) -> int:
  """Steps that are on record."""
  path = workdir / "metrics.jsonl"
  if not path.exists():
    return 0
  lines = path.read_bytes().split(b"\n")[:-1]
  return max((json.loads(line)["step"] for line in lines), default=0)


def _unfinished(workdir: pathlib.Path) -> set[tuple[str, int]]:
  """Saves that are not complete, by name and by when they were begun."""
  return {
    (path.name, path.stat().st_ctime_ns)
    for path in workdir.glob("*orbax-checkpoint-tmp*")
  }


def _state(
  workdir: pathlib.Path, starting: bool, before: set[tuple[str, int]]
) -> dict[str, Any]:
  unfinished = _unfinished(workdir)
  names = [path.name for path in workdir.iterdir()] if workdir.exists() else []
  last = max((int(name) for name in names if name.isdigit()), default=0)
  recorded = _recorded(workdir)
  return {
    "while": "starting" if starting else "training",
    "recorded": recorded,
    "checkpoint": last,
    "cut_short": bool(unfinished - before),
    "steps_again": max(recorded - last, 0),
  }


def _losses(workdir: pathlib.Path) -> dict[str, list[float]]:
  records = metrics_lib.read(str(workdir))
  return {
    kind: [record[kind] for record in records if kind in record]
    for kind in ("loss", "held_out_loss")
  }


def write(rows, after, losses) -> list[results.Claim]:
  """Writes the file, also when there are no losses yet; returns the claims."""
  found = claims(rows, after, losses)
  results.write(
    flags.FLAGS.out,
    command=results.command_line(),
    seeds=[flags.FLAGS.seed],
    data={"kills": rows, "after": after, "losses": losses},
    claims=found,
  )
  return found


def main(argv: Sequence[str]) -> None:
  """Runs both parts and writes the file."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  logging.set_verbosity(logging.WARNING)  # orbax is talkative
  _CONTEXT.set_forkserver_preload(["jaxttc.training.recipes", "tensorboardX"])
  steps, seed = flags.FLAGS.steps, flags.FLAGS.seed
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    train = KILLED | {"steps": steps}
    until_done(folder / "calm", train, 0, seed)
    rows = until_done(folder / "killed", train, flags.FLAGS.kills, seed)
    after = compared(folder / "calm", folder / "killed", steps)
    write(rows, after, {})
    losses = spread(folder, flags.FLAGS.spread_steps)
  found = write(rows, after, losses)
  for claim in found:
    print(f"{claim.name}: {claim.figure}")


if __name__ == "__main__":
  flags.DEFINE_integer("kills", 21, "Times that the run is killed.", 1)
  flags.DEFINE_integer("steps", 160, "Steps of the run that is killed.", 1)
  flags.DEFINE_integer("spread_steps", 50, "Steps on each set of devices.", 1)
  flags.DEFINE_integer("seed", 0, "Seed of the moments.")
  flags.DEFINE_string(
    "out", "docs/results/training_faults.json", "Results file."
  )
  # Simulated devices take turns on few cores, and one may be waited for long.
  os.environ["XLA_FLAGS"] = " ".join(
    [os.environ.get("XLA_FLAGS", ""), *_PATIENCE]
  )
  jax.config.update("jax_num_cpu_devices", 8)
  script.run(main, __file__)
