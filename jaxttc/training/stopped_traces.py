# SPDX-License-Identifier: Apache-2.0
"""Traces of a policy, and what it would answer wherever they are stopped."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np

from jaxttc.evaluation import regret
from jaxttc.inference import bundle, controllers, rollouts
from jaxttc.tasks import prompt_sets
from jaxttc.training import rollout_progress


class Traces(NamedTuple):
  """N traces, those of a problem one after another.

  Attributes:
    which: i32[N], the problem of each.
    written: i32[N, S], its tokens, -1 beyond the end.
    right: f32[N], 1 if it ended by itself with the right answer, else 0.
    tokens: f64[N, K + 1], of the trace up to each stop with a forced answer;
      NaN where there is no such stop.
    values: f64[N, K + 1], share of forced answers that are right.
    spent: tokens of all traces and forced answers.
  """

  which: Int[np.ndarray, " n"]
  written: Int[np.ndarray, "n s"]
  right: Float[np.ndarray, " n"]
  tokens: Float[np.ndarray, "n k"]
  values: Float[np.ndarray, "n k"]
  spent: int

  def regret(
    self, budgets: Float[np.ndarray, " b"]
  ) -> Float[np.ndarray, "n b"]:
    """Normalised regret of each trace at budgets of tokens."""
    found = []
    for tokens, values in zip(self.tokens, self.values, strict=True):
      there = ~np.isnan(tokens)
      # Answers differ in length, so a later stop may seem to come no later.
      rising = np.maximum.accumulate(tokens[there])
      rising += 1e-6 * np.arange(rising.size)
      found.append(regret.normalised_regret(rising, values[there], budgets))
    return np.array(found)


def draw(
  policy: bundle.Bundle,
  prompts: prompt_sets.PromptSet,
  config: rollout_progress.ProgressConfig | None,
  *,
  samples: int,
  columns: int,
  temperature: float,
  seed: int,
  chunk: int = 64,
) -> Traces:
  """Samples traces, stops them, and grades all answers.

  Args:
    policy: the model.
    prompts: the problems.
    config: how answers are forced; None for traces that are not stopped, and
      so have no column of `tokens` and `values`.
    samples: traces a problem.
    columns: longest trace, in tokens.
    temperature: of the sampler.
    seed: of the sampling.
    chunk: problems at once.

  Raises:
    ValueError: if the config cannot be.
  """
  sampler = controllers.Sampler(temperature=temperature)
  force = None
  if config is not None:
    force = rollout_progress.forcing(
      config, prompts, policy.model, policy.stop_rule, sampler
    )
  key = jax.random.key(seed)
  own = jnp.repeat(jnp.arange(chunk), samples)
  rank = jnp.tile(jnp.arange(samples), chunk)

  @jax.jit
  def sample(params, ids, table):
    keys = rollouts.row_keys(key, ids[own], rank)
    found = rollouts.sample(
      policy.model,
      params,
      table,
      own,
      keys,
      policy.stop_rule,
      sampler,
      columns=columns,
    )
    return found, jax.vmap(jax.random.fold_in, (0, None))(keys, columns)

  count, parts = len(prompts.problems), []
  for begin in range(0, count, chunk):
    # The last chunk is filled up, so that nothing is compiled anew.
    ids = np.minimum(np.arange(begin, begin + chunk), count - 1)
    table = rollouts.Prompts(
      jnp.asarray(prompts.tokens[ids]), jnp.asarray(prompts.length[ids])
    )
    sampled, keys = sample(policy.params, ids, table)
    kept = slice(0, samples * min(chunk, count - begin))
    which = ids[np.asarray(own)][kept]
    written = np.asarray(sampled.tokens)[kept]
    ended = np.asarray(sampled.finished)[kept]
    right = np.where(ended, np.nan_to_num(prompts.grade(which, written)), 0.0)
    tokens = values = np.zeros((len(which), 0))
    spent = int((written >= 0).sum())
    if force is not None:
      forced = jax.tree.map(
        np.asarray, force(policy.params, ids, sampled, keys)
      )
      asked = forced.spent[kept].astype(float)
      place = forced.stops.place[kept] + asked
      tokens = np.where(forced.stops.there[kept], place, np.nan)
      values = forced.values[kept].astype(float)
      spent += round(max(config.branches, 1) * asked.sum())
    parts.append(Traces(which, written, right, tokens, values, spent))
  *arrays, spent = zip(*parts, strict=True)
  return Traces(*map(np.concatenate, arrays), spent=sum(spent))
