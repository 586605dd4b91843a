# SPDX-License-Identifier: Apache-2.0
"""Budget policies: which decoder, with how many tokens, a question is worth.

A policy knows some *arms*, each a decoder of some model with a cap on
generated tokens, and forecasts from a question's text how likely each arm
answers it, and how many tokens it will take. It is fitted for certain models
(`policy_fitting`), and refuses others. It may know what arms cost on other
fields than tokens, and look at answers to ask again (`policy_cascades`). `AUTO`
ships with the package; a policy is one .npz file of arrays and a description,
read without pickle.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import io
import json
import os
import pathlib
from typing import Any, NamedTuple
import zipfile

from jaxtyping import Float
import numpy as np

from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base as decoders_base
from jaxttc.evaluation import looks
from jaxttc.inference import bundle as bundle_lib
from jaxttc.predictors import routing
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import (
  arm_text,
  call_text,
  cost_laws,
  decoder_text,
  loading,
  policy_cascades,
  solve_recipe,
)
from jaxttc.tasks import problems as problems_lib

AUTO = "auto"
_SHIPPED = pathlib.Path(__file__).parent.parent / "pretrained"
_SUFFIX = "_policy.npz"


class Arm(NamedTuple):
  """One way to answer a question.

  Attributes:
    decoder: how, e.g. "astar(children=4)" or "guided(budget=14)"; see
      `arm_text`.
    cap: generated tokens that it can never exceed.
    model: name of the model that is asked; "" where there is but one.
  """

  decoder: str
  cap: int
  model: str = ""

  @property
  def search(self) -> tuple[str, str]:
    """Model and decoder: arms that differ in their caps alone share it."""
    return self.model, self.decoder

  @property
  def label(self) -> str:
    """A short name, such as "astar, 240"; not unique."""
    called, _ = call_text.parse(self.decoder, "arm", "astar(children=4)")
    name = f"{called}, {self.cap}"
    return f"{self.model}: {name}" if self.model else name


class Predicted(NamedTuple):
  """What is expected of each arm on each question.

  Attributes:
    success: f64[n, K], probability of a right answer, in [0, 1].
    tokens: f64[n, K], generated tokens, in [1, cap].
  """

  success: Float[np.ndarray, "n K"]
  tokens: Float[np.ndarray, "n K"]


@dataclasses.dataclass(frozen=True, eq=False)
class BudgetPolicy:
  """Arms, and what to expect of them.

  Attributes:
    arms: the K arms.
    embed: questions to vectors.
    success: head of the probability of a right answer.
    share: head of generated tokens, as a share of the arm's cap.
    style: how solutions are asked for, one of `tasks.problems.STYLES`.
    sampling: how tokens are drawn, where an arm does not say.
    models: fingerprints of the language model and the reward model, by the
      name that arms call them.
    origin: in words, what it was fitted on.
    laws: what the arms cost on other fields; None for budgets of tokens only.
    cascade: how answers are looked at; None takes every first answer.

  Raises:
    ValueError: if there are no arms, two are the same, one cannot be or asks
      a model of which nothing is said, or laws or cascade are of other arms.
  """

  arms: tuple[Arm, ...]
  embed: routing.hashed_ngrams.HashedNgrams
  success: routing.Head
  share: routing.Head
  style: str
  sampling: solve_recipe.SamplingOptions
  models: Mapping[str, tuple[str, str]]
  origin: str = ""
  laws: cost_laws.CostLaws | None = None
  cascade: policy_cascades.Cascade | None = None

  def __post_init__(self) -> None:
    if not self.arms:
      raise ValueError("policy: expected at least one arm")
    if len(set(self.arms)) < len(self.arms):
      raise ValueError("policy: two arms are the same")
    for arm in self.arms:
      if arm.cap < 1:
        raise ValueError(f"policy: arm {arm.decoder!r} has the cap {arm.cap}")
      if arm.model not in self.models:
        raise ValueError(
          f"policy: arm {arm.label!r} asks the model {arm.model!r}; known: "
          f"{sorted(self.models)}"
        )
      arm_text.check(arm.decoder)
    if self.success is None or self.share is None:
      raise ValueError("policy: its arms have no predictor")
    for name, known in (
      ("laws", self.laws and self.laws.limits),
      ("cascade", self.cascade and self.cascade.looked),
    ):
      if known is not None and len(known) != len(self.arms):
        raise ValueError(
          f"policy: its {name} know {len(known)} arms of {len(self.arms)}"
        )

  @property
  def fingerprint(self) -> str:
    """Sixteen hex digits that tell apart any two policies."""
    about, arrays = _described(self)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(arrays):
      digest.update(
        name.encode() + np.ascontiguousarray(arrays[name]).tobytes()
      )
    return digest.hexdigest()[:16]

  @property
  def caps(self) -> np.ndarray:
    """i64[K]."""
    return np.array([arm.cap for arm in self.arms])

  @property
  def groups(self) -> np.ndarray:
    """i64[K], the place of each arm's model and decoder among them."""
    return search_groups(self.arms)

  def predict(self, questions: Sequence[str]) -> Predicted:
    """Forecasts, in one call for all questions.

    Raises:
      ValueError: if there are none.
    """
    x = self.embed(questions)
    return bounded(
      routing.predict(self.success, x),
      routing.predict(self.share, x),
      self.caps,
    )

  def check_fields(self, fields: Sequence[str]) -> None:
    """Refuses fields of the cost of which the policy knows nothing.

    Raises:
      ValueError: naming the field.
    """
    cost_laws.limits(self.laws, fields, self.caps)

  def compose(
    self,
    problems: Sequence[problems_lib.Problem],
    fields: Sequence[str],
    decode: policies.Decode,
    engines: Mapping[str, Any] | None = None,
  ) -> tuple[Predicted, policies.Policy]:
    """What is expected of each arm, and the policy for `policies.Run`.

    Args:
      problems: those to be asked, at least one.
      fields: that the budget limits.
      decode: carries a wave out; its results are `runtime.SearchResult`s.
      engines: not read; the cascade asks no model.
    """
    del engines
    caps = self.caps
    predicted = self.predict([problem.text for problem in problems])

    def expected(tokens):
      return cost_laws.expected(self.laws, fields, tokens, caps)

    composed = policies.compose(
      cost_laws.limits(self.laws, fields, caps),
      caps,
      self.groups,
      route=lambda _: policies.Forecast(
        predicted.success, expected(predicted.tokens)
      ),
      decode=decode,
      verify=policy_cascades.verify(
        [self.cascade] * len(problems),
        predicted.success,
        predicted.tokens,
        caps,
        lambda _, outcome: looks.look(outcome.result),
        expected,
      ),
    )
    return predicted, composed

  def limits(self, arm: int, fields: Sequence[str]) -> budget_lib.Budget:
    """What a search of an arm is held to: its cap, and its limits on fields.

    Raises:
      ValueError: if the policy knows nothing of a field.
    """
    most = cost_laws.limits(self.laws, fields, self.caps)[arm]
    held = {
      # A count's limit is whole; see `cost_laws`.
      name: float(each) if name == "flops" else int(each)
      for name, each in zip(fields, most, strict=True)
    }
    return budget_lib.Budget(**{"generated_tokens": self.arms[arm].cap, **held})

  def build(
    self, decoder: str
  ) -> tuple[decoders_base.Decoder, settings_lib.SearchSettings]:
    """A decoder of the policy, and how its tokens are drawn."""
    return decoder_text.cached(decoder), self.sampling.build_for(decoder)

  def check_models(
    self,
    engines: Mapping[
      str, tuple[bundle_lib.Bundle | None, bundle_lib.Bundle | None]
    ],
  ) -> None:
    """Refuses models that the policy knows nothing about.

    Args:
      engines: language model and reward model by name; None for one that is
        not in this process.

    Raises:
      ValueError: naming the one that is missing, or another.
    """
    for name, fitted in self.models.items():
      if name not in engines:
        raise ValueError(
          f"policy: fitted for the models {sorted(self.models)}, got "
          f"{sorted(engines)}"
        )
      for what, one, bundle in zip(
        ("language model", "reward model"), fitted, engines[name], strict=True
      ):
        found = loading.weights_fingerprint(bundle)
        if one and found != one:
          raise ValueError(
            f"policy: fitted for the {what} {one}"
            + (f" as {name!r}" if name else "")
            + f", got {found or 'none'}; fit one for yours with "
            "scripts/study_policy.py --export=FILE"
          )


