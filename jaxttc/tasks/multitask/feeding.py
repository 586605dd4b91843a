# SPDX-License-Identifier: Apache-2.0
"""Batches for the train loop, read ahead by grain.

A batch is a pure function of the step: which examples it has follows from the
seed alone, so a run that starts again at step 1,000 sees what it would have
seen. Steps that follow each other are read ahead by threads; a jump starts the
reading anew.
"""

from collections.abc import Callable
from typing import Any, Self

import jax
import numpy as np

from jaxttc.tasks.multitask import base
from jaxttc.tasks.multitask import examples as examples_lib

Augmentation = Callable[[jax.Array, base.Examples], base.Examples]


class Batches:
  """The batches of a run: `batches(step)`.

  Every epoch has its own order. A batch may reach from one epoch into the
  next, so that none is short.
  """

  def __init__(
    self,
    source: examples_lib.Source,
    batch_size: int,
    *,
    seed: int,
    augment: Augmentation | None = None,
    threads: int = 8,
  ):
    """Starts no thread before the first batch is asked for.

    Args:
      source: examples by number, of one shape.
      batch_size: examples a batch.
      seed: of the order, and of the augmentation's keys.
      augment: (key, batch) -> batch, pure JAX, compiled here and run on the
        device; the key is the step's own.
      threads: how many examples are read at once; 1 is best for a source that
        is in memory.

    Raises:
      ValueError: if the source is empty, a size is not positive, the seed is
        negative, or grain is not installed.
    """
    for name, number in (
      ("examples", len(source)),
      ("batch_size", batch_size),
      ("threads", threads),
    ):
      if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    if seed < 0:
      raise ValueError(f"seed must not be negative, got {seed}")
    grain = _grain()
    # Epoch e is shuffled by seed + e: seeds far apart share no order.
    spread = int(np.random.SeedSequence(seed).generate_state(1)[0])
    self._dataset = (
      grain.MapDataset.source(source).shuffle(seed=spread).repeat()
    )
    # Two batches' examples wait, so that one can be read while one is used.
    self._options = grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=max(threads, 2 * batch_size)
    )
    self._batch_size = batch_size
    self._key = jax.random.key(seed)
    self._augment = None if augment is None else jax.jit(augment)
    self._iterator: Any = None
    self._next = 0

  def __call__(self, step: int) -> base.Examples:
    """The batch of a step, from 0.

    Raises:
      ValueError: if the step is negative; and as the source.
    """
    if step < 0:
      raise ValueError(f"step must not be negative, got {step}")
    if self._iterator is None or step != self._next:
      self.close()
      self._iterator = self._from(step)
    try:
      batch = next(self._iterator)
    except BaseException:
      self.close()
      raise
    self._next = step + 1
    if self._augment is None:
      return batch
    return self._augment(jax.random.fold_in(self._key, step), batch)

  def _from(self, step: int) -> Any:
    """Reads ahead from a step on."""
    rest = self._dataset.slice(slice(step * self._batch_size, None))
    return iter(
      rest.to_iter_dataset(self._options).batch(
        self._batch_size, batch_fn=examples_lib.stack
      )
    )

  def close(self) -> None:
    """Ends the threads; a later call starts new ones."""
    if self._iterator is not None:
      self._iterator.close()
    self._iterator = None

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *error: object) -> None:
    self.close()


def _grain() -> Any:
  try:
    import grain
  except ImportError:
    raise ValueError(
      "reading data sets ahead needs grain: pip install 'jaxttc[vision]'"
    ) from None
  return grain
