# SPDX-License-Identifier: Apache-2.0
"""A model with all that running it takes: sizes, weights, tokenizer.

A model of this library is one .safetensors file: the weights and, in its
metadata, the config, the tokenizer and the recipe that made them, so a file
explains itself. A published model is a Hugging Face directory. A reward model
is refused beside a policy of another vocabulary.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import hashlib
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from jaxttc import mesh as mesh_lib
from jaxttc.cost import transformer_flops
from jaxttc.inference import generation, hugging_face, stop, weights
from jaxttc.inference import step_format as step_format_lib
from jaxttc.models import (
  attention_backend,
  families,
  int8_weights,
  nested_transformer,
  reward_model,
  sharding,
  transformer,
)
from jaxttc.models import config as config_lib
from jaxttc.models import precision as precision_lib
from jaxttc.tasks import pretrained_tokenizer
from jaxttc.tasks import tokenizer as tokenizer_lib

_KINDS = {
  "language_model": transformer.Transformer,
  "process_reward": reward_model.ProcessRewardModel,
}
Tokenizer = (
  tokenizer_lib.WordTokenizer | pretrained_tokenizer.PretrainedTokenizer
)
_PRETRAINED = pathlib.Path(__file__).parent.parent / "pretrained"
_JUDGES = "generative_verifier"  # kind of recipe of a model that does


@dataclasses.dataclass(frozen=True, eq=False)
class Bundle:
  """A model ready to run. Two are equal only if they are the same object.

  Attributes:
    kind: "language_model" or "process_reward".
    config: the transformer's sizes.
    params: its parameters.
    tokenizer: what its token ids mean.
    recipe: how it was trained; empty if nobody said.
    step_format: how a published reward model is shown steps; None for all
      other models, which read what the policy wrote.
    attention: one of `attention_backend.NAMES`.
  """

  kind: str
  config: config_lib.TransformerConfig
  params: Any
  tokenizer: Tokenizer
  recipe: dict[str, Any] = dataclasses.field(default_factory=dict)
  step_format: step_format_lib.StepFormat | None = None
  attention: str = attention_backend.AUTO

  @property
  def stored_dtype(self) -> jnp.dtype:
    """Of the matrices, as they lie in memory."""
    return self._embed["embedding"].dtype

  @property
  def dtype(self) -> jnp.dtype:
    """Of all that is computed, and cached; of int8 matrices, the scales'."""
    embed = self._embed
    return embed.get("embedding_scale", embed["embedding"]).dtype

  @property
  def _embed(self) -> dict[str, Any]:
    return self.params.get("trunk", self.params)["embed"]

  @property
  def writes_verdicts(self) -> bool:
    """Whether it is a generative verifier: a language model that judges."""
    return self.kind == "language_model" and self.recipe.get("kind") == _JUDGES

  @property
  def model(self) -> transformer.Transformer | reward_model.ProcessRewardModel:
    """The linen module; it computes in `dtype`."""
    return _KINDS[self.kind](self.config, self.dtype, self.attention)

  def shape(self) -> transformer_flops.TransformerShape:
    """The sizes that its cost depends on."""
    if self.kind != "process_reward":
      return self.config.shape()
    return self.config.shape(1 + self.config.reward_width)

  @functools.cached_property
  def weights_fingerprint(self) -> str:
    """Sixteen hex digits that tell apart any two models.

    They change with what the weights are stored in, too. A collective for a
    model that spans processes.
    """
    digest = hashlib.sha256(self.tokenizer.fingerprint.encode())
    digest.update(json.dumps(self.config.to_dict(), sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(self.params):
      digest.update(jax.tree_util.keystr(path).encode())
      digest.update(mesh_lib.fetch(leaf).tobytes())
    return digest.hexdigest()[:16]

  @functools.cached_property
  def stop_rule(self) -> generation.StopRule:
    """Where steps and solutions end.

    A model of this library ends a step with the line, and a solution with the
    answer line. A published one ends a step with a blank line, and a solution
    with any of its end tokens.
    """
    tokenizer = self.tokenizer
    if isinstance(tokenizer, tokenizer_lib.WordTokenizer):
      return generation.StopRule(
        eos_id=tokenizer.eos_id,
        step_end=stop.build([[tokenizer.newline_id]]),
        answer_marker_id=tokenizer.answer_marker_id,
      )
    return generation.StopRule(
      eos_id=tokenizer.eos_id,
      step_end=stop.blank_line(tokenizer.token_texts),
      other_eos_ids=tokenizer.eos_ids[1:],
    )

  @property
  def chats(self) -> bool:
    """Whether the model has a chat template."""
    tokenizer = self.tokenizer
    return (
      isinstance(tokenizer, pretrained_tokenizer.PretrainedTokenizer)
      and tokenizer.has_template
    )

  def chat(
    self,
    messages: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any] | None = None,
  ) -> str:
    """The prompt that the model's chat template makes of messages.

    Args:
      messages: each with "role" and "content", oldest first.
      variables: further names for the template, such as "enable_thinking".

    Raises:
      ValueError: if the model has no chat template, or it refuses.
    """
    if isinstance(self.tokenizer, tokenizer_lib.WordTokenizer):
      raise ValueError(
        "a model of this library has no chat template; give it a plain prompt"
      )
    return self.tokenizer.chat(messages, variables)


def save(path: str, bundle: Bundle) -> None:
  """Writes one self-explaining .safetensors file.

  Raises:
    ValueError: if the file cannot be written, or the bundle has the tokenizer
      of a published model, which `export` writes.
  """
  if not isinstance(bundle.tokenizer, tokenizer_lib.WordTokenizer):
    raise ValueError(
      f"{path}: a published model's tokenizer does not fit into one file; "
      "expected a directory (inference.export)"
    )
  _check_floats(path, bundle)
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


def export(directory: str, bundle: Bundle) -> None:
  """Writes a Hugging Face directory, which transformers can load.

  Args:
    directory: made if need be.
    bundle: a language model with the tokenizer of a published one.

  Raises:
    ValueError: if the bundle is something else, no known architecture can say
      what its config says, or a file cannot be written.
  """
  if bundle.kind != "language_model" or isinstance(
    bundle.tokenizer, tokenizer_lib.WordTokenizer
  ):
    raise ValueError(
      f"{directory}: expected a language model with a published model's "
      "tokenizer; `save` writes models of this library"
    )
  _check_floats(directory, bundle)
  name = bundle.recipe.get("architecture")
  hugging_face.write(
    pathlib.Path(directory),
    hugging_face.Checkpoint(
      name or families.family_of(bundle.config),
      bundle.config,
      bundle.params,
      bundle.tokenizer,
    ),
  )


def _check_floats(path: str, bundle: Bundle) -> None:
  if bundle.stored_dtype == jnp.int8:
    raise ValueError(
      f"{path}: the model's weights are int8, which is not written; expected "
      "floats (inference.load with another dtype)"
    )


def load(
  path: str,
  dtype: jax.typing.DTypeLike = jnp.float32,
  mesh: jax.sharding.Mesh | None = None,
  step_format: step_format_lib.StepFormat | None = None,
  attention: str = attention_backend.AUTO,
) -> Bundle:
  """Reads what `save` wrote, or a Hugging Face directory.

  Args:
    path: a .safetensors file, the name of a model that ships with the package
      ("arithmetic_lm", "arithmetic_prm"), or a directory with config.json,
      safetensors and tokenizer.json.
    dtype: float32, bfloat16, float16, to compute in; or int8, in which
      matrices are stored (`models.int8_weights`).
    mesh: devices to spread the parameters over, as `shard` does; None for
      one device.
    step_format: of a directory with a reward model: how it is shown steps.
    attention: one of `models.attention_backend.NAMES`.

  Raises:
    ValueError: naming the file and what was expected, if it is missing,
      damaged, lacks its description, or its tensors do not fit its config; if
      the dtype is another; or as `shard`.
  """
  precision = precision_lib.parse(dtype)
  attention_backend.check(attention)
  file = pathlib.Path(path)
  if file.is_dir():
    placement = None if mesh is None else sharding.placement(mesh)
    found = hugging_face.read(file, dtype, placement, step_format)
    judges = found.step_format is not None
    return Bundle(
      kind="process_reward" if judges else "language_model",
      config=found.config,
      params=found.params,
      tokenizer=found.tokenizer,
      recipe={"architecture": found.architecture},
      step_format=found.step_format,
      attention=attention,
    )
  if len(file.parts) > 1 and not file.exists():
    raise ValueError(f"{file}: no such file or directory")
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
  if precision.int8:
    params = int8_weights.quantised(params, precision.dtype)
  else:
    params = jax.tree.map(lambda x: x.astype(precision.dtype), params)
  if mesh is not None:  # each device is sent its own part, from the host
    params = sharding.place(config, params, mesh)
  return Bundle(
    kind=metadata["kind"],
    config=config,
    params=jax.tree.map(jnp.asarray, params),
    tokenizer=tokenizer,
    recipe=recipe,
    attention=attention,
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


def narrowed(bundle: Bundle, width: int | float) -> Bundle:
  """A language model cut down to a width that it was trained for.

  What comes back is a plain model of a smaller config: it costs what its own
  sizes say, and can be saved on its own.

  Args:
    bundle: the whole model, on one device; `shard` goes after.
    width: of the menu in its recipe (`recipe["widths"]`), or 1, which gives
      the bundle itself.

  Raises:
    ValueError: if the model was not trained at that width; names those that
      it has.
  """
  if width == 1:
    return bundle
  menu = bundle.recipe.get("widths")
  menu = menu if isinstance(menu, list | tuple) else ()
  if width not in menu:
    allowed = ", ".join(map(str, menu)) or (
      "1 alone: its recipe names no menu of widths"
    )
    raise ValueError(
      f"width={width!r} is none that this {bundle.kind} was trained at; "
      f"allowed: {allowed}"
    )
  small = nested_transformer.narrowed(bundle.config, width)
  # A narrow model cannot be narrowed again: its own prefixes are no menu.
  return dataclasses.replace(
    bundle,
    config=small,
    params=nested_transformer.narrow(bundle.params, bundle.config, small),
    recipe=bundle.recipe | {"widths": [], "width": width},
  )


def check_pair(policy: Bundle, verifier: Bundle | None) -> None:
  """Refuses models that cannot work together.

  Raises:
    ValueError: if either is of the wrong kind, or their vocabularies differ.
  """
  if policy.kind != "language_model":
    raise ValueError(f"the policy is a {policy.kind}; expected language_model")
  if verifier is None:
    return
  if verifier.writes_verdicts or verifier.step_format is not None:
    return  # it reads text
  if verifier.kind != "process_reward":
    raise ValueError(
      f"the verifier is a {verifier.kind}; expected process_reward, or a "
      "generative verifier (sampling.checks.template makes one of any "
      "language model)"
    )
  ours, theirs = policy.tokenizer.fingerprint, verifier.tokenizer.fingerprint
  if ours != theirs:
    raise ValueError(
      "the reward model reads another vocabulary than the policy writes "
      f"(fingerprint {theirs}, expected {ours})"
    )


def as_verifier(model: Bundle) -> Bundle:
  """A language model that is to be asked for verdicts.

  Raises:
    ValueError: if it is no language model.
  """
  if model.kind != "language_model":
    raise ValueError(
      f"a {model.kind} writes no verdicts; expected a language_model"
    )
  return dataclasses.replace(model, recipe=model.recipe | {"kind": _JUDGES})


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
