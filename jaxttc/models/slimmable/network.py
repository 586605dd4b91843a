# SPDX-License-Identifier: Apache-2.0
"""A multi-task network whose widths are dials: one encoder, a decoder a task.

    network = NetworkSpec(...).build()
    params = init(network, key)
    counts = network.space.counts(config)
    predictions, features = network.apply({"params": params}, x, counts)

The same function serves every width (see `layers`): counts that are ints make a
small program, counts that are arrays make one program for all.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxttc.models.slimmable import (
  dilated,
  encoders,
  heads,
  layers,
  norms,
  widths,
)

ENCODERS = {
  "mlp": encoders.MLPEncoder,
  "residual": encoders.ResidualEncoder,
  "mobilenet_v2": encoders.MobileNetV2Encoder,
  "vision_transformer": encoders.VisionTransformerEncoder,
  "dilated_resnet": dilated.DilatedResNetEncoder,
}


class MultiTaskNetwork(nn.Module):
  """An encoder that all tasks share, and a decoder for each.

  Attributes:
    encoder: a module of `encoders`.
    decoders: (task, module of `heads`) pairs.
    input_shape: of one example.
    menu: ratios that it is trained at.
  """

  preserve_adopted_names: ClassVar[bool] = True  # parameters named by task

  encoder: nn.Module
  decoders: tuple[tuple[str, nn.Module], ...]
  input_shape: tuple[int, ...]
  menu: tuple[float, ...]

  @property
  def space(self) -> widths.WidthSpace:
    """The widths it can have."""
    return widths.WidthSpace(
      self.encoder.groups(),
      tuple((task, head.group(task)) for task, head in self.decoders),
      self.menu,
    )

  def __call__(
    self, inputs: jax.Array, counts: widths.Counts, train: bool = False
  ) -> tuple[dict[str, jax.Array], jax.Array]:
    """Predicts all tasks.

    Args:
      inputs: f32[B, ..] of `input_shape`.
      counts: channels in use, of `space.counts` (ints) or `space.counts_at`.
      train: whether batch norms use the batch's own statistics.

    Returns:
      Predictions by task, and the features f32[B, .., C] that they share.

    Raises:
      ValueError: if the inputs have another shape, or there is not one count a
        width group.
    """
    if tuple(inputs.shape[1:]) != self.input_shape:
      expected = ", ".join(map(str, self.input_shape))
      raise ValueError(
        f"expected inputs of shape [batch, {expected}], got "
        f"{list(inputs.shape)}"
      )
    expected = ((len(self.encoder.groups()),), (len(self.decoders),))
    given = tuple(
      (len(part),) if isinstance(part, tuple) else part.shape for part in counts
    )
    if given != expected:
      raise ValueError(
        f"expected counts of shapes {expected[0]} for the encoder and "
        f"{expected[1]} for the decoders, got {given[0]} and {given[1]}"
      )
    features = self.encoder(layers.whole(inputs), counts.encoder, train)
    found = {
      task: head(features, counts.decoders[i], train)
      for i, (task, head) in enumerate(self.decoders)
    }
    return found, features.values


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
  """A network in words, JSON-ready, so that it can lie beside its weights.

  Attributes:
    encoder: the encoder's fields, and its "kind", a key of `ENCODERS`.
    tasks: (name, outputs, whether there is a prediction at every pixel) each.
    input_shape: of one example.
    hidden: channels at full width of every decoder, or of each.
    menu: ratios that the network is trained at.
    norm: kind of norm of encoder and decoders, of `norms.KINDS`.
    quantum: channels that all widths, and groups of the norm, are multiples of.
    pooled: whether other tasks see the mean over all places of an image's
      features, or each place by itself.
    atrous: rates of the windows that decoders of every pixel look through
      (`dilated.AtrousHead`); empty for plain convolutions.
  """

  encoder: dict[str, Any]
  tasks: tuple[tuple[str, int, bool], ...]
  input_shape: tuple[int, ...]
  hidden: int | tuple[int, ...] = 64
  menu: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
  norm: str = "group"
  quantum: int = 8
  pooled: bool = True
  atrous: tuple[int, ...] = ()

  def build(self) -> MultiTaskNetwork:
    """The network.

    Raises:
      ValueError: if the encoder's kind or one of its fields is unknown, the
        decoders are not as many as the tasks, or the menu does not fit the
        channels.
    """
    common = {
      "norm": norms.NormChoice(self.norm, self.quantum, tuple(self.menu)),
      "quantum": self.quantum,
    }
    hidden = self.hidden
    if isinstance(hidden, int):
      hidden = (hidden,) * len(self.tasks)
    if len(hidden) != len(self.tasks):
      raise ValueError(
        f"{len(hidden)} hidden sizes for {len(self.tasks)} tasks"
      )
    encoder = self._encoder(common)
    reduction = self._reduction(encoder)
    decoders = []
    for (task, outputs, dense), size in zip(self.tasks, hidden, strict=True):
      own = common | {"name": f"decoder_{task}"}
      if dense and self.atrous:
        rates = tuple(self.atrous)
        head = dilated.AtrousHead(outputs, size, reduction, rates, **own)
      elif dense:
        head = heads.DenseHead(outputs, size, reduction, **own)
      elif self.pooled:
        head = heads.VectorHead(outputs, size, **own)
      else:
        head = heads.MapHead(outputs, size, **own)
      decoders.append((task, head))
    network = MultiTaskNetwork(
      encoder,
      tuple(decoders),
      tuple(self.input_shape),
      tuple(self.menu),
    )
    _ = network.space  # refuses a menu that does not fit
    return network

  def _encoder(self, common):
    kind = self.encoder.get("kind")
    if kind not in ENCODERS:
      raise ValueError(
        f"encoder kind {kind!r} is not one of {', '.join(ENCODERS)}"
      )
    fields = {k: _frozen(v) for k, v in self.encoder.items() if k != "kind"}
    unknown = sorted(set(fields) - set(_own_fields(ENCODERS[kind])))
    if unknown:
      raise ValueError(
        f"encoder {kind!r} has no field {unknown[0]!r}; expected "
        f"{', '.join(_own_fields(ENCODERS[kind]))}"
      )
    if kind == "vision_transformer":  # its norms are always of layers
      common = {"quantum": self.quantum}
    return ENCODERS[kind](**fields, **common)

  def _reduction(self, encoder) -> int:
    """How many times a prediction at every pixel must be enlarged; or 1."""
    images = len(self.input_shape) == 3
    dense = [task for task, _, every_pixel in self.tasks if every_pixel]
    if images != hasattr(encoder, "reduction"):
      raise ValueError(
        f"encoder {self.encoder['kind']!r} reads "
        f"{'vectors' if images else 'images'}, the inputs are of shape "
        f"{list(self.input_shape)}"
      )
    if not images and dense:
      raise ValueError(
        f"task {dense[0]!r} predicts every pixel, the inputs have none"
      )
    reduction = encoder.reduction() if images else 1
    if dense and any(side % reduction for side in self.input_shape[:2]):
      raise ValueError(
        f"task {dense[0]!r} predicts every pixel: images of "
        f"{self.input_shape[0]} x {self.input_shape[1]} must be multiples of "
        f"the encoder's reduction, {reduction}"
      )
    return reduction

  def at(self, config: widths.WidthConfig) -> "NetworkSpec":
    """A network of its own whose full, and only, width is a configuration.

    Raises:
      UnknownWidth: if the network is not trained at these widths.
    """
    network = self.build()
    counts = network.space.counts(config)
    encoder = network.encoder.resized(counts.encoder)
    fields = {name: getattr(encoder, name) for name in _own_fields(encoder)}
    return dataclasses.replace(
      self,
      encoder={"kind": self.encoder["kind"]} | fields,
      hidden=counts.decoders,
      menu=(1.0,),
    )

  def to_dict(self) -> dict[str, Any]:
    """JSON-ready; inverse of `from_dict`."""
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, fields: dict[str, Any]) -> "NetworkSpec":
    """Reads what `to_dict` gave.

    Raises:
      ValueError: if fields are missing or unknown.
    """
    try:
      frozen = {k: _frozen(v) for k, v in fields.items()}
      return cls(**frozen)
    except (TypeError, AttributeError) as error:
      raise ValueError(f"not a network's description: {error}") from None


def _own_fields(encoder) -> list[str]:
  shared = ("parent", "name", "norm", "quantum")
  return [f.name for f in dataclasses.fields(encoder) if f.name not in shared]


def _frozen(value):
  """Lists, as JSON gives them, as tuples, as modules need them."""
  if isinstance(value, dict):
    return {k: _frozen(v) for k, v in value.items()}
  return (
    tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
  )


def init(network: MultiTaskNetwork, key: jax.Array) -> Any:
  """Fresh parameters, at full width."""
  space = network.space
  variables = network.init(
    key,
    jnp.zeros((1, *network.input_shape)),
    space.counts(space.uniform()),
    train=True,
  )
  return variables["params"]


def extract(
  spec: NetworkSpec, params: Any, config: widths.WidthConfig
) -> tuple[NetworkSpec, Any]:
  """Cuts a configuration out: a small network that knows nothing of the large.

  Args:
    spec: the slimmable network.
    params: its parameters.
    config: the widths to keep.

  Returns:
    The small network and its parameters, copies of the first channels.

  Raises:
    UnknownWidth: if the network is not trained at these widths.
  """
  small = spec.at(config)
  shapes = jax.eval_shape(
    functools.partial(init, small.build()), jax.random.key(0)
  )
  if spec.norm == "switchable":
    params = _rows_of(spec, params, config)
  cut = lambda leaf, shape: leaf[  # noqa: E731
    tuple(slice(0, n) for n in shape.shape)
  ]
  return small, jax.tree.map(cut, params, shapes)


def _rows_of(spec, params, config):
  """Parameters whose switchable norms have no row but that of a width."""
  network = spec.build()
  counts = network.space.counts(config)

  @jax.jit  # nothing is left of the network itself
  def rows_of(params):
    inputs = jnp.zeros((1, *network.input_shape))
    _, found = network.apply(
      {"params": params}, inputs, counts, train=True, mutable=["rows"]
    )
    return found["rows"]

  rows = {
    jax.tree_util.keystr(path[:-1]): int(row)
    for path, row in jax.tree_util.tree_leaves_with_path(rows_of(params))
  }

  def pick(path, leaf):
    row = rows.get(jax.tree_util.keystr(path[:-1]))
    return leaf if row is None else leaf[row][None]

  return jax.tree_util.tree_map_with_path(pick, params)


def recalibrate(
  network: MultiTaskNetwork,
  params: Any,
  config: widths.WidthConfig,
  inputs: jax.Array,
) -> dict[str, Any]:
  """Measures the statistics of batch norms at one configuration.

  Args:
    network: the network; norms of other kinds need no statistics.
    params: its parameters.
    config: the widths.
    inputs: f32[N, B, ..]: batches, over which statistics are averaged, as Yu &
      Huang 2019 do after training.

  Returns:
    Variables for `network.apply` at this configuration: "params", and
    "batch_stats" where there are any.
  """
  counts = network.space.counts(config)

  @jax.jit
  def measure(params, inputs):
    def one(batch):
      _, found = network.apply(
        {"params": params}, batch, counts, train=True, mutable=["batch_stats"]
      )
      return found

    return jax.tree.map(lambda x: x.mean(0), jax.lax.map(one, inputs))

  return {"params": params} | measure(params, inputs)
