# SPDX-License-Identifier: Apache-2.0
"""Turning a model into an engine: KV cache, sampling, controllers, weights."""

from jaxttc.inference.bundle import Bundle, export, load, narrowed, save, shard
from jaxttc.inference.controllers import Controller, Sampler, chain
from jaxttc.inference.step_format import StepFormat

__all__ = (
  "Bundle",
  "Controller",
  "Sampler",
  "StepFormat",
  "chain",
  "export",
  "load",
  "narrowed",
  "save",
  "shard",
)
