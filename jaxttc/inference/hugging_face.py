# SPDX-License-Identifier: Apache-2.0
"""Hugging Face directories: config.json and safetensors in, the same out.

Weights are read tensor by tensor, from memory-mapped files, into the dtype and
the place where they are wanted, the largest first: the host holds what is
loaded already, one parameter (of int8 ones, its floats too), and a slice of a
stored tensor.
"""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.inference import step_format as step_format_lib
from jaxttc.inference import stored_files, weights
from jaxttc.models import config as config_lib
from jaxttc.models import (
  families,
  int8_weights,
  reward_heads,
  sharding,
  stored_tensors,
)
from jaxttc.models import precision as precision_lib
from jaxttc.tasks import pretrained_tokenizer

_SLICE_BYTES = 1 << 24  # of a stored tensor, read at once
_SHARD_BYTES = 5 << 30  # of a file, written


class Checkpoint(NamedTuple):
  """What a directory holds.

  Attributes:
    architecture: a key of `families.FAMILIES`; of a reward model, that of the
      language model below its head.
    config: sizes.
    params: of a `Transformer`, or of a `ProcessRewardModel`.
    tokenizer: what token ids mean.
    step_format: how a reward model is shown steps; None for language models.
  """

  architecture: str
  config: config_lib.TransformerConfig
  params: dict[str, Any]
  tokenizer: pretrained_tokenizer.PretrainedTokenizer
  step_format: step_format_lib.StepFormat | None = None


def read(
  directory: pathlib.Path,
  dtype: jax.typing.DTypeLike = jnp.float32,
  placement: sharding.Placement | None = None,
  step_format: step_format_lib.StepFormat | None = None,
) -> Checkpoint:
  """Reads a directory with config.json, safetensors and tokenizer.json.

  Args:
    directory: where the files are; weights in one file, or in several with
      their index.
    dtype: one of `precision.NAMES`: to compute in, or int8, in which matrices
      are stored. Norm scales that are stored less one stay float32, since the
      sum would lose what the stored number says.
    placement: (path, shape) of a parameter -> its sharding; None puts all on
      the default device.
    step_format: reads a reward model that is shown steps like this; a
      language model then is one that says good or bad with a token. None
      takes a language model as one, and a reward model as its family does.

  Raises:
    ValueError: in one line that names the file, and what was expected.
  """
  precision = precision_lib.parse(dtype)
  directory = pathlib.Path(directory)
  raw = _config(directory)
  kind = _architecture(raw)
  head = reward_heads.HEADS.get(kind)
  if head is None and kind not in families.FAMILIES:
    raise ValueError(
      f"{directory / 'config.json'}: architecture {kind!r} is not known; "
      f"expected one of {', '.join(families.FAMILIES)}, or a reward model: "
      f"{', '.join(reward_heads.HEADS)}"
    )
  if head is not None:
    raw["architectures"] = [head.base]
    if step_format is None and head.separator:
      step_format = step_format_lib.StepFormat(separator=head.separator)
  try:
    name = families.architecture(raw)
    config = families.read_config(raw)
    if head is not None and step_format is None:
      raise ValueError(
        "a reward model of this architecture does not say what marks the end "
        "of a step; give a StepFormat"
      )
  except ValueError as error:
    raise ValueError(f"{directory / 'config.json'}: {error}") from None
  eos = raw.get("eos_token_id")
  tokenizer = pretrained_tokenizer.PretrainedTokenizer.from_directory(
    directory, [eos] if isinstance(eos, int) else eos or ()
  )
  if tokenizer.vocab_size > config.vocab_size:
    raise ValueError(
      f"{directory}: tokenizer.json has ids up to {tokenizer.vocab_size - 1}; "
      f"config.json says vocab_size={config.vocab_size}"
    )
  if step_format is not None:
    head, config = _judging(head, name, config, tokenizer, step_format)
  table = stored_tensors.parameters(config, name)
  with stored_files.opened(directory) as stored:
    own = [] if head is None else reward_heads.stored_names(head, stored)
    stored_files.check(directory, stored, table, own)
    flat = {}
    for path in sorted(table, key=lambda p: -np.prod(table[p].shape)):
      for key, host in _wanted(stored, path, table[path], precision):
        where = None if placement is None else placement(key, host.shape)
        flat[key] = jax.device_put(host, where)
        del host
    params = traverse_util.unflatten_dict(flat)
    if head is not None:
      judge = _judge(directory, stored, head, own, precision.dtype, placement)
      params = {"trunk": params, **judge}
  if "reward_hidden" in params:
    width = params["reward_hidden"]["kernel"].shape[1]
    config = dataclasses.replace(config, reward_width=width)
  return Checkpoint(name, config, params, tokenizer, step_format)


