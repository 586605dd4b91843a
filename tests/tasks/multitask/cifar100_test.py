# SPDX-License-Identifier: Apache-2.0
"""Tests of CIFAR100-MTL: the mapping, round trips, and damaged files."""

import collections
import os
import pickle

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.tasks.multitask import cifar100

_RNG = np.random.default_rng(0)
_FINE = _RNG.integers(0, 100, 12).astype(np.int32)
_IMAGES = _RNG.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
  cifar100.save(tmp_path, _IMAGES, _FINE)
  cifar100.save(tmp_path, _IMAGES[:4], _FINE[:4], "test")
  return tmp_path / cifar100.FOLDER


def test_twenty_tasks_of_five_classes():
  pairs = set(zip(cifar100.SUPERCLASS_OF, cifar100.RANK_OF, strict=True))
  assert pairs == {(task, rank) for task in range(20) for rank in range(5)}
  assert len(cifar100.TASKS) == 20
  assert {(t.kind, t.outputs) for t in cifar100.TASKS} == {("classes", 5)}


@pytest.mark.parametrize(
  "fine, superclass, rank",
  # apple, aquarium_fish, .., from the classes' alphabetical order.
  [
    (0, "fruit_and_vegetables", 0),
    (1, "fish", 0),
    (2, "people", 0),
    (11, "people", 1),
    (35, "people", 2),
    (46, "people", 3),
    (98, "people", 4),
    (83, "fruit_and_vegetables", 4),
    (54, "flowers", 0),
    (89, "vehicles_2", 4),
    (99, "non-insect_invertebrates", 4),
  ],
)
def test_classes_that_are_known(fine, superclass, rank):
  assert cifar100.SUPERCLASSES[cifar100.SUPERCLASS_OF[fine]] == superclass
  assert cifar100.RANK_OF[fine] == rank


@pytest.mark.parametrize("is_inside", [True, False])
def test_round_trip(root, is_inside):
  data = cifar100.load(root if is_inside else root.parent)
  assert (len(data), data.input_shape) == (12, (32, 32, 3))
  for index in range(12):
    example = data[index]
    assert example.inputs.dtype == np.float32
    np.testing.assert_array_equal(
      example.inputs, _IMAGES[index] / np.float32(255)
    )
    valid = {k: v for k, v in example.labels.items() if v.valid}
    assert list(example.labels) == list(cifar100.SUPERCLASSES)
    ((name, label),) = valid.items()
    fine = _FINE[index]
    assert name == cifar100.SUPERCLASSES[cifar100.SUPERCLASS_OF[fine]]
    assert label.value == cifar100.RANK_OF[fine]


def test_every_class_once_supervises_each_task_five_times(tmp_path):
  images = np.zeros((100, 32, 32, 3), np.uint8)
  cifar100.save(tmp_path, images, range(100))
  data = cifar100.load(tmp_path)
  seen = collections.defaultdict(list)
  for index in range(100):
    for name, label in data[index].labels.items():
      if label.valid:
        seen[name].append(int(label.value))
  assert len(seen) == 20
  assert all(sorted(ranks) == [0, 1, 2, 3, 4] for ranks in seen.values())


def test_held_out_are_the_first_of_the_test_split(root):
  batch = cifar100.load(root).held_out(3)
  np.testing.assert_array_equal(batch.inputs, _IMAGES[:3] / np.float32(255))
  assert batch.labels["fish"].valid.shape == (3,)
  with pytest.raises(ValueError, match="test: 5 held-out examples; .* 1 to 4"):
    cifar100.load(root).held_out(5)


def test_planes_are_red_green_blue(root):
  fields = pickle.loads((root / "train").read_bytes())
  planes = fields[b"data"][0].reshape(3, 1024)
  np.testing.assert_array_equal(planes[0], _IMAGES[0, :, :, 0].ravel())


def _rewrite(root, split="train", **changes):
  fields = pickle.loads((root / split).read_bytes())
  fields |= {key.encode(): value for key, value in changes.items()}
  fields = {k: v for k, v in fields.items() if v is not None}
  (root / split).write_bytes(pickle.dumps(fields, 4))


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"data": None}, "no field 'data'; fields found: .*fine_labels"),
    ({"data": [1, 2]}, "data is list; expected bytes uint8"),
    ({"data": np.zeros((12, 3071), np.uint8)}, r"data is uint8\[12, 3071\]"),
    ({"data": np.zeros((12, 3072))}, r"data is float64\[12, 3072\]"),
    ({"fine_labels": [1] * 11}, "fine_labels: 11; expected a list of 12"),
    ({"fine_labels": b"abc"}, "fine_labels: bytes; expected a list of 12"),
    ({"fine_labels": [0] * 11 + [100]}, "image 11: fine label 100; expected"),
    ({"fine_labels": [0] * 11 + ["x"]}, "image 11: fine label str; expected"),
    ({"fine_labels": [True] * 12}, "image 0: fine label bool; expected"),
    ({"coarse_labels": [-1] * 12}, r"image 0: coarse label -1; .* \[0, 20\)"),
  ],
)
def test_fields_that_cannot_be(root, changes, message):
  _rewrite(root, **changes)
  with pytest.raises(ValueError, match=f"train.*{message}"):
    cifar100.load(root)


def test_another_superclass_is_refused(root):
  coarse = [cifar100.SUPERCLASS_OF[fine] for fine in _FINE]
  coarse[7] = (coarse[7] + 1) % 20
  _rewrite(root, coarse_labels=coarse)
  with pytest.raises(
    ValueError,
    match=rf"image 7: class {_FINE[7]} with superclass {coarse[7]}; expected",
  ):
    cifar100.load(root)


def test_meta_of_another_data_set_is_refused(root):
  _rewrite(root, "meta", coarse_label_names=[b"cat", b"dog"])
  with pytest.raises(ValueError, match="meta: coarse_label_names are not"):
    cifar100.load(root)


def test_code_in_a_file_is_not_run(root, tmp_path):
  class Attack:
    def __reduce__(self):
      return (os.system, (f"touch {tmp_path}/mark",))

  _rewrite(root, data=Attack())
  with pytest.raises(
    ValueError, match=r"train, byte \d+: .* names posix.system"
  ):
    cifar100.load(root)
  assert not (tmp_path / "mark").exists()


@hypothesis.given(share=st.floats(0, 1, exclude_max=True))
@hypothesis.settings(
  max_examples=60,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_truncated_files_are_refused(root, share):
  whole = (root / "test").read_bytes()
  (root / "train").write_bytes(whole[: int(share * len(whole))])
  with pytest.raises(ValueError, match=r"train, byte \d+: ") as error:
    cifar100.load(root)
  assert "\n" not in str(error.value)


def test_missing_folder_and_unknown_split(tmp_path, root):
  with pytest.raises(ValueError, match="none/meta: no such file"):
    cifar100.load(tmp_path / "none")
  with pytest.raises(
    ValueError, match="split 'val'; expected one of train, tes"
  ):
    cifar100.load(root, "val")


def test_save_refuses_what_it_cannot_write(tmp_path):
  with pytest.raises(ValueError, match="12 images with 2 classes"):
    cifar100.save(tmp_path, _IMAGES, [1, 2])
  with pytest.raises(ValueError, match=r"class 100 is not in \[0, 100\)"):
    cifar100.save(tmp_path, _IMAGES[:1], [100])
