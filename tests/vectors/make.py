#!/usr/bin/env python3
"""Writes chunks as earlier versions did: tests/vectors/older.

    python3 tests/vectors/make.py

They restore to the same file each time: 2.3 MiB of numbered lines with 20,000 bytes of noise in the middle of the last
block. tests/vectors.rs contains its length and SHA-256. The key and the timestamps are fixed, too; the initialization
vectors are random, so each run gives other chunk ids. Requires the `cryptography` package.

    older/raw/<id>          chunks in binary form
    older/base64/<id>       the same blocks as base64 text, as the first version stored them
    older/*.manifest        with all keys, and (bare) with the required keys only
"""

import base64
import hashlib
import json
import lzma
import shutil
from pathlib import Path

from cryptography.fernet import Fernet

BLOCK_BYTES = 1 << 20
KEY = base64.urlsafe_b64encode(hashlib.sha256(b"a key for test vectors").digest())
# The timestamp of a board whose clock was not set, one of an ordinary day, and one in the far future.
TIMES_S = [0, 1_700_000_000, 7_258_118_400]


def noise(length):
    """Incompressible bytes, the same each time: the SHA-256 of a counter."""
    blocks = (hashlib.sha256(i.to_bytes(8, "little")).digest() for i in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def plain():
    """The file that the chunks restore to."""
    lines = b"".join(b"line %06d of a file that was stored long ago\n" % i for i in range(50_000))
    at = 2 * BLOCK_BYTES + 100_000
    return lines[:at] + noise(20_000) + lines[at:]


def seal(block, now_s):
    """The Fernet token of a block as base64 text, around an .xz stream with preset 9's dictionary of 64 MiB."""
    xz = lzma.compress(block, format=lzma.FORMAT_XZ, preset=9 | lzma.PRESET_EXTREME)
    return Fernet(KEY).encrypt_at_time(xz, now_s)


def main():
    folder = Path(__file__).resolve().parent / "older"
    shutil.rmtree(folder, ignore_errors=True)
    data = plain()
    blocks = [data[i : i + BLOCK_BYTES] for i in range(0, len(data), BLOCK_BYTES)]
    texts = [seal(block, now_s) for block, now_s in zip(blocks, TIMES_S, strict=True)]
    for form, tokens in {"raw": [base64.urlsafe_b64decode(text) for text in texts], "base64": texts}.items():
        (folder / form).mkdir(parents=True)
        chunks = []
        for index, token in enumerate(tokens):
            name = hashlib.sha256(token).hexdigest()
            (folder / form / name).write_bytes(token)
            chunks.append({"index": index, "id": name})
        whole = {
            "version": 1,
            "key": KEY.decode(),
            "size": len(data),
            "chunk_size": BLOCK_BYTES,
            "copies": 5,
            "chunks": chunks,
        }
        bare = {"chunks": chunks[::-1], "key": KEY.decode()}
        (folder / f"{form}.manifest").write_text(json.dumps(whole, indent=1) + "\n")
        (folder / f"{form}-bare.manifest").write_text(json.dumps(bare) + "\n")
    print(f"{len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
