# SPDX-License-Identifier: Apache-2.0
r"""Samples solutions of generated problems, and makes data to tune with.

    python scripts/sample_pairs.py --policy=arithmetic_lm --problems=160 \
      --out=configs/data

Writes demonstrations.jsonl and pairs.jsonl. Solutions are kept beside them in
the workdir; run the same command again after a stop, and it goes on.
"""

import pathlib
import tempfile

from absl import app, flags, logging

from jaxttc import script
from jaxttc.inference import bundle
from jaxttc.tasks import arithmetic
from jaxttc.training import process_reward, sampled_pairs

_POLICY = flags.DEFINE_string("policy", "arithmetic_lm", "Who solves.")
_PROBLEMS = flags.DEFINE_integer("problems", 160, "How many.", lower_bound=1)
_SAMPLES = flags.DEFINE_integer("samples", 4, "A problem.", lower_bound=2)
_TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "Of sampling.")
_TOKENS = flags.DEFINE_integer("max_tokens", 128, "Longest solution.")
_SEED = flags.DEFINE_integer("seed", 0, "Of problems and sampling.")
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the solutions.")


def main(argv: list[str]) -> None:
  """Parses the flags, samples, and writes both files."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  logging.set_verbosity(logging.WARNING)
  folder = pathlib.Path(_WORKDIR.value or tempfile.mkdtemp())
  problems = arithmetic.problems(
    _PROBLEMS.value, split="train", seed=_SEED.value
  )
  try:
    solutions = process_reward.sample_solutions(
      bundle.load(_POLICY.value),
      problems,
      ["terse"] * len(problems),
      folder / "solutions.jsonl",
      samples=_SAMPLES.value,
      temperature=_TEMPERATURE.value,
      max_tokens=_TOKENS.value,
      seed=_SEED.value,
    )
    out = pathlib.Path(_OUT.value)
    for name, make in (
      ("demonstrations.jsonl", sampled_pairs.demonstrations),
      ("pairs.jsonl", sampled_pairs.pairs),
    ):
      count = sampled_pairs.write(out / name, make(solutions))
      print(f"{out / name}: {count} rows")
  except (ValueError, OSError) as error:
    raise SystemExit(f"sample_pairs.py: {error}") from None


if __name__ == "__main__":
  script.run(main, __file__)
