"""What a JPEG says of itself before its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

BASELINE, PROGRESSIVE = 0xC0, frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _ADOBE = 0xDA, 0xEE
_ALONE = frozenset({0x01, *range(0xD0, 0xDA)})  # markers without a length
_MOST_SEGMENTS = 10_000


@dataclass(frozen=True)
class Header:
    """`frame` is the number of its marker, `sampling` the horizontal and vertical factor of each component, `scanned`
    the number of components in the first scan, `transform` Adobe's number of the colour transform, if it has one."""

    frame: int
    bits: int
    width: int
    height: int
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
    return Header(marker, frame[0], width, height, sampling, scanned, transform)
