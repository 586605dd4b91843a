# SPDX-License-Identifier: Apache-2.0
"""A cascade of two models that are really trained, predicted and then run.

Events are generated: few are relevant, and what makes them so is partly linear
in a few cheap features, partly not linear in all of them. A logistic model of
the cheap features is stage 1, a network of all features is stage 2; operations
are FLOPs, counted from their programs. Their scores on one set of events make
the graph; another set, filtered one by one, says whether it predicted right.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np
import optax

from jaxttc.cost import jaxpr_flops
from jaxttc.simulation.detectors import classifiers, complexity, copula
from jaxttc.simulation.detectors import graph as graph_lib

_CHUNK = 20_000  # events that are scored at once


@dataclasses.dataclass(kw_only=True)
class CascadeRecipe:
  """What is generated, trained and cut.

  Attributes:
    prevalence: share of events that are relevant.
    features: of an event; the first `cheap` are what stage 1 sees.
    cheap: features of stage 1.
    signal: distance of relevant events' cheap features, in their deviations.
    bend: strength of what only a network finds in the others.
    hidden: units of each of stage 2's two hidden layers.
    training_events: of which half are relevant.
    steps: of training.
    batch: events a step.
    learning_rate: of training.
    events: in the set that makes the graph, and in the held-out set.
    keep_first: stage 1 keeps one in so many.
    keep_all: the cascade keeps one in so many.
    bootstrap: samples of the scores that intervals are taken over.
  """

  prevalence: float = 1e-3
  features: int = 24
  cheap: int = 6
  signal: float = 2.5
  bend: float = 1.6
  hidden: int = 64
  training_events: int = 40_000
  steps: int = 600
  batch: int = 512
  learning_rate: float = 3e-3
  events: int = 400_000
  keep_first: float = 8.0
  keep_all: float = 1000.0
  bootstrap: int = 64

  def validate(self) -> "CascadeRecipe":
    """Checks the settings.

    Raises:
      ValueError: naming the setting and what was expected.
    """
    if not 0 < self.prevalence < 1:
      raise ValueError(f"prevalence {self.prevalence} is not between 0 and 1")
    if not 0 < self.cheap < self.features:
      raise ValueError(
        f"cheap must be between 0 and {self.features} features, got "
        f"{self.cheap}"
      )
    if not 1 <= self.keep_first <= self.keep_all:
      raise ValueError(
        "expected 1 <= keep_first <= keep_all, got "
        f"{self.keep_first} and {self.keep_all}"
      )
    for field in ("hidden", "training_events", "steps", "batch", "bootstrap"):
      if getattr(self, field) < 1:
        raise ValueError(f"{field} must be at least 1")
    if self.events * self.prevalence < 20:
      raise ValueError(
        f"{self.events} events hold {self.events * self.prevalence:g} relevant "
        "ones on average; expected at least 20"
      )
    return self


class Stages(NamedTuple):
  """Two trained models and what they cost.

  Attributes:
    linear: weights f[cheap] and bias of stage 1.
    network: layers of stage 2, (weights, bias) each.
    linear_flops: of stage 1 on one event.
    network_flops: of stage 2 on one event.
  """

  linear: tuple[Float[Array, " F"], Float[Array, ""]]
  network: tuple[tuple[jax.Array, jax.Array], ...]
  linear_flops: int
  network_flops: int


class Scored(NamedTuple):
  """Both stages' scores of some events.

  Attributes:
    first: f[N], stage 1's.
    second: f[N], stage 2's.
    labels: bool[N], whether each event is relevant.
  """

  first: np.ndarray
  second: np.ndarray
  labels: np.ndarray


def generate(
  recipe: CascadeRecipe, key: jax.Array, labels: np.ndarray
) -> Float[Array, "N F"]:
  """Features of events, given whether each is relevant.

  Relevant events have their cheap features moved up together, and the other
  features pairwise correlated: no linear model sees that.
  """
  truth = jnp.asarray(labels, jnp.float32)[:, None]
  noise = jax.random.normal(key, (len(labels), recipe.features))
  cheap = noise[:, : recipe.cheap]
  cheap = cheap + truth * recipe.signal / recipe.cheap**0.5
  rest = noise[:, recipe.cheap :]
  half = rest.shape[1] // 2
  mixed = (rest[:, half:] + recipe.bend * _paired(rest, half)) / jnp.sqrt(
    1 + recipe.bend**2
  )
  moved = truth * mixed + (1 - truth) * rest[:, half:]
  return jnp.concatenate([cheap, rest[:, :half], moved], axis=1)


def _paired(rest: jax.Array, half: int) -> jax.Array:
  """The partner of each of the later features among the earlier."""
  return rest[:, jnp.arange(rest.shape[1] - half) % max(half, 1)]


def linear_scores(
  model: tuple[jax.Array, jax.Array], x: Float[Array, "N F"]
) -> Float[Array, " N"]:
  """Log odds of stage 1, which reads as many features as it has weights."""
  weights, bias = model
  return x[:, : len(weights)] @ weights + bias


def network_scores(
  layers: tuple[tuple[jax.Array, jax.Array], ...], x: Float[Array, "N F"]
) -> Float[Array, " N"]:
  """Log odds of stage 2."""
  for weights, bias in layers[:-1]:
    x = jax.nn.gelu(x @ weights + bias[None])
  weights, bias = layers[-1]
  return (x @ weights + bias[None])[:, 0]


def train(recipe: CascadeRecipe, key: jax.Array) -> Stages:
  """Trains both models on the same balanced events."""
  keys = jax.random.split(key, 4)
  labels = np.arange(recipe.training_events) % 2 == 0
  x = generate(recipe, keys[0], labels)
  y = jnp.asarray(labels, jnp.float32)
  sizes = (recipe.features, recipe.hidden, recipe.hidden, 1)
  layers = tuple(
    (
      jax.random.normal(jax.random.fold_in(keys[1], i), (fan, out))
      * (2.0 / fan) ** 0.5,
      jnp.zeros(out),
    )
    for i, (fan, out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
  )
  linear = (jnp.zeros(recipe.cheap), jnp.zeros(()))
  linear = _fit(recipe, linear_scores, linear, x, y, keys[2])
  layers = _fit(recipe, network_scores, layers, x, y, keys[3])
  one = jax.ShapeDtypeStruct((1, recipe.features), jnp.float32)
  return Stages(
    linear,
    layers,
    jaxpr_flops.count_flops(linear_scores, linear, one),
    jaxpr_flops.count_flops(network_scores, layers, one),
  )


def _fit(recipe, score, model, x, y, key):
  """Minimises the logistic loss by Adam over random batches."""
  schedule = optax.cosine_decay_schedule(recipe.learning_rate, recipe.steps)
  optimiser = optax.adam(schedule)

  def loss(model, rows):
    logits = score(model, x[rows])
    return optax.sigmoid_binary_cross_entropy(logits, y[rows]).mean()

  def step(carry, step_key):
    model, state = carry
    rows = jax.random.randint(step_key, (recipe.batch,), 0, len(y))
    updates, state = optimiser.update(jax.grad(loss)(model, rows), state)
    return (optax.apply_updates(model, updates), state), None

  keys = jax.random.split(key, recipe.steps)
  run = jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[0][0])
  return run((model, optimiser.init(model)))


def score(recipe: CascadeRecipe, stages: Stages, key: jax.Array) -> Scored:
  """Draws events at the recipe's prevalence and scores them by both stages."""
  label_key, feature_key = jax.random.split(key)
  uniform = jax.random.uniform(label_key, (recipe.events,))
  labels = np.asarray(uniform < recipe.prevalence)

  @jax.jit
  def both(x):
    return linear_scores(stages.linear, x), network_scores(stages.network, x)

  parts = []
  for i in range(0, recipe.events, _CHUNK):
    some = labels[i : i + _CHUNK]
    x = generate(recipe, jax.random.fold_in(feature_key, i), some)
    parts.append([np.asarray(values, np.float64) for values in both(x)])
  first, second = (
    np.concatenate(values) for values in zip(*parts, strict=True)
  )
  return Scored(first, second, labels)


