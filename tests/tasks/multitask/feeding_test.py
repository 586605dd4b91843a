# SPDX-License-Identifier: Apache-2.0
"""Tests of feeding: a batch is a pure function of the step."""

import builtins
import threading

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from jaxttc.tasks.multitask import base, cifar100, feeding


class _Numbers:
  """Example i holds the number i; it counts how often it is read."""

  def __init__(self, count, fails_at=None):
    self.count = count
    self.fails_at = fails_at
    self.reads = 0
    self._lock = threading.Lock()

  def __len__(self):
    return self.count

  def __getitem__(self, index):
    with self._lock:
      self.reads += 1
    if index == self.fails_at:
      raise ValueError("images/7.png: the PNG is cut short")
    label = base.Label(np.int32(index % 3), np.bool_(index % 2))
    return base.Examples(np.full(2, index, np.float32), {"rest": label})


def _ids(batch):
  return batch.inputs[:, 0].astype(int).tolist()


def test_batches_are_stacked():
  with feeding.Batches(_Numbers(10), 4, seed=0) as batches:
    batch = batches(0)
  assert batch.inputs.shape == (4, 2) and batch.inputs.dtype == np.float32
  label = batch.labels["rest"]
  assert (label.value.dtype, label.valid.dtype) == (np.int32, bool)
  np.testing.assert_array_equal(label.value, np.array(_ids(batch)) % 3)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 25])
def test_every_epoch_has_every_example_once_in_its_own_order(batch_size):
  with feeding.Batches(_Numbers(10), batch_size, seed=3) as batches:
    steps = -(-30 // batch_size)
    seen = [i for step in range(steps) for i in _ids(batches(step))]
  epochs = [seen[at : at + 10] for at in (0, 10, 20)]
  assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
  assert epochs[0] != epochs[1] != epochs[2] != list(range(10))


@pytest.fixture(scope="module")
def in_order():
  with feeding.Batches(_Numbers(7), 3, seed=1, threads=2) as batches:
    return [_ids(batches(step)) for step in range(41)]


@hypothesis.given(steps=st.lists(st.integers(0, 40), min_size=1, max_size=5))
@hypothesis.settings(max_examples=10)
def test_a_batch_depends_on_its_step_alone(in_order, steps):
  with feeding.Batches(_Numbers(7), 3, seed=1, threads=4) as batches:
    for step in steps:
      assert _ids(batches(step)) == in_order[step]


def test_seeds_give_different_orders():
  orders = set()
  for seed in range(4):
    with feeding.Batches(_Numbers(20), 20, seed=seed) as batches:
      orders |= {tuple(_ids(batches(epoch))) for epoch in range(4)}
  assert len(orders) == 16


def test_steps_that_follow_each_other_are_read_once():
  source = _Numbers(1000)
  with feeding.Batches(source, 10, seed=0, threads=4) as batches:
    for step in range(20):
      batches(step)
  # Read ahead: at most two batches more.
  assert 200 <= source.reads <= 220


def test_augmentation_has_the_steps_own_key():
  def augment(key, batch):
    noise = jax.random.uniform(key, batch.inputs.shape)
    return batch._replace(inputs=batch.inputs + noise)

  with feeding.Batches(_Numbers(5), 5, seed=2, augment=augment) as batches:
    first = [np.asarray(batches(step).inputs) for step in range(3)]
  with feeding.Batches(_Numbers(5), 5, seed=2, augment=augment) as batches:
    np.testing.assert_array_equal(batches(2).inputs, first[2])
    np.testing.assert_array_equal(batches(0).inputs, first[0])
  assert len({float(x.sum() % 1) for x in first}) == 3


def test_errors_of_the_source_come_through_and_reading_goes_on():
  source = _Numbers(8, fails_at=7)
  with feeding.Batches(source, 8, seed=0) as batches:
    with pytest.raises(ValueError, match="images/7.png: the PNG is cut short"):
      batches(0)
    source.fails_at = None
    assert sorted(_ids(batches(0))) == list(range(8))


def test_close_ends_the_threads_and_may_be_followed_by_more():
  before = set(threading.enumerate())
  batches = feeding.Batches(_Numbers(8), 4, seed=0, threads=3)
  assert set(threading.enumerate()) <= before
  first = _ids(batches(0))
  started = set(threading.enumerate()) - before
  assert started
  batches.close()
  batches.close()
  for thread in started:
    thread.join(timeout=30)
    assert not thread.is_alive()
  assert _ids(batches(0)) == first
  batches.close()


def test_cifar_is_fed(tmp_path):
  images = np.arange(20, dtype=np.uint8)[:, None, None, None]
  images = np.broadcast_to(images, (20, 32, 32, 3))
  cifar100.save(tmp_path, images, np.arange(20))
  with feeding.Batches(cifar100.load(tmp_path), 20, seed=0) as batches:
    batch = batches(0)
  assert batch.inputs.shape == (20, 32, 32, 3)
  fine = np.rint(255 * batch.inputs[:, 0, 0, 0]).astype(int)
  for at, one in enumerate(fine):
    name = cifar100.SUPERCLASSES[cifar100.SUPERCLASS_OF[one]]
    assert batch.labels[name].valid[at]
    assert batch.labels[name].value[at] == cifar100.RANK_OF[one]
  assert sum(label.valid.sum() for label in batch.labels.values()) == 20


@pytest.mark.parametrize(
  "count, options, message",
  [
    (0, {}, "examples must be at least 1, got 0"),
    (5, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    (5, {"threads": 0}, "threads must be at least 1, got 0"),
    (5, {"seed": -1}, "seed must not be negative, got -1"),
  ],
)
def test_numbers_that_cannot_be(count, options, message):
  options = {"batch_size": 2, "seed": 0} | options
  with pytest.raises(ValueError, match=message):
    feeding.Batches(_Numbers(count), **options)


def test_negative_steps_are_refused():
  with feeding.Batches(_Numbers(5), 2, seed=0) as batches:
    with pytest.raises(ValueError, match="step must not be negative, got -1"):
      batches(-1)


def test_without_grain_the_extra_is_named(monkeypatch):
  real = builtins.__import__

  def refuse(name, *rest):
    if name == "grain":
      raise ImportError(name)
    return real(name, *rest)

  monkeypatch.setattr(builtins, "__import__", refuse)
  with pytest.raises(ValueError, match=r"needs grain: pip .*jaxttc\[vision\]"):
    feeding.Batches(_Numbers(5), 2, seed=0)
