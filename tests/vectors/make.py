#!/usr/bin/env python3
"""Makes the chunks of an older writer: tests/vectors/older.

    python3 tests/vectors/make.py

The file that they restore to is the same each time: 2.3 MiB of numbered lines with 20,000 bytes of noise in the middle
of its last block. tests/vectors.rs knows its length and SHA-256. Key and time stamps are fixed too, initialisation
vectors are not, so each run names the chunks anew. Needs the `cryptography` package; everything else is in Python.

    older/raw/<id>          chunks as bytes, what writers of today send
    older/base64/<id>       the same blocks as base64 text, what the first writers sent
    older/*.manifest        every key, and (bare) only the keys that every reader needs
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
# One stamp from before every board's clock was set, one of an ordinary day, one far ahead.
TIMES_S = [0, 1_700_000_000, 7_258_118_400]


def noise(length):
    """Bytes without order, the same each time: SHA-256 of a counter."""
    blocks = (hashlib.sha256(i.to_bytes(8, "little")).digest() for i in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def plain():
    """The file."""
    lines = b"".join(b"line %06d of a file that was stored long ago\n" % i for i in range(50_000))
    at = 2 * BLOCK_BYTES + 100_000
    return lines[:at] + noise(20_000) + lines[at:]


def seal(block, now_s):
    """A block as Fernet's base64 text, around an .xz stream with the dictionary of preset 9 as it comes: 64 MiB."""
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
