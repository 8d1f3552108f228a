"""Generates image files of every kind that cameras, drones and libraries write: make.py FOLDER [--sample].

A file FOLDER/KIND--DETAILS.EXT has its right pixels in the file of the same name with .npy behind it: an array of height,
width and samples. A file without .npy is damaged, and must be refused. The pixels are those that the generator chose,
or, for lossy formats, those that the format's reference decoder gives (libjpeg-turbo and libwebp, through Pillow)."""
import importlib
import io
import pathlib
import sys

import numpy as np
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parent))


class Folder:
    """Writes the files of one run. `sample`: whether to generate fewer."""

    def __init__(self, path, sample):
        self.path, self.sample = pathlib.Path(path), sample
        self.path.mkdir(parents=True, exist_ok=True)
        self.sizes = [(17, 33)] if sample else [(1, 1), (3, 2), (16, 16), (17, 33), (40, 30), (129, 65)]

    def put(self, name, data, right=None):
        """`right`: the pixels. None: the file is damaged."""
        (self.path / name).write_bytes(data)
        if right is not None:
            np.save(self.path / (name + ".npy"), right)


def photo(width, height, channels, bits=8, seed=1):
    """Smooth shapes with some noise, as in a photograph."""
    random = np.random.default_rng(seed * 1000003 + width * 1009 + height * 17 + channels)
    y, x = np.mgrid[0:height, 0:width]
    layers = [
        (np.sin(x / (5 + 3 * c) + seed) + np.cos(y / (7 + 2 * c))) / 4 + 0.5 + random.normal(0, 0.05, (height, width))
        for c in range(channels)
    ]
    top = (1 << bits) - 1
    pixels = np.clip(np.stack(layers, -1) * top, 0, top).astype(np.uint16 if bits > 8 else np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data, mode=None):
    image = Image.open(io.BytesIO(data))
    return np.asarray(image.convert(mode) if mode else image)


def main():
    folder = Folder(sys.argv[1], "--sample" in sys.argv)
    for name in ("jpegs", "pngs", "webps", "bmps", "gifs", "pnms", "tiffs"):
        importlib.import_module(name).make(folder)
    print(sum(1 for file in folder.path.iterdir() if file.suffix != ".npy"), "files in", folder.path)


if __name__ == "__main__":
    # The modules import this one by its name.
    sys.modules["make"] = sys.modules["__main__"]
    main()
