"""TIFFs of every kind. A file that tifffile wrote has the pixels that GDAL reads, and a file that GDAL or
this module wrote those that tifffile or GDAL reads: the truth is never the array of the writer alone. The samples are then
brought to PNG's pixels by the rules of the documentation, written here again."""
import io
import itertools
import random
import struct
import warnings
import zlib

import numpy as np
import rasterio
import tifffile
from rasterio.io import MemoryFile

WIDTH, HEIGHT = 37, 23
COMPRESSIONS = ["none", "lzw", "deflate", "adobe_deflate", "packbits", "zstd"]
SAMPLED = 1300


def noise(samples, bits, seed, smooth=False):
    random_ = np.random.default_rng(seed)
    top = (1 << bits) - 1
    if smooth:
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        layers = [(np.sin(x / (9 + 3 * c)) + np.cos(y / (11 + 2 * c))) / 4 + 0.5 for c in range(samples)]
        return (np.stack(layers, -1) * top).astype(np.uint8)
    pixels = random_.integers(0, top + 1, (HEIGHT, WIDTH, samples))
    # Runs, for the compressions.
    pixels[5:9] = pixels[4:5, :1]
    pixels[0, 0], pixels[0, 1] = 0, top
    return pixels.astype(np.uint32 if bits > 16 else np.uint16 if bits > 8 else np.uint8)


def widened(values, bits):
    """8 or 16 bits by repeating the bits of a sample."""
    if bits in (8, 16):
        return values
    depth = 8 if bits < 8 else 16
    text = [int((format(value, f"0{bits}b") * 16)[:depth], 2) for value in range(1 << bits)]
    return np.array(text, np.uint8 if depth == 8 else np.uint16)[values]


def pixels(raw, bits, kind, colormap=None):
    """The pixels of the PNG for the samples that a decoder read: height, width, samples."""
    if kind == "palette":
        return colormap[raw[..., 0]]
    if kind == "long":
        return (raw >> 16).astype(np.uint16)
    if kind == "signed":
        return raw.view(np.uint16)
    if kind.startswith("float"):
        return np.floor(raw.astype(np.float32) * np.float32(65535) + np.float32(0.5)).astype(np.uint16)
    values = widened(raw, bits)
    top = np.iinfo(values.dtype).max
    if kind.startswith("white"):
        values = values.copy()
        values[..., 0] = top - values[..., 0]
    if kind == "cmyk":
        ink, black = values[..., :3].astype(np.float32), values[..., 3:].astype(np.float32)
        return ((np.float32(top) - ink) * (np.float32(1) - black / np.float32(top))).astype(values.dtype)
    if kind.endswith("premultiplied"):
        color, alpha = values[..., :-1].astype(object), values[..., -1:].astype(object)
        color = (2 * color * top + alpha) // np.where(alpha == 0, 1, 2 * alpha)
        values = np.concatenate([color, alpha], -1).astype(values.dtype)
    return values


def by_gdal(data, samples):
    with MemoryFile(data) as memory, memory.open() as file:
        found = np.moveaxis(file.read(), 0, -1)
    assert found.shape[-1] == samples, found.shape
    return found


def by_tifffile(data, samples):
    page = tifffile.TiffFile(io.BytesIO(data)).pages[0]
    found = page.asarray()
    if page.planarconfig == 2 and samples > 1:
        found = np.moveaxis(found, 0, -1)
    return found.reshape(HEIGHT, WIDTH, samples).astype(np.uint8 if found.dtype == bool else found.dtype)


class Numbered:
    """A folder whose files have numbers in their names."""

    def __init__(self, folder):
        self.folder, self.count, self.skipped = folder, 0, 0

    def put(self, kind, detail, data, right):
        self.folder.put(f"{kind}--{self.count:04}-{detail}.tif", data, right[..., 0] if right.shape[-1] == 1 else right)
        self.count += 1


# Kind, samples, bits, photometric, extra samples.
KINDS = [
    ("grey", 1, 8, "minisblack", []),
    ("grey", 1, 16, "minisblack", []),
    ("white", 1, 8, "miniswhite", []),
    ("white", 1, 16, "miniswhite", []),
    ("rgb", 3, 8, "rgb", []),
    ("rgb", 3, 8, "rgb", []),
    ("rgb", 3, 16, "rgb", []),
    ("rgba", 4, 8, "rgb", ["unassalpha"]),
    ("rgba", 4, 16, "rgb", ["unassalpha"]),
    ("rgba-premultiplied", 4, 8, "rgb", ["assocalpha"]),
    ("rgba-premultiplied", 4, 16, "rgb", ["assocalpha"]),
    ("grey-alpha", 2, 8, "minisblack", ["unassalpha"]),
    ("grey-alpha", 2, 16, "minisblack", ["unassalpha"]),
    ("white-alpha", 2, 8, "miniswhite", ["unassalpha"]),
    ("grey-premultiplied", 2, 8, "minisblack", ["assocalpha"]),
    ("cmyk", 4, 8, "separated", []),
    ("cmyk", 4, 16, "separated", []),
    ("float-grey", 1, 32, "minisblack", []),
    ("float-rgb", 3, 32, "rgb", []),
    ("float-rgba", 4, 32, "rgb", ["unassalpha"]),
    ("palette", 1, 8, "palette", []),
    ("palette-deep", 1, 8, "palette", []),
    # To be refused.
    ("rgb-infrared", 4, 8, "rgb", ["unspecified"]),
    ("rgb-infrared", 5, 16, "rgb", ["unassalpha", "unspecified"]),
    ("grey-more", 3, 8, "minisblack", ["unspecified"] * 2),
    ("long", 3, 32, "rgb", []),
    ("signed", 1, 16, "minisblack", []),
]


