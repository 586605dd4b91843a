# SPDX-License-Identifier: Apache-2.0
"""What the servers differ in, found out before anything is asked of them."""

from collections.abc import Collection, Mapping
import dataclasses
from typing import Any

from jaxttc.inference import controllers
from jaxttc.inference.endpoint import connection as connection_lib
from jaxttc.inference.endpoint import replies, transport

CAPABILITIES = (
  "hidden_states",
  "logit_controllers",
  "logprobs",
  "min_p",
  "repetition_penalty",
  "seeds",
  "stop_reason",
  "tokenize",
  "top_k",
)
_OPEN = frozenset({"logprobs", "min_p", "seeds", "tokenize", "top_k"})
_PLAIN = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
  """A kind of server.

  Attributes:
    name: as it calls itself in its list of models; "" for any other.
    offers: of `CAPABILITIES`. Nobody offers hidden states, or lets logits be
      bent by a program.
    stop_field: the field of a choice that names what stopped it; "" if none
      does.
    keeps_stop: whether it can be told to leave the stop string in the text.
    plain: what a request must say for the model to be sampled as it is; a
      server has defaults of its own, or the model's, for what is left out.
  """

  name: str
  offers: frozenset[str]
  stop_field: str = ""
  keeps_stop: bool = False
  plain: Mapping[str, Any] = dataclasses.field(default_factory=dict)


SERVERS = {
  server.name: server
  for server in (
    Server(
      name="vllm",
      offers=_OPEN | {"stop_reason", "repetition_penalty"},
      stop_field="stop_reason",
      keeps_stop=True,
      plain=_PLAIN,
    ),
    Server(
      name="sglang",
      offers=_OPEN | {"stop_reason", "repetition_penalty"},
      stop_field="matched_stop",
      plain=_PLAIN,
    ),
    # Its penalty is another: it looks at the last tokens only.
    Server(
      name="llamacpp",
      offers=_OPEN,
      plain={"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0},
    ),
    Server(name="", offers=frozenset({"logprobs", "seeds"})),
  )
}


def probe(
  line: transport.Transport, model: str
) -> tuple[Server, dict[str, Any]]:
  """Asks a server what it is, and what it says of a model.

  Raises:
    ValueError: in one line, if it cannot be reached, refuses the key, is no
      OpenAI-compatible server, or does not serve the model.
  """
  url = line.clean(line.connection.url)
  try:
    body = line.call(line.get("/models"))
    entry = replies.model_entry(body, model)
  except transport.EndpointError as error:
    raise ValueError(f"{error}{_hint(str(error), line.connection)}") from None
  except replies.MalformedReply as error:
    raise ValueError(f"{url}: {line.clean(str(error))}") from None
  owner = entry.get("owned_by")
  return SERVERS.get(
    owner if isinstance(owner, str) else "", SERVERS[""]
  ), entry


def require(
  server: Server,
  url: str,
  sampler: controllers.Sampler,
  needs: Collection[str],
) -> None:
  """Refuses what a server cannot do.

  Args:
    server: the kind of server.
    url: where, for the message.
    sampler: how tokens are to be drawn.
    needs: of `CAPABILITIES`.

  Raises:
    ValueError: naming what it lacks.
  """
  sampler.validate()
  wanted = set(needs)
  if sampler.top_k is not None:
    wanted.add("top_k")
  if sampler.min_p:
    wanted.add("min_p")
  if sampler.repetition_penalty != 1:
    wanted.add("repetition_penalty")
  unknown = sorted(wanted - set(CAPABILITIES))
  if unknown:
    raise ValueError(
      f"unknown capability {unknown[0]!r}; known are {', '.join(CAPABILITIES)}"
    )
  lacking = sorted(wanted - server.offers)
  if lacking:
    raise ValueError(
      f"{url}: a served model ({server.name or 'of an unnamed server'}) does "
      f"not offer {', '.join(lacking)}; it offers "
      f"{', '.join(sorted(server.offers))}"
    )


def _hint(error: str, connection: connection_lib.Connection) -> str:
  if ": 401" in error or ": 403" in error:
    if connection.key_variable:
      return f"; the key in {connection.key_variable} was not accepted"
    return "; name the environment variable with the key in key_variable"
  if ": 404" in error:
    return "; no OpenAI-compatible server answers here: does the URL lack /v1?"
  return ""
