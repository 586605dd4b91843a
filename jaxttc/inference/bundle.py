# SPDX-License-Identifier: Apache-2.0
"""A model with all that running it takes: sizes, weights, tokenizer.

One .safetensors file holds the weights and, in its metadata, the config, the
tokenizer and the recipe that made them, so a file explains itself. A reward
model is refused beside a policy of another vocabulary.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from jaxttc.cost import transformer_flops
from jaxttc.inference import generation, stop, weights
from jaxttc.models import config as config_lib
from jaxttc.models import sharding, transformer
from jaxttc.tasks import tokenizer as tokenizer_lib

_KINDS = {
  "language_model": transformer.Transformer,
  "process_reward": transformer.ProcessRewardModel,
}
_PRETRAINED = pathlib.Path(__file__).parent.parent / "pretrained"


@dataclasses.dataclass(frozen=True, eq=False)
class Bundle:
  """A model ready to run. Two are equal only if they are the same object.

  Attributes:
    kind: "language_model" or "process_reward".
    config: the transformer's sizes.
    params: its parameters.
    tokenizer: what its token ids mean.
    recipe: how it was trained; empty if nobody said.
  """

  kind: str
  config: config_lib.TransformerConfig
  params: Any
  tokenizer: tokenizer_lib.WordTokenizer
  recipe: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def dtype(self) -> jnp.dtype:
    """Of the parameters, and of all that is computed with them."""
    return jax.tree.leaves(self.params)[0].dtype

  @property
  def model(self) -> transformer.Transformer | transformer.ProcessRewardModel:
    """The linen module; it computes in the parameters' dtype."""
    return _KINDS[self.kind](self.config, self.dtype)

  def shape(self) -> transformer_flops.TransformerShape:
    """The sizes that its cost depends on."""
    outputs = 1 if self.kind == "process_reward" else None
    return self.config.shape(outputs)

  @property
  def stop_rule(self) -> generation.StopRule:
    """Steps end with a line; a solution ends with its answer line."""
    return generation.StopRule(
      eos_id=self.tokenizer.eos_id,
      step_end=stop.build([[self.tokenizer.newline_id]]),
      answer_marker_id=self.tokenizer.answer_marker_id,
    )


def save(path: str, bundle: Bundle) -> None:
  """Writes one self-explaining .safetensors file.

  Raises:
    ValueError: if the file cannot be written.
  """
  weights.save_safetensors(
    path,
    bundle.params,
    {
      "kind": bundle.kind,
      "config": json.dumps(bundle.config.to_dict()),
      "tokenizer": bundle.tokenizer.to_json(),
      "recipe": json.dumps(bundle.recipe),
    },
  )


def load(
  path: str,
  dtype: jax.typing.DTypeLike = jnp.float32,
  mesh: jax.sharding.Mesh | None = None,
) -> Bundle:
  """Reads what `save` wrote.

  Args:
    path: a .safetensors file, or the name of a model that ships with the
      package ("arithmetic_lm", "arithmetic_prm").
    dtype: to compute in.
    mesh: devices to spread the parameters over, as `shard` does; None for
      one device.

  Raises:
    ValueError: naming the file and what was expected, if it is missing,
      damaged, lacks its description, or its tensors do not fit its config; or
      as `shard`.
  """
  file = pathlib.Path(path)
  if not file.suffix and not file.exists():
    file = _PRETRAINED / f"{path}.safetensors"
    if not file.exists():
      shipped = sorted(p.stem for p in _PRETRAINED.glob("*.safetensors"))
      raise ValueError(f"no model named {path!r} ships; expected {shipped}")
  params, metadata = weights.load_safetensors(str(file))
  missing = {"kind", "config", "tokenizer"} - metadata.keys()
  if missing:
    raise ValueError(
      f"{file}: no {sorted(missing)} in its metadata; expected a file "
      "written by jaxttc (scripts/train.py --export)"
    )
  if metadata["kind"] not in _KINDS:
    raise ValueError(
      f"{file}: kind {metadata['kind']!r}; expected one of {sorted(_KINDS)}"
    )
  try:
    config = config_lib.TransformerConfig.from_dict(
      json.loads(metadata["config"])
    )
    tokenizer = tokenizer_lib.WordTokenizer.from_json(metadata["tokenizer"])
    recipe = json.loads(metadata.get("recipe", "{}"))
    if config.vocab_size != tokenizer.vocab_size:
      raise ValueError(
        f"model.vocab_size={config.vocab_size}, expected its tokenizer's "
        f"{tokenizer.vocab_size}"
      )
  except ValueError as error:
    raise ValueError(f"{file}: {error}") from None
  model = _KINDS[metadata["kind"]](config)
  expected = jax.eval_shape(
    lambda key: transformer.init(key, model), jax.random.key(0)
  )
  params, _ = weights.load_safetensors(str(file), expected)
  if mesh is not None:  # each device is sent its own part, from the host
    params = jax.tree.map(lambda x: x.astype(dtype), params)
    params = sharding.place(config, params, mesh)
  return Bundle(
    kind=metadata["kind"],
    config=config,
    params=jax.tree.map(lambda x: jnp.asarray(x, dtype), params),
    tokenizer=tokenizer,
    recipe=recipe,
  )


def shard(bundle: Bundle, mesh: jax.sharding.Mesh) -> Bundle:
  """The same model with its parameters spread over a mesh.

  They are split over "tensor" as `models.sharding` says, and whole along
  "data".

  Args:
    bundle: the model; with several processes, each has the whole of it.
    mesh: a mesh of `mesh.make_mesh`.

  Raises:
    ValueError: if the model's sizes do not divide; names the field.
  """
  params = sharding.place(bundle.config, bundle.params, mesh)
  return dataclasses.replace(bundle, params=params)


def check_pair(policy: Bundle, verifier: Bundle | None) -> None:
  """Refuses models that cannot work together.

  Raises:
    ValueError: if either is of the wrong kind, or their vocabularies differ.
  """
  if policy.kind != "language_model":
    raise ValueError(f"the policy is a {policy.kind}; expected language_model")
  if verifier is None:
    return
  if verifier.kind != "process_reward":
    raise ValueError(
      f"the verifier is a {verifier.kind}; expected process_reward"
    )
  ours, theirs = policy.tokenizer.fingerprint, verifier.tokenizer.fingerprint
  if ours != theirs:
    raise ValueError(
      "the reward model reads another vocabulary than the policy writes "
      f"(fingerprint {theirs}, expected {ours})"
    )


def check_one_device(bundle: Bundle) -> None:
  """Refuses a model that is spread over devices, where only one is used.

  Raises:
    ValueError: saying how many, and what does use them.
  """
  leaf = jax.tree.leaves(bundle.params)[0]
  devices = len(leaf.sharding.device_set) if isinstance(leaf, jax.Array) else 1
  if devices > 1:
    raise ValueError(
      f"the {bundle.kind} is spread over {devices} devices, and the host-"
      "driven form runs on one; use runtime.solve(mesh=...)"
    )
