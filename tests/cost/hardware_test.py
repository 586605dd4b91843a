# SPDX-License-Identifier: Apache-2.0
import dataclasses
import types

import pytest

from jaxttc.cost import hardware as hardware_lib

H100 = hardware_lib.lookup("h100-sxm")


@pytest.mark.parametrize("name", hardware_lib.names())
def test_entries_are_sourced_and_ordered(name):
  entry = hardware_lib.lookup(name)
  assert entry.name == name and entry.source
  assert (entry.dollars_per_hour is None) == (entry.as_of == "")
  halves = ("float32", "tfloat32", "bfloat16", "float8", "float4")
  peaks = [entry.peak(d) for d in halves if d in entry.peak_flops]
  assert peaks == sorted(peaks)  # fewer bits are never slower
  ridge = max(entry.peak_flops.values()) / entry.bandwidth_bytes_per_s
  assert 1 < ridge < 2000  # FLOP a byte: a slipped prefix would show


def test_device_kinds_name_one_entry_each():
  kinds = [
    kind
    for name in hardware_lib.names()
    for kind in hardware_lib.lookup(name).device_kinds
  ]
  assert len(kinds) == len(set(kinds))
  device = types.SimpleNamespace(device_kind="TPU v5 lite")
  assert hardware_lib.of_device(device).name == "tpu-v5e"
  with pytest.raises(ValueError, match="device kind 'cpu'"):
    hardware_lib.of_device(types.SimpleNamespace(device_kind="cpu"))


def test_lookup_suggests_the_nearest():
  with pytest.raises(ValueError, match="did you mean 'h100-sxm'"):
    hardware_lib.lookup("h100_sxm")
  with pytest.raises(ValueError, match="expected one of"):
    hardware_lib.lookup("abacus")


def test_roofline_takes_the_slower_of_compute_and_memory():
  peak, bandwidth = H100.peak("bfloat16"), H100.bandwidth_bytes_per_s
  seconds = hardware_lib.roofline_seconds
  assert seconds(H100, peak, 0, "bfloat16") == 1
  assert seconds(H100, 0, bandwidth * 3, "bfloat16") == 3
  assert seconds(H100, peak * 2, bandwidth, "bfloat16") == 2
  with pytest.raises(ValueError, match=">= 0"):
    seconds(H100, -1, 0, "bfloat16")
  with pytest.raises(ValueError, match="no peak for dtype 'float64'"):
    seconds(H100, 1, 1, "float64")


def test_utilisation_above_one_is_an_error():
  use = hardware_lib.utilisation
  assert use(H100, 494.75e12, 1, "bfloat16") == pytest.approx(0.5)
  with pytest.raises(ValueError, match="> 1"):
    use(H100, 1e15, 1, "bfloat16")
  with pytest.raises(ValueError, match="seconds > 0"):
    use(H100, 1, 0, "bfloat16")


def test_unknown_prices_and_powers_raise():
  assert H100.joules(2) == 1400
  assert H100.dollars(3600) == H100.dollars_per_hour
  with pytest.raises(ValueError, match="no known dollars_per_hour"):
    hardware_lib.lookup("h200-sxm").dollars(1)
  with pytest.raises(ValueError, match="no known watts"):
    hardware_lib.lookup("tpu-v5e").joules(1)


def test_users_register_their_own():
  own = dataclasses.replace(
    H100, name="own-box", watts=None, device_kinds=("Own",)
  )
  hardware_lib.register(own, replace=True)
  assert hardware_lib.lookup("own-box") is own
  assert hardware_lib.of_device(types.SimpleNamespace(device_kind="Own")) is own
  with pytest.raises(ValueError, match="registered already"):
    hardware_lib.register(own)
  for change, message in (
    ({"source": ""}, "needs a source"),
    ({"as_of": ""}, "needs price_source and as_of"),
    ({"watts": -1.0}, "watts must be positive"),
    ({"peak_flops": {"float32": float("nan")}}, "float32 must be positive"),
  ):
    with pytest.raises(ValueError, match=message):
      hardware_lib.register(dataclasses.replace(own, **change), replace=True)