def by_tifffile_written(folder):
    layouts = [dict(rowsperstrip=5), dict(rowsperstrip=HEIGHT), dict(tile=(16, 16)), dict(tile=(32, 16))]
    every = itertools.product(KINDS, (False, True), layouts, COMPRESSIONS, (0, 2, 3), "<>", (False, True))
    every = [case for case in every if fits(*case)]
    for seed, case in enumerate(random.Random(1).sample(every, SAMPLED)):
        (kind, samples, bits, photometric, extra), planar, layout, compression, predictor, order, big = case
        raw, colormap = source(kind, samples, bits, seed), None
        options = dict(photometric=photometric, byteorder=order, bigtiff=big, metadata=None, **layout)
        if photometric == "palette":
            most = 256 if kind == "palette" else 65536
            colormap = np.random.default_rng(seed).integers(0, most, (3, 256)).astype(np.uint16)
            options["colormap"] = colormap * (257 if kind == "palette" else 1)
            colormap = colormap.T.astype(np.uint8) if kind == "palette" else colormap.T
        if extra:
            options["extrasamples"] = extra
        if compression != "none":
            options["compression"] = compression
        if predictor:
            options["predictor"] = predictor
        if samples > 1:
            options["planarconfig"] = "separate" if planar else "contig"
        array = np.moveaxis(raw, -1, 0) if planar else raw
        file = io.BytesIO()
        tifffile.imwrite(file, array[..., 0] if samples == 1 else array, **options)
        data = file.getvalue()
        # GDAL converts CMYK.
        found = by_tifffile(data, samples) if kind == "cmyk" else by_gdal(data, samples)
        if not np.array_equal(found, raw):
            folder.skipped += 1
            continue
        name = "palette" if kind.startswith("palette") else kind
        detail = f"{bits}-{'planes' if planar else 'pixels'}-{'x'.join(map(str, layout.get('tile', ()))) or 'strips'}"
        detail += f"-{compression}-{predictor}-{'II' if order == '<' else 'MM'}{'-big' if big else ''}"
        folder.put(f"tiff-{kind}", detail, data, pixels(found, bits, name, colormap))


def fits(kind, planar, layout, compression, predictor, order, big):
    name, samples, bits, *_ = kind
    if planar and samples == 1 or predictor and compression in ("none", "packbits"):
        return False
    return not (predictor == 3 and not name.startswith("float") or predictor == 2 and name.startswith(("palette", "float")))


