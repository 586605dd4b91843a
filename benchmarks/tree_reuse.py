# SPDX-License-Identifier: Apache-2.0
"""A beam search of steps with the tree cache, against recomputing prefixes.

Both searches make the same decisions: each of A survivors is continued by K
sampled steps of W tokens, a reward model reads them, and the best A go on.
They differ in what they remember. With the tree cache a level costs the new
tokens only. Without it, as with stateless calls, the policy reads each
survivor's whole prefix again (once for its K continuations), and the reward
model that of each child.

The reward model is the policy's trunk with a random head: what it prefers does
not matter here, only that both searches read the same preferences.

Shape letters: G problems, A survivors, K children, R = A K rows, T prompt
tokens, W tokens a step.
"""

import dataclasses
import functools
import time
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key
import numpy as np

from benchmarks import decoding, timing
from jaxttc.decoders import tree as tree_lib
from jaxttc.inference import controllers, generation, tree_cache
from jaxttc.models import config as config_lib
from jaxttc.models import reward_model, transformer
from jaxttc.verifiers import process_reward


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamSizes:
  """Sizes of the search: G, T, A, K, W, and its levels."""

  problems: int = 4
  prompt_tokens: int = 128
  survivors: int = 4
  children: int = 4
  step_tokens: int = 16
  depth: int = 8

  @property
  def rows(self) -> int:
    """Steps sampled a level and problem, R."""
    return self.survivors * self.children


@flax.struct.dataclass
class Remembered:
  """A search that keeps its tree cache.

  Attributes:
    policy: the policy's cache.
    verifier: the reward model's.
    parent: i32[G, N], the tree; survivors only.
    beam: i32[G, A], nodes to continue.
    text: i32[G, A, L], what the survivors read, all but filled from the left.
  """

  policy: tree_cache.TreeCache
  verifier: tree_cache.TreeCache
  parent: Int[Array, "G N"]
  beam: Int[Array, "G A"]
  text: Int[Array, "G A L"]


def reward_params(policy_params: Any, width: int, seed: int) -> Any:
  """A reward model's parameters: the policy's trunk, and a random head."""
  kernel = jax.random.normal(jax.random.key(seed), (width, 1)) * width**-0.5
  head = {"kernel": kernel, "bias": jnp.zeros((1,))}
  return {"trunk": policy_params, "reward": head}


def _keys(key: Key[Array, ""], level: int, groups: int, rows: int):
  return jax.random.split(jax.random.fold_in(key, level), (groups, rows))


def _sample(config, params, cache, parent, node, token, position, keys, width):
  """Samples `width` tokens in every row; all that the two searches share."""
  groups, rows = node.shape
  controller = controllers.identity()
  work = generation.Requests(
    node=node,
    token=token,
    position=jnp.full((groups, rows), position, jnp.int32),
    until=jnp.full((groups, rows), generation.END, jnp.int32),
    limit=jnp.full((groups, rows), width, jnp.int32),
    key=keys,
  )
  idle = generation.idle_rows(
    config, groups, rows, width, cache.capacity, controller
  )
  path = tree_cache.path_mask(cache.owner, parent, node)
  return generation.decode(
    transformer.Transformer(config),
    params,
    cache,
    generation.assign(idle, work, path, controller),
    decoding.endless(config.vocab_size),
    controller,
    controllers.sample,
    width,
  )


def _best(reward: jax.Array, survivors: int) -> Int[Array, "G A"]:
  return jax.lax.top_k(reward, survivors)[1]


