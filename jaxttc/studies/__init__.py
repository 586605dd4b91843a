# SPDX-License-Identifier: Apache-2.0
"""Experiments: a study runs, or goes on; a report draws and makes claims."""

__all__: tuple[str, ...] = ()
