# SPDX-License-Identifier: Apache-2.0
"""The project's one train loop.

An objective is a pure function `loss(params, batch, key) -> (scalar,
metrics)`; data is a pure function of the step. Everything the loop carries is
in `TrainState`, so a run that is killed and started again takes up from its
last checkpoint and repeats the same losses, bit for bit.
"""

from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxttc import checkpoints as checkpoints_lib
from jaxttc import host_memory
from jaxttc import mesh as mesh_lib
from jaxttc.cost import ledger as ledger_lib
from jaxttc.models import attention_backend
from jaxttc.training import (
  accumulation,
  divergence,
  progress,
  sharded_state,
  step_accounts,
)
from jaxttc.training import metrics as metrics_lib

Objective = Callable[[Any, Any, jax.Array], tuple[jax.Array, dict]]
Gradients = Callable[[Any, Any, jax.Array], tuple[Any, dict]]

_DTYPES = ("float32", "bfloat16")


class Collector(NamedTuple):
  """Makes batches from the present parameters, as sampling rollouts does.

  Attributes:
    init: () -> what it remembers, a pytree of arrays.
    collect: (params, remembered, batch, step) -> (what the objective reads,
      remembered, metrics of f32[]). Host code, called before every step; with
      the same arguments it must do the same.
    resume: what a checkpoint remembered -> what to go on with, like what `init`
      returns; raises ValueError where there is no going on. Leading axes may
      differ from those of `init`. None takes it up as it was.
  """

  init: Callable[[], Any]
  collect: Callable[[Any, Any, Any, int], tuple[Any, Any, dict]]
  resume: Callable[[Any], Any] | None = None


@dataclasses.dataclass(kw_only=True)
class TrainConfig:
  """How long and how fast to train, and what to write down.

  Attributes:
    seed: of parameters, data and dropout.
    steps: optimizer steps in all.
    batch_size: rows of packed tokens a step, over all devices.
    length: tokens a row.
    learning_rate: peak of the schedule.
    warmup_steps: linear rise to the peak; a cosine falls from it to a tenth.
    decay_steps: length of that schedule, warm-up included; `steps` if None. A
      longer one stops training while the rate is still high.
    weight_decay: decoupled decay, on matrices only.
    clip_norm: global norm that gradients are clipped to.
    log_every: steps between metric lines.
    evaluate_every: steps between evaluations.
    checkpoint_every: steps between checkpoints; the last step always has one.
    keep: checkpoints kept.
    accumulate: parts of a batch that are taken one after the other, to hold the
      activations of one; the gradient is that of the batch (`accumulation`).
    fully_sharded: whether a mesh's devices split parameters and the optimizer's
      state among them, or each hold all.
    dtype: that models compute in, "float32" or "bfloat16"; parameters, their
      gradients and the optimizer's state are float32.
    remat: whether the gradient computes each layer anew, to hold less.
  """

  seed: int = 0
  steps: int = 1000
  batch_size: int = 32
  length: int = 256
  learning_rate: float = 3e-3
  warmup_steps: int = 100
  decay_steps: int | None = None
  weight_decay: float = 0.05
  clip_norm: float = 1.0
  log_every: int = 20
  evaluate_every: int = 500
  checkpoint_every: int = 200
  keep: int = 2
  accumulate: int = 1
  fully_sharded: bool = False
  dtype: str = "float32"
  remat: bool = False

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for name in (
      "steps",
      "batch_size",
      "length",
      "log_every",
      "evaluate_every",
      "checkpoint_every",
      "keep",
      "accumulate",
    ):
      if getattr(self, name) < 1:
        raise ValueError(
          f"train.{name} must be at least 1, got {getattr(self, name)}"
        )
    for name in ("learning_rate", "clip_norm"):
      if not getattr(self, name) > 0:
        raise ValueError(
          f"train.{name} must be positive, got {getattr(self, name)}"
        )
    if self.batch_size % self.accumulate:
      raise ValueError(
        f"train.batch_size={self.batch_size} must be a multiple of "
        f"train.accumulate={self.accumulate}"
      )
    if self.dtype not in _DTYPES:
      raise ValueError(
        f"train.dtype must be one of {', '.join(_DTYPES)}, got {self.dtype!r}"
      )
    if self.decay_steps is not None and self.decay_steps < self.steps:
      raise ValueError(
        f"train.decay_steps={self.decay_steps} must be at least "
        f"train.steps={self.steps}"
      )
    for name in ("warmup_steps", "weight_decay"):
      if getattr(self, name) < 0:
        raise ValueError(
          f"train.{name} must not be negative, got {getattr(self, name)}"
        )

  def compute(self) -> dict[str, Any]:
    """A transformer's fields that say how it computes while it is trained."""
    return {
      "dtype": jnp.dtype(self.dtype),
      "remat": self.remat,
      "backend": attention_backend.training(),
    }


