"""PNG: color types, depths, interlacing, transparency, and faults in chunks."""
import io
import struct
import zlib

import numpy as np
import png
from PIL import Image

from make import photo, saved

KINDS = {"gray": (1, (1, 2, 4, 8, 16)), "rgb": (3, (8, 16)), "palette": (1, (1, 2, 4, 8)), "gray-alpha": (2, (8, 16)), "rgba": (4, (8, 16))}
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind, data, wrong=0):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)


def chunks(file):
    """Type and data of each chunk."""
    found, at = [], 8
    while at < len(file):
        length, kind = struct.unpack(">I4s", file[at : at + 8])
        found.append((kind, file[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def joined(parts):
    return SIGNATURE + b"".join(chunk(*part) for part in parts)


def written(kind, samples, depth, interlaced, transparent):
    """A PNG, and its pixels with transparency as alpha."""
    height, width = samples.shape[:2]
    top = (1 << depth) - 1
    options = {"bitdepth": depth, "interlace": interlaced, "greyscale": kind.startswith("gray"), "alpha": "alpha" in kind or kind == "rgba"}
    right = samples
    if kind == "palette":
        palette = [((i * 37) % 256, (i * 101 + 9) % 256, 255 - i % 256) for i in range(top + 1)]
        if transparent:
            palette = [color + ((i * 83) % 256,) for i, color in enumerate(palette)]
        options = {"bitdepth": depth, "interlace": interlaced, "palette": palette}
        right = np.array(palette, np.uint8)[samples]
    elif transparent:
        # The color of the first pixel.
        key = samples[0, 0]
        options["transparent"] = tuple(int(v) for v in key) if kind == "rgb" else int(key)
        flat = samples.reshape(height, width, -1)
        right = np.concatenate([flat, np.where((flat == key).all(-1), 0, top)[..., None].astype(flat.dtype)], -1)
    if kind != "palette" and depth < 8:
        right = (right.astype(np.uint16) * 255 // top).astype(np.uint8)
    file = io.BytesIO()
    png.Writer(width, height, **options).write(file, samples.reshape(height, -1).tolist())
    return file.getvalue(), right


def make(folder):
    for width, height in folder.sizes:
        for kind, (channels, depths) in KINDS.items():
            for depth in depths:
                samples = photo(width, height, channels, depth)
                for interlaced in (False, True):
                    for transparent in (False, True) if kind in ("gray", "rgb", "palette") else (False,):
                        data, right = written(kind, samples, depth, interlaced, transparent)
                        details = f"{width}x{height}-{depth}" + "-interlaced" * interlaced + "-transparent" * transparent
                        folder.put(f"png-{kind}--{details}.png", data, right)
        pixels = photo(width, height, 3)
        folder.put(f"png-filtered--{width}x{height}.png", saved(Image.fromarray(pixels), "PNG", optimize=True), pixels)
    faults(folder)


def faults(folder):
    for kind in ("gray", "rgb", "palette", "rgba"):
        samples = photo(17, 11, KINDS[kind][0], 8)
        data, right = written(kind, samples, 8, False, False)
        parts = chunks(data)
        ancillary(folder, kind, parts, right)
        damaged(folder, kind, data, parts)


def ancillary(folder, kind, parts, right):
    """Faults that no pixel depends on."""
    at = next(i for i, (name, _) in enumerate(parts) if name == b"IDAT")
    text, time = (b"tEXt", b"Comment\0forest"), (b"tIME", bytes([7, 234, 1, 2, 3, 4, 5]))
    for name, extra in (("text", text), ("time", time), ("gamma", (b"gAMA", b"\0\0\xb1\x8f")), ("private", (b"prVt", b"any"))):
        for wrong in (0, 1, 0xFFFFFFFF):
            folder.put(f"png-ancillary--{kind}-{name}-{wrong:x}.png", joined(parts[:at] + [extra + (wrong,)] + parts[at:]), right)
            folder.put(f"png-ancillary--{kind}-{name}-{wrong:x}-behind.png", joined(parts[:-1] + [extra + (wrong,)] + parts[-1:]), right)
    for name, (profile, wrong) in {"damaged": (b"x\0\0abc", 0), "checksum": (b"x\0\0abc", 1)}.items():
        folder.put(f"png-profile--{kind}-{name}.png", joined(parts[:at] + [(b"iCCP", profile, wrong)] + parts[at:]), right)
    rows = zlib.decompress(b"".join(data for name, data in parts if name == b"IDAT"))
    for count in (1, 5):
        longer = zlib.compress(rows + b"\x07" * count)
        folder.put(f"png-longer--{kind}-{count}.png", joined(parts[:at] + [(b"IDAT", longer)] + parts[-1:]), right)
    idat = parts[at][1]
    split = [(b"IDAT", idat[i : i + 7]) for i in range(0, len(idat), 7)] + [(b"IDAT", b"")]
    folder.put(f"png-split--{kind}.png", joined(parts[:at] + split + parts[-1:]), right)
    folder.put(f"png-trailing--{kind}.png", joined(parts) + b"behind the end", right)
    if kind == "rgba":
        folder.put(f"png-trns--{kind}.png", joined(parts[:at] + [(b"tRNS", b"\0\1\0\2\0\3")] + parts[at:]), right)


def damaged(folder, kind, data, parts):
    """Faults that pixels may depend on."""
    at = next(i for i, (name, _) in enumerate(parts) if name == b"IDAT")
    for i, (name, content) in enumerate(parts):
        if name in (b"IHDR", b"PLTE", b"IDAT"):
            wrong = joined(parts[:i]) + chunk(name, content, 1) + joined(parts[i + 1 :])[8:]
            folder.put(f"png-checksum--{kind}-{name.decode()}.png", wrong)
    trns = b"\0\1" if kind == "gray" else b"\0\1\0\2\0\3" if kind == "rgb" else b"\x80"
    if kind != "rgba":
        # Alpha depends on it: with a wrong checksum it is not certain.
        folder.put(f"png-checksum--{kind}-tRNS.png", joined(parts[:at] + [(b"tRNS", trns, 1)] + parts[at:]))
    folder.put(f"png-critical--{kind}.png", joined(parts[:at] + [(b"ABCD", b"any")] + parts[at:]))
    for part in (30, 60, 95):
        folder.put(f"png-cut--{kind}-{part}.png", data[: len(data) * part // 100])
    folder.put(f"png-cut--{kind}-end.png", data[:-12])
