# SPDX-License-Identifier: Apache-2.0
"""A slimmable network in torch, of the same shape and weights as ours.

Written from the definition (Yu et al. 2018, arXiv:1812.08928): parameters are
those of the full width, and a call at a width slices the first output and input
channels of each before torch's own operators use them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from jaxttc.models import slimmable
from jaxttc.models.slimmable import encoders


class ResidualPeer:
  """The peer of a network of kind "residual" with group norms.

  Its tasks predict one vector an image.
  """

  def __init__(
    self,
    spec: slimmable.NetworkSpec,
    params: Any,
    memory_format: torch.memory_format = torch.contiguous_format,
  ):
    """Takes the parameters over.

    Args:
      spec: the network.
      params: its parameters, of our layout.
      memory_format: of torch's images and convolutions.
    """
    network = spec.build()
    assert isinstance(network.encoder, encoders.ResidualEncoder)
    self._stages = network.encoder.stages
    self._stem_stride = network.encoder.stem_stride
    self._tasks = network.space.tasks
    self._group = spec.quantum
    self._format = memory_format
    self._encoder = self._taken(params["encoder"])
    self._decoders = [
      self._taken(params[f"decoder_{task}"]) for task in self._tasks
    ]

  def images(self, inputs: np.ndarray) -> torch.Tensor:
    """Images f32[B, H, W, C] as torch has them, [B, C, H, W]."""
    return torch.from_numpy(
      np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
    ).contiguous(memory_format=self._format)

  @torch.inference_mode()
  def __call__(
    self, images: torch.Tensor, counts: slimmable.Counts
  ) -> dict[str, torch.Tensor]:
    """Predictions f32[B, outputs] by task, at channels in use as ints."""
    layers = iter(range(len(self._encoder)))  # names count convolutions
    x = self._unit(images, next(layers), counts.encoder[0], self._stem_stride)
    x = functional.relu_(x)
    for i, (_, blocks, first) in enumerate(self._stages):
      count = counts.encoder[i]
      for block in range(blocks):
        stride = first if block == 0 else 1
        y = functional.relu_(self._unit(x, next(layers), count, stride))
        y = self._unit(y, next(layers), count)
        if block == 0 and (i > 0 or stride > 1):
          x = self._unit(x, next(layers), count, stride)
        x = functional.relu_(y.add_(x))
    pooled = x.mean((2, 3))
    return {
      task: self._decode(pooled, layers, count)
      for task, layers, count in zip(
        self._tasks, self._decoders, counts.decoders, strict=True
      )
    }

  def _unit(self, x, index, count, stride=1):
    """A convolution and its norm, cut to `count` outputs."""
    kernel, bias = self._encoder[f"Conv_{index}"]
    taps = kernel.shape[-1]
    padding = taps // 2
    if stride > 1 and taps > 1:  # "same" padding puts the odd place last
      x, padding = functional.pad(x, (0, 1, 0, 1)), 0
    y = functional.conv2d(
      x, kernel[:count, : x.shape[1]], bias[:count], stride, padding
    )
    return self._normed(y, self._encoder[f"Norm_{index}"])

  def _normed(self, x, weights):
    count = x.shape[1]
    scale, bias = weights
    return functional.group_norm(
      x, count // self._group, scale[:count], bias[:count], 1e-5
    )

  def _decode(self, pooled, layers, count):
    kernel, bias = layers["Dense_0"]
    x = functional.linear(
      pooled, kernel[:count, : pooled.shape[1]], bias[:count]
    )
    x = functional.gelu(self._normed(x, layers["Norm_0"]), approximate="tanh")
    kernel, bias = layers["Dense_1"]
    return functional.linear(x, kernel[:, :count], bias)

  def _taken(self, layers: Mapping[str, Any]):
    """(kernel, bias) or (scale, bias) by layer, outputs first."""
    return {name: self._layer(layer) for name, layer in layers.items()}

  def _layer(self, layer):
    weight = torch.from_numpy(np.array(layer.get("kernel", layer.get("scale"))))
    if weight.ndim == 4:
      weight = weight.permute(3, 2, 0, 1).contiguous(memory_format=self._format)
    elif weight.ndim == 2:
      weight = weight.T.contiguous()
    return weight, torch.from_numpy(np.array(layer["bias"]))
