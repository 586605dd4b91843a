# SPDX-License-Identifier: Apache-2.0
"""How a server is spoken to: where, with which key, and how patiently.

The key comes from an environment variable alone, so that no recipe, log or
results file can hold it.
"""

import dataclasses
import math
import os
import urllib.parse


@dataclasses.dataclass(frozen=True, kw_only=True)
class Connection:
  """How a server is spoken to.

  Attributes:
    url: what every path is put behind, e.g. "http://localhost:8000/v1".
    key_variable: the environment variable that holds the API key; "" for a
      server that needs none.
    concurrency: most requests in flight.
    connect_s: seconds to wait for a connection.
    read_s: seconds to wait for the next byte; a reply that is not streamed
      sends its first byte when it is done.
    total_s: seconds that one attempt may take.
    retries: how often a request is sent again.
    first_wait_s: the first wait between two attempts is at most so long, and
      doubles.
    longest_wait_s: no wait is longer; a server that asks for more is given up.
    reply_bytes: the largest reply that is read.
  """

  url: str
  key_variable: str = ""
  concurrency: int = 32
  connect_s: float = 10.0
  read_s: float = 300.0
  total_s: float = 600.0
  retries: int = 5
  first_wait_s: float = 0.5
  longest_wait_s: float = 60.0
  reply_bytes: int = 1 << 24

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    try:
      parts = urllib.parse.urlsplit(self.url)
      valid = parts.scheme in ("http", "https") and bool(parts.hostname)
      _ = parts.port
    except ValueError:
      valid = False
    if not valid:
      raise ValueError(
        "url must be of the form http://host:port/v1 or https://.."
      )
    if parts.username or parts.password or parts.query or parts.fragment:
      raise ValueError(
        f"url of {parts.hostname} must hold no user, password or query; name "
        "the environment variable with the key in key_variable"
      )
    for name, least in (("concurrency", 1), ("retries", 0), ("reply_bytes", 1)):
      value = getattr(self, name)
      if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    for name in ("connect_s", "read_s", "total_s", "longest_wait_s"):
      value = getattr(self, name)
      if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    if not 0 <= self.first_wait_s <= self.longest_wait_s:
      raise ValueError(
        f"first_wait_s must lie in 0..longest_wait_s, got {self.first_wait_s}"
      )

  def key(self) -> str:
    """The API key; "" if the server needs none.

    Raises:
      ValueError: if the variable is not set, or holds what no header can.
    """
    if not self.key_variable:
      return ""
    key = os.environ.get(self.key_variable, "").strip()
    if not key:
      raise ValueError(
        f"the environment variable {self.key_variable} holds no API key"
      )
    if not (key.isascii() and key.isprintable()):
      raise ValueError(
        f"the environment variable {self.key_variable} holds characters that "
        "no API key has"
      )
    return key