def search_groups(arms: Sequence[Arm]) -> np.ndarray:
  """i64[K], equal for arms of one model and decoder; in order of occurrence."""
  places = {each: i for i, each in enumerate(dict.fromkeys(_searches(arms)))}
  return np.array([places[each] for each in _searches(arms)])


def _searches(arms: Sequence[Arm]) -> list[tuple[str, str]]:
  return [arm.search for arm in arms]


def bounded(
  success: np.ndarray, share: np.ndarray, caps: np.ndarray
) -> Predicted:
  """Heads' figures, made possible: chances in [0, 1], tokens in [1, cap]."""
  return Predicted(
    np.clip(np.asarray(success, np.float64), 0.0, 1.0),
    np.clip(np.asarray(share, np.float64) * caps, 1.0, caps),
  )


def save(policy: BudgetPolicy, path: str | os.PathLike[str]) -> None:
  """Writes a policy, whole or not at all.

  Raises:
    ValueError: if a head is of a kind that cannot be saved, or the file cannot
      be written.
  """
  about, arrays = _described(policy)
  content = io.BytesIO()
  np.savez_compressed(content, about=np.array(json.dumps(about)), **arrays)
  file = pathlib.Path(path)
  unfinished = file.with_suffix(".part")
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_bytes(content.getvalue())
    unfinished.replace(file)
  except OSError as error:
    raise ValueError(f"{file}: cannot be written: {error.strerror}") from None


