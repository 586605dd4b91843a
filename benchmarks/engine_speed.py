# SPDX-License-Identifier: Apache-2.0
"""How fast the engine is, as ratios to rivals run in the same process.

    python -m benchmarks.engine_speed
    python -m benchmarks.engine_speed --only=decode --only=refill

Needs torch, transformers, mctx (the `bench` extra) and matplotlib. Times are
CPU seconds of this process, pinned to one core with one thread on either side;
rivals take turns, after a turn that is not timed, and the least time of each
counts (`timing`). An interval is the range of a ratio over the turns.

Writes docs/results/engine_speed.json and .png. With --only, the other parts
keep their last figures.
"""

from collections.abc import Callable, Sequence
import os
from typing import Any

from absl import app, flags, logging
import jax
import mctx
import torch
import transformers

from benchmarks import (
  decoding,
  scaling,
  search_forms,
  slot_refill,
  timing,
  tree_reuse,
  tree_search,
)
from jaxttc import results
from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import config as config_lib
from jaxttc.models import transformer

_LLAMA_100M = config_lib.TransformerConfig(
  vocab_size=32_000,
  width=768,
  layers=8,
  heads=12,
  kv_heads=4,
  head_dim=64,
  mlp_width=2048,
  tie_embeddings=False,
)


def _decode(repeats: int) -> dict[str, Any]:
  policy = bundle_lib.load("arithmetic_lm")
  return decoding.against_generate(
    policy.config, policy.params, batches=(1, 8, 32), repeats=repeats
  )


def _decode_100m(repeats: int) -> dict[str, Any]:
  model = transformer.Transformer(_LLAMA_100M)
  params = transformer.init(jax.random.key(0), model)
  return decoding.against_generate(
    _LLAMA_100M, params, batches=(8,), repeats=repeats
  )


def _shared_prompt(repeats: int) -> dict[str, Any]:
  policy = bundle_lib.load("arithmetic_lm")
  return decoding.shared_prompt(policy.config, policy.params, repeats=repeats)


def _tree_cache(repeats: int) -> dict[str, Any]:
  policy = bundle_lib.load("arithmetic_lm")
  return tree_reuse.against_recompute(
    policy.config, policy.params, repeats=repeats
  )


def _refill(repeats: int) -> dict[str, Any]:
  policy = bundle_lib.load("arithmetic_lm")
  return slot_refill.against_static(policy, repeats=repeats)


def _tree_search(repeats: int) -> dict[str, Any]:
  return tree_search.run(simulations=(64, 512), repeats=repeats)


def _search_forms(repeats: int) -> dict[str, Any]:
  policy = bundle_lib.load("arithmetic_lm")
  verifier = bundle_lib.load("arithmetic_prm")
  return search_forms.against_driver(policy, verifier, repeats=repeats)


def _scaling(repeats: int) -> dict[str, Any]:
  del repeats
  policy = bundle_lib.load("arithmetic_lm")
  return scaling.measure(policy.config, policy.params)


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
  "decode": _decode,
  "decode_100m": _decode_100m,
  "shared_prompt": _shared_prompt,
  "tree_cache": _tree_cache,
  "refill": _refill,
  "tree_search": _tree_search,
  "search_forms": _search_forms,
  "scaling": _scaling,
}

_ONLY = flags.DEFINE_multi_enum(
  "only", [], list(PARTS), "Parts to run; all if none is named."
)
_TURNS = flags.DEFINE_integer("turns", 5, "Timed turns of each rival.", 1)
_RESULTS = flags.DEFINE_string(
  "results",
  "docs/results/engine_speed",
  "Where .json and .png go, less suffix.",
)


def claims(data: dict[str, Any]) -> list[results.Claim]:
  """The claims of the parts that have been run."""
  found = []

  def hold(name: str, ratio: dict[str, float], bar: float) -> None:
    found.append(
      results.Claim(name, ratio["value"], ratio["low"], ratio["high"], bar)
    )

  for row in data.get("decode", {}).get("rows", ()):
    bar = {1: 4.0, 8: 2.0, 32: 1.5}[row["batch"]]
    hold(f"decode_over_transformers_b{row['batch']}", row["ratio"], bar)
  for row in data.get("decode_100m", {}).get("rows", ()):
    hold("decode_over_transformers_100m_b8", row["ratio"], 1.0)
  if part := data.get("shared_prompt"):
    hold("shared_prompt_over_num_return_sequences", part["ratio"], 4.0)
  if part := data.get("tree_cache"):
    hold("tree_cache_over_recompute", part["rows"][-1]["ratio"], 4.0)
  if part := data.get("refill"):
    hold("refill_over_static", part["ratio"], 2.0)
    count = results.Claim(
      "recompiles_in_steady_state",
      part["recompiles"],
      bar=0,
      comparison="<=",
    )
    found.append(count)
  if part := data.get("tree_search"):
    ratio = part["tree_search_over_mctx"]
    found.append(results.Claim("tree_search_over_mctx", ratio, bar=3.0))
  if part := data.get("search_forms"):
    hold("compiled_over_host_driven", part["ratio"], None)
  return found


def run(parts: Sequence[str], repeats: int, out: str) -> list[results.Claim]:
  """Runs parts, and writes all figures that there are.

  Args:
    parts: names of `PARTS`.
    repeats: timed turns of each rival.
    out: path of the results file and the picture, without suffix.

  Returns:
    All claims in the file, those of parts that were not run included.
  """
  path = f"{out}.json"
  data = results.read(path).data if os.path.exists(path) else {}
  for name in parts:
    logging.info("engine_speed: %s", name)
    data[name] = PARTS[name](repeats)
    data["peers"] = {
      module.__name__: module.__version__
      for module in (torch, transformers, mctx)
    }
    results.write(
      path,
      command=results.command_line(),
      seeds=[0],
      data=data,
      claims=claims(data),
    )
  if "scaling" in data and "tree_cache" in data:
    scaling.draw(data["scaling"], data["tree_cache"]["rows"], f"{out}.png")
  return claims(data)


def main(argv: Sequence[str]) -> None:
  """Runs the parts asked for, and prints the claims."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  timing.use_one_thread()
  transformers.utils.logging.set_verbosity_error()
  for claim in run(_ONLY.value or list(PARTS), _TURNS.value, _RESULTS.value):
    bar = "" if claim.bar is None else f"  ({claim.comparison} {claim.bar:g})"
    print(f"{claim.name:42s} {claim.figure}{bar}")


if __name__ == "__main__":
  app.run(main)
