# SPDX-License-Identifier: Apache-2.0
"""A trained length predictor: its file, and the chances it gives to guidance.

One .safetensors file holds the predictor's parameters and, in its metadata,
sizes, recipe, and the sizes, vocabulary and fingerprints of the language model
whose hidden states it reads: another model's would be read as noise.
"""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import guidance, weights
from jaxttc.models import gamma_length
from jaxttc.predictors import remaining_length

DTYPES = ("float32", "bfloat16", "float16")
"""What a language model may be kept in for its predictor to read it."""

_KIND = "length_predictor"
_PRETRAINED = pathlib.Path(__file__).parent.parent / "pretrained"


@dataclasses.dataclass(frozen=True, eq=False)
class LengthPredictor:
  """A predictor ready to run.

  Attributes:
    config: its sizes.
    params: its parameters.
    fingerprint: of the language model's vocabulary.
    models: of the language model's weights, by the dtype that they are kept in
      (`weights_fingerprints`).
    longest: tokens that the last bin of a discrete law ends at; 0 for a Gamma.
    recipe: how it was trained; empty if nobody said.
  """

  config: gamma_length.LengthPredictorConfig
  params: Any
  fingerprint: str
  models: Mapping[str, str]
  longest: int = 0
  recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def edges(self) -> Int[np.ndarray, " bins"]:
    """Upper edges of the discrete law's bins."""
    return remaining_length.bin_edges(self.config.bins, self.longest)

  @functools.cached_property
  def weights_fingerprint(self) -> str:
    """Sixteen hex digits that tell apart any two predictors."""
    digest = hashlib.sha256(repr(self.config).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(self.params):
      digest.update(jax.tree_util.keystr(path).encode())
      digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]

  def chance(
    self,
    policy: bundle_lib.Bundle,
    *,
    trust: remaining_length.TrustMask | None = remaining_length.TRUST,
  ) -> guidance.Chance:
    """What `guidance.guidance` asks for.

    Args:
      policy: the language model that it was trained on.
      trust: which candidates of a Gamma are believed; None believes all.

    Raises:
      ValueError: if the model is not the one that it was trained on.
    """
    check_policy(self, policy)
    return chance(
      self.config,
      self.params,
      embedding_of(policy),
      edges=self.edges if self.config.bins else None,
      trust=trust,
    )


def chance(
  config: gamma_length.LengthPredictorConfig,
  params: Any,
  embedding: Float[Array, "V D"] | None,
  *,
  edges: Int[np.ndarray, " bins"] | None = None,
  trust: remaining_length.TrustMask | None = remaining_length.TRUST,
) -> guidance.Chance:
  """The log-chance function of predictor parameters, which may be traced.

  Args:
    config: sizes.
    params: of `gamma_length.module(config)`.
    embedding: the language model's, for heads that read it.
    edges: of a discrete law's bins.
    trust: which candidates of a Gamma are believed; None believes all.
  """
  module = gamma_length.module(config)

  def log_chance(hidden, candidates, remaining):
    if hidden is None:
      raise ValueError("no hidden states; expected those of all layers")
    out = module.apply({"params": params}, hidden, embedding, candidates)
    if config.bins:
      assert edges is not None
      return remaining_length.log_bin_cdf(out, remaining, edges)
    return remaining_length.log_chance(*out, remaining, trust=trust)

  return log_chance


def expected_length(
  predictor: LengthPredictor,
  policy: bundle_lib.Bundle,
  hidden: Float[Array, "B N D"],
  logits: Float[Array, "B V"],
) -> Float[Array, " B"]:
  """Predicted remaining length before the next token is known.

  The geometric mean of R + 1, less 1, under the model's next-token
  distribution: exp(E z) - 1 with z = log(R + 1), which lies below E R. At the
  first position of a span it tells how hard the question is.

  Raises:
    ValueError: if the model is not the one that it was trained on.
  """
  check_policy(predictor, policy)
  module = gamma_length.module(predictor.config)
  out = module.apply({"params": predictor.params}, hidden, embedding_of(policy))
  if predictor.config.bins:
    z = remaining_length.encode_length(predictor.edges)
    mean = (jnp.exp(out) * z[None, None]).sum(-1)
  else:
    alpha, rate = out
    mean = alpha / rate
  return jnp.expm1((jax.nn.softmax(logits) * mean).sum(-1))


