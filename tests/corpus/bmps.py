"""BMP: bits per pixel, masks, run lengths, headers and row orders, written by hand."""
import struct

import numpy as np

from make import photo


def bmp(width, height, bits, rows, compression=0, palette=b"", masks=b"", header=40, top_down=False, colors=0):
    """`rows`: the data as it is in the file."""
    tall = -height if top_down else height
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, tall, 1, bits, compression, len(rows), 2835, 2835, colors, 0)
        if header > 40:
            info += masks.ljust(16, b"\0") + (b"sRGB"[::-1] + bytes(36 + 12)) + bytes(header - 40 - 16 - 52)
            masks = b""
    offset = 14 + len(info) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + info + masks + palette + rows


def padded(rows, top_down=False):
    rows = [row + bytes(-len(row) % 4) for row in rows]
    return b"".join(rows if top_down else rows[::-1])


def packed(indices, bits):
    rows = []
    for row in indices:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8)))
    return rows


def make(folder):
    for width, height in folder.sizes:
        size = f"{width}x{height}"
        for top_down in (False, True):
            order = "-top-down" * top_down
            for bits in (1, 2, 4, 8):
                if bits != 2:
                    indexed(folder, width, height, bits, top_down, size + order)
            direct(folder, width, height, top_down, size + order)
        run_lengths(folder, width, height, size)
    damage(folder)


def colors(count):
    return np.array([((i * 37) % 256, (i * 101 + 9) % 256, 255 - i % 256) for i in range(count)], np.uint8)


def table(palette, wide=True):
    """Blue, green, red, and a byte that is unused."""
    return b"".join(bytes(color[::-1]) + b"\0" * wide for color in palette)


def indexed(folder, width, height, bits, top_down, details):
    indices = photo(width, height, 1, bits)
    palette = colors(1 << bits)
    rows = padded(packed(indices, bits), top_down)
    folder.put(f"bmp-palette--{details}-{bits}.bmp", bmp(width, height, bits, rows, palette=table(palette), top_down=top_down), palette[indices])
    if not top_down:
        old = bmp(width, height, bits, rows, palette=table(palette, False), header=12)
        folder.put(f"bmp-os2--{details}-{bits}.bmp", old, palette[indices])
    few = (1 << bits) - 1 if bits > 1 else 2
    data = bmp(width, height, bits, padded(packed(np.minimum(indices, few - 1), bits), top_down), palette=table(palette[:few]), colors=few, top_down=top_down)
    folder.put(f"bmp-few-colors--{details}-{bits}.bmp", data, palette[np.minimum(indices, few - 1)])


