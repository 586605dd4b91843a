# SPDX-License-Identifier: Apache-2.0
"""A decoder-only transformer, and a reward head on the same trunk.

The shape is Llama's: RMSNorm before each sublayer, rotary positions, grouped-
query attention, gated SiLU MLP, no biases (Touvron et al. 2023; Ainslie et
al. 2023). Other families differ from it by fields of the config. One forward
pass serves training, prefill, decoding and scoring.

Sequences come in `G` groups of `R` rows. The rows of a group are branches of
one search tree. They attend to

*  the group's *arena*, keys and values that all its rows may share, under a
   mask that says which slots hold ancestors of the row (tree attention: the
   prompt and every shared step are stored, and read, once), and
*  private keys: the tokens of the call itself, or a *scratch* of `S` columns
   into which a decoding loop writes one column a call.

Scores over the two parts are joined under one softmax, so the result is that
of plain causal attention over the row's own path. Keys carry their rotary
positions, so the order of slots and columns does not matter.

Shape letters: G groups, R rows, T tokens a row, C arena slots, S columns, D
width, K key-value heads, Q query heads a key-value head, E head size, F MLP.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc import mesh as mesh_lib
from jaxttc.models import (
  attention_backend,
  blocked_attention,
  embedding,
  host_gradients,
  int8_weights,
  rotary,
)
from jaxttc.models import config as config_lib

_MASKED = -1e30  # finite, so that a row with nothing to attend to is no NaN
_LEAST_LOGPROB = -16.0  # surprise has an end
_COLUMNS = 16  # of vocabulary logits at once, when text is compared


class KeyValues(NamedTuple):
  """Keys and values of one layer.

  Keys lie transposed, so that both products of attention read their operand
  along its last axis as it is stored; on CPU that makes the first one three
  times as fast.

  Attributes:
    k: [G, K, E, C] for an arena, [G, R, K, E, S] for a scratch.
    v: [G, K, C, E] for an arena, [G, R, K, S, E] for a scratch.
  """

  k: jax.Array
  v: jax.Array


def empty_key_values(
  config: config_lib.TransformerConfig,
  batch: tuple[int, ...],
  length: int,
  dtype: jax.typing.DTypeLike = jnp.float32,
) -> tuple[KeyValues, ...]:
  """Zeros for `length` tokens in every layer, under leading axes `batch`."""
  shape = (*batch, config.kv_heads)
  return tuple(
    KeyValues(
      jnp.zeros((*shape, config.head_dim, length), dtype),
      jnp.zeros((*shape, length, config.head_dim), dtype),
    )
    for _ in range(config.layers)
  )


def widen(layers: tuple[KeyValues, ...], more: int) -> tuple[KeyValues, ...]:
  """The same keys and values with room for `more` tokens behind them."""

  def pad(x, axis):
    sizes = [(0, 0)] * x.ndim
    sizes[axis] = (0, more)
    return jnp.pad(x, sizes)

  return tuple(KeyValues(pad(kv.k, -1), pad(kv.v, -2)) for kv in layers)


def narrow(layers: tuple[KeyValues, ...], length: int) -> tuple[KeyValues, ...]:
  """The first `length` tokens."""
  return tuple(
    KeyValues(kv.k[..., :length], kv.v[..., :length, :]) for kv in layers
  )


def shift(
  layers: tuple[KeyValues, ...], by: Int[Array, ""]
) -> tuple[KeyValues, ...]:
  """Moves every token `by` places to the front, the first ones to the end."""
  return tuple(
    KeyValues(jnp.roll(kv.k, -by, axis=-1), jnp.roll(kv.v, -by, axis=-2))
    for kv in layers
  )


def flattened(layers: tuple[KeyValues, ...]) -> tuple[KeyValues, ...]:
  """A scratch as a decoding loop carries it: [G R K, E, S] and [G R K, S, E].

  With axes of size one in between, XLA for CPU does not write a column in
  place, but copies the whole scratch at every step.
  """
  return tuple(
    KeyValues(*(x.reshape(-1, *x.shape[-2:]) for x in kv)) for kv in layers
  )


class Context(NamedTuple):
  """What a call attends to beside its own tokens.

  Attributes:
    arena: a `KeyValues` a layer.
    arena_mask: bool[G, R, C], slots that hold an ancestor of the row.
    scratch: a `KeyValues` a layer, `flattened` or not; None if the call's
      own tokens are all that is private.
    scratch_mask: bool[G, R, S], columns the row may see, its own included.
    column: i32[], the column that this call's single token is written to.
    arena_position: i32[G, C], positions of the arena's tokens; local layers
      need it.
    length: i32[G, R], given where a call's own mask says no more than this:
      each row is one text from its start, so many of its tokens are real, and
      each sees the real ones up to itself.
  """

  arena: tuple[KeyValues, ...] | None = None
  arena_mask: Bool[Array, "G R C"] | None = None
  scratch: tuple[KeyValues, ...] | None = None
  scratch_mask: Bool[Array, "G R S"] | None = None
  column: Int[Array, ""] | None = None
  arena_position: Int[Array, "G C"] | None = None
  length: Int[Array, "G R"] | None = None


_NO_CONTEXT = Context()


class Attention(nn.Module):
  """Grouped-query attention over an arena and a private part.

  Attributes:
    config: sizes.
    dtype: to compute in.
    local: whether it sees no more than the last `config.window` tokens.
    backend: one of `attention_backend.NAMES`.
  """

  config: config_lib.TransformerConfig
  dtype: jnp.dtype = jnp.float32
  local: bool = False
  backend: str = attention_backend.AUTO

  @nn.compact
  def __call__(self, x_GRTD, positions, own_mask, arena, context):
    """Returns the output [G, R, T, D] and the private keys and values.

    The private part is the updated scratch if there is one, else the call's
    own keys [G, R, K, E, T] and values [G, R, K, T, E].
    """
    cfg = self.config
    queries = cfg.heads // cfg.kv_heads
    # One matrix for q, k and v, laid out by key-value head: one product
    # instead of three, and a tensor axis shards all of them at once.
    qkv = self.param(
      "qkv",
      nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", in_axis=0, out_axis=(1, 2, 3)
      ),
      (cfg.width, cfg.kv_heads, queries + 2, cfg.head_dim),
    )
    out = self.param(
      "out",
      nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", in_axis=(0, 1), out_axis=2
      ),
      (cfg.heads, cfg.head_dim, cfg.width),
    )
    groups, rows, steps, _ = x_GRTD.shape
    choice = self._choice(steps, arena[0] is not None, context)
    if choice.path == attention_backend.BLOCKED:
      q_GRTKQE, k_GRTKE, v_GRTKE = self._apart(x_GRTD, positions, qkv)
    else:
      q_GRTKQE, k_GRTKE, v_GRTKE = self._together(x_GRTD, positions, qkv)
    q_GRTKQE = q_GRTKQE * ((cfg.query_width or cfg.head_dim) ** -0.5)
    k_GRKET = k_GRTKE.transpose(0, 1, 3, 4, 2)
    v_GRKTE = v_GRTKE.swapaxes(2, 3)

    if context.scratch is None:
      own = KeyValues(k_GRKET, v_GRKTE)
    else:  # a decoding step: write this token's column
      put = jax.lax.dynamic_update_slice_in_dim
      k, v = arena[1]
      own = KeyValues(
        put(k, k_GRKET.reshape(*k.shape[:-1], 1), context.column, k.ndim - 1),
        put(
          v, v_GRKTE.reshape(*k.shape[:-2], 1, -1), context.column, v.ndim - 2
        ),
      )
    own_mask = self._own_mask(positions, own_mask, context)
    if choice.path == attention_backend.FUSED:
      mixed = attention_backend.fused(
        q_GRTKQE.reshape(groups, rows, steps, cfg.heads, cfg.head_dim),
        k_GRTKE,
        v_GRTKE,
        mask=own_mask,
        length=context.length,
        window=cfg.window if self.local else 0,
        implementation=choice.implementation,
      ).reshape(groups, rows, steps, -1)
    elif choice.path == attention_backend.BLOCKED:
      mixed = blocked_attention.attend(q_GRTKQE, k_GRTKE, v_GRTKE, own_mask)
      mixed = mixed.reshape(groups, rows, steps, -1)
    else:
      mixed = self._plain(q_GRTKQE, own, own_mask, arena[0], positions, context)
    out = out.reshape(cfg.heads * cfg.head_dim, cfg.width)
    scale = int8_weights.scale_of(self, "out")
    if choice.path == attention_backend.BLOCKED:
      return host_gradients.dense(mixed, out, scale, self.dtype), own
    mixed = int8_weights.product("...f,fd->...d", mixed, out, scale, self.dtype)
    return mixed, own

  def _together(self, x_GRTD, positions, qkv):
    """Queries, keys and values by one product; all but values turned."""
    cfg = self.config
    scale = int8_weights.scale_of(self, "qkv")
    h = int8_weights.product(
      "...d,df->...f",
      x_GRTD,
      qkv.reshape(cfg.width, -1),
      None if scale is None else scale.reshape(-1),
      self.dtype,
    ).reshape(*x_GRTD.shape[:3], *qkv.shape[1:])
    if cfg.qkv_bias:
      h = h + self._bias(qkv)[None, None, None]
    qk = h[..., :-1, :]
    if cfg.qk_norm:
      q, k = self._norms()
      qk = jnp.concatenate([q(qk[..., :-1, :]), k(qk[..., -1:, :])], axis=-2)
    qk = rotary.turn(qk, *self._waves(positions))
    return qk[..., :-1, :], qk[..., -1, :], h[..., -1, :]

  def _apart(self, x_GRTD, positions, qkv):
    """What `_together` gives, by a product each.

    XLA for CPU takes the gradient of a slice by padding and adding up whole
    arrays, and would compute the waves anew for every head.
    """
    cfg = self.config
    scale = int8_weights.scale_of(self, "qkv")
    bias = self._bias(qkv) if cfg.qkv_bias else None

    def project(part):
      matrix = qkv[:, :, part]
      h = host_gradients.dense(
        x_GRTD,
        matrix.reshape(cfg.width, -1),
        None if scale is None else scale[:, part].reshape(-1),
        self.dtype,
      ).reshape(*x_GRTD.shape[:3], *matrix.shape[1:])
      return h if bias is None else h + bias[None, None, None, :, part]

    q, k, v = (
      project(slice(*ends)) for ends in ((0, -2), (-2, -1), (-1, None))
    )
    if cfg.qk_norm:
      of_q, of_k = self._norms()
      q, k = of_q(q), of_k(k)
    waves = jax.lax.optimization_barrier(self._waves(positions))
    q, k = rotary.turn(q, *waves), rotary.turn(k, *waves)
    return q, k[..., 0, :], v[..., 0, :]

  def _bias(self, qkv):
    shape = qkv.shape[1:]
    bias = self.param("qkv_bias", nn.initializers.zeros, shape, jnp.float32)
    return bias.astype(self.dtype)

  def _norms(self):
    """Of each head's queries, and of its keys."""
    norm = functools.partial(
      nn.RMSNorm, epsilon=self.config.norm_eps, dtype=self.dtype
    )
    return norm(name="query_norm"), norm(name="key_norm")

  def _waves(self, positions):
    """Rotary cosines and sines of this layer."""
    cfg = self.config
    if self.local and cfg.rope_theta_local:
      theta, stretch = cfg.rope_theta_local, None
    else:
      theta, stretch = cfg.rope_theta, rotary.stretch(cfg)
    return rotary.waves(positions, cfg.head_dim, theta, stretch)

  def _choice(self, steps, shared, context):
    """The program that does this call."""
    platform, capability = attention_backend.device()
    return attention_backend.choose(
      self.backend,
      attention_backend.Call(
        platform=platform,
        capability=capability,
        dtype=self.dtype,
        head_dim=self.config.head_dim,
        tokens=steps,
        shared=shared,
        decoding=context.scratch is not None,
        capped=bool(self.config.score_cap),
        parts=mesh_lib.tensor_parts(),
        devices=mesh_lib.traced_devices(),
      ),
    )

  def _plain(self, q_GRTKQE, own, own_mask, arena, positions, context):
    """Values mixed under one softmax over arena and private keys."""
    cfg = self.config
    groups, rows, steps, _, queries, _ = q_GRTKQE.shape
    q_GRKTQE = q_GRTKQE.transpose(0, 1, 3, 2, 4, 5)
    scores = _capped(_scores(q_GRKTQE, own.k), cfg.score_cap)
    scores = jnp.where(own_mask[:, :, None, :, None, :], scores, _MASKED)
    if arena is None:
      mixed = _mixed(_softmax(scores, self.dtype), own.v)
    else:
      q_GKME = q_GRTKQE.transpose(0, 3, 1, 2, 4, 5).reshape(
        groups, cfg.kv_heads, rows * steps * queries, cfg.head_dim
      )
      shared = jnp.einsum("gkme,gkec->gkmc", q_GKME, arena.k)
      shared = shared.reshape(
        groups, cfg.kv_heads, rows, steps, queries, -1
      ).transpose(0, 2, 1, 3, 4, 5)
      shared = _capped(shared, cfg.score_cap)
      mask = self._arena_mask(positions, context)
      shared = jnp.where(mask, shared, _MASKED)
      slots = shared.shape[-1]
      weights = _softmax(jnp.concatenate([shared, scores], axis=-1), self.dtype)
      mixed = _mixed(weights[..., slots:], own.v)
      w_GKMC = (
        weights[..., :slots]
        .transpose(0, 2, 1, 3, 4, 5)
        .reshape(groups, cfg.kv_heads, -1, slots)
      )
      mixed += (
        jnp.einsum("gkmc,gkce->gkme", w_GKMC, arena.v)
        .reshape(groups, cfg.kv_heads, rows, steps, queries, -1)
        .transpose(0, 2, 1, 3, 4, 5)
      )
    return mixed.transpose(0, 1, 3, 2, 4, 5).reshape(groups, rows, steps, -1)

  def _own_mask(self, positions, mask, context):
    """Which private keys [G, R, T, S] this layer sees, of those in `mask`."""
    if not self.local:
      return mask
    if context.scratch is None:
      key = positions[:, :, None, :]
    else:  # a row writes a column a token, up to this one
      columns = jnp.arange(mask.shape[-1])
      key = positions[..., None] - context.column + columns[None, None, None]
    return mask & (positions[..., None] - key < self.config.window)

  def _arena_mask(self, positions, context):
    """Which slots this layer sees, to broadcast to [G, R, K, T, Q, C]."""
    mask = context.arena_mask[:, :, None, None, None, :]
    if not self.local:
      return mask
    away = positions[..., None] - context.arena_position[:, None, None, :]
    return mask & (away < self.config.window)[:, :, None, :, None, :]


