# SPDX-License-Identifier: Apache-2.0
"""Objectives of parameters that a mesh's devices hold a part of each.

The devices hand each other the whole of a parameter where it is used, forward
and again backward, and keep of its gradient the sum of their own part
(Rajbhandari et al. 2020, "ZeRO", stage 3; Zhao et al. 2023, "FSDP"). In between
nobody holds it, so a model's memory is shared by all devices, and what is
computed is what each would compute alone on its rows of the batch.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import ad_checkpoint

from jaxttc import mesh as mesh_lib

_GATHERED = "gathered_parameter"


def gathering(objective: Callable, shardings: Any) -> Callable:
  """The objective, of parameters that lie as `shardings` says.

  Args:
    objective: loss(params, batch, key) -> (f32[], metrics).
    shardings: a tree like the parameters, of `NamedSharding`.
  """

  def loss(params, batch, key):
    whole = jax.tree.map(_gathered, params, shardings)
    return objective(whole, batch, key)

  # Whole parameters are the one thing that the forward pass does not keep.
  policy = jax.checkpoint_policies.save_anything_except_these_names(_GATHERED)
  return jax.checkpoint(loss, policy=policy)


def _gathered(x: jax.Array, sharding: jax.NamedSharding) -> jax.Array:
  whole = jax.NamedSharding(sharding.mesh, mesh_lib.REPLICATED)

  @jax.custom_vjp
  def gather(x):
    return jax.lax.with_sharding_constraint(x, whole)

  def forward(x):
    return gather(x), None

  def backward(_, cotangent):
    return (jax.lax.with_sharding_constraint(cotangent, sharding),)

  gather.defvjp(forward, backward)
  return ad_checkpoint.checkpoint_name(gather(x), _GATHERED)
