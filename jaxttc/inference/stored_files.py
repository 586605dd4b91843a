# SPDX-License-Identifier: Apache-2.0
"""The files of a Hugging Face directory, opened and checked."""

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import json
import pathlib
from typing import Any

import safetensors

from jaxttc.inference import weights
from jaxttc.models import stored_tensors

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
# Stored by some versions, and computed here.
_COMPUTED = ("rotary_emb.inv_freq", "attn.masked_bias")


def read_json(file: pathlib.Path) -> dict[str, Any]:
  """The fields of a JSON file.

  Raises:
    ValueError: if it cannot be read, or holds no JSON object.
  """
  try:
    fields = json.loads(file.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise ValueError(f"{file}: not JSON: {error}") from None
  if not isinstance(fields, dict):
    raise ValueError(f"{file}: expected a JSON object")
  return fields


@contextlib.contextmanager
def opened(directory: pathlib.Path) -> Iterator[dict[str, Any]]:
  """Open files by the names of the tensors in them.

  Raises:
    ValueError: naming the file, if there is none, one is missing or damaged,
      or the index does not agree with what is there.
  """
  with contextlib.ExitStack() as stack:
    stored: dict[str, Any] = {}
    for path, promised in _files(directory).items():
      file = _open(path)
      stack.enter_context(file)
      names = set(file.keys())
      lacking = sorted(promised - names)
      weights.refuse(path, "missing tensors, which the index promises", lacking)
      stored |= dict.fromkeys(names, file)
    yield stored


def _files(directory: pathlib.Path) -> dict[pathlib.Path, set[str]]:
  """The weight files, and the tensors that an index says each has."""
  if (directory / WHOLE).is_file():
    return {directory / WHOLE: set()}
  index = directory / INDEX
  if not index.is_file():
    pickles = sorted(
      p.name for end in ("bin", "pt", "pth") for p in directory.glob(f"*.{end}")
    )
    if pickles:
      raise ValueError(
        f"{directory / pickles[0]}: a pickle can run any code, and is not "
        "read; convert it where you trust it: transformers' "
        "AutoModelForCausalLM.from_pretrained(..).save_pretrained(..) writes "
        "safetensors"
      )
    raise ValueError(f"{directory}: no {WHOLE} and no {INDEX}")
  named = read_json(index).get("weight_map")
  if not isinstance(named, dict) or not named:
    raise ValueError(f"{index}: no weight_map; expected file names by tensor")
  files: dict[pathlib.Path, set[str]] = {}
  for tensor, file in named.items():
    if not isinstance(file, str) or pathlib.PurePath(file).name != file:
      raise ValueError(
        f"{index}: {tensor} is in {file!r}; expected a file beside the index"
      )
    files.setdefault(directory / file, set()).add(tensor)
  for path in files:
    if not path.is_file():
      raise ValueError(
        f"{index}: names {path.name}, which is missing; download it again"
      )
  return files


def _open(path: pathlib.Path) -> Any:
  try:
    return safetensors.safe_open(path, framework="np")
  except (safetensors.SafetensorError, OSError) as error:
    size = path.stat().st_size
    with path.open("rb") as file:
      pointer = file.read(7) == b"version"
    hint = "a Git LFS pointer" if pointer else "half downloaded, or damaged"
    raise ValueError(
      f"{path}: not a whole safetensors file ({hint}; {size} bytes): "
      f"{' '.join(str(error).split())}"
    ) from None


def check(
  directory: pathlib.Path,
  stored: Mapping[str, Any],
  table: Mapping[tuple[str, ...], stored_tensors.Parameter],
  head: Iterable[str],
) -> None:
  """Refuses tensors that are missing, unexpected, ill-shaped or ill-typed."""
  pieces = {p.name: p for one in table.values() for p in one.pieces}
  spare = stored.keys() - pieces.keys() - set(head)
  spare = {name for name in spare if not name.endswith(_COMPUTED)}
  # A copy of the embedding, or a language head that a reward model lacks.
  spare.discard("lm_head.weight")
  lacking = (pieces.keys() | set(head)) - stored.keys()
  weights.refuse(directory, "missing tensors", sorted(lacking))
  weights.refuse(directory, "unexpected tensors", sorted(spare))
  shapes, types = [], []
  for name, piece in pieces.items():
    tensor = stored[name].get_slice(name)
    shape, kind = tuple(tensor.get_shape()), tensor.get_dtype()
    if shape != piece.shape:
      shapes.append(f"{name} is {shape}, config.json says {piece.shape}")
    if kind not in FLOATS:
      types.append(f"{name} is {kind}, expected one of {', '.join(FLOATS)}")
  weights.refuse(directory, "ill-shaped tensors", shapes)
  weights.refuse(directory, "ill-typed tensors", types)