def _capped(x, cap):
  """Scores or logits within (-cap, cap); as they are if `cap` is 0."""
  return cap * jnp.tanh(x / cap) if cap else x


def _scores(q_GRKTQE, k):
  """Products with private keys, [G, R, K, E, S] or `flattened`."""
  if k.ndim == 5:
    return jnp.einsum("grktqe,grkes->grktqs", q_GRKTQE, k)
  *shape, size = q_GRKTQE.shape
  q_BME = q_GRKTQE.reshape(k.shape[0], -1, size)
  return jnp.einsum("bme,bes->bms", q_BME, k).reshape(*shape, -1)


def _mixed(weights_GRKTQS, v):
  """Private values under weights, [G, R, K, S, E] or `flattened`."""
  if v.ndim == 5:
    return jnp.einsum("grktqs,grkse->grktqe", weights_GRKTQS, v)
  *shape, size = weights_GRKTQS.shape
  w_BMS = weights_GRKTQS.reshape(v.shape[0], -1, size)
  return jnp.einsum("bms,bse->bme", w_BMS, v).reshape(*shape, -1)


def _softmax(scores, dtype):
  return jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(dtype)


class GatedMLP(nn.Module):
  """Gated MLP; gate and up projections are one matrix.

  Attributes:
    config: sizes.
    dtype: to compute in.
    apart: whether they are two products nevertheless, as a gradient on a CPU is
      faster (`Attention`).
  """

  config: config_lib.TransformerConfig
  dtype: jnp.dtype = jnp.float32
  apart: bool = False

  @nn.compact
  def __call__(self, x):
    """Maps hidden states [..., D] to [..., D]."""
    cfg = self.config
    init = nn.initializers.lecun_normal(in_axis=0, out_axis=-1)
    gate_up = self.param("gate_up", init, (cfg.width, 2, cfg.mlp_width))
    down = self.param("down", init, (cfg.mlp_width, cfg.width))
    product = functools.partial(int8_weights.product, dtype=self.dtype)
    scale = int8_weights.scale_of(self, "gate_up")
    if self.apart:
      gate, up = (
        host_gradients.dense(
          x, gate_up[:, i], None if scale is None else scale[i], self.dtype
        )
        for i in range(2)
      )
    else:
      h = product("...d,dgf->...gf", x, gate_up, scale)
      gate, up = h[..., 0, :], h[..., 1, :]
    if cfg.activation == "silu":
      gate = jax.nn.silu(gate)
    else:
      gate = jax.nn.gelu(gate, approximate=True)
    h = gate * up
    scale = int8_weights.scale_of(self, "down")
    if self.apart:
      return host_gradients.dense(h, down, scale, self.dtype)
    return product("...f,fd->...d", h, down, scale)


