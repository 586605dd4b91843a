# SPDX-License-Identifier: Apache-2.0
"""Generated questions whose best router is known in closed form.

A question has a topic z and a difficulty d; model k answers it with
probability sigmoid(skill[k, z] - d), at a price of its own. Dearer models are
more skilled on average, but each has topics that it is good at. The embedding
holds both, in noise, so that a router has something to learn.
"""

import dataclasses

from jaxtyping import Float
import numpy as np
import scipy.special

from jaxttc.tasks.routing import table as table_lib

PRICES = (1.0, 3.0, 10.0, 30.0, 100.0)


@dataclasses.dataclass(frozen=True)
class LatentSkill:
  """A world of models and topics.

  Attributes:
    prices: what a call of each model costs.
    topics: how many topics there are.
    gain: how much the dearest model's mean skill is above the cheapest's.
    spread: standard deviation of a model's skills over topics.
    noise: standard deviation of what is added to embeddings.
    seed: draws the skills.
  """

  prices: tuple[float, ...] = PRICES
  topics: int = 8
  gain: float = 3.0
  spread: float = 1.0
  noise: float = 0.0
  seed: int = 0

  def skills(self) -> Float[np.ndarray, "K Z"]:
    """The skill of each model on each topic, in logits."""
    rng = np.random.default_rng(self.seed)
    mean = np.linspace(0, self.gain, len(self.prices))[:, None]
    return mean + self.spread * rng.normal(size=(len(mean), self.topics))

  def draw(
    self, count: int, seed: int
  ) -> tuple[table_lib.RoutingTable, Float[np.ndarray, "N K"]]:
    """Draws questions.

    Args:
      count: questions N.
      seed: of the draw; the world stays the same.

    Returns:
      The table, with embeddings f32[N, topics + 1], and the probability
      f64[N, K] of each of its scores to be 1.

    Raises:
      ValueError: as `RoutingTable`.
    """
    rng = np.random.default_rng((self.seed, seed))
    topic = rng.integers(self.topics, size=count)
    difficulty = rng.normal(1.0, 1.5, size=count)
    chance = scipy.special.expit(
      self.skills()[:, topic].T - difficulty[:, None]
    )
    seen = np.concatenate([np.eye(self.topics)[topic], difficulty[:, None]], 1)
    seen = seen + self.noise * rng.normal(size=seen.shape)
    table = table_lib.RoutingTable(
      prompts=tuple(f"topic {z}, question {i}" for i, z in enumerate(topic)),
      models=tuple(f"model-{k}" for k in range(len(self.prices))),
      scores=(rng.random(chance.shape) < chance).astype(np.float64),
      costs=np.tile(self.prices, (count, 1)),
      unit="price",
      embeddings=seen.astype(np.float32),
    )
    return table, chance