def direct(folder, width, height, top_down, details):
    pixels = photo(width, height, 4)
    blue_first = [row[:, 2::-1].tobytes() for row in pixels]
    folder.put(f"bmp-24--{details}.bmp", bmp(width, height, 24, padded(blue_first, top_down), top_down=top_down), pixels[..., :3])
    for unused in (0, 255, 7):
        rows = [np.concatenate([row[:, 2::-1], np.full((width, 1), unused, np.uint8)], 1).tobytes() for row in pixels]
        folder.put(f"bmp-32--{details}-unused{unused}.bmp", bmp(width, height, 32, padded(rows, top_down), top_down=top_down), pixels[..., :3])
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    rows = [row[:, [2, 1, 0, 3]].tobytes() for row in pixels]
    folder.put(f"bmp-alpha--{details}.bmp", bmp(width, height, 32, padded(rows, top_down), 3, masks=masks, header=108, top_down=top_down), pixels)
    folder.put(f"bmp-alpha--{details}-v5.bmp", bmp(width, height, 32, padded(rows, top_down), 3, masks=masks, header=124, top_down=top_down), pixels)
    other = struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)
    rows = [row.tobytes() for row in pixels]
    folder.put(f"bmp-masks--{details}-32.bmp", bmp(width, height, 32, padded(rows, top_down), 3, masks=other, top_down=top_down), pixels[..., :3])
    for name, lengths in (("555", (5, 5, 5)), ("565", (5, 6, 5)), ("444", (4, 4, 4))):
        shifts = (lengths[1] + lengths[2], lengths[2], 0)
        tops = [(1 << length) - 1 for length in lengths]
        values = [(pixels[..., c].astype(np.uint16) * tops[c] + 127) // 255 for c in range(3)]
        right = np.stack([(value * 255 * 2 + top) // (2 * top) for value, top in zip([v.astype(np.uint32) for v in values], tops)], -1).astype(np.uint8)
        word = sum(value << shift for value, shift in zip(values, shifts)).astype("<u2")
        masks = struct.pack("<III", *(top << shift for top, shift in zip(tops, shifts)))
        rows = padded([row.tobytes() for row in word], top_down)
        folder.put(f"bmp-masks--{details}-{name}.bmp", bmp(width, height, 16, rows, 3, masks=masks, top_down=top_down), right)
        if name == "555":
            folder.put(f"bmp-16--{details}.bmp", bmp(width, height, 16, rows, top_down=top_down), right)


def run_lengths(folder, width, height, size):
    for bits in (4, 8):
        palette, top = colors(1 << bits), (1 << bits) - 1
        indices = np.repeat(photo(-(-width // 5), height, 1, bits), 5, 1)[:, :width] & top
        for kind in ("runs", "literal"):
            rows = b"".join(encoded(row, bits, kind) + b"\0\0" for row in indices[::-1]) + b"\0\1"
            data = bmp(width, height, bits, rows, 1 if bits == 8 else 2, palette=table(palette))
            folder.put(f"bmp-rle--{size}-{bits}-{kind}.bmp", data, palette[indices])
    # A move to the right, which leaves pixels out: they have the color 0.
    if width > 6 and height > 2:
        indices = np.zeros((height, width), np.uint8)
        indices[-1, 3:5] = 9
        rows = b"\0\2\3\0" + b"\2\x09" + b"\0\1"
        folder.put(f"bmp-rle-move--{size}.bmp", bmp(width, height, 8, rows, 1, palette=table(colors(256))), colors(256)[indices])


def encoded(row, bits, kind):
    out, at = b"", 0
    while at < len(row):
        run = 1
        while at + run < len(row) and run < 250 and row[at + run] == row[at]:
            run += 1
        if kind == "literal" and len(row) - at >= 3:
            part = [int(value) for value in row[at : at + 200]]
            literal = bytes(part) if bits == 8 else bytes(a << 4 | b for a, b in zip(part[::2], (part + [0])[1::2]))
            out += bytes([0, len(part)]) + literal + bytes(len(literal) % 2)
            at += len(part)
            continue
        value = int(row[at])
        out += bytes([run, value if bits == 8 else value << 4 | value])
        at += run
    return out


def damage(folder):
    pixels = photo(40, 30, 3)
    data = bmp(40, 30, 24, padded([row[:, ::-1].tobytes() for row in pixels]))
    for part in (2, 50, 99):
        folder.put(f"bmp-cut--24-{part}.bmp", data[: len(data) * part // 100])
    folder.put("bmp-trailing--24.bmp", data + b"behind the end", pixels)
    indices = photo(40, 30, 1)
    rows = b"".join(encoded(row, 8, "literal") + b"\0\0" for row in indices[::-1]) + b"\0\1"
    data = bmp(40, 30, 8, rows, 1, palette=table(colors(256)))
    for part in (60, 90):
        folder.put(f"bmp-cut--rle-{part}.bmp", data[: len(data) * part // 100])
    # Its end comes after a third of the rows.
    folder.put("bmp-cut--rle-ended.bmp", bmp(40, 30, 8, rows[: 44 * 10] + b"\0\1", 1, palette=table(colors(256))))
    folder.put("bmp-index--8.bmp", bmp(40, 30, 8, padded([row.tobytes() for row in indices]), palette=table(colors(4)), colors=4))