def _add_layers(module, first, count):
  """Gives a module, in its `setup`, the layers from `first` on, and a norm.

  Unrolled: one cache tensor a layer decodes best.
  """
  cfg, dtype = module.config, module.dtype
  layers = range(first, first + count)

  apart = module.backend == attention_backend.BLOCKED
  norm = functools.partial(
    host_gradients.RMSNorm if apart else nn.RMSNorm,
    epsilon=cfg.norm_eps,
    dtype=dtype,
  )

  def norms():
    return [norm() for _ in layers]

  module.attention_norm = norms()
  module.attention = [
    Attention(cfg, dtype, cfg.is_local(i), module.backend) for i in layers
  ]
  module.mlp_norm = norms()
  module.mlp = [GatedMLP(cfg, dtype, apart) for _ in layers]
  if cfg.post_norms:
    module.attention_post_norm = norms()
    module.mlp_post_norm = norms()
  module.final_norm = norm()


def _run_layers(module, first, x, positions, own_mask, context, seen=None):
  """All layers of a module, whose caches are the context's from `first` on.

  What comes out of each layer is put behind the list `seen`, if there is one.
  """
  own = []
  for i in range(len(module.attention)):
    parts = (
      None if context.arena is None else context.arena[first + i],
      None if context.scratch is None else context.scratch[first + i],
    )
    run = functools.partial(_run_layer, layer=i)
    if module.remat:
      run = nn.remat(run)
    x, private = run(module, x, positions, own_mask, parts, context)
    own.append(private)
    if seen is not None:
      seen.append(x)
  return x, tuple(own)


