"""A folder of unusual image files: every kind that must be embedded right, and every kind that must be rejected."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.rgb import decode_rgb
from tests.icc_profiles import rgb_profile
from tests.tiff_files import RGB, tiff

WIDTH, HEIGHT = 40, 30
RED, GREEN, BLUE, GREY = (200, 30, 40), (20, 160, 60), (40, 50, 190), (128, 128, 128)


class OddImage(NamedTuple):
    """One entry of the folder.

    ``expected`` is ``embedded`` or the reason of the reject. For embedded ones, ``mean`` is the mean colour under the
    default configuration and ``tolerance`` the grey levels that its coding may lose.
    """

    name: str
    kind: str
    expected: str
    mean: tuple[float, float, float] | None = None
    tolerance: float = 1.0


def quadrants() -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: red and green above blue and grey; no rotation of it looks the same."""
    pixels = np.empty((HEIGHT, WIDTH, 3), dtype=np.uint8)
    half, middle = HEIGHT // 2, WIDTH // 2
    pixels[:half, :middle], pixels[:half, middle:] = RED, GREEN
    pixels[half:, :middle], pixels[half:, middle:] = BLUE, GREY
    return pixels


MEAN = (97.0, 92.0, 104.5)


def smooth_noise(height: int = 60, width: int = 80) -> Image.Image:
    """A picture that lossy formats keep, and in which every pixel counts."""
    small = np.random.default_rng(3).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def photograph(width: int, height: int) -> Image.Image:
    """Smooth shapes with a little noise, as cameras give them."""
    rng = np.random.default_rng(width)
    coarse = rng.integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return Image.fromarray((picture + rng.integers(-6, 7, picture.shape)).clip(0, 255).astype(np.uint8))


def decoded(content: bytes, **settings: object) -> np.ndarray:
    """The pixels of a file's bytes under the given keys of ``images``."""
    return np.asarray(decode_rgb(content, ImagesConfig.model_validate(settings))[0])


def encode(picture: Image.Image, form: str, **options: Any) -> bytes:
    """The file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG written by hand: what Pillow does not write, or must not believe.

    ``rows`` hold the filter bytes; ``extra`` are chunks before the pixels.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), *extra, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def with_orientation(orientation: int) -> Image.Exif:
    """EXIF that says how a viewer orients the stored pixels."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def write_odd_images(folder: Path) -> list[OddImage]:
    """Write the files into an existing folder.

    One entry is named but not written (expected ``missing``). Runs as any user; needs a file system with FIFOs and
    symbolic links.
    """
    entries: list[OddImage] = []
    for group in (_plain, _moving, _transparent, _deep, _oriented, _named, _damaged):
        for entry, content in group():
            (folder / entry.name).write_bytes(content)
            entries.append(entry)
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "fifo.png")
    (folder / "dangling.png").symlink_to(folder / "nothing-here.png")
    (folder / "linked.png").symlink_to("rgb.png")
    return [
        *entries,
        OddImage("folder.png", "folder with an image's suffix", "unreadable"),
        OddImage("fifo.png", "FIFO nobody writes to", "unreadable"),
        OddImage("dangling.png", "dangling symbolic link", "missing"),
        OddImage("absent.png", "no such file", "missing"),
        OddImage("linked.png", "symbolic link to an image", "embedded", MEAN, 0),
    ]


Written = list[tuple[OddImage, bytes]]


