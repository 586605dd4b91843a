# SPDX-License-Identifier: Apache-2.0
"""Families of published models: what their configs say, in our words.

A family is a row of a table: what its `config.json` says in other words than
`TransformerConfig` does. The same rows serve to read a config and to write
one; `stored_tensors` says what the weights are called.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from jaxttc.models import config as config_lib

_ACTIVATIONS = {
  "silu": "silu",
  "gelu_pytorch_tanh": "gelu_tanh",
}
_STORED_ACTIVATIONS = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
_SLIDING, _FULL = "sliding_attention", "full_attention"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
  """What tells a family from Llama's.

  Attributes:
    model_type: as in `config.json`.
    theta: its rotary base where the config does not say.
    tied: whether the head is the embedding where the config does not say.
    gemma: whether it is one of Gemma's: norm scales are stored less one,
      sublayers have a norm behind them, embeddings are scaled.
    qkv_bias: whether queries, keys and values have biases.
    qk_norm: whether heads are normalised.
    global_every: `TransformerConfig.global_every` where the config does not
      say.
    optional_window: whether `use_sliding_window` must switch windows on.
  """

  model_type: str
  theta: float = 10_000.0
  tied: bool = False
  gemma: bool = False
  qkv_bias: bool = False
  qk_norm: bool = False
  global_every: int = 0
  optional_window: bool = False

  @property
  def norm_offset(self) -> float:
    """What is added to a stored norm scale."""
    return 1.0 if self.gemma else 0.0


FAMILIES = {
  "LlamaForCausalLM": Family(model_type="llama"),
  "MistralForCausalLM": Family(model_type="mistral"),
  "Qwen2ForCausalLM": Family(
    model_type="qwen2", qkv_bias=True, optional_window=True
  ),
  "Qwen3ForCausalLM": Family(
    model_type="qwen3", qk_norm=True, optional_window=True
  ),
  "Gemma2ForCausalLM": Family(
    model_type="gemma2", tied=True, gemma=True, global_every=2
  ),
  "Gemma3ForCausalLM": Family(
    model_type="gemma3_text",
    theta=1_000_000.0,
    tied=True,
    gemma=True,
    qk_norm=True,
    global_every=6,
  ),
}


def architecture(raw: Mapping[str, Any]) -> str:
  """The key of `FAMILIES` that a `config.json` names.

  Raises:
    ValueError: if it names none, or none that is known.
  """
  named = raw.get("architectures")
  name = named[0] if isinstance(named, list) and named else None
  if name not in FAMILIES:
    raise ValueError(
      f"architecture {name!r} is not known; expected one of "
      f"{', '.join(FAMILIES)}"
    )
  return name


def read_config(raw: Mapping[str, Any]) -> config_lib.TransformerConfig:
  """Our config of a `config.json`.

  Args:
    raw: its fields.

  Raises:
    ValueError: naming a field that is missing, of the wrong type, or says
      something that the transformer does not do.
  """
  family = FAMILIES[architecture(raw)]
  _refuse(raw)
  heads = _number(raw, "num_attention_heads")
  width = _number(raw, "hidden_size")
  layers = _number(raw, "num_hidden_layers")
  fields: dict[str, Any] = dict(
    vocab_size=_number(raw, "vocab_size"),
    width=width,
    layers=layers,
    heads=heads,
    kv_heads=_number(raw, "num_key_value_heads", heads),
    head_dim=_number(raw, "head_dim", width // max(heads, 1)),
    mlp_width=_number(raw, "intermediate_size"),
    max_length=_number(raw, "max_position_embeddings"),
    norm_eps=_number(raw, "rms_norm_eps", 1e-6, float),
    tie_embeddings=bool(raw.get("tie_word_embeddings", family.tied)),
    activation=_activation(raw),
    qkv_bias=family.qkv_bias,
    qk_norm=family.qk_norm,
  )
  fields |= _windows(raw, family, layers) | _rotary(raw, family)
  if family.gemma:
    fields |= dict(
      post_norms=True,
      embed_scale=float(width**0.5),
      query_width=_number(raw, "query_pre_attn_scalar", 256),
      score_cap=_number(raw, "attn_logit_softcapping", 0.0, float),
      logit_cap=_number(raw, "final_logit_softcapping", 0.0, float),
    )
  config = config_lib.TransformerConfig(**fields)
  config.validate()
  return config


def write_config(
  config: config_lib.TransformerConfig, name: str
) -> dict[str, Any]:
  """The `config.json` of a config; inverse of `read_config`.

  Args:
    config: ours.
    name: a key of `FAMILIES`.

  Raises:
    ValueError: if the family cannot say what the config says.
  """
  family = FAMILIES[name]
  raw: dict[str, Any] = {
    "architectures": [name],
    "model_type": family.model_type,
    "vocab_size": config.vocab_size,
    "hidden_size": config.width,
    "num_hidden_layers": config.layers,
    "num_attention_heads": config.heads,
    "num_key_value_heads": config.kv_heads,
    "head_dim": config.head_dim,
    "intermediate_size": config.mlp_width,
    "max_position_embeddings": config.max_length,
    "rms_norm_eps": config.norm_eps,
    "tie_word_embeddings": config.tie_embeddings,
    "hidden_act": _STORED_ACTIVATIONS[config.activation],
    "rope_theta": config.rope_theta,
    "attention_bias": False,
  }
  if config.rope_factor != 1.0:
    raw["rope_scaling"] = _scaling(config)
  if config.window or not family.optional_window:
    raw["sliding_window"] = config.window or None
  if config.window and (family.global_every or family.optional_window):
    raw["use_sliding_window"] = True
    raw["max_window_layers"] = 0
    raw["layer_types"] = [
      _SLIDING if config.is_local(i) else _FULL for i in range(config.layers)
    ]
  if family.gemma:
    raw["hidden_activation"] = raw["hidden_act"]
    raw["query_pre_attn_scalar"] = config.query_width or config.head_dim
    raw["attn_logit_softcapping"] = config.score_cap or None
    raw["final_logit_softcapping"] = config.logit_cap or None
  if config.rope_theta_local:
    raw["rope_local_base_freq"] = config.rope_theta_local
  back = read_config(raw)
  for field in dataclasses.fields(config):
    ours, theirs = (getattr(c, field.name) for c in (config, back))
    if ours != theirs:
      raise ValueError(
        f"{name} cannot say model.{field.name}={ours!r} (it would read back "
        f"as {theirs!r}); export to another family"
      )
  return raw


def family_of(config: config_lib.TransformerConfig) -> str:
  """The first family that can say what a config says.

  Raises:
    ValueError: if none can.
  """
  for name in FAMILIES:
    try:
      write_config(config, name)
    except ValueError:
      continue
    return name
  raise ValueError(
    f"no family of {', '.join(FAMILIES)} has a model of the shape {config}"
  )


def _number(
  raw: Mapping[str, Any],
  name: str,
  default: Any = None,
  kind: Callable[[Any], Any] = int,
) -> Any:
  """A field as `kind`; null and a missing one are the default."""
  value = raw.get(name)
  if value is None:
    value = default
  plain = isinstance(value, int | float) and not isinstance(value, bool)
  if not plain or (kind is int and value != int(value)):
    wanted = "a whole number" if kind is int else "a number"
    raise ValueError(f"{name} is {value!r}; expected {wanted}")
  return kind(value)


def _refuse(raw: Mapping[str, Any]) -> None:
  """Refuses what would be computed differently here, in silence."""
  if raw.get("quantization_config"):
    raise ValueError(
      "quantization_config: quantised checkpoints are not read; expected "
      "float32, float16 or bfloat16 weights"
    )
  for name in ("attention_bias", "mlp_bias", "use_bidirectional_attention"):
    if raw.get(name):
      raise ValueError(f"{name} is {raw[name]!r}; expected false")


def _activation(raw: Mapping[str, Any]) -> str:
  name = raw.get("hidden_activation") or raw.get("hidden_act") or "silu"
  if name not in _ACTIVATIONS:
    raise ValueError(
      f"hidden_act is {name!r}; expected one of {sorted(_ACTIVATIONS)}"
    )
  return _ACTIVATIONS[name]


def _windows(
  raw: Mapping[str, Any], family: Family, layers: int
) -> dict[str, int]:
  """`window` and `global_every`."""
  window = _number(raw, "sliding_window", 0)
  if family.model_type == "llama":
    window = 0
  if family.optional_window and not raw.get("use_sliding_window"):
    window = 0
  every = _number(
    raw,
    "sliding_window_pattern",
    _number(raw, "_sliding_window_pattern", family.global_every),
  )
  types = raw.get("layer_types")
  if window and types is None and family.optional_window:
    first = _number(raw, "max_window_layers", layers)
    types = [_SLIDING if i >= first else _FULL for i in range(layers)]
  if window and types is not None:
    every = _every(types, layers)
  if not window or every == 1:
    return {}
  return {"window": window, "global_every": every if every <= layers else 0}


def _every(types: Any, layers: int) -> int:
  """How often a layer is global; 1 if all are, 0 if none is."""
  for every in (0, *range(1, layers + 1)):
    if types == [
      _FULL if every and (i + 1) % every == 0 else _SLIDING
      for i in range(layers)
    ]:
      return every
  raise ValueError(
    f"layer_types is {types!r}; expected {layers} entries of which every "
    f"n-th is {_FULL!r}, and the others {_SLIDING!r}"
  )


def _rotary(raw: Mapping[str, Any], family: Family) -> dict[str, float]:
  """Bases and scaling, as written before and since transformers 5."""
  given = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
  local = {}
  if _FULL in given:
    local, given = given.get(_SLIDING) or {}, given[_FULL] or {}
  fields: dict[str, float] = {
    "rope_theta": _number(
      given, "rope_theta", raw.get("rope_theta") or family.theta, float
    )
  }
  if family.model_type == "gemma3_text":
    base = raw.get("rope_local_base_freq") or 10_000.0
    fields["rope_theta_local"] = _number(local, "rope_theta", base, float)
  kind = given.get("rope_type") or given.get("type") or "default"
  if kind not in ("default", "linear", "llama3"):
    raise ValueError(
      f"rope_type is {kind!r}; expected 'default', 'linear' or 'llama3'"
    )
  if kind != "default":
    fields["rope_factor"] = _number(given, "factor", None, float)
  if kind == "llama3":
    fields |= {
      "rope_original": _number(given, "original_max_position_embeddings"),
      "rope_low": _number(given, "low_freq_factor", None, float),
      "rope_high": _number(given, "high_freq_factor", None, float),
    }
  return fields


def _scaling(config: config_lib.TransformerConfig) -> dict[str, Any]:
  if not config.rope_original:
    return {"rope_type": "linear", "factor": config.rope_factor}
  return {
    "rope_type": "llama3",
    "factor": config.rope_factor,
    "low_freq_factor": config.rope_low,
    "high_freq_factor": config.rope_high,
    "original_max_position_embeddings": config.rope_original,
  }
