# SPDX-License-Identifier: Apache-2.0
"""Multi-task data: one input, several questions about it."""

from jaxttc.tasks.multitask.base import Examples, Label, Task

__all__ = ["Examples", "Label", "Task"]
