"""A captioner on disk: a folder with model.safetensors, config.json and vocabulary.json. It contains no code."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.captioner import bundled, legacy
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig
from training.errors import CheckpointError, TrainingError
from training.runtime.files import atomic_folder
from training.vocabulary import Style, Vocabulary

if TYPE_CHECKING:
    from training.captioner.captioner import Captioner

FORMAT = 3
WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "config.json", "vocabulary.json"
SUMS = "SHA256SUMS"
"""In the form of `sha256sum`: where a folder has this file, the files it lists are checked when it is loaded."""
FILES = WEIGHTS, CONFIG, VOCABULARY
RETRIEVAL = "retrieval."
"""Prefix of the names of the retrieval memory, which is stored beside the weights."""


def save(folder: Path, captioner: Captioner, extra: dict[str, Any] | None = None, *, half: bool = False) -> Path:
    """Write the captioner to `folder`, replacing an earlier checkpoint; `extra` is any JSON, kept in config.json.

    With `half` the weights are rounded to float16, which halves the file; they are float32 again when loaded. The
    folder appears only when it is complete. Raises CheckpointError if it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    config = {
        "format": FORMAT,
        "encoder": captioner.encoder.config.without_path().to_json(),
        "decoder": captioner.decoder.config.to_json(),
        "transform": captioner.transform.to_json(),
        "decoding": captioner.decoding.to_json(),
        "style": {"capitalise": captioner.style.capitalise, "full_stop": captioner.style.full_stop},
        "extra": extra or {},
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in captioner.state_dict().items()}
    if half:
        weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    if captioner.retrieval:
        weights |= {f"{RETRIEVAL}{name}": value for name, value in captioner.retrieval.tensors().items()}
    try:
        with atomic_folder(folder) as unfinished:
            _write(unfinished / CONFIG, config)
            _write(unfinished / VOCABULARY, captioner.vocabulary.to_json())
            save_file(weights, unfinished / WEIGHTS, metadata={"format": "pt"})
            (unfinished / SUMS).write_text(_lines({name: _sum(unfinished / name) for name in FILES}), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"The checkpoint {folder} cannot be written: {error}.") from error
    return folder


def load(folder: Path, device: str = "auto") -> Captioner:
    """The captioner in `folder`, on `device`, in evaluation mode. Raises CheckpointError that says what is wrong."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from training.captioner.captioner import Captioner
    from training.decoding.retrieval import RetrievalMemory
    from training.runtime.device import choose

    info = _current(read_info(folder), folder)
    words = _read(folder / VOCABULARY)
    check_sums(folder)
    try:
        captioner = Captioner(
            EncoderConfig.from_json(info["encoder"]),
            DecoderConfig.from_json(info["decoder"]),
            TransformConfig.from_json(info["transform"]),
            DecodingConfig.from_json(info["decoding"]),
            Vocabulary.from_json(words),
            Style(**info["style"]),
        )
        weights = load_file(folder / WEIGHTS)
        if info["format"] == 2:
            weights = legacy.weights(weights)
        remembered = {name: weights.pop(name) for name in list(weights) if name.startswith(RETRIEVAL)}
        captioner.load_state_dict(weights, strict=True)
        if remembered:
            tensors = {name.removeprefix(RETRIEVAL): value for name, value in remembered.items()}
            sizes = captioner.encoder.channels, len(captioner.vocabulary)
            captioner.retrieval = RetrievalMemory.from_tensors(tensors, *sizes)
        numbers = (*captioner.state_dict().values(), *remembered.values())
        if not all(value.isfinite().all() for value in numbers):
            raise CheckpointError("Not all of its numbers are finite.")
    except (TrainingError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise CheckpointError(f"The checkpoint {folder} is damaged: {error}") from error
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
        raise CheckpointError(f"The weights {folder / WEIGHTS} cannot be loaded: {reason}") from error
    return captioner.to(choose(device)).eval()


def check_whole(folder: Path, known: str | None = None) -> None:
    """Raises CheckpointError where a file is missing, cut short or another than its checksum says, or where the folder
    has another `digest` than the known one. Loads no torch."""
    from safetensors import SafetensorError, safe_open

    _current(read_info(folder), folder)
    _read(folder / VOCABULARY)
    check_sums(folder)
    check_digest(folder, known)
    try:
        with safe_open(folder / WEIGHTS, framework="numpy"):  # reads where each tensor lies, and whether all is there
            pass
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"The weights {folder / WEIGHTS} cannot be loaded: {error}.") from error


def has_indexed(folder: Path, hashes: Collection[str]) -> bool:
    """Whether one of these images, by the hashes of their contents, is in the index for retrieval. Loads no torch."""
    from safetensors import SafetensorError

    try:
        return not all(_kept(folder, hashes))
    except (OSError, SafetensorError):
        return False


def forget_images(folder: Path, hashes: Collection[str]) -> bool:
    """Take these images out of the index for retrieval; whether one was in it. Loads no torch.

    The weights stay as they are; the folder gets another `digest`. Raises CheckpointError, also where it is damaged.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    try:
        kept = np.array(_kept(folder, hashes), dtype=bool)
        if kept.all():
            return False
        check_sums(folder)
        tensors = load_file(folder / WEIGHTS)
        for name in [each for each in tensors if each.startswith((RETRIEVAL, legacy.RETRIEVAL))]:
            if kept.any():
                tensors[name] = np.ascontiguousarray(tensors[name][kept])
            else:  # an empty index is none
                del tensors[name]
        sums = _listed(folder)
        with atomic_folder(folder) as unfinished:
            shutil.copytree(folder, unfinished, dirs_exist_ok=True, ignore=shutil.ignore_patterns(WEIGHTS))
            save_file(tensors, unfinished / WEIGHTS, metadata={"format": "pt"})
            if sums:
                lines = _lines(sums | {WEIGHTS: _sum(unfinished / WEIGHTS)})
                (unfinished / SUMS).write_text(lines, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"The index of the checkpoint {folder} cannot be changed: {error}.") from error
    return True


