"""What the scripts for a GPU share: names on the command line, the device at hand.

In: text of the command line, what torch says of a device. Out: names, the cost model's `Device`. Refuses nothing.
"""

from __future__ import annotations

import torch

from flowc.schedule.devices import DEVICES, Device

INTERPRETED = "interpreted, times mean nothing"


def names_in(text: str | None) -> list[str]:
    """Names with commas between them."""
    return [n for n in (text or "").split(",") if n]


def device_name(otherwise: str = INTERPRETED) -> str:
    """What the GPU here calls itself."""
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else otherwise


def known_device(name: str | None = None) -> Device | None:
    """What the cost model knows of the GPU of a name, or of the one here; None where it knows nothing of it."""
    found = (device_name("") if name is None else name).lower()
    return next((d for n, d in DEVICES.items() if n in found), None)