def _run_layer(module, x, positions, own_mask, parts, context, *, layer):
  """One layer of a module, and the private keys and values that it gives."""
  h, private = module.attention[layer](
    module.attention_norm[layer](x), positions, own_mask, parts, context
  )
  if module.config.post_norms:
    h = module.attention_post_norm[layer](h)
  x = x + h
  h = module.mlp[layer](module.mlp_norm[layer](x))
  if module.config.post_norms:
    h = module.mlp_post_norm[layer](h)
  return x + h, private


class Transformer(nn.Module):
  """Tokens to final hidden states, and hidden states to logits.

  Attributes:
    config: sizes.
    dtype: to compute in; parameters are of their own.
    backend: one of `attention_backend.NAMES`.
    remat: whether a gradient computes each layer anew, from its input, in place
      of keeping what is inside; saves memory, costs one more forward pass.
  """

  config: config_lib.TransformerConfig
  dtype: jnp.dtype = jnp.float32
  backend: str = attention_backend.AUTO
  remat: bool = False

  def setup(self):
    """Creates embedding, layers and head."""
    cfg = self.config
    apart = self.backend == attention_backend.BLOCKED
    self.embed = embedding.Embedding(
      cfg.vocab_size, cfg.width, self.dtype, apart
    )
    _add_layers(self, 0, cfg.layers)
    if not cfg.tie_embeddings:
      self.head = embedding.Head(cfg.vocab_size, self.dtype, apart)

  def __call__(
    self,
    tokens: Int[Array, "G R T"],
    positions: Int[Array, "G R T"],
    own_mask: Bool[Array, "G R T S"],
    context: Context = _NO_CONTEXT,
  ) -> tuple[Float[Array, "G R T D"], tuple[KeyValues, ...]]:
    """Runs the trunk.

    Args:
      tokens: token ids.
      positions: each token's position in its own sequence.
      own_mask: which private keys each token sees: [.., T, T] without a
        scratch (causal, segment and padding masks live here), [.., 1, S]
        with one.
      context: arena and scratch; empty for plain training or prefill.

    Returns:
      Hidden states after the final norm, and per layer the private keys and
      values: the call's own, or the updated scratch.
    """
    x, own = _run_layers(
      self, 0, self._embedded(tokens), positions, own_mask, context
    )
    return self.final_norm(x), own

  def stacked(
    self,
    tokens: Int[Array, "G R T"],
    positions: Int[Array, "G R T"],
    own_mask: Bool[Array, "G R T S"],
    context: Context = _NO_CONTEXT,
  ) -> tuple[
    Float[Array, "G R T D"],
    tuple[KeyValues, ...],
    Float[Array, "G R T N D"],
  ]:
    """As a plain call, and the hidden states of all layers.

    Returns:
      What a call returns, and the N = `config.layers` + 1 hidden states of each
      token: its embedding, and what comes out of each layer, of the last one
      after the final norm.
    """
    x = self._embedded(tokens)
    seen = [x]
    x, own = _run_layers(self, 0, x, positions, own_mask, context, seen)
    hidden = self.final_norm(x)
    return hidden, own, jnp.stack([*seen[:-1], hidden], axis=-2)

  def _embedded(self, tokens):
    x = self.embed(tokens)
    if self.config.embed_scale != 1.0:
      x = x * self.config.embed_scale
    return x

  def logits(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Next-token logits of hidden states, in float32."""
    if self.config.tie_embeddings:
      logits = self.embed.attend(hidden)
    else:
      logits = self.head(hidden)
    return _capped(logits.astype(jnp.float32), self.config.logit_cap)

  def everything(self, tokens, positions, own_mask) -> Float[Array, "G R T V"]:
    """Logits of whole sequences; also what initialises all parameters."""
    hidden, _ = self(tokens, positions, own_mask)
    return self.logits(hidden)


class Judgement(NamedTuple):
  """What a reward model says of every prefix that ends in its input.

  Attributes:
    logits: f32[G, R, T], reward logits.
    hidden: [G, R, T, D] of the trunk, what it expects next; D is 0 in a model
      that does not compare text with what was expected.
  """

  logits: jax.Array
  hidden: jax.Array


class ProcessRewardModel(nn.Module):
  """A trunk with a scalar head: how right is the prefix ending here.

  The reward of a prefix is `sigmoid(logit)` at its last token (Lightman et
  al. 2023, "Let's verify step by step").

  The last `config.reading_layers` layers lie above the trunk and read, beside
  its hidden states, how probable the trunk's own language head found each
  token. A wrong number is one that was not expected, so a trunk that computes
  well need not learn anew what an error looks like; the layers above only
  collect what it says, and learn which surprises matter. Attributes are those
  of `Transformer`.
  """

  config: config_lib.TransformerConfig
  dtype: jnp.dtype = jnp.float32
  backend: str = attention_backend.AUTO
  remat: bool = False

  def setup(self):
    """Creates trunk, reading layers and head."""
    cfg, reading = self.config, self.config.reading_layers
    self.trunk = Transformer(cfg.trunk(), self.dtype, self.backend, self.remat)
    self.reward = nn.Dense(1, dtype=jnp.float32)
    if cfg.reward_width:
      self.reward_hidden = nn.Dense(cfg.reward_width, dtype=self.dtype)
    if reading:
      self.surprise = nn.Dense(cfg.width, use_bias=False, dtype=self.dtype)
      _add_layers(self, cfg.layers - reading, reading)

  def __call__(
    self,
    tokens: Int[Array, "G R T"],
    positions: Int[Array, "G R T"],
    own_mask: Bool[Array, "G R T S"],
    context: Context = _NO_CONTEXT,
    before: Float[Array, "G R D"] | None = None,
  ) -> tuple[Judgement, tuple[KeyValues, ...]]:
    """Judges the prefixes that end in `tokens`.

    Args:
      tokens: token ids.
      positions: as in `Transformer`.
      own_mask: as in `Transformer`.
      context: as in `Transformer`.
      before: `Judgement.hidden` of the token before the first one; None if
        all sequences begin in this call.

    Returns:
      The judgement, and private keys and values as `Transformer` gives them.
    """
    hidden, own = self.trunk(tokens, positions, own_mask, context)
    if not self.config.reading_layers:
      return Judgement(self._reward(hidden), hidden[..., :0]), own
    if before is None:
      before = jnp.zeros_like(hidden[:, :, 0])
    expected = jnp.concatenate([before[:, :, None], hidden[:, :, :-1]], axis=2)
    found = self._found(expected, tokens)
    # Nothing was expected of a text's first token.
    found = jnp.where(positions[..., None] > 0, found, 0.0).astype(self.dtype)
    x, read = _run_layers(
      self,
      len(own),
      hidden + self.surprise(found),
      positions,
      own_mask,
      context,
    )
    return Judgement(self._reward(self.final_norm(x)), hidden), own + read

  def everything(self, tokens, positions, own_mask) -> Float[Array, "G R T"]:
    """Reward logits of whole sequences; also initialises all parameters."""
    return self(tokens, positions, own_mask)[0].logits

  def _reward(self, hidden):
    """Reward logits [..] of the last hidden states [.., D]."""
    if self.config.reward_width:
      hidden = jax.nn.relu(self.reward_hidden(hidden))
    return self.reward(hidden)[..., 0]

  def _found(self, expected, tokens):
    """How tokens compare with what was expected: f32[G, R, T, READ]."""

    def compare(pair):
      hidden, token = pair
      logprobs = jax.nn.log_softmax(self.trunk.logits(hidden))
      own = jnp.take_along_axis(logprobs, token[..., None], axis=-1)[..., 0]
      entropy = -(jnp.exp(logprobs) * logprobs).sum(-1)
      own = jnp.maximum(own, _LEAST_LOGPROB)
      short = jnp.minimum(logprobs.max(-1) - own, -_LEAST_LOGPROB)
      return jnp.stack([own / 4, jnp.exp(own), short / 4, entropy], axis=-1)

    # The vocabulary's logits exist for a few columns at a time.
    pairs = (expected.swapaxes(0, 2), tokens.swapaxes(0, 2))
    if tokens.shape[2] <= _COLUMNS:
      found = compare(pairs)
    else:
      found = jax.lax.map(compare, pairs, batch_size=_COLUMNS)
    return found.swapaxes(0, 2)


def causal_mask(
  segments: Int[Array, "B T"],
) -> Bool[Array, "B 1 T T"]:
  """Causal mask of packed sequences: token i sees j <= i of its own segment.

  Segment 0 is padding; it sees and is seen by padding only.
  """
  steps = segments.shape[-1]
  causal = jnp.tril(jnp.ones((steps, steps), bool))
  same = segments[:, None, :, None] == segments[:, None, None, :]
  return same & causal[None, None]


def init(key: jax.Array, model: nn.Module) -> dict[str, dict]:
  """Fresh parameters of a `Transformer` or `ProcessRewardModel`."""
  tokens = jnp.zeros((1, 1, 1), jnp.int32)
  mask = jnp.ones((1, 1, 1, 1), bool)
  return model.init(key, tokens, tokens, mask, method="everything")["params"]


def forward(
  model: nn.Module,
  params: dict,
  tokens: Int[Array, "B T"],
  segments: Int[Array, "B T"],
  positions: Int[Array, "B T"],
):
  """`everything` of packed sequences: what training objectives call.

  Returns:
    For a `Transformer`, logits f32[B, T, V]; for a `ProcessRewardModel`,
    reward logits f32[B, T].
  """
  out = model.apply(
    {"params": params},
    tokens[:, None],
    positions[:, None],
    causal_mask(segments),
    method="everything",
  )
  return out[:, 0]


def hidden_stack(
  model: Transformer,
  params: dict,
  tokens: Int[Array, "B T"],
  segments: Int[Array, "B T"],
  positions: Int[Array, "B T"],
) -> Float[Array, "B T N D"]:
  """Hidden states of all layers (`Transformer.stacked`) of packed sequences."""
  out = model.apply(
    {"params": params},
    tokens[:, None],
    positions[:, None],
    causal_mask(segments),
    method="stacked",
  )
  return out[2][:, 0]


# Which axes of a matrix parameter are summed over, and which come out.
_MATRIX_AXES = {
  "qkv": ((0,), (1, 2, 3)),
  "gate_up": ((0,), (1, 2)),
  "out": ((0, 1), (2,)),
  "down": ((0,), (1,)),
}


def matrix_axes(params: dict) -> dict:
  """(input axes, output axes) of each matrix parameter; None for the rest.

  The blocks' matrices are stored with their head axes apart. Whoever needs
  them as matrices (Muon, low-rank adapters, quantisation) asks here.
  Embeddings, heads and norm scales are not matrices in this sense.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: _MATRIX_AXES.get(path[-1].key), params
  )
