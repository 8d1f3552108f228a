"""WebP: lossy, lossless, alpha, animation, metadata, and damage."""
import io

from PIL import Image

from make import decoded, photo, saved


def make(folder):
    for width, height in folder.sizes:
        size = f"{width}x{height}"
        for mode, channels in (("RGB", 3), ("RGBA", 4)):
            pixels = photo(width, height, channels)
            image = Image.fromarray(pixels, mode)
            for method in (0, 6):
                lossless = saved(image, "WEBP", lossless=True, method=method, exact=True)
                folder.put(f"webp-lossless--{size}-{mode}-{method}.webp", lossless, pixels)
                for quality in (1, 60, 100):
                    lossy = saved(image, "WEBP", quality=quality, method=method, alpha_quality=quality)
                    folder.put(f"webp-lossy--{size}-{mode}-{quality}-{method}.webp", lossy, decoded(lossy, mode))
        palette = Image.fromarray(photo(width, height, 3) // 64 * 64)
        data = saved(palette, "WEBP", lossless=True)
        folder.put(f"webp-lossless--{size}-few-colors.webp", data, decoded(data, "RGB"))
        animation(folder, width, height, size)
    damage(folder)


def animation(folder, width, height, size):
    for lossless in (False, True):
        frames = [Image.fromarray(photo(width, height, 3, seed=seed)) for seed in (1, 2, 3)]
        data = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=lossless, duration=90)
        kind = "lossless" if lossless else "lossy"
        first = decoded(data, "RGBA" if Image.open(io.BytesIO(data)).mode == "RGBA" else "RGB")
        folder.put(f"webp-animation--{size}-{kind}.webp", data, first)


def damage(folder):
    image = Image.fromarray(photo(64, 48, 4), "RGBA")
    for lossless in (False, True):
        data = saved(image, "WEBP", lossless=lossless, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
        kind = "lossless" if lossless else "lossy"
        folder.put(f"webp-metadata--{kind}.webp", data, decoded(data, "RGBA"))
        folder.put(f"webp-trailing--{kind}.webp", data + b"behind the end", decoded(data, "RGBA"))
        plain = saved(image, "WEBP", lossless=lossless)
        for part in (20, 50, 80, 95):
            folder.put(f"webp-cut--{kind}-{part}.webp", plain[: len(plain) * part // 100])
