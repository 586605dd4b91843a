# SPDX-License-Identifier: Apache-2.0
"""From the messages of a chat to the text that a model continues."""

from collections.abc import Sequence

from jaxttc.inference import bundle as bundle_lib
from jaxttc.serving import errors


def prompt_of(
  bundle: bundle_lib.Bundle, messages: Sequence[dict[str, str]]
) -> str:
  """The prompt of a conversation.

  A model without a template has seen questions, and no conversations: its
  prompt is the last message of the user, ended by a newline.

  Args:
    bundle: the model.
    messages: each with `role` and `content`, oldest first.

  Raises:
    ApiError: 400, if the template refuses the messages, or there is no
      question in them.
  """
  if bundle.chats:
    try:
      return bundle.chat(messages)
    except ValueError as error:
      raise errors.bad("messages", str(error).splitlines()[0]) from None
  last = messages[-1]
  if last["role"] != "user" or not last["content"].strip():
    raise errors.bad(
      "messages", "the last message must be the user's, with some text"
    )
  text = last["content"]
  return text if text.endswith("\n") else f"{text}\n"
