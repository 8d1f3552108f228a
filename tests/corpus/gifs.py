"""GIF: colors, transparency, interlacing, frames, and damage. Pillow writes some, this module the rest."""
import struct

import numpy as np
from PIL import Image

from make import photo, saved


def lzw(indices, bits):
    """Codes without repetitions: the table is cleared before a code needs more bits."""
    clear, codes = 1 << bits, []
    for number, index in enumerate(indices):
        if number % ((1 << bits) - 2 or 1) == 0:
            codes.append(clear)
        codes.append(int(index))
    codes.append(clear + 1)
    text = "".join(f"{code:0{bits + 1}b}"[::-1] for code in codes)
    text += "0" * (-len(text) % 8)
    data = bytes(int(text[i : i + 8][::-1], 2) for i in range(0, len(text), 8))
    blocks = [data[i : i + 255] for i in range(0, len(data), 255)]
    return bytes([bits]) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def table(palette):
    return b"".join(bytes(int(v) for v in color) for color in palette)


def gif(screen, frame, palette, local=None, transparent=None, interlaced=False, place=(0, 0)):
    bits = max((len(palette) - 1).bit_length(), 1) if palette is not None else 0
    height, width = frame.shape
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80 | bits - 1 if palette is not None else 0, 0, 0)
    out += table(palette) if palette is not None else b""
    if transparent is not None:
        out += b"!\xf9\x04" + bytes([1, 0, 0, transparent]) + b"\0"
    local_bits = max((len(local) - 1).bit_length(), 1) if local is not None else 0
    flags = (0x80 | local_bits - 1 if local is not None else 0) | 0x40 * interlaced
    out += b"," + struct.pack("<HHHHB", *place, width, height, flags) + (table(local) if local is not None else b"")
    order = list(range(height))
    if interlaced:
        order = [y for start, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(start, height, step)]
    return out + lzw(frame[order].ravel(), max(bits, local_bits, 2)) + b";"


def colors(count, salt=0):
    return np.array([((i * 37 + salt) % 256, (i * 101 + 9) % 256, 255 - i % 256) for i in range(count)], np.uint8)


def with_alpha(palette, frame, transparent):
    right = palette[frame]
    if transparent is None:
        return right
    return np.concatenate([right, np.where(frame == transparent, 0, 255)[..., None].astype(np.uint8)], -1)


def make(folder):
    for width, height in folder.sizes:
        size = f"{width}x{height}"
        for count in (2, 4, 16, 128, 256):
            frame = (photo(width, height, 1).astype(int) % count).astype(np.uint8)
            palette = colors(count)
            for transparent in (None, count // 2):
                for interlaced in (False, True):
                    details = f"{size}-{count}" + "-transparent" * (transparent is not None) + "-interlaced" * interlaced
                    data = gif((width, height), frame, palette, transparent=transparent, interlaced=interlaced)
                    folder.put(f"gif--{details}.gif", data, with_alpha(palette, frame, transparent))
                    image = Image.fromarray(frame, "P")
                    image.putpalette(palette.ravel().tolist())
                    options = {} if transparent is None else {"transparency": transparent}
                    data = saved(image, "GIF", interlace=interlaced, **options)
                    folder.put(f"gif-pillow--{details}.gif", data, with_alpha(palette, frame, transparent))
            local = colors(count, 5)
            folder.put(f"gif-local--{size}-{count}.gif", gif((width, height), frame, palette, local), local[frame])
            folder.put(f"gif-local--{size}-{count}-alone.gif", gif((width, height), frame, None, local), local[frame])
        frames = [Image.fromarray(photo(width, height, 1, seed=seed)) for seed in (1, 2, 3)]
        data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=90)
        folder.put(f"gif-animation--{size}.gif", data, photo(width, height, 1))
    damage(folder)


def damage(folder):
    frame = photo(40, 30, 1) % 16
    palette = colors(16)
    data = gif((40, 30), frame, palette)
    for part in (5, 30, 60, 95):
        folder.put(f"gif-cut--{part}.gif", data[: len(data) * part // 100])
        folder.put(f"gif-cut--{part}-ended.gif", data[: len(data) * part // 100] + b"\0;")
    folder.put("gif-trailing.gif", data + b"behind the end", palette[frame])
    # Pixels of 16 colors, and a table of 4.
    few = data[:10] + bytes([data[10] & 0xF8 | 1]) + data[11:13] + table(colors(4)) + data[13 + 48 :]
    folder.put("gif-index.gif", few)
    folder.put("gif-no-colors.gif", data[:10] + bytes([data[10] & 0x70]) + data[11:13] + data[13 + 48 :])
    # A frame smaller than the screen: decoders disagree about the rest, so none is right.
    folder.put("gif-part.gif", gif((50, 40), frame, palette, place=(5, 5)))
    folder.put("gif-part-beyond.gif", gif((40, 30), frame, palette, place=(5, 5)))
    # Rows are missing, and the end code is there.
    folder.put("gif-short.gif", gif((40, 30), frame, palette).replace(lzw(frame.ravel(), 4), lzw(frame[:20].ravel(), 4)))
