"""Checks of this machine: room on the disk, the device that computes, certificates of authorities."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable

from backend.domain.errors import SettingsError
from backend.images.space import GB
from backend.reports.doctor.checks import SECONDS, Finding
from backend.settings import Settings
from backend.system import device, trust

LEAST_BYTES, FEW_BYTES = 0.5 * GB, 2 * GB
"""A retrain writes its features, a checkpoint of about 60 MB and copies of the images that it has not yet."""


def disk(settings: Settings) -> Iterable[Finding]:
    folder = next(each for each in (settings.data_dir, *settings.data_dir.parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if free < FEW_BYTES:
        yield Finding(
            f"Only {free / GB:.1f} GB are free on the disk of {folder}.",
            "Make room there, lower CAPTIONER_IMAGES_GB and CAPTIONER_FEATURES_GB, or move the folder to a larger disk "
            "and name it with CAPTIONER_DATA_DIR (--data-dir).",
            warning=free >= LEAST_BYTES,
        )
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"room")
    except OSError as error:
        yield Finding(
            f"Nothing can be written in {folder} ({error.strerror}).",
            "Let the captioner's user write there (`chown`), make room, or name another folder with CAPTIONER_DATA_DIR "
            "(--data-dir).",
        )


def computing(settings: Settings) -> Iterable[Finding]:
    """Whether PyTorch can use the device of the settings, or with `auto` the GPU that is built in."""
    found = settings.device == "auto" and device.has_gpu()
    try:
        device.check("cuda" if found else settings.device, timeout_seconds=SECONDS - 0.5)
    except TimeoutError:
        yield Finding(
            "PyTorch did not start in time, so whether it can use the GPU is not known.",
            "Run `captioner doctor` again when the machine is less busy, or `captioner serve`, which waits for it.",
            warning=True,
        )
    except SettingsError as error:
        mend = (
            "Check that `nvidia-smi` shows the GPU: without it install NVIDIA's driver, or give the container its GPU "
            "(the profile `gpu` of docker-compose.yml)"
        )
        if found:
            text = "This machine has an NVIDIA GPU that PyTorch cannot use, so the CPU computes."
            yield Finding(text, f"{mend}; CAPTIONER_DEVICE=cpu says that the CPU is meant.", warning=True)
        else:
            yield Finding(str(error).partition("; ")[0] + ".", f"{mend}; else set CAPTIONER_DEVICE=auto (--device).")


def certificates() -> Iterable[Finding]:
    for clause in trust.unread():
        yield Finding(
            f"{clause}.",
            "Name a PEM file with the certificate of the authority there, or unset the variable.",
            warning=True,
        )
