# SPDX-License-Identifier: Apache-2.0
r"""Routers against the clock: neighbours, and the sweep behind every interval.

    python -m benchmarks.routing_speed

Nearest neighbours: scores of K models by the k nearest of N questions, for a
batch, against scikit-learn's brute-force regressor with the same metric on the
same vectors. The sweep: choices at many prices, and their mean costs and
scores in many bootstrap resamples, in compiled calls. All on one core, one
thread, by turns; CPU seconds. Vectors and scores are random: no time depends
on them. Writes docs/results/routing_speed.json.
"""

from collections.abc import Callable, Sequence
import pathlib
from typing import Any, NamedTuple

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np
import sklearn.neighbors

from benchmarks import timing
from jaxttc import results
from jaxttc.allocators import routing as allocation
from jaxttc.evaluation import routing_curves
from jaxttc.predictors import routing

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_OUT = _ROOT / "docs" / "results" / "routing_speed.json"
_SWEEP_BAR = 5.0  # seconds


class Sizes(NamedTuple):
  """What is timed.

  Attributes:
    questions: N, those of the fit, and of the sweep.
    batch: questions asked at once.
    width: D, of a vector.
    models: K.
    neighbours: k.
    prices: of the sweep.
    resamples: of the bootstrap.
  """

  questions: int = 14042
  batch: int = 1024
  width: int = 88
  models: int = 9
  neighbours: int = 40
  prices: int = 256
  resamples: int = 200


def problem(sizes: Sizes, seed: int = 0) -> tuple[np.ndarray, ...]:
  """Vectors f32[N, D], scores f32[N, K] and a batch f32[B, D]."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(sizes.questions, sizes.width)).astype(np.float32)
  scores = (rng.random((sizes.questions, sizes.models)) < 0.5).astype(float)
  batch = rng.normal(size=(sizes.batch, sizes.width)).astype(np.float32)
  return x, scores, batch


def neighbours(sizes: Sizes, seed: int = 0) -> dict[str, Callable[[], Any]]:
  """Both ways to ask the neighbours, f[B, K] each, ready to be timed."""
  x, scores, batch = problem(sizes, seed)
  head = routing.neighbours.fit_knn(x, scores, k=sizes.neighbours)
  ask = jax.jit(lambda head, x: head(x))
  device = jnp.asarray(batch)
  theirs = sklearn.neighbors.KNeighborsRegressor(
    sizes.neighbours, algorithm="brute", metric="cosine"
  ).fit(x, scores)
  return {
    "jax": lambda: ask(head, device),
    "scikit-learn": lambda: theirs.predict(batch),
  }


def sweep(sizes: Sizes, seed: int = 0) -> Callable[[], Any]:
  """Hulls of a router of two models in all resamples."""
  rng = np.random.default_rng(seed)
  shape = (sizes.questions, 2)
  scores = (rng.random(shape) < 0.5).astype(float)
  costs = np.tile([[1.0, 10.0]], (sizes.questions, 1))
  forecast = routing.Forecast(
    jnp.asarray(rng.random(shape), jnp.float32),
    jnp.asarray(costs, jnp.float32),
  )
  prices = routing_curves.prices(costs, sizes.prices)
  weights = routing_curves.group_weights(
    np.arange(sizes.questions), sizes.resamples, rng
  )

  def run():
    choices = allocation.sweep(forecast, prices)
    return [
      front.score
      for front in routing_curves.resampled(choices, scores, costs, weights)
    ]

  return run


def measure(sizes: Sizes, repeats: int) -> tuple[dict, list[results.Claim]]:
  """Times everything; returns the data and the claims.

  Raises:
    RuntimeError: if the two ways to ask the neighbours disagree.
  """
  rivals = neighbours(sizes)
  ours, theirs = (np.asarray(rivals[name]()) for name in rivals)
  # Neighbours at next to equal distances may change places.
  if not (np.abs(ours - theirs) < 1e-4).mean() > 0.99:
    raise RuntimeError("the neighbours differ; times would not compare")
  seconds = timing.by_turns(rivals, repeats)
  swept = timing.by_turns({"sweep": sweep(sizes)}, repeats)["sweep"]
  claims = [
    results.Claim(
      "knn_scikit_learn_over_jax",
      **timing.ratio(seconds, "scikit-learn", "jax"),
    ),
    results.Claim(
      "knn_microseconds_a_question",
      1e6 * min(seconds["jax"]) / sizes.batch,
    ),
    results.Claim(
      "sweep_seconds", min(swept), min(swept), max(swept), _SWEEP_BAR, "<="
    ),
  ]
  data = {
    "sizes": sizes._asdict(),
    "seconds": {**seconds, "sweep": swept},
    "clock": "CPU seconds, one core, one thread",
  }
  return data, claims


def main(argv: Sequence[str]) -> None:
  """Measures, prints the claims, and writes the results file."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  timing.use_one_thread()
  data, claims = measure(Sizes(), flags.FLAGS.repeats)
  results.write(
    _OUT, command=results.command_line(), seeds=[0], data=data, claims=claims
  )
  results.show({_OUT.name: claims})


if __name__ == "__main__":
  flags.DEFINE_integer("repeats", 15, "Timed turns of each.", lower_bound=1)
  app.run(main)
