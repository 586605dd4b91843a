# SPDX-License-Identifier: Apache-2.0
r"""Solves problems under a budget: a config file in, JSON lines out.

    python scripts/solve.py
    python scripts/solve.py --config.problems.path=questions.jsonl \
      --config.decoder="particle_filter(particles=8)" \
      --config.budget=generated_tokens=800,verifier_calls=64 --out=out.jsonl

    python scripts/solve.py --config.policy=http://localhost:8000/v1 \
      --config.model=NAME --config.decoder="self_consistency(n=8)"

    python scripts/solve.py --task=math500:particle_filter \
      --problems=test.jsonl --model=Llama-3.2-1B-Instruct \
      --reward=Qwen2.5-Math-PRM-7B

    python scripts/solve.py --model=nested_lm --width=0.5

    python scripts/solve.py --mesh=data=4,tensor=2
    python scripts/solve.py --processes=auto --mesh=data=8,tensor=4

--task, --problems, --model and --reward are short for --config=configs/TASK.py,
--config.problems.path, --config.policy with --config.problems.chat, and
--config.verifier; --width=0.5 for --config.width: how much of a policy that
was trained at several widths; --dtype=int8 (or float32, bfloat16, float16) for
--config.dtype: what models in this process are kept in; --attention=plain (or
auto, fused) for --config.attention; --budget, --decoder, --seed and --count
for --config.budget, .decoder, .seed and .problems.count. What the task's
recipe leaves open (PROBLEMS, POLICY, VERIFIER) must be named.

    python scripts/solve.py --policy=auto --budget=generated_tokens=80 \
      --picture=runs/solve/budget.png
    python scripts/solve.py --router=nested_lm@0.25,nested_lm@0.5,nested_lm \
      --budget=flops=300M

--policy=auto (or a file of scripts/study_policy.py --export) chooses for every
problem a decoder and a cap, or none, so that all problems together keep the
budget, which is then the mean of a problem: docs/policies.md. For models that
the policy was not fitted to, it is --policy=plain: one solution each, and
doubtful answers are asked again. A text of stages puts one together, of
searches, ways to think and programs, such as

    --policy="decode=two_speed(tau=0.4)@200 + parts()@200; verify=unfinished"

--router names several models, the cheapest first; the policy then chooses among
these, too: docs/routing.md.

    python scripts/solve.py --model=runs/router.npz \
      --config.routing.price=1e-9 --config.routing.log=runs/decisions.jsonl

A file of scripts/fit_router.py stands for its models: each problem is asked of
the one that it picks.

    python scripts/solve.py --thinking="guided(budget=14)"
    python scripts/solve.py --model=Qwen3-1.7B --problems=test.jsonl \
      --thinking="hard_cap(budget=2000)" --config.sampling.max_tokens=3000

    python scripts/solve.py --reward=arithmetic_verifier \
      --decoder="best_of_n(n=8, verifications=4)" --budget=flops=3G
    python scripts/solve.py --policy=solve_or_verify \
      --reward=arithmetic_verifier --budget=flops=6400M

--reward may name a generative verifier, which writes checks of whole solutions;
--policy=solve_or_verify splits a budget of FLOPs between solutions and checks:
docs/solve_or_verify.md.

--thinking decodes a model that thinks before it answers, each thought within
its budget, in place of a search: docs/budget_guidance.md. By itself it takes
configs/thinking.py, the embedded model that thinks. Answers then say how many
tokens each thought took, and how it ended. With
--thinking="guided(budget=10, adaptive='thinking_difficulty')" the budget is the
mean of a question, and harder ones get more of it.

--mesh spreads problems and models over devices, --processes joins those of
other hosts: docs/scaling_out.md says which to use when.

With --ledger=runs/mine.jsonl what was computed is kept there, for
scripts/cost.py.

Run the same command again after a stop, or a kill, and it goes on after the
last problem answered. Override any field of the recipe: --config.seed=1.
"""

import functools
import pathlib
import shlex
import sys

from absl import app, flags
import rich

