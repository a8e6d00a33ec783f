"""Chooses the device that networks run on."""

import torch


class DeviceError(ValueError):
    """The requested device is not available."""


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether a tensor did not fit into memory, on a GPU or in the machine.

    For the machine's memory torch has no error class, so the message is searched for the allocator's name.
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def pick_device(name: str = "auto") -> torch.device:
    """Returns the torch device of a setting.

    Args:
        name: auto (the first GPU, or the CPU where there is no GPU), cpu, cuda, or cuda:N.

    Raises:
        DeviceError: The GPU is not available or the name is invalid; the message is one line.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device {name!r}: expected auto, cpu, or cuda:N") from None
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise DeviceError(f"device {name!r}: expected auto, cpu, or cuda:N")
    if not torch.cuda.is_available():
        built = "PyTorch finds no GPU" if torch.version.cuda else "this PyTorch is built for the CPU alone"
        raise DeviceError(f"device {name!r} was asked for, but {built}; set BETAVAE_DEVICE to auto or cpu")
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r}: there are {torch.cuda.device_count()} GPUs, numbered from 0")
    return torch.device("cuda", index)
