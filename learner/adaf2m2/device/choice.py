"""Which device the deep part computes on."""

from zlib import crc32

import torch
from torch import Tensor

from learner.config import Device


class DeviceError(RuntimeError):
    """There is no such device here."""


class DeviceMemoryError(DeviceError):
    """The device has no room for what is to lie there."""


def chosen_device(device: Device, local_rank: int = 0, said: str = "learner.device") -> torch.device:
    """The device of a setting; "auto" is a GPU where there is one.

    Args:
        device: `learner.device`.
        local_rank: of this process among those of its group on this machine. Each takes another GPU, in turn.
        said: where it was said, for the error.

    Raises:
        DeviceError: a GPU is asked for, and PyTorch finds none.

    >>> chosen_device("cpu")
    device(type='cpu')
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        built = "" if torch.version.cuda else f" (version {torch.__version__} is built without CUDA)"
        raise DeviceError(
            f"{said} {device}: PyTorch finds no GPU here{built}; choose cpu or auto, or install a build with CUDA, and "
            "a driver for the GPU"
        )
    if device == "cpu" or not has_gpu:
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """Random numbers for the device: drawn on a GPU itself, so that a recorded step draws new ones; else on the CPU."""
    return torch.Generator(device if device.type == "cuda" else "cpu").manual_seed(seed)


def set_state(generator: torch.Generator, state: Tensor) -> None:
    """Have a generator go on where another one was; if that was on another kind of device, anew, but always the same.

    Args:
        generator: changed.
        state: as `Generator.get_state` gives it, on the CPU.
    """
    if len(state) == len(generator.get_state()):
        generator.set_state(state)
    else:
        # Generators of CPUs and GPUs know nothing of each other's states.
        generator.manual_seed(crc32(state.numpy().tobytes()))