def graph(
  recipe: CascadeRecipe,
  stages: Stages,
  first: classifiers.Empirical,
  second: classifiers.Empirical,
  *,
  correlation: np.ndarray | None = None,
) -> graph_lib.PipelineGraph:
  """The cascade as a graph: one event a second, one joule a FLOP.

  Args:
    recipe: its ratios and prevalence.
    stages: its operations.
    first: scores of stage 1.
    second: scores of stage 2.
    correlation: f[2], of the stages' normal scores in each class; None if
      they are taken as independent, or `second` is of events that passed.
  """
  loading, turned = (0.0, 0.0), (0.0, 0.0)
  if correlation is not None:
    roots = np.sqrt(np.abs(correlation))
    loading = tuple(roots.tolist())
    turned = tuple((roots * np.sign(correlation)).tolist())
  return graph_lib.create(
    [
      graph_lib.Stage(name="events", sample_rate=1.0, data_bytes=1.0),
      graph_lib.Stage(
        name="linear",
        reduction=recipe.keep_first,
        classifier=first,
        complexity=complexity.Linear(0.0, float(stages.linear_flops)),
        op_energy=1.0,
        loading=loading,
      ),
      graph_lib.Stage(
        name="network",
        reduction=recipe.keep_all / recipe.keep_first,
        classifier=second,
        complexity=complexity.Linear(0.0, float(stages.network_flops)),
        op_energy=1.0,
        loading=turned,
      ),
    ],
    [
      graph_lib.Link(source="events", target="linear"),
      graph_lib.Link(source="linear", target="network"),
    ],
    prevalence=recipe.prevalence,
    quadrature=1 if correlation is None else 64,
  )


def graphs(
  recipe: CascadeRecipe, stages: Stages, scored: Scored
) -> dict[str, graph_lib.PipelineGraph]:
  """The cascade under three beliefs about how its stages' scores depend.

  `independent` given the truth; `copula`: with the correlation of their ranks;
  `conditional`: stage 2's scores are those of the events that stage 1 keeps,
  which supposes nothing, but holds for this stage 1 only.
  """
  first = classifiers.measured(scored.first, scored.labels)
  second = classifiers.measured(scored.second, scored.labels)
  cut = np.quantile(scored.first, 1 - 1 / recipe.keep_first)
  passed = scored.first > cut
  reached = classifiers.measured(scored.second[passed], scored.labels[passed])
  correlation = copula.correlations(scored.first, scored.second, scored.labels)
  return {
    "independent": graph(recipe, stages, first, second),
    "copula": graph(recipe, stages, first, second, correlation=correlation),
    "conditional": graph(recipe, stages, first, reached),
  }


def filtered(
  scored: Scored, levels: tuple[float, float]
) -> Float[np.ndarray, "2 2"]:
  """Counts of events that a cascade rejects and keeps, taken one by one.

  Rows: rejected, kept; columns: irrelevant, relevant.
  """
  kept = (scored.first > levels[0]) & (scored.second > levels[1])
  return np.asarray(
    [
      [(decision & truth).sum() for truth in (~scored.labels, scored.labels)]
      for decision in (~kept, kept)
    ],
    np.float64,
  )
