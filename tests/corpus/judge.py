"""Judges what the product made of the files of a folder: judge.py FOLDER.

FILE.out.png (and FILE.kept.png, of a PNG with image.reencode: WhenNotPng) must have the pixels of FILE.npy, for Pillow and
for pypng. A file without FILE.npy is damaged, and must be refused; a file with it must not be refused as damaged. Exits with 1
if any file is wrong or has no result."""
import collections
import io
import pathlib
import sys

import numpy as np
import png
from PIL import Image

# Decoders of JPEG round differently. All other formats have one right result.
JPEG_TOLERANCE = 2
# They also upsample colors differently, by less than anyone sees: docs/formats.md has the figures.
JPEG_UPSAMPLED = 8


def rgba(pixels, depth):
    """Any pixels as red, green, blue and alpha of 8 or 16 bits."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if depth < 8:
        pixels, depth = pixels.astype(np.uint16) * (255 // ((1 << depth) - 1)), 8
    top = (1 << depth) - 1
    color, alpha = (pixels[..., :-1], pixels[..., -1:]) if pixels.shape[-1] in (2, 4) else (pixels, None)
    if color.shape[-1] == 1:
        color = np.repeat(color, 3, -1)
    alpha = np.full(color.shape[:2] + (1,), top) if alpha is None else alpha
    return np.concatenate([color, alpha], -1).astype(np.int64), depth


def by_pypng(data):
    width, height, rows, info = png.Reader(bytes=data).asDirect()
    pixels = np.array([list(row) for row in rows]).reshape(height, width, info["planes"])
    return rgba(pixels, info["bitdepth"])


def by_pillow(data):
    """With 16 bits of color, Pillow returns the upper 8."""
    image = Image.open(io.BytesIO(data))
    if image.mode.startswith("I"):
        return rgba(np.asarray(image), 16)
    return rgba(np.asarray(image.convert("RGBA")), 8)


def difference(found, right):
    """The largest difference of a sample, or a text."""
    (found, depth), (right, right_depth) = found, right
    if found.shape != right.shape:
        return f"has {found.shape[1]} × {found.shape[0]} pixels, not {right.shape[1]} × {right.shape[0]}"
    if depth < right_depth:
        right = right >> 8
    elif depth > right_depth:
        right = right * 257
    return int(np.abs(found - right).max())


def by_each(data, is_input):
    """The decoders' results: name and pixels. A text if one can't read the file."""
    results = {}
    for name, decoder in (("pypng", by_pypng), ("Pillow", by_pillow)):
        try:
            results[name] = decoder(data)
        except Exception as error:
            results[name] = f"{name} can't read the PNG: {error}"
    read = {name: result for name, result in results.items() if not isinstance(result, str)}
    # A faulty input that is stored unchanged need not be read by both.
    return read if is_input and read else results


def is_expanded_wrongly(data):
    """Whether Pillow knows the transparent color of a PNG at 8 bits only."""
    image = Image.open(io.BytesIO(data))
    depth, color = data[24], data[25]
    return image.info.get("transparency") is not None and (color == 2 and depth == 16 or color == 0 and depth != 8)


def off(data, right, is_input):
    """The largest difference of a sample, or what is wrong."""
    truth, most = rgba(right, right.dtype.itemsize * 8), 0
    for name, found in by_each(data, is_input).items():
        if isinstance(found, str):
            return found
        if name == "pypng" and found[1] < truth[1]:
            return f"has {found[1]} bits per sample, not {truth[1]}"
        if name == "Pillow" and is_expanded_wrongly(data):
            continue
        differs = difference(found, truth)
        if isinstance(differs, str):
            return f"{name}: {differs}"
        most = max(most, differs)
    return most


def verdict(file, kind):
    out, kept, refused, truth = (file.with_name(file.name + end) for end in (".out.png", ".kept.png", ".refused", ".npy"))
    if refused.exists() and (out.exists() or kept.exists()):
        return "WRONG", "is stored with one image.reencode, and refused with the other"
    if refused.exists():
        reason, text = refused.read_text().strip().split(" ", 1)
        if reason == "DecoderPanicked" or reason == "InvalidImage" and truth.exists():
            return "WRONG", f"is refused as {reason}: {text}"
        return f"refused: {reason}", None
    if not out.exists():
        return "WRONG", "has no result"
    if not truth.exists():
        return "WRONG", "is damaged, but stored"
    right, most = np.load(truth), 0
    for result in [out] + [kept] * kept.exists():
        data = result.read_bytes()
        found = off(data, right, data == file.read_bytes())
        if isinstance(found, str):
            return "WRONG", found
        most = max(most, found)
    if most <= (JPEG_TOLERANCE if kind.startswith("jpeg") else 0):
        return "stored right", None
    if kind.startswith("jpeg") and most <= JPEG_UPSAMPLED:
        return f"stored, off by up to {JPEG_UPSAMPLED}", None
    return "WRONG", f"a sample differs by {most}"


def main():
    folder = pathlib.Path(sys.argv[1])
    ends = (".npy", ".out.png", ".kept.png", ".refused")
    files = sorted(file for file in folder.iterdir() if not file.name.endswith(ends))
    counts, faults = collections.defaultdict(collections.Counter), []
    for file in files:
        kind = file.stem.split("--")[0]
        kind += "" if file.with_name(file.name + ".npy").exists() else " (damaged)"
        result, fault = verdict(file, kind)
        counts[kind][result] += 1
        if fault:
            faults.append(f"{file.name}: {fault}")
    columns = sorted({result for count in counts.values() for result in count})
    print("kind".ljust(28), *(column.rjust(26) for column in columns))
    for kind, count in sorted(counts.items()):
        print(kind.ljust(28), *(str(count[column] or "").rjust(26) for column in columns))
    total = sum(counts.values(), collections.Counter())
    print("all".ljust(28), *(str(total[column]).rjust(26) for column in columns))
    print(*faults, sep="\n")
    sys.exit(bool(faults or not files))


if __name__ == "__main__":
    main()
