# SPDX-License-Identifier: Apache-2.0
"""Arguments of scripts/solve.py that are short for fields of its recipe."""

from collections.abc import Sequence
import pathlib

from jaxttc.solving import protocols

SHORT = {
  "task": "A benchmark: gsm8k, math500 or aime; TASK:METHOD for a method.",
  "problems": "Its problems, a JSON-lines file.",
  "model": "The policy: a Hugging Face directory, a file, or a URL.",
  "reward": "The reward model, or a generative verifier, likewise.",
  "width": "Share of the policy's width to use, of those it was trained at.",
  "dtype": "Of models in this process: float32, bfloat16, float16 or int8.",
  "attention": "How they compute it: auto, plain or fused.",
  "thinking": "How a model thinks, such as guided(budget=120).",
  "budget": "Of a problem, such as generated_tokens=400,flops=2G.",
  "decoder": "Such as astar(children=4).",
  "count": "How many problems.",
  "seed": "Of all sampling.",
}
# The fields that they set; "task" names a config.
_FIELDS = {
  "problems": "problems.path",
  "model": "policy",
  "reward": "verifier",
  "width": "width",
  "dtype": "dtype",
  "attention": "attention",
  "thinking": "thinking",
  "budget": "budget",
  "decoder": "decoder",
  "count": "problems.count",
  "seed": "seed",
}


def written_out(arguments: Sequence[str], configs: pathlib.Path) -> list[str]:
  """Command-line arguments with the `SHORT` ones written out.

  Args:
    arguments: of the command, its own name first.
    configs: folder of the configs of `protocols.TASKS`.

  Returns:
    As many as are needed, --config before what overrides its fields. Where
    there is none, "thinking" takes that of the embedded model that thinks.

  Raises:
    ValueError: if the task or its method is unknown; names the nearest.
  """
  program, *rest = arguments
  config, others, thinks = [], [], False
  while rest:
    argument = rest.pop(0)
    name, equals, value = argument.lstrip("-").partition("=")
    if not argument.startswith("--") or name not in SHORT:
      others.append(argument)
      continue
    if not equals:
      value = rest.pop(0) if rest else ""
    if name == "task":
      task, _, method = value.partition(":")
      protocols.recipe(task, method)
      config = [f"--config={configs / f'{task}.py'}" + value[len(task) :]]
    else:
      others.append(f"--config.{_FIELDS[name]}={value}")
      thinks = thinks or name == "thinking"
      if name == "model" and pathlib.Path(value).is_dir():
        others.append(f"--config.problems.chat={value}")
  if thinks and not config and not any(map(_names_config, others)):
    config = [f"--config={configs / 'thinking.py'}"]
  return [program, *config, *others]


def _names_config(argument: str) -> bool:
  return argument.lstrip("-").partition("=")[0] == "config"
