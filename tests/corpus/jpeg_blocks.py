"""Writes sequential JPEGs of blocks of one level each: enough to see a block, a scan or a component in the wrong place.
Pillow writes sequential files of one scan only."""
import struct


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def level(component, x, y):
    return (60 + 50 * component + 23 * x * (component + 1) + 41 * y) % 200 + 20


def jpeg(width, height, sampling, scans, restart=0):
    """`sampling`: across and down of each component. `scans`: lists of components."""
    out = b"\xff\xd8" + segment(0xDB, b"\0" + b"\x08" * 64)
    components = b"".join(bytes([i + 1, across << 4 | down, 0]) for i, (across, down) in enumerate(sampling))
    out += segment(0xC0, struct.pack(">BHHB", 8, height, width, len(sampling)) + components)
    # DC: twelve codes of four bits, the number of bits of a difference. AC: one code, the end of the block.
    out += segment(0xC4, b"\0" + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12)))
    out += segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0")
    if restart:
        out += segment(0xDD, struct.pack(">H", restart))
    for scan in scans:
        out += segment(0xDA, bytes([len(scan)]) + b"".join(bytes([i + 1, 0]) for i in scan) + b"\0\x3f\0")
        out += data(units(width, height, sampling, scan), restart)
    return out + b"\xff\xd9"


def units(width, height, sampling, scan):
    """The blocks of each unit of a scan: component, column and row."""
    most_across, most_down = (max(factor[side] for factor in sampling) for side in (0, 1))
    if len(scan) == 1:
        across, down = sampling[scan[0]]
        columns = -(-(-(-width * across // most_across)) // 8)
        rows = -(-(-(-height * down // most_down)) // 8)
        return [[(scan[0], x, y)] for y in range(rows) for x in range(columns)]
    return [
        [
            (i, column * sampling[i][0] + x, row * sampling[i][1] + y)
            for i in scan for y in range(sampling[i][1]) for x in range(sampling[i][0])
        ]
        for row in range(-(-height // (8 * most_down))) for column in range(-(-width // (8 * most_across)))
    ]


def data(units, restart):
    out, bits, last = b"", "", {}
    for number, unit in enumerate(units):
        if restart and number and number % restart == 0:
            out += packed(bits) + bytes([0xFF, 0xD0 + (number // restart - 1) % 8])
            bits, last = "", {}
        for component, x, y in unit:
            value = level(component, x, y) - 128
            difference = value - last.get(component, 0)
            last[component] = value
            length = abs(difference).bit_length()
            bits += f"{length:04b}"
            if length:
                bits += f"{difference if difference > 0 else difference + (1 << length) - 1:0{length}b}"
            bits += "0"
    return out + packed(bits)


def packed(bits):
    bits += "1" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
