# SPDX-License-Identifier: Apache-2.0
"""Small, exact worlds to test decoders, engines and accounts against.

Public, so that a strategy written elsewhere can be tested with the same tiny
models, toy tokenizers, generated tasks and plain NumPy oracles as ours.
"""

__all__: list[str] = []