def write(
  directory: pathlib.Path,
  checkpoint: Checkpoint,
  shard_bytes: int = _SHARD_BYTES,
) -> None:
  """Writes a directory that transformers, and `read`, can load.

  Args:
    directory: made if need be.
    checkpoint: what to write.
    shard_bytes: most bytes of tensors in one file.

  Raises:
    ValueError: if the architecture cannot say what the config says, or a file
      cannot be written.
  """
  directory = pathlib.Path(directory)
  config, name = checkpoint.config, checkpoint.architecture
  raw = families.write_config(config, name)
  flat = traverse_util.flatten_dict(checkpoint.params)
  table = stored_tensors.parameters(config, name)
  raw["dtype"] = str(flat["embed", "embedding"].dtype)
  ends = list(checkpoint.tokenizer.eos_ids)
  raw["eos_token_id"] = ends if len(ends) > 1 else ends[0]
  try:
    directory.mkdir(parents=True, exist_ok=True)
    shards = _sharded(table, flat, shard_bytes)
    weight_map: dict[str, str] = {}
    for i, paths in enumerate(shards):
      file = stored_files.WHOLE
      if len(shards) > 1:
        file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
      tensors = {}
      for path in paths:
        tensors |= _taken_apart(table[path], flat[path], raw["dtype"])
      weights.save_tensors(directory / file, tensors, {"format": "pt"})
      weight_map |= dict.fromkeys(tensors, file)
    if len(shards) > 1:
      size = sum(flat[path].nbytes for path in table)
      index = {"metadata": {"total_size": size}, "weight_map": weight_map}
      (directory / stored_files.INDEX).write_text(json.dumps(index, indent=2))
    for file, text in checkpoint.tokenizer.files.items():
      (directory / file).write_text(text, encoding="utf-8")
    (directory / "config.json").write_text(json.dumps(raw, indent=2))
  except OSError as error:
    raise ValueError(f"{directory}: cannot be written: {error}") from None


def _config(directory: pathlib.Path) -> dict[str, Any]:
  file = directory / "config.json"
  if not file.is_file():
    raise ValueError(f"{file}: no such file; expected a Hugging Face directory")
  return stored_files.read_json(file)


def _architecture(raw: Mapping[str, Any]) -> str:
  named = raw.get("architectures")
  return str(named[0]) if isinstance(named, list) and named else ""


def _judging(head, name, config, tokenizer, step_format):
  """The head of a reward model, and the config of the trunk below it.

  Raises:
    ValueError: if the vocabulary has no token that the format names.
  """
  step_format.separator_ids(tokenizer)
  if head is None:
    good, bad = step_format.verdict_ids(tokenizer)
    head = reward_heads.of_tokens(name, config.tie_embeddings, good, bad)
  return head, dataclasses.replace(config, tie_embeddings=True)


def _judge(directory, stored, head, names, dtype, placement):
  """The head's parameters, where they are wanted."""

  def read(name, rows):
    tensor = stored[name].get_slice(name)
    if tensor.get_dtype() not in stored_files.FLOATS:
      weights.refuse(directory, "ill-typed tensors", [name])
    if rows is None:
      return tensor[:].astype(np.float32)
    if max(rows) >= tensor.get_shape()[0]:
      shape = tuple(tensor.get_shape())
      weights.refuse(
        directory,
        "ill-shaped tensors",
        [f"{name} is {shape}, expected {max(rows) + 1} labels or more"],
      )
    return np.stack([tensor[i : i + 1][0] for i in rows]).astype(np.float32)

  found = reward_heads.parameters(head, names, read)
  flat = traverse_util.flatten_dict(found)
  for path, value in flat.items():
    where = None if placement is None else placement(path, value.shape)
    wide = path[0] == "reward"  # applied in float32, and small
    flat[path] = jax.device_put(
      value if wide else value.astype(jnp.dtype(dtype)), where
    )
  return traverse_util.unflatten_dict(flat)


def _wanted(stored, path, parameter, precision):
  """Yields (path, value) of a parameter, and of its scales if it has any."""
  axes = int8_weights.inputs(path) if precision.int8 else None
  if axes is None:
    exact = jnp.float32 if parameter.offset else precision.dtype
    yield path, _assembled(stored, parameter, jnp.dtype(exact))
    return
  value, scale = int8_weights.quantise(
    _assembled(stored, parameter, np.dtype(np.float32)), axes, precision.dtype
  )
  yield path, value
  del value
  yield int8_weights.scale_path(path), scale


def _assembled(
  stored: Mapping[str, Any],
  parameter: stored_tensors.Parameter,
  dtype: np.dtype,
) -> np.ndarray:
  """A parameter, put together from the tensors that are its pieces."""
  out = np.empty(parameter.shape, dtype)
  for piece in parameter.pieces:
    part = _as_stored(out, piece)
    tensor = stored[piece.name].get_slice(piece.name)
    if piece.split != piece.shape:
      part[...] = tensor[:].reshape(piece.split)
      continue
    width = dtype.itemsize * int(np.prod(piece.shape[1:], dtype=np.int64))
    rows = max(_SLICE_BYTES // max(width, 1), 1)
    for start in range(0, piece.shape[0], rows):
      end = min(start + rows, piece.shape[0])
      part[start:end] = tensor[start:end]
  if parameter.offset:
    out += np.asarray(parameter.offset, dtype)
  return out


def _taken_apart(
  parameter: stored_tensors.Parameter, value: jax.Array, dtype: str
) -> dict[str, np.ndarray]:
  """The stored tensors of a parameter; inverse of `_assembled`."""
  host = np.asarray(value)
  if parameter.offset:
    host = host - np.asarray(parameter.offset, host.dtype)
  return {
    piece.name: np.ascontiguousarray(
      _as_stored(host, piece).reshape(piece.shape), jnp.dtype(dtype)
    )
    for piece in parameter.pieces
  }


def _as_stored(array: np.ndarray, piece: stored_tensors.Piece) -> np.ndarray:
  """A view of a piece's part in the axes of the stored tensor, split."""
  return array[piece.place].transpose(np.argsort(piece.order))


def _sharded(table, flat, most: int) -> list[list[tuple[str, ...]]]:
  """Parameters by file, in order, each file within `most` bytes if it can."""
  shards: list[list[tuple[str, ...]]] = [[]]
  room = most
  for path in table:
    if shards[-1] and flat[path].nbytes > room:
      shards.append([])
      room = most
    shards[-1].append(path)
    room -= flat[path].nbytes
  return shards
