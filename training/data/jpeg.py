"""What a JPEG says of itself before its pixels, and plain ones decoded on a device by torchvision."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import torch
from PIL import ExifTags, Image

BASELINE, PROGRESSIVE = 0xC0, frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _ADOBE = 0xDA, 0xEE
_ALONE = frozenset({0x01, *range(0xD0, 0xDA)})  # markers without a length
_MOST_SEGMENTS = 10_000
_END = b"\xff\xd9"
MAX_DEVICE_PIXELS = 50_000_000
"""Of one image on a device, which decodes all of them and resizes them as floats: 15 bytes a pixel."""
BATCH_PIXELS = 50_000_000
"""Of the images that a device decodes in one call."""
_USUAL_SAMPLING = frozenset({((1, 1),) * 3, ((2, 1), (1, 1), (1, 1)), ((2, 2), (1, 1), (1, 1))})
_TURNS: dict[object, tuple[bool, tuple[int, ...]]] = {
    2: (False, (2,)),
    3: (False, (1, 2)),
    4: (False, (1,)),
    5: (True, ()),
    6: (True, (2,)),
    7: (True, (1, 2)),
    8: (True, (1,)),
}
"""What makes an image (3, S, S) upright, by EXIF orientation: whether to transpose it, and what to mirror then."""


@dataclass(frozen=True)
class Header:
    """`frame` is the number of its marker, `ids` and `sampling` are the number and the two factors of each component,
    `scanned` is the number of components in the first scan, `transform` Adobe's number of the colour transform."""

    frame: int
    bits: int
    width: int
    height: int
    ids: tuple[int, ...]
    sampling: tuple[tuple[int, int], ...]
    scanned: int
    transform: int | None

    @property
    def coefficient_bytes(self) -> int:
        """Memory of all coefficients, which a decoder keeps if they come in several scans, however small it decodes."""
        if self.frame not in PROGRESSIVE and self.scanned == len(self.sampling):
            return 0
        across, down = (max(factors) for factors in zip(*self.sampling, strict=True))
        blocks = sum(horizontal * vertical for horizontal, vertical in self.sampling) / (across * down)
        return round(2 * self.width * self.height * blocks)

    @property
    def is_plain(self) -> bool:
        """Whether every decoder gives the same RGB: baseline, luminance and two colours as JFIF has them."""
        colours = self.ids == (1, 2, 3) and self.transform in {None, 1} and self.sampling in _USUAL_SAMPLING
        return colours and (self.frame, self.bits, self.scanned) == (BASELINE, 8, 3)


def header(file: BinaryIO) -> Header | None:
    """The header of the JPEG that the file begins with; None where there is none that can be read."""
    frame, transform = None, None
    if file.read(2) != b"\xff\xd8":
        return None
    for _ in range(_MOST_SEGMENTS):
        marker = _marker(file)
        if marker is None:
            return None
        if marker in _ALONE:
            continue
        length = int.from_bytes(file.read(2), "big") - 2
        content = file.read(length) if length > 0 else b""
        if len(content) < max(length, 1):
            return None
        if marker in _FRAMES and frame is None:
            frame = (marker, content)
        elif marker == _ADOBE and content.startswith(b"Adobe") and len(content) >= 12:
            transform = content[11]
        elif marker == _SCAN:
            return _header(*frame, content[0], transform) if frame else None
    return None


def _marker(file: BinaryIO) -> int | None:
    """The next marker, behind any bytes that fill."""
    if file.read(1) != b"\xff":
        return None
    while (byte := file.read(1)) == b"\xff":
        pass
    return byte[0] if byte else None


def _header(marker: int, frame: bytes, scanned: int, transform: int | None) -> Header | None:
    components = frame[5] if len(frame) > 5 else 0
    if not components or len(frame) < 6 + 3 * components:
        return None
    factors = [frame[7 + 3 * number] for number in range(components)]
    sampling = tuple((factor >> 4, factor & 15) for factor in factors)
    if not all(horizontal and vertical for horizontal, vertical in sampling):
        return None
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    ids = tuple(frame[6 + 3 * number] for number in range(components))
    return Header(marker, frame[0], width, height, ids, sampling, scanned, transform)


def decode_jpegs(contents: Sequence[bytes], side: int, device: torch.device) -> list[torch.Tensor | None]:
    """Each JPEG as bytes (S, S, 3) on the device, upright and resized as `transforms.load` does it.

    None where Pillow must read it: where it is no plain JPEG, looks cut off, is very large, or the device fails.
    """
    plain = {n: found for n, content in enumerate(contents) if (found := _plain(content))}
    images: list[torch.Tensor | None] = [None] * len(contents)
    for group in _groups({n: each.pixels for n, each in plain.items()}):
        with suppress(Exception):  # no decoder on this machine, a JPEG it does not know, too little memory
            for n, pixels in zip(group, _decoded([contents[n] for n in group], device), strict=True):
                images[n] = _resized(pixels, side, plain[n].orientation)
    return images


class _Plain(NamedTuple):
    pixels: int
    orientation: object


def _plain(content: bytes) -> _Plain | None:
    found = header(io.BytesIO(content))
    if found is None or not found.is_plain or not content.rstrip(b"\0").endswith(_END):
        return None
    pixels = found.width * found.height
    try:
        with Image.open(io.BytesIO(content)) as image:
            same = image.size == (found.width, found.height) and 0 < pixels <= MAX_DEVICE_PIXELS
            return _Plain(pixels, image.getexif().get(ExifTags.Base.Orientation)) if same else None
    except Exception:  # Pillow's plugins raise nearly anything on damaged files
        return None


def _groups(pixels: dict[int, int]) -> Iterator[list[int]]:
    """The numbers of the images in calls of at most BATCH_PIXELS."""
    group: list[int] = []
    for number, size in pixels.items():
        if group and sum(pixels[each] for each in group) + size > BATCH_PIXELS:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


def _decoded(contents: Sequence[bytes], device: torch.device) -> list[torch.Tensor]:
    """Images (3, H, W) as bytes on the device."""
    from torchvision.io import ImageReadMode, decode_jpeg  # takes long to import, and most machines need none of it

    data = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
    decoded: list[torch.Tensor] = decode_jpeg(data, ImageReadMode.RGB, device)
    return decoded


def _resized(image: torch.Tensor, side: int, orientation: object) -> torch.Tensor:
    """(3, H, W) to (S, S, 3), upright; the filter is Pillow's bilinear one."""
    floats = torch.nn.functional.interpolate(image[None].float(), (side, side), mode="bilinear", antialias=True)
    square = floats[0].round().clamp(0, 255).byte()  # (3, S, S)
    transposed, mirrored = _TURNS.get(orientation, (False, ()))
    if transposed:
        square = square.transpose(1, 2)
    return square.flip(mirrored).permute(1, 2, 0).contiguous()