@flax.struct.dataclass
class TrainState:
  """Everything that a step changes.

  Attributes:
    step: i32[], steps taken.
    params: the model's parameters.
    opt_state: the optimizer's state.
    key: the run's random key; step s uses `fold_in(key, s)`.
    collected: what a `Collector` remembers; None without one.
  """

  step: jax.Array
  params: Any
  opt_state: optax.OptState
  key: jax.Array
  collected: Any = None


def optimizer(
  config: TrainConfig,
  matrix_axes: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
  """Muon for matrices, AdamW for the rest, warm-up and cosine, clipping.

  Args:
    config: the schedule, decay and clipping norm.
    matrix_axes: params -> tree of (input axes, output axes) a matrix, None
      for parameters that AdamW updates (`transformer.matrix_axes`). If None,
      AdamW updates everything.

  Returns:
    The transformation. Muon (Jordan et al. 2024) is scaled to AdamW's root
    mean square update, so both share one learning rate.
  """
  schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=config.learning_rate,
    warmup_steps=config.warmup_steps,
    decay_steps=max(
      config.decay_steps or config.steps, config.warmup_steps + 1
    ),
    end_value=0.1 * config.learning_rate,
  )
  if matrix_axes is None:
    update = optax.adamw(
      schedule, b2=0.98, weight_decay=config.weight_decay, mask=_is_matrix
    )
  else:
    muon = optax.contrib

    def dimension_numbers(params):
      return jax.tree.map(
        lambda axes: axes and muon.MuonDimensionNumbers(*axes),
        matrix_axes(params),
        is_leaf=lambda x: x is None or isinstance(x, tuple),
      )

    update = muon.muon(
      schedule,
      adam_learning_rate=schedule,
      adam_b2=0.98,
      weight_decay=config.weight_decay,
      consistent_rms=0.2,
      muon_weight_dimension_numbers=dimension_numbers,
    )
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def _is_matrix(params):
  return jax.tree.map(lambda x: x.ndim > 1, params)


def train_step(
  objective: Objective | None,
  tx: optax.GradientTransformation,
  gradients: Gradients | None = None,
  *,
  accumulate: int = 1,
  shardings: TrainState | None = None,
) -> Callable[..., tuple[TrainState, dict]]:
  """One optimizer step, jitted; the old state's memory is reused.

  Args:
    objective: as in `fit`.
    tx: the optimizer.
    gradients: as in `fit`.
    accumulate: parts of a batch, as in `TrainConfig`.
    shardings: of the state, if a mesh's devices split it.

  Returns:
    (state, batch, at=None) -> (state, metrics). A step whose metrics are not
    finite changes nothing. Neither does one for a state that is not at step
    `at`, i32[], and its metrics are NaN: so nothing follows a step that failed,
    though nobody looks at it until later.

  Raises:
    ValueError: unless there is one of `objective` and `gradients`; if
      `gradients` are to be accumulated.
  """
  if (objective is None) == (gradients is None):
    raise ValueError("expected either an objective or gradients")
  if gradients is not None and accumulate > 1:
    raise ValueError(
      f"train.accumulate={accumulate}: only an objective's gradient is that of "
      "its parts; these are given as gradients"
    )
  if objective is not None:
    if shardings is not None:
      objective = sharded_state.gathering(objective, shardings.params)
    gradients = accumulation.gradients(objective, accumulate)

  def step(state: TrainState, batch, at=None):
    key = jax.random.fold_in(state.key, state.step)
    grads, metrics = gradients(state.params, batch, key)
    if shardings is not None:
      grads = jax.lax.with_sharding_constraint(grads, shardings.params)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    metrics = metrics | {"grad_norm": optax.tree.norm(grads)}
    stepped = state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      opt_state=opt_state,
    )
    expected = True if at is None else state.step == at
    finite = [jnp.isfinite(x).all() for x in metrics.values()]
    good = jnp.stack([jnp.asarray(expected), *finite]).all()
    state = jax.tree.map(lambda a, b: jnp.where(good, a, b), stepped, state)
    metrics = {k: jnp.where(expected, v, jnp.nan) for k, v in metrics.items()}
    return state, metrics

  out = None if shardings is None else (shardings, None)
  return jax.jit(step, donate_argnums=0, out_shardings=out)


