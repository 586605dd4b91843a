# SPDX-License-Identifier: Apache-2.0
"""Where work goes in a cell of machines, and whether moving it is worth it."""
