# SPDX-License-Identifier: Apache-2.0
"""Served models behind the `Engine` protocol, over HTTP."""

from jaxttc.inference.endpoint.connection import Connection
from jaxttc.inference.endpoint.engine import EndpointEngine
from jaxttc.inference.endpoint.spec import EndpointSpec

__all__ = ("Connection", "EndpointEngine", "EndpointSpec")