def source(kind, samples, bits, seed):
    if kind.startswith("float"):
        return (noise(samples, 16, seed) / 65535).astype(np.float32)
    raw = noise(samples, bits, seed)
    if kind.endswith("premultiplied"):
        alpha = raw[..., -1:].astype(np.uint64)
        raw[..., :-1] = (raw[..., :-1] * alpha // np.iinfo(raw.dtype).max).astype(raw.dtype)
    return raw.astype(np.int16) if kind == "signed" else raw


def by_gdal_written(folder):
    depths = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    kinds = [("grey", 1, "MINISBLACK"), ("white", 1, "MINISWHITE"), ("rgb", 3, "RGB"), ("rgba", 4, "RGB")]
    layouts = [dict(blockysize=5), dict(tiled=True, blockxsize=16, blockysize=16)]
    every = list(itertools.product(depths, kinds, layouts, ("PIXEL", "BAND"), COMPRESSIONS, (False, True)))
    every = [case for case in every if case[1][1] > 1 or case[3] == "PIXEL"]
    for seed, case in enumerate(random.Random(2).sample(every, 620)):
        bits, (kind, samples, photometric), layout, interleave, compression, big = case
        raw = noise(samples, bits, seed)
        options = dict(layout, photometric=photometric, interleave=interleave, nbits=bits, bigtiff="YES" if big else "NO")
        options["endianness"] = "BIG" if seed % 3 == 0 else "LITTLE"
        if samples == 4:
            options["alpha"] = "UNSPECIFIED" if seed % 5 == 0 else "NON-PREMULTIPLIED"
        if compression != "none":
            options["compress"] = "DEFLATE" if "deflate" in compression else compression.upper()
        data = gdal(raw, options)
        try:
            found = by_tifffile(data, samples)
        except Exception:
            folder.skipped += 1
            continue
        if not np.array_equal(found, raw):
            # Two decoders must agree.
            folder.skipped += 1
            continue
        detail = f"{bits}-{interleave.lower()}-{'tiles' if 'tiled' in layout else 'strips'}-{compression}{'-big' if big else ''}"
        folder.put(f"tiff-gdal-{kind}", detail, data, pixels(found, bits, kind))


def gdal(raw, options, window=None):
    with MemoryFile() as memory:
        size = dict(driver="GTiff", width=WIDTH, height=HEIGHT, count=raw.shape[-1], dtype=raw.dtype)
        with memory.open(**size, **options) as file:
            if window:
                part = raw[: window[1], : window[0]]
                file.write(np.moveaxis(part, -1, 0), window=rasterio.windows.Window(0, 0, *window))
            else:
                file.write(np.moveaxis(raw, -1, 0))
        memory.seek(0)
        return memory.read()


def sparse(folder):
    kinds = [("grey", 1, "MINISBLACK"), ("white", 1, "MINISWHITE"), ("rgb", 3, "RGB")]
    cases = itertools.product(kinds, (8, 16), (None, 0, 200, -9999), ("none", "lzw", "zstd"), ("PIXEL", "BAND"))
    for seed, ((kind, samples, photometric), bits, nodata, compression, interleave) in enumerate(cases):
        options = dict(tiled=True, blockxsize=16, blockysize=16, photometric=photometric, SPARSE_OK="TRUE")
        options.update(interleave=interleave, endianness="BIG" if seed % 2 else "LITTLE")
        if compression != "none":
            options["compress"] = compression.upper()
        if nodata is not None and nodata >= 0:
            options["nodata"] = nodata
        data = gdal(noise(samples, bits, seed), options, window=(16, 16))
        found = by_gdal(data, samples)
        folder.put("tiff-sparse", f"{kind}-{bits}-{nodata}-{compression}-{interleave.lower()}", data, pixels(found, bits, kind))


def jpeg(folder):
    cases = itertools.product(("MINISBLACK", "RGB", "YCBCR"), (75, 95), (False, True), ("PIXEL", "BAND"), (False, True))
    for photometric, quality, tiled, interleave, big in cases:
        samples = 1 if photometric == "MINISBLACK" else 3
        if interleave == "BAND" and photometric != "RGB":
            continue
        layout = dict(tiled=True, blockxsize=16, blockysize=16) if tiled else dict(blockysize=16)
        options = dict(layout, compress="JPEG", jpeg_quality=quality, photometric=photometric, interleave=interleave)
        try:
            data = gdal(noise(samples, 8, 7, smooth=True), dict(options, bigtiff="YES" if big else "NO"))
        except rasterio.errors.RasterioError:
            folder.skipped += 1
            continue
        found = by_gdal(data, samples)
        folder.put("jpeg-tiff-gdal", f"{photometric}-{quality}-{tiled}-{interleave}{'-big' if big else ''}", data, found)
    for subsampling, order, tile in itertools.product(((1, 1), (2, 1), (2, 2)), "<>", (None, (16, 16), (32, 32))):
        file = io.BytesIO()
        options = dict(subsampling=subsampling, byteorder=order, compression="jpeg", metadata=None)
        tifffile.imwrite(file, noise(3, 8, 9, smooth=True), photometric="rgb", tile=tile, **options)
        data = file.getvalue()
        detail = f"{subsampling[0]}{subsampling[1]}-{'II' if order == '<' else 'MM'}-{tile and tile[0]}"
        folder.put("jpeg-tiff-tifffile", detail, data, by_gdal(data, 3))


def fill_order(folder):
    """Written here: no library writes FillOrder 2 for these."""
    for bits, compression, order in itertools.product((1, 4, 8, 16), (1, 8, 32773), "<>"):
        raw = noise(1, bits, bits)
        packed = np.packbits(np.unpackbits(raw.astype(">u2").view(np.uint8).reshape(HEIGHT, WIDTH, 2), axis=-1)[..., 16 - bits :].reshape(HEIGHT, -1), axis=-1)
        rows = raw.astype(order + "u2").tobytes() if bits == 16 else packed.tobytes()
        if compression == 8:
            rows = zlib.compress(rows)
        if compression == 32773:
            rows = b"".join(bytes([len(part) - 1]) + part for part in (rows[at : at + 128] for at in range(0, len(rows), 128)))
        data = by_hand(order, bits, compression, rows.translate(bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))))
        found = by_gdal(data, 1)
        assert np.array_equal(found, raw), (bits, compression, order)
        folder.put("tiff-fill-order", f"{bits}-{compression}-{'II' if order == '<' else 'MM'}", data, pixels(found, bits, "grey"))


def by_hand(order, bits, compression, rows):
    tags = {256: WIDTH, 257: HEIGHT, 258: bits, 259: compression, 262: 1, 266: 2, 273: 8, 277: 1, 278: HEIGHT, 279: len(rows)}
    rows += b"\0" * (len(rows) % 2)
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(rows))
    return head + rows + struct.pack(order + "H", len(tags)) + entries + b"\0" * 4


def make(folder):
    warnings.filterwarnings("ignore")
    folder = Numbered(folder)
    for part in (by_tifffile_written, by_gdal_written, sparse, jpeg, fill_order):
        part(folder)
    print(folder.count, "TIFFs,", folder.skipped, "left out: decoders disagree or can't read them")