def embedding_of(policy: bundle_lib.Bundle) -> Float[Array, "V D"]:
  """The language model's embedding, in float32."""
  return jnp.asarray(policy.params["embed"]["embedding"], jnp.float32)


def weights_fingerprints(policy: bundle_lib.Bundle) -> dict[str, str]:
  """Fingerprints of a model's weights, as they are in each float dtype.

  Args:
    policy: the language model, in float32.

  Raises:
    ValueError: if it is kept in another dtype.
  """
  if policy.stored_dtype != jnp.float32:
    raise ValueError(
      f"the policy is kept in {policy.stored_dtype}; expected float32"
    )

  def kept_in(dtype):
    params = jax.tree.map(lambda x: x.astype(dtype), policy.params)
    return dataclasses.replace(policy, params=params).weights_fingerprint

  return {dtype: kept_in(dtype) for dtype in DTYPES}


def check_policy(predictor: LengthPredictor, policy: bundle_lib.Bundle) -> None:
  """Refuses a language model that a predictor was not trained on.

  Raises:
    ValueError: if kind, vocabulary, sizes or weights differ.
  """
  if policy.kind != "language_model":
    raise ValueError(f"the policy is a {policy.kind}; expected language_model")
  if policy.tokenizer.fingerprint != predictor.fingerprint:
    raise ValueError(
      "the length predictor reads another vocabulary than the policy writes "
      f"(fingerprint {predictor.fingerprint}, expected "
      f"{policy.tokenizer.fingerprint})"
    )
  model, config = policy.config, predictor.config
  sizes = (model.vocab_size, model.width, model.layers + 1)
  made = (config.vocab_size, config.hidden_width, config.hidden_states)
  if sizes != made:
    raise ValueError(
      "the length predictor was made for vocabulary, width and hidden states "
      f"{made}; the policy has {sizes}"
    )
  dtype = str(policy.stored_dtype)
  if dtype not in predictor.models:
    raise ValueError(
      f"the policy is kept in {dtype}; a length predictor reads one in "
      f"{', '.join(predictor.models)}"
    )
  trained, found = predictor.models[dtype], policy.weights_fingerprint
  if trained != found:
    named = predictor.recipe.get("policy", "another model")
    raise ValueError(
      f"the length predictor was trained over {named} (weights {trained}); the "
      f"policy has weights {found}: train one for it with scripts/train.py "
      "--config=configs/thinking_length.py --config.policy=FILE"
    )


def save(path: str, predictor: LengthPredictor) -> None:
  """Writes one self-explaining .safetensors file.

  Raises:
    ValueError: if the file cannot be written.
  """
  weights.save_safetensors(
    path,
    predictor.params,
    {
      "kind": _KIND,
      "config": json.dumps(dataclasses.asdict(predictor.config)),
      "fingerprint": predictor.fingerprint,
      "models": json.dumps(dict(predictor.models)),
      "longest": str(predictor.longest),
      "recipe": json.dumps(dict(predictor.recipe)),
    },
  )


def load(path: str) -> LengthPredictor:
  """Reads what `save` wrote.

  Args:
    path: a file, or the name of a predictor that ships ("thinking_length").

  Raises:
    ValueError: if the file is missing, damaged, or holds something else.
  """
  file = pathlib.Path(path)
  if not file.suffix and not file.exists():
    file = _PRETRAINED / f"{path}.safetensors"
  _, metadata = weights.load_safetensors(str(file))
  if metadata.get("kind") != _KIND:
    raise ValueError(
      f"{file}: kind {metadata.get('kind')!r}; expected {_KIND!r}"
    )
  try:
    config = gamma_length.LengthPredictorConfig(
      **json.loads(metadata["config"])
    )
    config.validate()
    longest = int(metadata["longest"])
    recipe = json.loads(metadata["recipe"])
    fingerprint = metadata["fingerprint"]
    models = dict(json.loads(metadata["models"]))
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{file}: its description cannot be read ({error})"
    ) from None
  expected = jax.eval_shape(
    lambda key: gamma_length.init(key, config), jax.random.key(0)
  )
  params, _ = weights.load_safetensors(str(file), expected)
  return LengthPredictor(
    config=config,
    params=jax.tree.map(jnp.asarray, params),
    fingerprint=fingerprint,
    models=models,
    longest=longest,
    recipe=recipe,
  )
