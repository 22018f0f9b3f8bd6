"""Small ICC profiles, written byte by byte: of RGB by primaries and a gamma, of grey, and of a made-up press."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import product

WHITE = (0.9642, 1.0, 0.8249)
PROPHOTO = ((0.79767, 0.28804, 0.0), (0.13519, 0.71188, 0.0), (0.03134, 0.00008, 0.82521))
ADOBE = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))

Tags = Sequence[tuple[bytes, bytes]]


def rgb_profile(primaries: Sequence[Sequence[float]] = PROPHOTO, gamma: float = 1.8) -> bytes:
    """A display's profile by its primaries (XYZ under D50) and the gamma of all channels."""
    columns = [(kind, _xyz(primary)) for kind, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)]
    curves = [(kind, _curve(gamma)) for kind in (b"rTRC", b"gTRC", b"bTRC")]
    return _profile(b"mntr", b"RGB ", b"XYZ ", [*columns, *curves])


def grey_profile(gamma: float) -> bytes:
    """Grey levels of a gamma."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", [(b"kTRC", _curve(gamma))])


def cmyk_profile(strength: float = 0.9) -> bytes:
    """A press whose cyan, magenta, yellow and black inks each take lightness and push Lab their way."""
    table = bytearray()
    for cyan, magenta, yellow, black in product((0, 1), repeat=4):
        light = 255 * max(0.0, 1 - strength * (0.4 * cyan + 0.4 * magenta + 0.1 * yellow + 0.9 * black))
        coloured = 1 - black
        across = 128 + coloured * strength * (70 * magenta - 50 * cyan)
        along = 128 + coloured * strength * (80 * yellow - 60 * cyan)
        table += bytes(min(255, max(0, round(value))) for value in (light, across, along))
    identity = b"".join(struct.pack(">i", 65536 * (row == column)) for row in range(3) for column in range(3))
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(table) + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", [(b"A2B0", lut), (b"A2B1", lut)])


def _xyz(value: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(part * 65536)) for part in value)


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _profile(device: bytes, space: bytes, connection: bytes, tags: Tags) -> bytes:
    description = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78)
    texts = [(b"desc", description), (b"cprt", b"text\0\0\0\0none\0\0\0\0"), (b"wtpt", _xyz(WHITE))]
    table, data, start = b"", b"", 132 + 12 * (len(texts) + len(tags))
    for kind, body in [*texts, *tags]:
        table += kind + struct.pack(">II", start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    illuminant = b"".join(struct.pack(">i", round(part * 65536)) for part in WHITE)
    head = struct.pack(">I", start + len(data)) + bytes(4) + bytes([2, 32, 0, 0]) + device + space + connection
    head += bytes(12) + b"acsp" + bytes(24) + struct.pack(">I", 1) + illuminant + bytes(48)
    return head + struct.pack(">I", len(texts) + len(tags)) + table + data
