# SPDX-License-Identifier: Apache-2.0
"""Generative verifiers in this process: how one is asked, and what it costs.

A model that this library trained to verify (`training.verifier_recipes`) is
asked as it was trained; any other language model by a template, and its verdict
read by `verdicts.parse`:

    CheckSettings(template="{problem}\n\n{solution}\n\nIs this right? Verify "
                  "step by step, then end with: Correct (Yes/No)?")

Of a verifier that has the policy's vocabulary, what a solution's verifications
can cost is known before they are written, so budgets are kept on every field.
Of another one, calls alone are; its tokens are in the costs, when they are
spent.
"""

from collections.abc import Callable
import dataclasses

from jaxttc.cost import verification_tariff
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, local_engine, local_prices
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import verifications
from jaxttc.verifiers import generative_verifier, verdicts

_ROWS = 64  # verifications written at once, at most
_FIELDS = ("{problem}", "{solution}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckSettings:
  """How a generative verifier is asked; static.

  Attributes:
    samples: V, verifications of a solution.
    temperature: at which they are sampled; above 0 if V is above 1.
    max_tokens: of one; a longer one says nothing.
    style: of `tasks.verifications.STYLES`, for a model trained by this library.
    template: what any other model continues, with {problem} and {solution}
      once each; a model with a chat template is asked it as a user would ask.
  """

  samples: int = 4
  temperature: float = 0.7
  max_tokens: int = 160
  style: str = "verbose"
  template: str = ""

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for name in ("samples", "max_tokens"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"checks.{name} must be at least 1, got {getattr(self, name)}"
        )
    if not self.temperature >= 0 or (
      self.samples > 1 and not self.temperature > 0
    ):
      raise ValueError(
        f"checks.temperature={self.temperature} with checks.samples="
        f"{self.samples}: expected more than 0, or one sample; equal "
        "verifications say no more than one"
      )
    problems_lib.require_name(
      self.style, verifications.STYLES, "verification style"
    )
    if self.template and any(self.template.count(f) != 1 for f in _FIELDS):
      raise ValueError(
        "checks.template must hold {problem} and {solution} once each, got "
        f"{self.template!r}"
      )


def verifier(
  judge: bundle_lib.Bundle,
  policy: bundle_lib.Bundle | None,
  settings: CheckSettings,
  *,
  hardware: str | None = None,
  groups: int = 8,
  shown: Callable[[str], str] | None = None,
) -> generative_verifier.GenerativeVerifier:
  """A model of this process as a verifier of whole solutions.

  Args:
    judge: the model; see `Bundle.writes_verdicts`.
    policy: whose solutions are verified; None if it is not in this process.
    settings: how it is asked.
    hardware: a name of the hardware table, to price joules and dollars.
    groups: searches served at once.
    shown: from the policy's prompt to the problem that a template shows; None
      for the prompt itself.

  Raises:
    ValueError: if the model writes no verdicts or is spread over devices, or
      the settings cannot be.
  """
  settings.validate()
  if not judge.writes_verdicts:
    raise ValueError(
      f"the verifier is a {judge.kind}; expected a generative verifier"
    )
  rows = min(settings.samples, _ROWS)
  engine = local_engine.LocalEngine(
    judge,
    sampler=controllers.Sampler(temperature=settings.temperature),
    hardware=hardware,
    groups=max(1, _ROWS // rows),
    rows=rows,
    columns=settings.max_tokens,
  )
  tariff, known = local_prices.local_tariff(judge, hardware, "verifier")
  request = verifications.prompt("", "", settings.style)
  same = policy is not None and (
    policy.tokenizer.fingerprint == judge.tokenizer.fingerprint
  )
  return generative_verifier.GenerativeVerifier(
    engine,
    _ask(judge, settings, shown),
    samples=settings.samples,
    limit=settings.max_tokens,
    read=verdicts.parse if settings.template else verifications.verdict,
    groups=groups,
    prices=verification_tariff.VerificationTariff(
      model=tariff,
      samples=settings.samples,
      limit=settings.max_tokens,
      # And the line end that a solution may lack.
      beside=1 + len(judge.tokenizer.encode(request)),
    ),
    bounded=known if same and not settings.template else frozenset(),
  )


def _ask(
  judge: bundle_lib.Bundle,
  settings: CheckSettings,
  shown: Callable[[str], str] | None,
) -> generative_verifier.Ask:
  if not settings.template:
    return lambda prompt, solution: verifications.prompt(
      prompt, solution, settings.style
    )

  def ask(prompt: str, solution: str) -> str:
    problem = prompt if shown is None else shown(prompt)
    before, _, after = settings.template.partition("{problem}")
    parts = [part.split("{solution}") for part in (before, after)]
    # One pass: what is put in may hold braces of its own.
    text = problem.join(solution.join(part) for part in parts)
    if judge.chats:
      return judge.chat([{"role": "user", "content": text}])
    return text

  return ask
