# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a plurality vote, exactly.

One sample is right with probability p; a wrong one is any of the other
answers, all alike. A tie is broken at random. A count of k for the right
answer wins alone if all others have fewer, and by lot among t + 1 if t of them
have as many; numbers of ways are coefficients of powers of cut exponential
series, all positive, so that nothing cancels.
"""

import math

import numpy as np


def plurality(p: float, most: int, answers: int = 10) -> np.ndarray:
  """Chance that the vote is right, f64[most + 1], for 0..most samples.

  No sample is a guess: one over the number of answers.
  """
  others, wrong = answers - 1, (1 - p) / (answers - 1)
  series = wrong ** np.arange(most + 1) / _factorials(most)
  found = np.zeros(most + 1)
  for k in range(1, most + 1):
    fewer = np.where(np.arange(most + 1) < k, series, 0.0)
    powers = [np.eye(1, most + 1)[0]]
    for _ in range(others):
      powers.append(np.convolve(powers[-1], fewer)[: most + 1])
    for tied in range(others + 1):
      used = k * (tied + 1)
      if used > most:
        break
      ways = p**k / math.factorial(k) * series[k] ** tied
      ways *= math.comb(others, tied) / (tied + 1)
      found[used:] += ways * powers[others - tied][: most + 1 - used]
  found *= _factorials(most)
  found[0] = 1 / answers
  return found


def _factorials(most: int) -> np.ndarray:
  return np.array([float(math.factorial(n)) for n in range(most + 1)])
