# SPDX-License-Identifier: Apache-2.0
"""What models in this process cost, and which fields of a cost that tells."""

from jaxttc.cost import costs
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import bundle as bundle_lib

_PRICED = frozenset({"joules", "dollars"})  # fields that hardware prices


def local_tariff(
  bundle: bundle_lib.Bundle, hardware: str | None, role: str
) -> tuple[tariff_lib.Tariff, frozenset[str]]:
  """A local model's price list, and the fields of `Cost` that it knows.

  Args:
    bundle: the model.
    hardware: a name of the hardware table; None leaves joules and dollars
      out.
    role: as `Tariff.local` takes it.

  Raises:
    ValueError: if the hardware or the role is unknown.
  """
  device = None if hardware is None else hardware_lib.lookup(hardware)
  tariff = tariff_lib.Tariff.local(
    bundle.shape(),
    device,
    role,
    dtype_bytes=bundle.stored_dtype.itemsize,
    value_bytes=bundle.dtype.itemsize,
  )
  known = frozenset(costs.FIELDS)
  return tariff, known if device is not None else known - _PRICED