def fit(
  config: TrainConfig,
  objective: Objective | None,
  init_params: Callable[[jax.Array], Any],
  batches: Callable[[int], Any] | None,
  workdir: str,
  *,
  tx: optax.GradientTransformation | None = None,
  gradients: Gradients | None = None,
  collector: Collector | None = None,
  evaluate: Callable[[Any, int], dict[str, float]] | None = None,
  mesh: jax.sharding.Mesh | None = None,
  meta: dict[str, Any] | None = None,
  free: Sequence[str] = (),
  ledger: ledger_lib.Ledger | None = None,
) -> TrainState:
  """Trains to `config.steps`, from the last checkpoint if there is one.

  On a CPU the process keeps a step's memory for the next (`host_memory`).

  Args:
    config: the run's sizes and schedule.
    objective: loss(params, batch, key) -> (f32[], metrics of f32[]); None if
      there are `gradients`.
    init_params: key -> parameters.
    batches: step -> a pytree of arrays with leading axis `batch_size`; a pure
      function of the step. None if the collector needs no batches.
    workdir: where checkpoints and metrics go.
    tx: the optimizer; `optimizer(config)` if None.
    gradients: (params, batch, key) -> (gradients, metrics of f32[]), for what
      is no objective's gradient (`task_weighting.gradients`).
    collector: turns batches, and the parameters, into what the objective reads.
    evaluate: (params, step) -> figures to record, run every
      `evaluate_every` steps and at the end.
    mesh: devices to spread the batch over, and with `config.fully_sharded` the
      state; None for one device. If it spans processes, all must make this
      call, with a `workdir` that all can reach; the first writes the metrics.
    meta: JSON-ready description kept beside each checkpoint; a run is not
      resumed under another one.
    free: fields of it that may differ all the same.
    ledger: gets an entry with the FLOP of the steps taken, in its current phase
      or else "pre_training".

  Returns:
    The final state.

  Raises:
    ValueError: if the config cannot be, `workdir` holds another run, there is
      not one of `objective` and `gradients`, there are neither batches nor a
      collector, or a ledger is kept and the FLOP of a step cannot be counted.
    FloatingPointError: if training diverges, or an evaluation is not finite.
      The error names the first step whose figures were not finite and the file
      (`divergence`) with its batch and parameters; nothing is trained after
      it, and no checkpoint is of it.
  """
  config.validate()
  if batches is None:
    if collector is None:
      raise ValueError("expected batches, or a collector that makes them")
    batches = lambda _: None  # noqa: E731
  if jax.default_backend() == "cpu":
    host_memory.keep()
  tx = optimizer(config) if tx is None else tx

  def fresh():
    key = jax.random.key(config.seed)
    params = init_params(jax.random.fold_in(key, 0))
    return TrainState(
      step=jnp.int32(0),
      params=params,
      opt_state=tx.init(params),
      key=jax.random.fold_in(key, 1),
      collected=None if collector is None else collector.init(),
    )

  place = lambda batch: batch  # noqa: E731
  shardings = None
  if mesh is None:
    state = jax.jit(fresh)()
  else:
    place = lambda batch: mesh_lib.shard_batch(batch, mesh)  # noqa: E731
    if config.fully_sharded:
      shardings = mesh_lib.split_shardings(jax.eval_shape(fresh), mesh)
      state = jax.jit(fresh, out_shardings=shardings)()
    else:
      state = mesh_lib.replicate(jax.jit(fresh)(), mesh)
  with (
    checkpoints_lib.Checkpoints(workdir, keep=config.keep) as checkpoints,
    progress.opened(config.steps, shown=mesh_lib.is_first()) as bar,
    step_accounts.StepAccount(ledger) as account,
  ):
    like, resume = state, collector and collector.resume
    if resume:  # what it remembers may have had more rows, or fewer
      like = state.replace(collected=checkpoints.as_saved(state).collected)
    restored = checkpoints.restore_latest(like)
    if restored is not None:
      found = _resume(restored, meta, workdir, free)
      if resume:
        kept = _taken_up(resume, found.collected, state.collected, workdir)
        found = found.replace(collected=kept)
      state = found
    start = int(state.step)
    log = metrics_lib.MetricWriter(workdir, start, mesh_lib.is_first())
    step_fn = train_step(
      objective,
      tx,
      gradients,
      accumulate=config.accumulate,
      shardings=shardings,
    )
    pending = None  # metrics are read one step late, to keep devices busy
    taken = start
    try:
      for step, batch in _prefetch(batches, start, config.steps):
        seen = {}
        if collector is not None:
          batch, kept, seen = collector.collect(
            state.params, state.collected, batch, step
          )
          state = state.replace(collected=kept)
        account.count(step_fn, state, batch, np.int32(step))
        state, metrics = step_fn(state, place(batch), np.int32(step))
        metrics = seen | metrics
        taken = step + 1
        if collector is not None:  # the next batch would come of a bad step
          metrics_lib.finite(taken, metrics)
        if pending is not None:
          log.write(*pending)
        last = taken == config.steps
        due = last or taken % config.log_every == 0
        pending = (taken, metrics) if due else None
        saves = last or taken % config.checkpoint_every == 0
        evaluates = evaluate and (last or taken % config.evaluate_every == 0)
        if saves or evaluates:
          # A checkpoint is finite, and the records up to it are on disk: a run
          # killed right after it resumes with nothing missing.
          metrics_lib.finite(taken, metrics)
          if pending is not None:
            log.write(*pending)
          pending = None
        if evaluates:
          log.write(taken, evaluate(state.params, taken))
        if saves:
          checkpoints.save(taken, state, meta=meta)
        bar(taken, log.last)
    except FloatingPointError:
      if int(state.step) == taken:
        raise
      if collector is None:  # noticed later: the batch in hand is another
        batch = batches(int(state.step))
      raise _diverged(workdir, step_fn, state, batch, place, config) from None
    finally:
      log.close()
  return state