from jaxttc import arguments, page, script
from jaxttc import mesh as mesh_lib
from jaxttc.cost import ledger_file
from jaxttc.solving import (
  answer_rows,
  policy_report,
  policy_solving,
  search_solving,
  short_arguments,
  thinking_solving,
)

_ROOT = pathlib.Path(__file__).resolve().parents[1]
for _name, _help in short_arguments.SHORT.items():
  flags.DEFINE_string(_name, None, _help)

if __name__ == "__main__":  # config flags read the arguments when defined
  try:
    sys.argv = short_arguments.written_out(sys.argv, _ROOT / "configs")
  except ValueError as error:
    raise SystemExit(f"solve.py: {error}") from None

_CONFIG = arguments.define_config(
  "config",
  str(_ROOT / "configs" / "solve.py"),
  "File with get_config() -> SolveRecipe.",
)
_OUT = flags.DEFINE_string("out", "runs/solve/answers.jsonl", "Answers.")
_LEDGER = flags.DEFINE_string(
  "ledger", None, "Keep what was computed here, as JSON lines."
)
_PROGRESS = flags.DEFINE_bool("progress", True, "Show a progress bar.")
_MESH = flags.DEFINE_string(
  "mesh", "", "Devices, such as data=4,tensor=2; one if empty."
)
_POLICY = flags.DEFINE_string(
  "policy",
  None,
  "A budget policy: auto, plain, solve_or_verify, a file, or stages, such as "
  "'decode=best_of_n(n=4) + guided(budget=14); verify=doubt'.",
)
_PICTURE = flags.DEFINE_string(
  "picture", None, "With --policy: draw where each problem's budget went."
)
_ROUTER = flags.DEFINE_list(
  "router",
  [],
  "Models to choose from, cheapest first, as nested_lm@0.5,nested_lm; with "
  "--policy, which is auto if not given.",
)
_PROCESSES = flags.DEFINE_string(
  "processes", "", "Join others: auto, or HOST:PORT,COUNT,INDEX."
)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  try:
    mesh_lib.join(_PROCESSES.value)
    ledger = None
    if _LEDGER.value and mesh_lib.is_first():
      ledger = ledger_file.opened(
        _LEDGER.value, pathlib.Path(_LEDGER.value).stem
      )
    policy = _POLICY.value or ("auto" if _ROUTER.value else None)
    if _PICTURE.value and not policy:
      raise ValueError("--picture shows what a policy did; give --policy, too")
    if _PICTURE.value:
      page.check(_PICTURE.value)
    thinks = bool(_CONFIG.value.thinking)
    run = (
      thinking_solving.solve_to_file if thinks else search_solving.solve_to_file
    )
    if policy:
      for argument in sys.argv:
        if argument.lstrip("-").partition("=")[0] == "config.decoder":
          raise ValueError(f"{argument}: a policy chooses the decoders")
      run = functools.partial(
        policy_solving.solve_to_file, policy=policy, router=_ROUTER.value
      )
    rows = run(
      _CONFIG.value,
      _OUT.value,
      progress=_PROGRESS.value,
      mesh=mesh_lib.parse(_MESH.value),
      ledger=ledger,
    )
  except (ValueError, ImportError) as error:
    raise SystemExit(f"solve.py: {error}") from None
  except KeyboardInterrupt:
    print(
      f"\nsolve.py: stopped; {_OUT.value} keeps what is done. To go on:\n"
      f"  {shlex.join(['python', *sys.argv])}",
      file=sys.stderr,
    )
    raise SystemExit(130) from None
  if mesh_lib.is_first():
    rich.print(answer_rows.summary(rows))
    if thinks:
      rich.print(thinking_solving.table(rows))
    if policy:
      rich.print(policy_report.table(rows))
    if _PICTURE.value:
      policy_report.draw(rows, _PICTURE.value)
      print(f"picture: {_PICTURE.value}")
    print(f"answers: {_OUT.value}")


if __name__ == "__main__":
  script.run(main, __file__)
