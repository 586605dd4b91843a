# SPDX-License-Identifier: Apache-2.0
"""What goes wrong, in the shape that OpenAI's clients expect."""

from collections.abc import Iterable
from typing import Any

_TYPES = {
  401: "authentication_error",
  429: "rate_limit_error",
  500: "server_error",
  503: "server_error",
}


class ApiError(Exception):
  """An error reply: one clear line, and where it lies.

  Attributes:
    status: the HTTP status.
    message: what, where, and what was expected.
    param: the field of the request that it lies in; None if in none.
    code: a word for programs; None if the status says it all.
    retry_after: seconds after which to try again; None where that would not
      help.
  """

  def __init__(
    self,
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    retry_after: int | None = None,
  ):
    super().__init__(message)
    self.status, self.message = status, message
    self.param, self.code, self.retry_after = param, code, retry_after

  def body(self) -> dict[str, Any]:
    """The reply's JSON."""
    return {
      "error": {
        "message": self.message,
        "type": _TYPES.get(self.status, "invalid_request_error"),
        "param": self.param,
        "code": self.code,
      }
    }

  def headers(self) -> dict[str, str]:
    """The reply's headers beside the usual ones."""
    headers = {}
    if self.retry_after is not None:
      headers["Retry-After"] = str(self.retry_after)
    if self.status == 401:
      headers["WWW-Authenticate"] = "Bearer"
    return headers


def bad(param: str | None, message: str, code: str | None = None) -> ApiError:
  """A 400 for a field of the request."""
  return ApiError(400, message, param=param, code=code)


def no_model(name: str, served: Iterable[str]) -> ApiError:
  """A 404: another model was asked for than those that are served."""
  return ApiError(
    404,
    f"there is no model {name[:60]!r}; this server serves "
    f"{', '.join(map(repr, served))}",
    param="model",
    code="model_not_found",
  )


def failed() -> ApiError:
  """A 500: the log says more, the reply does not."""
  return ApiError(500, "the server failed on this request; its log says why")


def closing() -> ApiError:
  """A 503: the server is about to end."""
  return ApiError(
    503, "the server is shutting down; try another", retry_after=5
  )