def _diverged(workdir, step_fn, state, batch, place, config):
  """The error of a run whose state has not moved since some step failed."""
  step = int(state.step)
  found = divergence.Diverged(
    step=step + 1,
    figures={},
    params=mesh_lib.fetch(state.params),
    batch=batch,
    key=jax.random.fold_in(state.key, step),
    accumulate=config.accumulate,
  )
  _, metrics = step_fn(state, place(batch), np.int32(step))
  found = found._replace(figures={k: float(v) for k, v in metrics.items()})
  path = divergence.save(workdir, found)
  try:
    metrics_lib.finite(step + 1, found.figures)
    cause = f"a figure was not finite at step {step + 1}, and is when repeated"
  except FloatingPointError as error:
    cause = str(error)
  return FloatingPointError(f"{cause}; its batch and parameters are in {path}")


def completed(meta: Any) -> Any:
  """A recipe's description, with the fields that `TrainConfig` has by now.

  Fields that came later have their defaults, which train as before.

  Args:
    meta: a description, as recipes' `describe` returns it.
  """
  if not isinstance(meta, dict):
    return meta
  found = {name: completed(part) for name, part in meta.items()}
  if isinstance(found.get("train"), dict):
    found["train"] = dataclasses.asdict(TrainConfig()) | found["train"]
  return found


def _taken_up(resume, saved, fresh, workdir) -> Any:
  """What a collector makes of what was saved, where the fresh one lies."""
  try:
    kept = resume(saved)
  except ValueError as error:
    raise ValueError(f"{workdir}: {error}") from None
  return jax.tree.map(
    lambda new, old: mesh_lib.place(new, old.sharding), kept, fresh
  )


def _resume(restored, meta, workdir, free) -> TrainState:
  step, state, saved = restored
  if meta is None or saved is None:
    return state
  then, now = (
    {name: part for name, part in completed(found).items() if name not in free}
    for found in (saved, meta)
  )
  if then != now:
    changed = sorted(
      k for k in now.keys() | then.keys() if now.get(k) != then.get(k)
    )
    raise ValueError(
      f"{workdir} holds a run of another recipe at step {step} (differs in "
      f"{', '.join(changed)}); choose another --workdir or repeat the recipe"
    )
  return state


def _prefetch(
  batches: Callable[[int], Any], start: int, stop: int, ahead: int = 4
) -> Iterator[tuple[int, Any]]:
  """Makes batches on a thread while the device computes."""
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    queue = [
      (s, pool.submit(batches, s))
      for s in range(start, min(start + ahead, stop))
    ]
    while queue:
      step, future = queue.pop(0)
      yield step, future.result()
      following = step + ahead
      if following < stop:
        queue.append((following, pool.submit(batches, following)))
