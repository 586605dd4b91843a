# SPDX-License-Identifier: Apache-2.0
"""Chat templates: messages in, the text that a model continues out.

A template is a Jinja program that came with a model, so it runs in Jinja's
sandbox. It finds the names there that published templates count on.
"""

from collections.abc import Mapping, Sequence
import datetime
import functools
import json
from typing import Any


def render(
  template: str,
  messages: Sequence[Any],
  *,
  special_tokens: Mapping[str, str],
  answer: bool = True,
  variables: Mapping[str, Any] | None = None,
) -> str:
  """The text of a chat.

  Args:
    template: the Jinja source.
    messages: each with "role" and "content", oldest first.
    special_tokens: their texts by name, such as "bos_token".
    answer: whether the text opens the assistant's next turn.
    variables: further names for the template, such as "enable_thinking".

  Raises:
    ValueError: in one line, if jinja2 is not installed, a message has no role
      or content, or the template is broken or refuses the messages.
  """
  for i, message in enumerate(messages):
    if not isinstance(message, Mapping) or "role" not in message:
      raise ValueError(
        f"message {i} is {message!r}; expected a dict with 'role' and 'content'"
      )
  if not messages:
    raise ValueError("there are no messages; expected at least one")
  compiled, failures = _compiled(template)
  try:
    return compiled.render(
      messages=[dict(message) for message in messages],
      tools=None,
      documents=None,
      add_generation_prompt=answer,
      **{**special_tokens, **(variables or {})},
    )
  except (*failures, TypeError, KeyError, AttributeError) as error:
    line = " ".join(str(error).split())
    raise ValueError(f"the chat template refuses the messages: {line}") from (
      None
    )


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> tuple[Any, tuple[type[Exception], ...]]:
  """A compiled template, and the exceptions that it may raise."""
  try:
    import jinja2
    import jinja2.ext
    import jinja2.sandbox
  except ImportError:
    raise ValueError(
      "chat templates need jinja2: pip install 'jaxttc[hf]'"
    ) from None

  class Generation(jinja2.ext.Extension):
    """Marks what the assistant wrote, for training; here it is plain text."""

    tags = {"generation"}

    def parse(self, parser):
      """The marked statements themselves."""
      next(parser.stream)
      return parser.parse_statements(("name:endgeneration",), drop_needle=True)

  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, jinja2.ext.loopcontrols],
  )

  def raise_exception(message):
    raise jinja2.TemplateError(message)

  environment.filters["tojson"] = _to_json
  environment.globals["raise_exception"] = raise_exception
  environment.globals["strftime_now"] = lambda form: (
    datetime.datetime.now().strftime(form)
  )
  try:
    return environment.from_string(template), (jinja2.TemplateError,)
  except jinja2.TemplateError as error:
    line = " ".join(str(error).split())
    raise ValueError(f"the chat template is not valid Jinja: {line}") from None


def _to_json(
  value, ensure_ascii=False, indent=None, separators=None, sort_keys=False
):
  """JSON as it is; Jinja's own filter escapes it for HTML."""
  return json.dumps(
    value,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )
