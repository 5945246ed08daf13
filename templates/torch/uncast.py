def _uncast(device: torch.device) -> Any:
    """Autocast off where it is on: inputs come in the types they have, and what products are taken in is the op's rule."""
    cast = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if cast else nullcontext()
