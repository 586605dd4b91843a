# SPDX-License-Identifier: Apache-2.0
"""PNG and JPEG files as arrays, read whole or refused by one line.

Pillow decodes; what it lets pass is checked here first. It does not compare a
PNG's pixel data with the checksum that the file has, and a JPEG that ends
early can come out grey at the bottom.
"""

import io
import pathlib
import struct
from typing import Any
import zlib

from jaxtyping import Float, UInt8
import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END_OF_IMAGE, _START_OF_SCAN = b"\xff\xd9", b"\xff\xda"
# Quality at which a photograph's bytes change by one or two.
_JPEG_QUALITY = 95


def read_rgb(path: pathlib.Path) -> UInt8[np.ndarray, "height width 3"]:
  """The colours of a PNG or JPEG, told apart by suffix.

  Raises:
    ValueError: naming the file, and the byte where it is known, if it is
      missing, damaged or cut short, or Pillow is not installed.
  """
  with _opened(path) as image:
    return _array(path, image.convert, "RGB")


def read_codes(path: pathlib.Path) -> UInt8[np.ndarray, "height width"]:
  """The numbers of a PNG with one channel: grey levels, or palette indices.

  Raises:
    ValueError: as `read_rgb`, and if the PNG has colours or other depths.
  """
  with _opened(path) as image:
    if image.mode == "1":
      return _array(path, image.convert, "L")
    if image.mode not in ("L", "P"):
      raise ValueError(
        f"{path}: a PNG of mode {image.mode}; expected 8-bit grey (L) or "
        "palette (P)"
      )
    return _array(path, lambda: image)


def write_rgb(
  path: pathlib.Path, image: UInt8[np.ndarray, "height width 3"]
) -> None:
  """Writes a PNG, or a JPEG of high quality if the suffix is .jpg."""
  options: dict[str, Any] = (
    {"quality": _JPEG_QUALITY, "subsampling": 0}
    if path.suffix == ".jpg"
    else {}
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  _pillow(path).fromarray(np.ascontiguousarray(image)).save(path, **options)


def write_codes(
  path: pathlib.Path, codes: UInt8[np.ndarray, "height width"]
) -> None:
  """Writes an 8-bit grey PNG."""
  path.parent.mkdir(parents=True, exist_ok=True)
  _pillow(path).fromarray(np.ascontiguousarray(codes)).save(path)


def to_bytes(
  path: pathlib.Path, image: Float[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
  """Colours in [0, 1] as bytes, to be written to `path`.

  Raises:
    ValueError: naming the file, if a number is outside.
  """
  check_colours(path, image)
  return np.rint(255 * image).astype(np.uint8)


def check_colours(path: pathlib.Path, image: np.ndarray) -> None:
  """Raises ValueError, naming the file, for colours outside [0, 1]."""
  if not (np.min(image) >= 0 and np.max(image) <= 1):  # NaN is outside, too
    raise ValueError(
      f"{path}: colours from {np.min(image):g} to {np.max(image):g}; expected "
      "numbers in [0, 1]"
    )


def _pillow(path: pathlib.Path) -> Any:
  try:
    from PIL import Image
  except ImportError:
    raise ValueError(
      f"{path}: images need Pillow: pip install 'jaxttc[vision]'"
    ) from None
  return Image


def _opened(path: pathlib.Path) -> Any:
  """The image that Pillow makes of a whole file; pixels are not decoded yet."""
  library = _pillow(path)
  data = read_bytes(path)
  kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
  if kind == "PNG":
    _check_png(path, data)
  else:
    _check_jpeg(path, data)
  try:
    return library.open(io.BytesIO(data), formats=[kind])
  except Exception as error:  # a damaged file raises almost anything
    raise _undecodable(path, kind, error) from None


def read_bytes(path: pathlib.Path) -> bytes:
  """What a file holds.

  Raises:
    ValueError: naming the file, if it cannot be read.
  """
  try:
    return path.read_bytes()
  except FileNotFoundError:
    raise ValueError(f"{path}: no such file") from None
  except OSError as error:
    raise ValueError(f"{path}: cannot be read: {error.strerror}") from None


def _array(path: pathlib.Path, make: Any, *arguments: str) -> np.ndarray:
  try:
    return np.array(make(*arguments), np.uint8)
  except Exception as error:  # a damaged file raises almost anything
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    raise _undecodable(path, kind, error) from None


def _undecodable(path: pathlib.Path, kind: str, error: Exception) -> ValueError:
  line = " ".join(str(error).split()) or type(error).__name__
  # Pillow names the buffer that it was given, which says nothing.
  line = line.partition(" <_io")[0]
  return ValueError(f"{path}: not a whole {kind}: {line}")


def _check_png(path: pathlib.Path, data: bytes) -> None:
  """Walks the chunks: length, name, data, checksum of name and data."""
  if not data.startswith(_SIGNATURE):
    raise ValueError(f"{path}, byte 0: not a PNG; expected the PNG signature")
  at, name = len(_SIGNATURE), b""
  while name != b"IEND":
    head = data[at : at + 8]
    size, name = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
    end = at + 12 + size
    if not name or end > len(data):
      raise ValueError(
        f"{path}, byte {at}: the PNG is cut short at {len(data)} bytes; "
        "expected chunks up to IEND"
      )
    stored = int.from_bytes(data[end - 4 : end], "big")
    if zlib.crc32(data[at + 4 : end - 4]) != stored:
      raise ValueError(
        f"{path}, byte {at}: the PNG is damaged: chunk {name!r} does not "
        "agree with its checksum"
      )
    at = end


def _check_jpeg(path: pathlib.Path, data: bytes) -> None:
  """Looks for the marker that ends the last scan.

  Within a scan the bytes of a marker cannot occur, and the preview that some
  cameras store comes before it.
  """
  if not data.startswith(b"\xff\xd8"):
    raise ValueError(f"{path}, byte 0: not a JPEG; expected its start marker")
  if data.rfind(_END_OF_IMAGE) < data.rfind(_START_OF_SCAN):
    raise ValueError(
      f"{path}, byte {len(data)}: the JPEG is cut short; expected its end "
      "marker"
    )
