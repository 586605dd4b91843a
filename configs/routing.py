# SPDX-License-Identifier: Apache-2.0
r"""Routing between nine language models, priced by their parameters.

    python scripts/study_routing.py --config=configs/routing.py \
      --workdir=runs/routing --out=docs/results/routing

The data are `question`, `scores` of each model: the file
nine_models_train.json of ulab-uiuc/LLMRouter (docs/routing.md). A few minutes
on one CPU core; a stopped run goes on where it was.
"""

from jaxttc.studies import routing_study


def get_config() -> routing_study.StudyRecipe:
  """The study; every field can be overridden with `--config.field=value`."""
  return routing_study.StudyRecipe(
    data="../shared/data/llm_routing/nine_models_train.json",
    routers=(
      ("elo", ("elo",)),
      ("similarity", ("similarity", "similarity(sharpness=3.0)")),
      ("knn", ("knn(k=20)", "knn(k=40)", "knn(k=80)")),
      ("ridge", ("ridge",)),
      ("mlp", ("mlp(epochs=5)", "mlp(epochs=10, decay=1.0)")),
      ("factors", ("factors(epochs=20, rate=1e-3)",)),
      (
        "factors without ties",
        ("factors(epochs=20, rate=1e-3, keep_ties=False)",),
      ),
      ("hybrid", ("hybrid(kind='soft')", "hybrid(kind='hard')")),
      (
        "contrastive",
        ("contrastive(epochs=20)", "contrastive(epochs=20, rate=3e-3)"),
      ),
      ("graph", ("graph(epochs=10)", "graph(epochs=20)")),
      ("boosting", ("boosting(trees=60, rate=0.1)",)),
      ("forest", ("forest(trees=150)",)),
    ),
    blended=("knn", "ridge", "mlp", "boosting", "forest"),
  )
