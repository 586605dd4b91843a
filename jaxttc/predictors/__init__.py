# SPDX-License-Identifier: Apache-2.0
"""What more compute would buy, told before it is spent."""
