# SPDX-License-Identifier: Apache-2.0
r"""What routers gain on kinds of questions that they never saw.

    python scripts/study_routing.py --config=configs/routing_domains.py \
      --workdir=runs/routing_domains --out=docs/results/routing_domains

The data are those of configs/routing.py. A few minutes on one CPU core; a
stopped run goes on where it was.
"""

from jaxttc.studies import routing_study


def get_config() -> routing_study.StudyRecipe:
  """The study; every field can be overridden with `--config.field=value`."""
  return routing_study.StudyRecipe(
    data="../shared/data/llm_routing/nine_models_train.json",
    split="kinds",
    routers=(
      ("knn", ("knn(k=40)",)),
      ("ridge", ("ridge",)),
      ("familiar ridge", ("familiar(inner='ridge')",)),
    ),
    blended=("knn", "ridge"),
    shuffled=("ridge",),
    folds=3,
  )
