"""JPEG: sampling factors, processes, scans, restart intervals, color spaces, and damage."""
import io

import imagecodecs
from PIL import Image

import jpeg_blocks
from make import decoded, photo, saved

SAMPLINGS = {"444": 0, "422": 1, "420": 2}


def truth(data):
    """What libjpeg-turbo decodes. CMYK is converted as Pillow converts it."""
    mode = Image.open(io.BytesIO(data)).mode
    return decoded(data, None if mode in ("L", "RGB") else "RGB")


def make(folder):
    for width, height in folder.sizes:
        size = f"{width}x{height}"
        for sampling in ("444", "422", "420", "440", "411"):
            for process in ("baseline", "progressive"):
                for restart in (0, 1, 3) if process == "baseline" or not folder.sample else (0,):
                    data = encoded(photo(width, height, 3), sampling, process, restart)
                    if data:
                        name = f"jpeg-{process}--{size}-{sampling}-restart{restart}.jpg"
                        folder.put(name, data, truth(data))
        colors(folder, width, height, size)
    scans(folder)
    damage(folder)


def encoded(pixels, sampling, process, restart):
    if sampling in SAMPLINGS:
        options = {"restart_marker_blocks": restart} if restart else {}
        return saved(
            Image.fromarray(pixels), "JPEG", quality=90, subsampling=SAMPLINGS[sampling],
            progressive=process == "progressive", **options,
        )
    if process == "progressive" or restart:
        return None
    return imagecodecs.jpeg8_encode(pixels, level=90, subsampling=sampling)


def colors(folder, width, height, size):
    for progressive in (False, True):
        process = "progressive" if progressive else "baseline"
        for quality in (50, 100):
            name = f"jpeg-gray--{size}-{process}-quality{quality}.jpg"
            data = saved(Image.fromarray(photo(width, height, 1)), "JPEG", quality=quality, progressive=progressive)
            folder.put(name, data, truth(data))
        rgb = saved(Image.fromarray(photo(width, height, 3)), "JPEG", keep_rgb=True, progressive=progressive, quality=90)
        folder.put(f"jpeg-rgb--{size}-{process}.jpg", rgb, truth(rgb))
        cmyk = saved(Image.fromarray(photo(width, height, 4), "CMYK"), "JPEG", quality=90, progressive=progressive)
        folder.put(f"jpeg-cmyk--{size}-{process}.jpg", cmyk, truth(cmyk))
    for space in ("CMYK", "YCCK"):
        data = imagecodecs.jpeg8_encode(photo(width, height, 4), level=90, colorspace="CMYK", outcolorspace=space)
        folder.put(f"jpeg-{space.lower()}--{size}-turbo.jpg", data, truth(data))


def scans(folder):
    """Sequential files with every division of the components into scans."""
    divisions = {"one": [[0, 1, 2]], "each": [[0], [1], [2]], "two": [[0, 1], [2]], "chroma": [[0], [1, 2]]}
    factors = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "440": (1, 2), "411": (4, 1), "410": (4, 2)}
    for sampling, luma in factors.items():
        for division, lists in divisions.items():
            for restart in (0, 3):
                for width, height in [(32, 32), (49, 35)]:
                    data = jpeg_blocks.jpeg(width, height, [luma, (1, 1), (1, 1)], lists, restart)
                    kind = "jpeg-one-scan" if division == "one" else "jpeg-scans"
                    folder.put(f"{kind}--{width}x{height}-{sampling}-{division}-restart{restart}.jpg", data, truth(data))


def damage(folder):
    end = b"\xff\xd9"
    pixels = photo(64, 48, 3)
    for process in ("baseline", "progressive"):
        for sampling in ("444", "420"):
            for restart in (0, 2):
                data = encoded(pixels, sampling, process, restart)
                name = f"{process}-{sampling}-restart{restart}"
                for part in (30, 50, 75, 90, 97):
                    cut = data[: len(data) * part // 100].rstrip(b"\xff")
                    folder.put(f"jpeg-cut--{name}-{part}.jpg", cut)
                    folder.put(f"jpeg-cut-ended--{name}-{part}.jpg", cut + end)
                video = b"\0\0\0\x18ftypmp42 \xff\xda\xff\xd8\xff\xd9" + bytes(range(256)) * 4
                for kind, rest in (("zeros", bytes(4096)), ("video", video), ("jpeg", data), ("half", data[:900])):
                    folder.put(f"jpeg-trailing--{name}-{kind}.jpg", data + rest, truth(data))
                folder.put(f"jpeg-filled--{name}.jpg", data.replace(end, b"\xff\xff\xff\xd9"), truth(data))