def _plain() -> Written:
    rgb = Image.fromarray(quadrants())
    grey, cmyk = rgb.convert("L"), rgb.convert("CMYK")
    level = float(np.asarray(grey).mean())
    bits = Image.fromarray(np.indices((HEIGHT, WIDTH)).sum(0) % 2 == 0)
    wide = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(rgb_profile())), renderingIntent=1
    )
    long_text = png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(2 << 20)))
    plain = encode(rgb, "PNG")
    lossy: list[tuple[str, str, bytes]] = [
        ("rgb.jpg", "JPEG", encode(rgb, "JPEG", quality=95, subsampling=0)),
        ("progressive.jpg", "progressive JPEG", encode(rgb, "JPEG", quality=95, progressive=True)),
        ("cmyk.jpg", "CMYK JPEG, inverted as Adobe writes it", encode(cmyk, "JPEG", quality=95)),
        ("lossy.webp", "lossy WebP", encode(rgb, "WEBP", quality=95)),
        ("lossy.avif", "AVIF", encode(rgb, "AVIF", quality=95)),
        ("rgb.jp2", "JPEG 2000", encode(rgb, "JPEG2000")),
        ("two.mpo", "MPO of two pictures", encode(rgb, "MPO", save_all=True, append_images=[grey.convert("RGB")])),
        ("lab.tif", "LAB TIFF", encode(rgb.convert("LAB"), "TIFF")),
        ("profile.png", "PNG in colours of ProPhoto RGB", encode(wide, "PNG", icc_profile=rgb_profile())),
    ]
    exact: list[tuple[str, str, bytes]] = [
        ("rgb.png", "RGB PNG", plain),
        ("text-of-2-mb.png", "PNG with a long text", plain[:33] + long_text + plain[33:]),
        ("planes.tif", "TIFF of 16 bits in planes", tiff(quadrants().astype(np.uint16) * 257, RGB, planar=True)),
        ("palette.png", "palette PNG", encode(rgb.quantize(16), "PNG")),
        ("rgb.bmp", "BMP", encode(rgb, "BMP")),
        ("lzw.tiff", "TIFF with LZW", encode(rgb, "TIFF", compression="tiff_lzw")),
        ("cmyk.tif", "CMYK TIFF", encode(cmyk, "TIFF")),
        ("rgb.pcx", "PCX", encode(rgb, "PCX")),
        ("rgb.ppm", "PPM", encode(rgb, "PPM")),
        ("rgb.tga", "TGA", encode(rgb, "TGA", compression="tga_rle")),
        ("rgb.qoi", "QOI", encode(rgb, "QOI")),
        ("rgb.ico", "icon", encode(rgb, "ICO", sizes=[(WIDTH, HEIGHT)])),
    ]
    greys: list[tuple[str, str, bytes, float]] = [
        ("grey.jpg", "grey JPEG", encode(grey, "JPEG", quality=95), level),
        ("grey.png", "grey PNG", encode(grey, "PNG"), level),
        ("bits.png", "1-bit PNG", encode(bits, "PNG"), 127.5),
        ("fax.tif", "1-bit TIFF, group 4", encode(bits, "TIFF", compression="group4"), 127.5),
        ("one.png", "1 x 1 PNG", encode(Image.new("RGB", (1, 1), GREY), "PNG"), 128),
        ("wide.png", "4000 x 1 PNG", encode(Image.new("RGB", (4000, 1), GREY), "PNG"), 128),
        ("tall.png", "1 x 4000 PNG", encode(Image.new("RGB", (1, 4000), GREY), "PNG"), 128),
    ]
    return [
        *((OddImage(name, kind, "embedded", MEAN, 4.0), content) for name, kind, content in lossy),
        *((OddImage(name, kind, "embedded", MEAN), content) for name, kind, content in exact),
        *((OddImage(name, kind, "embedded", (mean,) * 3), content) for name, kind, content, mean in greys),
    ]


def _moving() -> Written:
    first = Image.fromarray(quadrants())
    frames = {"save_all": True, "append_images": [Image.new("RGB", first.size, "black")] * 2}
    return [
        (OddImage("moving.gif", "animated GIF", "embedded", MEAN), encode(first.quantize(16), "GIF", **frames)),
        (
            OddImage("moving.webp", "animated WebP", "embedded", MEAN),
            encode(first, "WEBP", lossless=True, **frames),
        ),
        (OddImage("moving.png", "animated PNG", "embedded", MEAN), encode(first, "PNG", **frames)),
        (OddImage("pages.tif", "TIFF of three pages", "embedded", MEAN), encode(first, "TIFF", **frames)),
    ]


