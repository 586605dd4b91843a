# SPDX-License-Identifier: Apache-2.0
"""KL divergence of a policy from a reference, estimated at sampled tokens.

With d = log p_ref - log p at a token sampled from p, by value

    k1 = -d        k2 = d^2 / 2        k3 = exp(d) - d - 1.

What they are and what their gradients are differ. As a term of the loss, with
rho = p / p_sampled:

| kind         | mean value | mean gradient                          |
| k1           | KL(p, ref) | zero: it regularises nothing           |
| k2           | biased     | that of KL(p, ref)                     |
| k3           | KL(p, ref) | that of KL(ref, p): the other one      |
| k3_corrected | KL(p, ref) | that of KL(p, ref); it is rho k3       |
| k3_straight  | KL(p, ref) | that of KL(p, ref); k3 with k2's slope |

k1 belongs into the reward, where its gradient is that of KL(p, ref): subtract
its value, weighted, from the rewards before advantages are taken. The tests
find each row by enumeration.

Reference: Schulman (2020), Approximating KL divergence.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

KINDS = ("k1", "k2", "k3", "k3_corrected", "k3_straight")
# Those whose gradient as a term of the loss regularises.
LOSS_KINDS = KINDS[1:]
_FAR = 20.0  # nats; exp of more would overflow once it is multiplied


def kl(
  kind: str,
  log_probs: Float[Array, "B T"],
  reference_log_probs: Float[Array, "B T"],
  sampled_log_probs: Float[Array, "B T"] | None = None,
) -> Float[Array, "B T"]:
  """An estimate at each token.

  k3 stops growing where the reference finds a token e^20 times as probable as
  the policy does; so does its gradient.

  Args:
    kind: one of `KINDS`.
    log_probs: of the policy that is trained.
    reference_log_probs: of the reference; no gradient goes there.
    sampled_log_probs: of the policy that sampled, for "k3_corrected" only.

  Raises:
    ValueError: for an unknown kind, or sampled log-probabilities that are
      missing or would be ignored.
  """
  if kind not in KINDS:
    raise ValueError(f"kl {kind!r} is not one of {', '.join(KINDS)}")
  if (kind == "k3_corrected") != (sampled_log_probs is not None):
    raise ValueError(
      "sampled_log_probs are for kl 'k3_corrected' and nothing else, got "
      f"{'none' if sampled_log_probs is None else 'some'} for {kind!r}"
    )
  d = jax.lax.stop_gradient(reference_log_probs) - log_probs
  if kind == "k1":
    return -d
  if kind == "k2":
    return d**2 / 2
  near = jnp.clip(d, -_FAR, _FAR)
  k3 = jnp.expm1(near) - near
  if sampled_log_probs is not None:
    sampled = jax.lax.stop_gradient(sampled_log_probs)
    return jnp.exp(jnp.clip(log_probs - sampled, -_FAR, _FAR)) * k3
  if kind == "k3":
    return k3
  k2 = d**2 / 2
  return k2 + jax.lax.stop_gradient(k3 - k2)
