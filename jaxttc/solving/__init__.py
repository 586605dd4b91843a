# SPDX-License-Identifier: Apache-2.0
"""From problems and a budget to answers: one call, and one command."""

from jaxttc.solving.policy_solving import solve, solve_to_file

__all__ = ("solve", "solve_to_file")