def _transparent() -> Written:
    """Right half transparent over hidden black, unless said otherwise; so the mean is half the left, half white."""
    pixels = quadrants()
    alpha = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    alpha[:, WIDTH // 2 :] = 0
    pixels[:, WIDTH // 2 :] = 0
    rgba = Image.fromarray(np.dstack([pixels, alpha]))
    left = (np.array(RED) + np.array(BLUE)) / 2
    mean = tuple(((left + 255) / 2).tolist())
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    grey_mean = float(np.where(alpha == 255, grey, 255).mean())
    palette = Image.fromarray(pixels).quantize(8)
    hidden = int(np.asarray(palette)[0, -1])
    veil = Image.new("RGBA", (WIDTH, HEIGHT), (*BLUE, 51))
    key = png_chunk(b"tRNS", struct.pack(">3H", *BLUE))
    keyed = b"".join(b"\0" + bytes((*BLUE, *GREEN)) for _ in range(4))
    files = [
        ("alpha.png", "RGBA PNG", encode(rgba, "PNG"), mean),
        ("alpha.webp", "WebP with alpha", encode(rgba, "WEBP", lossless=True), mean),
        ("alpha.tif", "TIFF with alpha", encode(rgba, "TIFF"), mean),
        ("alpha.ico", "icon with alpha", encode(rgba, "ICO", sizes=[(WIDTH, HEIGHT)]), mean),
        ("alpha-palette.png", "palette and one transparent entry", encode(palette, "PNG", transparency=hidden), mean),
        ("alpha.gif", "GIF with a transparent entry", encode(palette, "GIF", transparency=hidden), mean),
        (
            "alpha-grey.png",
            "grey and alpha PNG",
            encode(Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), "PNG"),
            (grey_mean,) * 3,
        ),
        ("veil.png", "one fifth opaque", encode(veil, "PNG"), tuple(204 + 0.2 * value for value in BLUE)),
        (
            "veil-palette.png",
            "palette of which each entry has its alpha",
            raw_png(1, 1, 8, 3, b"\0\1", png_chunk(b"PLTE", bytes(3) + bytes(BLUE)), png_chunk(b"tRNS", b"\xff\x33")),
            tuple(204 + 0.2 * value for value in BLUE),
        ),
        (
            "key.png",
            "RGB PNG with a transparent colour",
            raw_png(2, 4, 8, 2, keyed, key),
            tuple((255 + value) / 2 for value in GREEN),
        ),
        (
            "key-grey.png",
            "4-bit grey PNG with a transparent level",
            raw_png(2, 1, 4, 0, b"\0\x6f", png_chunk(b"tRNS", struct.pack(">H", 6))),
            (255.0,) * 3,
        ),
    ]
    return [(OddImage(name, kind, "embedded", mean), content) for name, kind, content, mean in files]


def _deep() -> Written:
    ramp = np.linspace(0, 65535, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    words = ramp.astype(np.uint16)
    unit = (ramp / 65535).astype(np.float32)
    swapped = Image.frombytes("I;16B", (WIDTH, HEIGHT), words.astype(">u2").tobytes())
    rows16 = b"".join(b"\0" + np.repeat(row.astype(">u2"), 3).tobytes() for row in words)
    files = [
        ("deep.png", "16-bit grey PNG", encode(Image.fromarray(words), "PNG")),
        ("deep-big-endian.tif", "16-bit grey TIFF, big-endian", encode(swapped, "TIFF")),
        (
            "deep-deflate.tif",
            "16-bit grey TIFF, deflate",
            encode(Image.fromarray(words), "TIFF", compression="tiff_deflate"),
        ),
        ("deep.pgm", "16-bit PGM", b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + words.astype(">u2").tobytes()),
        ("integer.tif", "32-bit integer TIFF", encode(Image.fromarray(words.astype(np.int32)), "TIFF")),
        ("float.tif", "float TIFF, 0 to 1", encode(Image.fromarray(unit), "TIFF")),
        ("float-255.tif", "float TIFF, 0 to 255", encode(Image.fromarray(unit * 255), "TIFF")),
        ("deep-rgb.png", "16-bit RGB PNG", raw_png(WIDTH, HEIGHT, 16, 2, rows16)),
    ]
    return [(OddImage(name, kind, "embedded", (127.5,) * 3), content) for name, kind, content in files]


def _oriented() -> Written:
    picture = Image.fromarray(quadrants())
    return [
        (
            OddImage("bad-exif.jpg", "EXIF that cannot be read", "embedded", MEAN, 4.0),
            encode(picture, "JPEG", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        ),
        *(
            (
                OddImage(f"orientation-{n}.jpg", f"EXIF orientation {n}", "embedded", MEAN, 4.0),
                encode(picture, "JPEG", quality=95, exif=with_orientation(n)),
            )
            for n in (3, 6, 8)
        ),
    ]


def _named() -> Written:
    picture = Image.fromarray(quadrants())
    png, jpg = encode(picture, "PNG"), encode(picture, "JPEG", quality=95, subsampling=0)
    names = [
        ("really-a-jpeg.png", "JPEG named .png", jpg),
        ("UPPER.JPG", "suffix in capitals", jpg),
        ("with  spaces, and a comma.png", "spaces and a comma", png),
        ("quotes ' \".png", "quotes", png),
        ("Blüte 花 🌸.png", "letters beyond ASCII", png),
        ("new\nline.png", "line break in the name", png),
        ("<script>alert(1)<|script>.png", "markup in the name", png),
        ("percent%20&#hash?.png", "what a URL would escape", png),
        ("a.b.c.png", "several dots", png),
    ]
    return [(OddImage(name, kind, "embedded", MEAN, 4.0), content) for name, kind, content in names]


def _damaged() -> Written:
    noise = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    floats = tiff(noise.astype(np.float32) / 255, RGB)
    picture = Image.fromarray(noise)
    png, jpg, webp = encode(picture, "PNG"), encode(picture, "JPEG"), encode(picture, "WEBP")
    middle = len(png) // 2
    header = raw_png(1, 1, 8, 2, bytes(4))
    files = [
        ("cut.jpg", "JPEG cut in half", "truncated", jpg[: len(jpg) // 2]),
        ("cut.png", "PNG cut in half", "truncated", png[:middle]),
        ("cut.webp", "WebP cut in half", "truncated", webp[: len(webp) // 2]),
        ("cut.gif", "GIF cut in half", "truncated", encode(picture.quantize(64), "GIF")[:900]),
        ("cut.tif", "TIFF cut in half", "truncated", encode(picture, "TIFF")[: HEIGHT * WIDTH]),
        ("empty.png", "empty file", "empty", b""),
        ("text.png", "text named .png", "not_an_image", b"this is a note, not a picture\n" * 40),
        ("page.png", "web page named .png", "not_an_image", b"<!DOCTYPE html><html><body>404</body></html>"),
        ("archive.png", "zip archive named .png", "not_an_image", b"PK\x03\x04\x14\0\0\0\x08\0" + noise.tobytes()),
        ("zeros.png", "zero bytes", "not_an_image", bytes(4096)),
        ("huge.png", "small file that declares 60000 x 60000", "too_large", _declare(header, 60_000, 60_000)),
        ("float-rgb.tif", "RGB TIFF of float numbers", "unsupported", floats),
        ("checksum.png", "PNG whose header fails its checksum", "corrupt", header[:29] + b"\0\0\0\0" + header[33:]),
        ("sum.png", "PNG whose pixels fail their checksum only", "corrupt", _flip(png, len(png) - 13)),
        ("flipped.png", "PNG with a flipped bit in the pixels", "corrupt", _flip(png, middle)),
        ("garbled.png", "PNG whose pixels are no zlib stream", "corrupt", _garble(noise.tobytes())),
        ("magic.png", "random bytes behind a PNG signature", "corrupt", png[:8] + noise.tobytes()),
        ("magic.jpg", "random bytes behind a JPEG header", "corrupt", jpg[:20] + noise.tobytes()),
    ]
    return [(OddImage(name, kind, reason), content) for name, kind, reason, content in files]


def _declare(png: bytes, width: int, height: int) -> bytes:
    ihdr = png_chunk(b"IHDR", struct.pack(">II", width, height) + png[24:29])
    return png[:8] + ihdr + png[33:]


def _flip(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def _garble(body: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
