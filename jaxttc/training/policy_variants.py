# SPDX-License-Identifier: Apache-2.0
"""The policy gradients that people know by name, as settings of ours.

| name    | advantage | ratio, bounds          | tokens add up as    |
| grpo    | grpo      | token, 0.2 / 0.2       | seq_mean_token_mean |
| dapo    | grpo      | token, 0.2 / 0.28      | token_mean          |
| dr_grpo | dr_grpo   | token, 0.2 / 0.2       | fixed_length        |
| rloo    | rloo      | token, 0.2 / 0.2       | seq_mean_token_sum  |
| gspo    | grpo      | sequence, 3e-4 / 4e-4  | seq_mean_token_mean |
| cispo   | grpo      | token, weight up to 5  | token_mean          |
| ppo     | critic    | token, 0.2 / 0.2       | token_mean          |

DAPO's sampling is `rollouts.strategy="dynamic_sampling"`, its penalty of long
answers `rewards.overlong`. References are in `policy_losses` and
`group_advantages`; CISPO's paper does not tell its bound, which is one of
weights: it stops no step that goes too far, so mind the rate and `kl_old`. PPO
compares no groups, so its rollouts are uniform.
"""

import dataclasses
from typing import Any, NamedTuple

from jaxttc.tasks import problems as problems_lib
from jaxttc.training import critic_network, policy_losses


class Variant(NamedTuple):
  """What a name stands for.

  Attributes:
    advantage: of `rollout_config.RolloutConfig`.
    loss: the policy loss.
    critic: how a critic learns; None without one.
  """

  advantage: str
  loss: policy_losses.PolicyLossConfig
  critic: critic_network.CriticConfig | None = None

  def of(self, recipe: Any) -> Any:
    """A `rollout_recipes.RolloutRecipe` with this variant in place of its own.

    With a critic its rollouts are uniform: a group need not be mixed to teach.
    """
    changes = {"advantage": self.advantage}
    if self.critic is not None:
      changes["strategy"] = "uniform"
    rollouts = dataclasses.replace(recipe.rollouts, **changes)
    return dataclasses.replace(
      recipe, rollouts=rollouts, loss=self.loss, critic=self.critic
    )


NAMES = ("grpo", "dapo", "dr_grpo", "rloo", "gspo", "cispo", "ppo")


def make(name: str, longest: int) -> Variant:
  """A variant by its name.

  Args:
    name: one of `NAMES`.
    longest: most tokens of a rollout, the constant of Dr. GRPO.

  Raises:
    ValueError: for an unknown name; the nearest is named.
  """
  problems_lib.require_name(name, NAMES, "policy gradient")
  if name == "ppo":
    critic = critic_network.CriticConfig()
    return Variant("critic", policy_losses.PolicyLossConfig(), critic)
  advantage = name if name in ("dr_grpo", "rloo") else "grpo"
  loss = {
    "grpo": {"aggregation": "seq_mean_token_mean"},
    "dapo": {"clip_low": 0.2, "clip_high": 0.28},
    "dr_grpo": {"aggregation": "fixed_length", "length": longest},
    "rloo": {"aggregation": "seq_mean_token_sum"},
    "gspo": {
      "ratio": "sequence",
      "clip_low": 3e-4,
      "clip_high": 4e-4,
      "aggregation": "seq_mean_token_mean",
    },
    "cispo": {"kind": "cispo", "cispo_cap": 5.0},
  }[name]
  return Variant(advantage, policy_losses.PolicyLossConfig(**loss))
