# SPDX-License-Identifier: Apache-2.0
"""Every family of models, in closed form and traced: train and decode."""

from collections.abc import Callable, Iterator
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxttc.cost import flop_estimates, jaxpr_flops, transformer_flops
from jaxttc.evaluation import model_accounts
from jaxttc.models import config as config_lib
from jaxttc.models import (
  key_values,
  nested_transformer,
  reward_model,
  slimmable,
  transformer,
)
from jaxttc.models.slimmable import costs as slimmable_costs
from jaxttc.models.slimmable import network as network_lib

_ROWS, _LENGTH = 2, 48
_GROUPS, _BRANCHES, _SLOTS, _COLUMNS = 2, 3, 64, 16
BASE = config_lib.TransformerConfig(
  vocab_size=160,
  width=64,
  layers=4,
  heads=8,
  kv_heads=4,
  head_dim=8,
  mlp_width=96,
  max_length=512,
)
FAMILIES: dict[str, dict[str, Any]] = {
  "embedded": {},
  "llama": {"tie_embeddings": False},
  "mistral": {"tie_embeddings": False, "window": 16},
  "qwen2": {"qkv_bias": True},
  "qwen3": {"qk_norm": True},
  "gemma2": {
    "post_norms": True,
    "activation": "gelu_tanh",
    "embed_scale": 8.0,
    "score_cap": 50.0,
    "logit_cap": 30.0,
    "window": 16,
    "global_every": 2,
  },
  "gemma3": {
    "post_norms": True,
    "qk_norm": True,
    "activation": "gelu_tanh",
    "window": 16,
    "global_every": 3,
  },
}
_WIDTHS = (0.25, 0.5)
_ENCODERS: dict[str, dict[str, Any]] = {
  "mlp": {"hidden": (32, 32)},
  "residual": {"stages": ((16, 1, 1), (32, 1, 2))},
  "mobilenet_v2": {
    "stages": ((1, 16, 1, 1), (2, 32, 2, 2)),
    "stem": 16,
    "stem_stride": 1,
    "last": 24,
  },
  "vision_transformer": {
    "patch": 4,
    "width": 16,
    "segments": ((1, 2, 16), (1, 4, 32)),
    "head_dim": 8,
  },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """Something that is counted in two ways.

  Attributes:
    family: of the model.
    work: "train", "train with recomputation", "decode" or "forward".
    fn: what is traced.
    args: its arguments; shapes.
    closed: FLOP in closed form.
  """

  family: str
  work: str
  fn: Callable[..., Any]
  args: tuple[Any, ...]
  closed: float


def cases() -> Iterator[Case]:
  """All families, as they train and decode."""
  for name, changes in FAMILIES.items():
    config = dataclasses.replace(BASE, **changes)
    yield from _language_model(name, config)
  for width in _WIDTHS:
    small = nested_transformer.narrowed(BASE, width)
    yield from _language_model(f"nested, width {width:g}", small)
  yield from _reward_models()
  for kind in _ENCODERS:
    yield from _slimmable(kind)


def measure(case: Case, compiles: bool) -> dict[str, Any]:
  """A row of the data: both counts, and what the compiler says."""
  traced = jaxpr_flops.count_flops(case.fn, *case.args)
  row = {
    "family": case.family,
    "work": case.work,
    "traced": traced,
    "closed": case.closed,
    "error": abs(case.closed / traced - 1),
  }
  if compiles:
    compiled = jax.jit(case.fn).lower(*case.args).compile()
    row["compiled_over_traced"] = (
      flop_estimates.reported_flops(compiled) / traced
    )
  return row


def scan_row(layers: int = 10) -> dict[str, Any]:
  """A scan of dense layers: what the compiler says of it, and we."""

  def fn(ws, x):
    layer = lambda h, w: (jnp.tanh(h @ w), None)  # noqa: E731
    return jax.lax.scan(layer, x, ws)[0].sum()

  args = (
    jax.ShapeDtypeStruct((layers, 256, 256), jnp.float32),
    jax.ShapeDtypeStruct((8, 256), jnp.float32),
  )
  traced = jaxpr_flops.count_flops(fn, *args)
  compiled = jax.jit(fn).lower(*args).compile()
  return {
    "layers": layers,
    "traced": traced,
    "reported": flop_estimates.reported_flops(compiled),
    "put_right": flop_estimates.from_compiled(fn, *args).value,
  }


def training(
  config: config_lib.TransformerConfig, rows: int, length: int
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """The gradient of a language model's loss, and shapes to trace it with."""
  model = transformer.Transformer(config)

  def loss(params, tokens):
    logits = transformer.forward(model, params, tokens, tokens, tokens)
    return jax.nn.log_softmax(logits).sum()

  return jax.grad(loss), (_shapes(model), _ints(rows, length))


def _language_model(name, config) -> Iterator[Case]:
  work = flop_estimates.Work(
    tokens=_ROWS * _LENGTH, length=_LENGTH, masked=True
  )
  fn, args = training(config, _ROWS, _LENGTH)
  closed = flop_estimates.from_config(config, work).value
  yield Case(family=name, work="train", fn=fn, args=args, closed=closed)
  if name == "embedded":
    again = dataclasses.replace(work, remat=True)
    yield Case(
      family=name,
      work="train with recomputation",
      fn=_rematerialised(config),
      args=args,
      closed=flop_estimates.from_config(config, again).value,
    )
  tokens = _GROUPS * _BRANCHES
  yield Case(
    family=name,
    work="decode",
    fn=functools.partial(_decode_step, config),
    args=(args[0], _ints(_GROUPS, _BRANCHES, 1)),
    closed=tokens
    * transformer_flops.decode_flops(config.shape(), _SLOTS + _COLUMNS - 1),
  )


def _rematerialised(config):
  model = transformer.Transformer(config)

  def loss(params, tokens):
    logits = transformer.forward(model, params, tokens, tokens, tokens)
    return jax.nn.log_softmax(logits).sum()

  return jax.grad(jax.checkpoint(loss))


def _decode_step(config, params, tokens):
  """One token a row, over an arena that rows share and their own columns."""
  model, empty = transformer.Transformer(config), key_values.empty_key_values
  context = key_values.Context(
    arena=empty(config, (_GROUPS,), _SLOTS),
    arena_mask=jnp.ones((_GROUPS, _BRANCHES, _SLOTS), bool),
    arena_position=jnp.zeros((_GROUPS, _SLOTS), jnp.int32),
    scratch=empty(config, (_GROUPS, _BRANCHES), _COLUMNS),
    scratch_mask=jnp.ones((_GROUPS, _BRANCHES, _COLUMNS), bool),
    column=jnp.int32(0),
  )
  mask = jnp.ones((_GROUPS, _BRANCHES, 1, _COLUMNS), bool)
  variables = {"params": params}
  hidden, _ = model.apply(variables, tokens, tokens, mask, context)
  return model.apply(variables, hidden, method="logits")


def _reward_models() -> Iterator[Case]:
  config = dataclasses.replace(BASE, reading_layers=2)
  model = reward_model.ProcessRewardModel(config)
  params, tokens = _shapes(model), _ints(_ROWS, _LENGTH)
  shape = config.shape(outputs=1)

  def judge(params, tokens):
    return transformer.forward(model, params, tokens, tokens, tokens).sum()

  def train(above, trunk, tokens):
    return jax.grad(lambda above: judge(above | {"trunk": trunk}, tokens))(
      above
    )

  attended = _ROWS * _LENGTH * _LENGTH
  yield Case(
    family="reward model",
    work="forward",
    fn=judge,
    args=(params, tokens),
    closed=transformer_flops.forward_flops(shape, _ROWS * _LENGTH, attended),
  )
  above = {k: v for k, v in params.items() if k != "trunk"}
  dense = model_accounts.reading_flop(shape, _ROWS, _LENGTH).high / 1.05
  yield Case(
    family="reward model",
    work="train",
    fn=train,
    args=(above, params["trunk"], tokens),
    closed=dense,
  )


def _slimmable(kind) -> Iterator[Case]:
  image = kind != "mlp"
  spec = slimmable.NetworkSpec(
    encoder={"kind": kind, **_ENCODERS[kind]},
    tasks=(("a", 3, False), ("b", 2, False)),
    input_shape=(16, 16, 3) if image else (24,),
    hidden=16,
    menu=(0.5, 1.0),
    norm="layer" if kind == "vision_transformer" else "group",
    quantum=1 if kind == "vision_transformer" else 8,
    pooled=True,
  )
  net = spec.build()
  params = jax.eval_shape(
    functools.partial(network_lib.init, net), jax.random.key(0)
  )
  x = jax.ShapeDtypeStruct((1, *net.input_shape), jnp.float32)
  every = net.space.all_indices()
  for i in (0, len(every) - 1):
    counts = net.space.counts(net.space.at(every[i]))
    macs = slimmable_costs.tabulate(net, every[i : i + 1]).macs[0]
    yield Case(
      family=f"slimmable {kind}, {'full' if i else 'least'} width",
      work="forward",
      fn=lambda params, x, counts=counts: net.apply(
        {"params": params}, x, counts
      ),
      args=(params, x),
      closed=2 * float(macs),
    )


def _shapes(model):
  return jax.eval_shape(
    lambda key: transformer.init(key, model), jax.random.key(0)
  )


def _ints(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.int32)