def _described(
  policy: BudgetPolicy,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """What a policy is, for JSON, and its arrays by name."""
  arrays: dict[str, np.ndarray] = {}
  about: dict[str, Any] = {
    # Of one model alone as in older files, so that fingerprints stay.
    "arms": [list(arm[: 3 if arm.model else 2]) for arm in policy.arms],
    "style": policy.style,
    "sampling": policy.sampling.identity(),
    "models": list(policy.models[""])
    if set(policy.models) == {""}
    else {name: list(pair) for name, pair in policy.models.items()},
    "origin": policy.origin,
  }
  about["embed"], found = routing.saved_ngrams.pack(policy.embed)
  arrays |= {f"embed.{name}": array for name, array in found.items()}
  for part in ("success", "share"):
    about[part], found = routing.saved_heads.pack(getattr(policy, part))
    arrays |= {f"{part}.{name}": array for name, array in found.items()}
  found = {}
  if policy.laws is not None:
    about["laws"], found["laws"] = cost_laws.pack(policy.laws)
  if policy.cascade is not None:
    about["cascade"], found["cascade"] = policy_cascades.pack(policy.cascade)
  for part, named in found.items():
    arrays |= {f"{part}.{name}": array for name, array in named.items()}
  return about, arrays


def load(name: str | os.PathLike[str]) -> BudgetPolicy:
  """Reads what `save` wrote.

  Args:
    name: a file, or the name of a policy that ships ("auto").

  Raises:
    ValueError: if it is missing, damaged, or no policy.
  """
  file = pathlib.Path(name)
  if not file.suffix and not file.exists():
    file = _SHIPPED / f"{name}{_SUFFIX}"
    if not file.exists():
      shipped = sorted(
        p.name.removesuffix(_SUFFIX) for p in _SHIPPED.glob(f"*{_SUFFIX}")
      )
      raise ValueError(
        f"no policy named {os.fspath(name)!r} ships; expected a file or one of "
        f"{shipped}"
      )
  try:
    with open(file, "rb") as opened:
      stored = np.load(opened, allow_pickle=False)
      arrays = {key: stored[key] for key in stored.files}
    about = json.loads(str(arrays.pop("about")))
    return _policy(about, arrays)
  except FileNotFoundError:
    raise ValueError(f"{file}: no such file; expected a policy") from None
  except (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    zipfile.BadZipFile,
  ) as error:
    raise ValueError(
      f"{file}: is no policy that can be read: {error}"
    ) from None


def _policy(
  about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> BudgetPolicy:
  def part(name: str) -> dict[str, np.ndarray]:
    start = f"{name}."
    return {
      key.removeprefix(start): array
      for key, array in arrays.items()
      if key.startswith(start)
    }

  unpack = routing.saved_heads.unpack
  models = about["models"]
  models = models if isinstance(models, dict) else {"": models}
  return BudgetPolicy(
    arms=tuple(
      Arm(str(text), int(cap), *map(str, model))
      for text, cap, *model in about["arms"]
    ),
    embed=routing.saved_ngrams.unpack(about["embed"], part("embed")),
    success=unpack(about["success"], part("success")),
    share=unpack(about["share"], part("share")),
    style=str(about["style"]),
    sampling=solve_recipe.SamplingOptions.from_identity(about["sampling"]),
    models={
      str(name): (str(language), str(reward))
      for name, (language, reward) in models.items()
    },
    origin=str(about["origin"]),
    # Policies of older files have neither.
    laws=cost_laws.unpack(about["laws"], part("laws"))
    if "laws" in about
    else None,
    cascade=policy_cascades.unpack(about["cascade"], part("cascade"))
    if "cascade" in about
    else None,
  )
