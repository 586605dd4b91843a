# SPDX-License-Identifier: Apache-2.0
"""Turning a model into an engine: KV cache, sampling, controllers, weights."""

from jaxttc.inference.bundle import Bundle, load, save, shard
from jaxttc.inference.controllers import Controller, Sampler, chain

__all__ = (
  "Bundle",
  "Controller",
  "Sampler",
  "chain",
  "load",
  "save",
  "shard",
)