def _kept(folder: Path, hashes: Collection[str]) -> list[bool]:
    """Of each image in the index for retrieval, whether it is none of these."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="numpy") as weights:
        names = {f"{RETRIEVAL}hashes", f"{legacy.RETRIEVAL}hashes"} & set(weights.keys())
        return [bytes(each).hex() not in hashes for name in names for each in weights.get_tensor(name)]


def read_info(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json, unchanged. Checks its format; loads neither weights nor torch."""
    if folder == bundled.STARTER:
        bundled.starter()
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint folder {folder}.")
    info = _read(folder / CONFIG)
    found = info.get("format") if isinstance(info, dict) else None
    if not isinstance(info, dict) or found not in (2, FORMAT):
        raise CheckpointError(f"The checkpoint {folder} has format {found!r}; this version reads 2 and {FORMAT}.")
    missing = [name for name in ("encoder", "decoder", "transform", "decoding", "style") if name not in info]
    if missing:
        raise CheckpointError(f"The checkpoint {folder} is incomplete: {CONFIG} has no {', '.join(missing)}.")
    return info


def encoder_of(folder: Path) -> EncoderConfig:
    """The checkpoint's encoder config, for `TrainingConfig.retraining`. Raises CheckpointError or ConfigError."""
    return EncoderConfig.from_json(_current(read_info(folder), folder)["encoder"])


def _current(info: dict[str, Any], folder: Path) -> dict[str, Any]:
    if info["format"] == FORMAT:
        return info
    try:
        return legacy.config(info)
    except CheckpointError as error:
        raise CheckpointError(f"The checkpoint {folder} cannot be loaded: {error}") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"The checkpoint {path.parent} is incomplete: {path.name}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"The checkpoint {path.parent} is damaged: {path.name} is no JSON ({error}).") from error


def check_sums(folder: Path) -> bool:
    """Whether the folder has checksums. Raises CheckpointError where a file differs from the one that they are of."""
    found = _listed(folder)
    for name, known in found.items():
        path = folder / name
        if not path.is_file() or _sum(path) != known:
            raise CheckpointError(
                f"The checkpoint {folder} is damaged: {SUMS} lists another {name}; put it back or install it again."
            )
    return bool(found)


def digest(folder: Path) -> str | None:
    """One hash that tells this checkpoint from all others; None where a file is missing.

    It is made of the checksums that lie in the folder, where they are of all files: reading those is the matter of
    `check_sums`.
    """
    listed = _listed(folder)
    try:
        sums = {name: listed[name] if set(FILES) <= listed.keys() else _sum(folder / name) for name in FILES}
    except OSError:
        return None
    return hashlib.sha256(_lines(sums).encode()).hexdigest()


def check_digest(folder: Path, known: str | None) -> None:
    """Raises CheckpointError where the folder has another digest than the one that was known of it, if any was."""
    if known is not None and digest(folder) != known:
        raise CheckpointError(
            f"The checkpoint {folder} is not the one that was registered: its files have changed since; put it back "
            f"from a backup."
        )


def _listed(folder: Path) -> dict[str, str]:
    """The checksums in the folder by name; empty where it has none."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The checkpoint {folder} is damaged: {SUMS} cannot be read ({error}).") from error
    return {name: known for known, _, name in (line.partition("  ") for line in lines)}


def _lines(sums: Mapping[str, str]) -> str:
    return "".join(f"{known}  {name}\n" for name, known in sums.items())


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
