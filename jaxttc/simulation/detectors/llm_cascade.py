# SPDX-License-Identifier: Apache-2.0
"""A cascade of language models as the same graph: draft, verifier, judge.

A draft model writes solutions, a verifier reads each and keeps one in so many,
a judge reads what is left, writes its reasons, and keeps one in so many again.
Bytes are tokens, operations are FLOPs, relevant is correct.
"""

import dataclasses

import numpy as np

from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import transformer_flops
from jaxttc.simulation.detectors import classifiers, complexity
from jaxttc.simulation.detectors import graph as graph_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader:
  """A model that tells right solutions from wrong ones.

  Attributes:
    shape: of the transformer.
    skill: distance d' of the scores of right and wrong solutions.
    keep: it keeps one solution in so many.
    written_tokens: that it writes about each, before it decides.
  """

  shape: transformer_flops.TransformerShape
  skill: float
  keep: float
  written_tokens: int = 0


def build(
  draft: transformer_flops.TransformerShape,
  readers: dict[str, Reader],
  *,
  drafts_per_s: float,
  prompt_tokens: int,
  solution_tokens: int,
  right_share: float,
  hardware: str = "h100-sxm",
  dtype: str = "bfloat16",
  utilisation: float = 0.3,
) -> graph_lib.PipelineGraph:
  """The cascade as a graph whose power is that of its accelerators.

  Args:
    draft: the model that writes; its prompt's prefill is shared by many
      solutions and not counted.
    readers: by name, in the order in which they read.
    drafts_per_s: solutions a second.
    prompt_tokens: of a problem.
    solution_tokens: of a solution.
    right_share: share of solutions that are right.
    hardware: a name of `cost.hardware`.
    dtype: of the arithmetic.
    utilisation: share of the peak that is reached, in (0, 1].

  Raises:
    ValueError: if the hardware is unknown or has no published power, there is
      no reader, or a number is out of range.
  """
  if not readers:
    raise ValueError("expected at least one model that reads")
  if not 0 < utilisation <= 1:
    raise ValueError(f"utilisation must be in (0, 1], got {utilisation}")
  device = hardware_lib.lookup(hardware)
  joules = device.joules(1) / (device.peak(dtype) * utilisation)
  stages = [
    graph_lib.Stage(
      name="draft",
      sample_rate=drafts_per_s,
      data_bytes=float(solution_tokens),
      complexity=_flops(draft, context=prompt_tokens),
      op_energy=joules,
    )
  ]
  for name, reader in readers.items():
    stages.append(
      graph_lib.Stage(
        name=name,
        reduction=reader.keep,
        classifier=classifiers.Gaussian(skill=reader.skill),
        complexity=_flops(
          reader.shape, besides=prompt_tokens + reader.written_tokens
        ),
        op_energy=joules,
      )
    )
  stages.append(graph_lib.Stage(name="answers", op_energy=0.0))
  links = [
    graph_lib.Link(source=left.name, target=right.name, latency=0.0)
    for left, right in zip(stages[:-1], stages[1:], strict=True)
  ]
  return graph_lib.create(stages, links, prevalence=right_share)


def _flops(
  shape: transformer_flops.TransformerShape, context: int = 0, besides: int = 0
) -> complexity.Polynomial:
  """FLOPs of n tokens of a solution and `besides` more, after a context.

  With m = n + besides, m tokens attend to m * context + m (m + 1) / 2
  positions: a parabola of n.
  """
  token = transformer_flops.token_flops(shape)
  position = transformer_flops.context_flops(shape)
  linear, square = token + position * (context + 0.5), position * 0.5
  return complexity.Polynomial(
    np.asarray(
      [
        linear * besides + square * besides**2,
        linear + 2 * square * besides,
        square,
      ]
    )
  )
