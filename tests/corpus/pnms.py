"""PNM: P1 to P6, with many largest values. The right pixels are value / largest of the full range, rounded."""
import numpy as np

from make import photo


def scaled(values, most):
    full = 255 if most <= 255 else 65535
    return ((values.astype(np.uint64) * full * 2 + most) // (2 * most)).astype(np.uint16 if full > 255 else np.uint8)


def make(folder):
    for width, height in folder.sizes:
        size = f"{width}x{height}"
        bits = photo(width, height, 1, 1)
        black = (1 - bits) * np.uint8(255)
        text = "\n".join(" ".join(str(value) for value in row) for row in bits)
        folder.put(f"pnm-P1--{size}.pbm", f"P1\n# forest\n{width} {height}\n{text}\n".encode(), black)
        dense = "".join(str(value) for value in bits.ravel())
        folder.put(f"pnm-P1--{size}-dense.pbm", f"P1 {width}\t{height} {dense}".encode(), black)
        folder.put(f"pnm-P4--{size}.pbm", f"P4\n{width} {height}\n".encode() + np.packbits(bits, 1).tobytes(), black)
        for most in (1, 2, 3, 15, 100, 254, 255, 256, 1023, 4095, 65534, 65535):
            for channels, plain, raw, ending in ((1, "P2", "P5", "pgm"), (3, "P3", "P6", "ppm")):
                values = (photo(width, height, channels, 16).astype(np.uint32) * most // 65535).astype(np.uint16)
                right = scaled(values, most)
                text = "\n".join(" ".join(str(value) for value in row.ravel()) for row in values)
                folder.put(f"pnm-{plain}--{size}-{most}.{ending}", f"{plain}\n{width} {height}\n{most}\n{text}\n".encode(), right)
                data = values.astype("u1" if most < 256 else ">u2").tobytes()
                for name, head in (("", f"{raw}\n{width} {height}\n{most}\n"), ("-comment", f"{raw} # a\n#b\n{width}#c\n {height} #d\n{most} ")):
                    folder.put(f"pnm-{raw}--{size}-{most}{name}.{ending}", head.encode() + data, right)
    damage(folder)


def damage(folder):
    values = photo(40, 30, 3)
    head = b"P6\n40 30\n255\n"
    for part in (10, 99):
        folder.put(f"pnm-cut--P6-{part}.ppm", head + values.tobytes()[: 36 * part])
    folder.put("pnm-cut--P3.ppm", b"P3 2 2 255 1 2 3 4 5 6 7 8 9 10 11")
    folder.put("pnm-cut--P1.pbm", b"P1 2 2 1 0 1")
    folder.put("pnm-cut--P4.pbm", b"P4 9 2 \1\2\3")
    folder.put("pnm-damaged--above-most.pgm", b"P5 2 1 100 \x64\x65")
    folder.put("pnm-damaged--above-most-plain.pgm", b"P2 2 1 100 100 101")
    folder.put("pnm-damaged--most-0.pgm", b"P5 2 1 0 \0\0")
    folder.put("pnm-damaged--most-65536.pgm", b"P5 1 1 65536 \0\0")
    folder.put("pnm-damaged--width-0.pgm", b"P5 0 1 255 \0")
    folder.put("pnm-damaged--letter.pgm", b"P2 2 1 255 1 x")
    folder.put("pnm-damaged--negative.pgm", b"P2 2 1 255 1 -1")
    folder.put("pnm-damaged--bit-2.pbm", b"P1 2 1 1 2")
    folder.put("pnm-damaged--longer.ppm", head + values.tobytes() + b"\x07" * 40)
    folder.put("pnm-next.ppm", head + values.tobytes() + b"P6\n1 1\n255\nabc", values)
    folder.put("pnm-space.ppm", head + values.tobytes() + b"\n", values)
    folder.put("pnm-pam.pam", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n\7")
