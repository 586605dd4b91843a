# SPDX-License-Identifier: Apache-2.0
r"""Fits a router between models to what each answered to the same problems.

    for width in 0.25 1; do
      python scripts/solve.py --model=nested_lm --width=$width --count=200 \
        --config.problems.split=train --out=runs/answers_$width.jsonl
    done
    python scripts/fit_router.py --out=runs/router.npz \
      --answers=runs/answers_0.25.jsonl,runs/answers_1.jsonl
    python scripts/solve.py --model=runs/router.npz --config.routing.price=1e-9

The router's file stands for its models in scripts/solve.py and
scripts/serve.py: docs/routing.md.
"""

from absl import app, flags

from jaxttc import script
from jaxttc.solving import router_fitting

_ANSWERS = flags.DEFINE_list(
  "answers", None, "Files of scripts/solve.py, a model each.", required=True
)
_OUT = flags.DEFINE_string("out", "runs/router.npz", "The router's file.")
_HEAD = flags.DEFINE_string("head", "ridge", "Its head, such as knn(k=40).")
_FIELD = flags.DEFINE_string("field", "flops", "What costs are counted in.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the fit.")


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  try:
    file = router_fitting.fit_to_file(
      _ANSWERS.value,
      _OUT.value,
      head=_HEAD.value,
      field=_FIELD.value,
      seed=_SEED.value,
    )
  except (ValueError, ImportError) as error:
    raise SystemExit(f"fit_router.py: {error}") from None
  print(f"{_OUT.value}: {', '.join(file.models)}; {file.origin}")


if __name__ == "__main__":
  script.run(main, __file__)
