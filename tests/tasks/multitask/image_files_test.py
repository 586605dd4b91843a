# SPDX-License-Identifier: Apache-2.0
"""Tests of PNG and JPEG files, whole and damaged."""

import builtins
import pathlib
import zlib

import hypothesis
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from jaxttc.tasks.multitask import image_files

_RNG = np.random.default_rng(0)
_RGB = _RNG.integers(0, 256, (9, 7, 3)).astype(np.uint8)
_CODES = _RNG.integers(0, 256, (9, 7)).astype(np.uint8)


def _smooth(height=16, width=24):
  y, x = np.mgrid[:height, :width]
  return np.stack([9 * y, 6 * x, 4 * (y + x)], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  root = tmp_path_factory.mktemp("images")
  image_files.write_rgb(root / "rgb.png", _RGB)
  image_files.write_rgb(root / "rgb.jpg", _smooth())
  image_files.write_codes(root / "codes.png", _CODES)
  return root


def test_png_round_trips_exactly(folder):
  np.testing.assert_array_equal(image_files.read_rgb(folder / "rgb.png"), _RGB)
  np.testing.assert_array_equal(
    image_files.read_codes(folder / "codes.png"), _CODES
  )


def test_jpeg_round_trips_nearly(folder):
  read = image_files.read_rgb(folder / "rgb.jpg").astype(int)
  assert np.abs(read - _smooth()).max() <= 6


def test_palette_is_read_as_its_indices(tmp_path):
  image = Image.fromarray(_CODES % 21).convert("L")
  palette = Image.new("P", image.size)
  palette.putpalette([k for i in range(256) for k in (255 - i, i, 7)])
  palette.putdata(list((_CODES % 21).ravel()))
  palette.save(tmp_path / "voc.png")
  codes = image_files.read_codes(tmp_path / "voc.png")
  np.testing.assert_array_equal(codes, _CODES % 21)


def test_one_bit_is_black_and_white(tmp_path):
  Image.fromarray(_CODES > 127).save(tmp_path / "mask.png")
  codes = image_files.read_codes(tmp_path / "mask.png")
  np.testing.assert_array_equal(codes, 255 * (_CODES > 127))


def test_grey_photographs_have_colours(tmp_path):
  Image.fromarray(_CODES).save(tmp_path / "grey.png")
  rgb = image_files.read_rgb(tmp_path / "grey.png")
  np.testing.assert_array_equal(rgb, np.repeat(_CODES[..., None], 3, -1))


def test_codes_of_a_colour_image_are_refused(folder):
  with pytest.raises(ValueError, match="rgb.png: a PNG of mode RGB; expected"):
    image_files.read_codes(folder / "rgb.png")


def test_missing_file(tmp_path):
  with pytest.raises(ValueError, match="none.png: no such file"):
    image_files.read_rgb(tmp_path / "none.png")


def test_a_folder_is_no_file(tmp_path):
  (tmp_path / "x.png").mkdir()
  with pytest.raises(ValueError, match="x.png: cannot be read: Is a directory"):
    image_files.read_rgb(tmp_path / "x.png")


@pytest.mark.parametrize("name", ["rgb.png", "rgb.jpg", "codes.png"])
def test_any_truncation_is_refused(folder, tmp_path, name):
  whole = (folder / name).read_bytes()
  cut = tmp_path / name
  for size in [*range(0, len(whole), 3), *range(len(whole) - 9, len(whole))]:
    cut.write_bytes(whole[:size])
    with pytest.raises(ValueError) as error:
      image_files.read_rgb(cut)
    assert str(error.value).startswith(str(cut))
    assert "\n" not in str(error.value)


@hypothesis.given(at=st.integers(0, 10_000), change=st.integers(1, 255))
@hypothesis.settings(max_examples=200)
def test_a_png_with_any_byte_changed_is_refused(folder, at, change):
  damaged = bytearray((folder / "rgb.png").read_bytes())
  damaged[at % len(damaged)] ^= change
  path = folder / "damaged.png"
  path.write_bytes(bytes(damaged))
  with pytest.raises(ValueError, match=r"damaged.png, byte \d+: "):
    image_files.read_rgb(path)


@hypothesis.given(at=st.integers(0, 10_000), change=st.integers(1, 255))
@hypothesis.settings(max_examples=100)
def test_a_jpeg_with_any_byte_changed_raises_nothing_else(folder, at, change):
  damaged = bytearray((folder / "rgb.jpg").read_bytes())
  damaged[at % len(damaged)] ^= change
  path = folder / "damaged.jpg"
  path.write_bytes(bytes(damaged))
  try:
    assert image_files.read_rgb(path).ndim == 3
  except ValueError as error:
    assert str(error).startswith(str(path)) and "\n" not in str(error)


def _chunk(name, data):
  checksum = zlib.crc32(name + data).to_bytes(4, "big")
  return len(data).to_bytes(4, "big") + name + data + checksum


def test_pixels_that_do_not_unpack_are_refused(tmp_path):
  header = (5).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
  path = tmp_path / "bad.png"
  path.write_bytes(
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", header)
    + _chunk(b"IDAT", b"no zlib stream")
    + _chunk(b"IEND", b"")
  )
  with pytest.raises(ValueError, match="bad.png: not a whole PNG: "):
    image_files.read_codes(path)


def test_checksum_names_the_chunk_and_its_offset(folder, tmp_path):
  damaged = bytearray((folder / "codes.png").read_bytes())
  at = damaged.find(b"IDAT")
  damaged[at + 20] ^= 1
  path = tmp_path / "codes.png"
  path.write_bytes(bytes(damaged))
  with pytest.raises(ValueError, match=rf"byte {at - 4}: .* b'IDAT' does not"):
    image_files.read_codes(path)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan])
def test_colours_outside_are_refused(tmp_path, wrong):
  image = np.full((2, 2, 3), 0.5)
  image[1, 1, 1] = wrong
  with pytest.raises(ValueError, match=r"x.png: colours from .* in \[0, 1\]"):
    image_files.to_bytes(tmp_path / "x.png", image)


def test_colours_become_the_nearest_bytes(tmp_path):
  image = np.arange(256).reshape(1, -1, 1).repeat(3, -1) / 255
  to_bytes = image_files.to_bytes(
    tmp_path / "x.png", image + 0.001 * (image < 1)
  )
  np.testing.assert_array_equal(to_bytes[0, :, 0], np.arange(256))


def test_without_pillow_the_extra_is_named(folder, monkeypatch):
  real = builtins.__import__

  def refuse(name, *rest):
    if name == "PIL":
      raise ImportError(name)
    return real(name, *rest)

  monkeypatch.setattr(builtins, "__import__", refuse)
  with pytest.raises(ValueError, match=r"need Pillow: pip .*jaxttc\[vision\]"):
    image_files.read_rgb(folder / "rgb.png")