def _continued(text, spans, chosen, end, sizes):
  """The survivors' texts: their parents', and the chosen spans behind."""
  groups = jnp.arange(text.shape[0])[:, None]
  text = text[groups, chosen // sizes.children]
  return jax.lax.dynamic_update_slice_in_dim(
    text, spans[groups, chosen], end, axis=2
  )


def _texts(prompts, sizes):
  length = sizes.prompt_tokens + sizes.depth * sizes.step_tokens
  text = jnp.zeros((sizes.problems, sizes.survivors, length), jnp.int32)
  return text.at[:, :, : sizes.prompt_tokens].set(prompts[:, None])


Timed = tuple[list[float], jax.Array]  # CPU s after each level; final texts


class Searches:
  """Both searches, level by level: (policy, verifier, prompts, key) -> Timed.

  With the cache, all levels are one program; without it, each has its own, of
  exactly the width it needs.
  """

  def __init__(self, config: config_lib.TransformerConfig, sizes: BeamSizes):
    self.config, self.sizes = config, sizes
    self._start = jax.jit(self._remember_prompt)
    self._level = jax.jit(self._remembered_level, donate_argnums=(2,))
    self._again = jax.jit(self._recomputed_level, static_argnums=(4,))

  def remembered(
    self, policy: Any, verifier: Any, prompts: Array, key: Key[Array, ""]
  ) -> Timed:
    """The search that keeps its tree cache."""
    start = time.process_time()
    state = self._start(policy, verifier, prompts)
    times = []
    for level in range(self.sizes.depth):
      state = self._level(policy, verifier, state, key, jnp.int32(level))
      jax.block_until_ready(state.text)
      times.append(time.process_time() - start)
    return times, state.text

  def recomputed(
    self, policy: Any, verifier: Any, prompts: Array, key: Key[Array, ""]
  ) -> Timed:
    """The search that reads every prefix again."""
    start = time.process_time()
    text = _texts(prompts, self.sizes)
    times = []
    for level in range(self.sizes.depth):
      text = self._again(policy, verifier, text, key, level)
      jax.block_until_ready(text)
      times.append(time.process_time() - start)
    return times, text

  def _remember_prompt(self, policy, verifier, prompts) -> Remembered:
    sizes = self.sizes
    steps = sizes.survivors * sizes.depth
    capacity = sizes.prompt_tokens + steps * sizes.step_tokens

    def read(model, params, length):
      length = jnp.full((sizes.problems,), length, jnp.int32)
      kv, _ = generation.prefill(model, params, prompts, length)
      cache = tree_cache.init(self.config, sizes.problems, capacity)
      order = jnp.arange(sizes.problems)
      return tree_cache.write_prompt(cache, kv, length, order)

    return Remembered(
      policy=read(
        transformer.Transformer(self.config), policy, sizes.prompt_tokens - 1
      ),
      verifier=read(
        reward_model.ProcessRewardModel(self.config),
        verifier,
        sizes.prompt_tokens,
      ),
      parent=jnp.full((sizes.problems, 1 + steps), -1, jnp.int32),
      beam=jnp.zeros((sizes.problems, sizes.survivors), jnp.int32),
      text=_texts(prompts, sizes),
    )

  def _remembered_level(self, policy, verifier, state, key, level):
    sizes = self.sizes
    end = sizes.prompt_tokens + level * sizes.step_tokens
    node = jnp.repeat(state.beam, sizes.children, axis=1)
    last = jax.lax.dynamic_index_in_dim(state.text, end - 1, 2, False)
    rows = _sample(
      self.config,
      policy,
      state.policy,
      state.parent,
      node,
      jnp.repeat(last, sizes.children, axis=1),
      end - 1,
      _keys(key, level, sizes.problems, sizes.rows),
      sizes.step_tokens,
    )
    spans = generation.span_tokens(rows, sizes.step_tokens)
    rewards, _, read = process_reward.score(
      reward_model.ProcessRewardModel(self.config),
      verifier,
      state.verifier,
      tree_cache.path_mask(state.verifier.owner, state.parent, node),
      jnp.full(node.shape, end, jnp.int32),
      spans,
      jnp.zeros((*node.shape, 0)),  # the model has no reading layers
    )
    chosen = _best(rewards[..., -1], sizes.survivors)
    ids = 1 + level * sizes.survivors + jnp.arange(sizes.survivors)
    beam = jnp.broadcast_to(ids, chosen.shape)
    group = jnp.arange(sizes.problems)[:, None]
    filed = jnp.full(node.shape, -1).at[group, chosen].set(beam)
    parent = state.parent.at[group, beam].set(node[group, chosen])
    alive = jnp.zeros(parent.shape, bool).at[group, beam].set(True)
    keep = tree_lib.on_path_to(parent, alive)

    def commit(cache, keys_values):
      cache = tree_cache.release(cache, keep)
      return tree_cache.commit(
        cache, keys_values, filed, rows.start * 0, rows.length
      )

    return Remembered(
      policy=commit(state.policy, rows.scratch),
      verifier=commit(state.verifier, read),
      parent=parent,
      beam=beam,
      text=_continued(state.text, spans, chosen, end, sizes),
    )

  def _recomputed_level(self, policy, verifier, text, key, level):
    sizes = self.sizes
    end = sizes.prompt_tokens + level * sizes.step_tokens
    groups = sizes.problems * sizes.survivors
    prefix = text[:, :, :end].reshape(groups, end)
    before = jnp.full((groups,), end - 1, jnp.int32)
    kv, _ = generation.prefill(
      transformer.Transformer(self.config), policy, prefix, before
    )
    cache = tree_cache.init(self.config, groups, end)
    cache = tree_cache.write_prompt(cache, kv, before, jnp.arange(groups))
    keys = _keys(key, level, sizes.problems, sizes.rows)
    shape = (groups, sizes.children)
    rows = _sample(
      self.config,
      policy,
      cache,
      jnp.full((groups, 1), -1, jnp.int32),
      jnp.zeros(shape, jnp.int32),
      jnp.broadcast_to(prefix[:, -1:], shape),
      end - 1,
      keys.reshape(shape),
      sizes.step_tokens,
    )
    spans = generation.span_tokens(rows, sizes.step_tokens)
    whole = jnp.concatenate(
      [
        jnp.repeat(prefix, sizes.children, axis=0),
        spans.reshape(-1, sizes.step_tokens),
      ],
      axis=1,
    )
    length = jnp.full((whole.shape[0],), whole.shape[1], jnp.int32)
    _, judged = generation.prefill(
      reward_model.ProcessRewardModel(self.config), verifier, whole, length
    )
    rewards = process_reward.rewards(judged.logits[:, -1])
    shape = (sizes.problems, sizes.rows)
    chosen = _best(rewards.reshape(shape), sizes.survivors)
    spans = spans.reshape(*shape, sizes.step_tokens)
    return _continued(text, spans, chosen, end, sizes)


def against_recompute(
  config: config_lib.TransformerConfig,
  params: Any,
  *,
  prompt_tokens: tuple[int, ...] = (128, 256),
  repeats: int = 3,
  seed: int = 0,
) -> dict[str, Any]:
  """Times both searches, by prompt length.

  Args:
    config: sizes of the policy.
    params: its parameters.
    prompt_tokens: lengths of the prompts, one measurement each.
    repeats: timed turns.
    seed: of prompts, sampling, and the reward model's head.

  Returns:
    `rows`: by prompt length the sizes, seconds after each level of the best
    turn of both, and their `ratio`.

  Raises:
    RuntimeError: if the searches end with different texts.
  """
  verifier = reward_params(params, config.width, seed)
  rows = []
  for length in prompt_tokens:
    sizes = BeamSizes(prompt_tokens=length)
    searches = Searches(config, sizes)
    prompts = decoding.random_prompts(
      config.vocab_size, sizes.problems, length, seed
    )
    given = (params, verifier, jnp.asarray(prompts), jax.random.key(seed))
    best = {}

    def run(name, searches=searches, given=given, best=best):
      times, text = getattr(searches, name)(*given)
      if name not in best or times[-1] < best[name][0][-1]:
        best[name] = times, np.asarray(text)

    names = ("remembered", "recomputed")
    seconds = timing.by_turns(
      {name: functools.partial(run, name) for name in names}, repeats
    )
    if not np.array_equal(*(best[name][1] for name in names)):
      raise RuntimeError(f"decisions differ at {length} prompt tokens")
    rows.append(
      dataclasses.asdict(sizes)
      | {
        "seconds": seconds,
        "levels": {name: best[name][0] for name in names},
        "ratio": timing.ratio(seconds, "recomputed", "remembered"),
      }
    )
  return {"rows": rows}
