#!/usr/bin/env python3
"""Turns a number of blocks and a size into a checkpoint on disk: what reads from disk are measured with.

    checkpoint.py FILE BLOCKS BYTES     a safetensors file of so many equal blocks, random bytes of bf16 near 0.01
"""
import json
import os
import sys

COLUMNS = 1024


def main():
    path, blocks, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rows = max(1, size // (2 * COLUMNS))
    each, header = rows * COLUMNS * 2, {}
    for block in range(blocks):
        name = f"transformer_blocks.{block}.ff.weight"
        header[name] = {"dtype": "BF16", "shape": [rows, COLUMNS], "data_offsets": [block * each, (block + 1) * each]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # High bytes of 0x3C: finite values; low ones are what makes blocks differ.
    portion = 1 << 20
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        left = blocks * each
        while left:
            now = min(left, 2 * portion)
            pairs = bytearray(b"\x00\x3c" * (now // 2))
            pairs[::2] = os.urandom(now // 2)
            file.write(pairs)
            left -= now


main()
