#!/usr/bin/env python3
"""Restores a file from a manifest and a folder of chunks, without any code of CellSync.

    python3 restore.py MANIFEST FOLDER OUTPUT

A directory becomes a tar archive: python3 restore.py photos.manifest FOLDER /dev/stdout | tar x

It needs `lzma` from Python's standard library and Fernet from the `cryptography` package. It proves that the format is
open, and restores files if CellSync is not available.
"""

import base64
import hashlib
import hmac
import json
import lzma
import sys
from pathlib import Path

from cryptography.fernet import Fernet


def chunk_key(manifest, chunk):
    """The key of a chunk: that of the manifest, or in version 2 its own, by default the key of its position."""
    if manifest.get("version", 1) == 1:
        return manifest["key"]
    if "key" in chunk:
        return chunk["key"]
    secret = base64.urlsafe_b64decode(manifest["key"])
    return base64.urlsafe_b64encode(hmac.digest(secret, b"chunk" + chunk["index"].to_bytes(8, "big"), "sha256"))


def main(manifest_path, folder, output):
    manifest = json.loads(Path(manifest_path).read_text(encoding="utf-8"))
    with open(output, "wb") as file:
        for chunk in sorted(manifest["chunks"], key=lambda chunk: chunk["index"]):
            token = (Path(folder) / chunk["id"]).read_bytes()
            if hashlib.sha256(token).hexdigest() != chunk["id"]:
                sys.exit(f"chunk {chunk['index']} does not hash to its id")
            if not token.startswith(b"g"):
                token = base64.urlsafe_b64encode(token)
            fernet = Fernet(chunk_key(manifest, chunk))
            block = lzma.decompress(fernet.decrypt(token), format=lzma.FORMAT_XZ)
            if len(block) != chunk.get("len", len(block)):
                sys.exit(f"block {chunk['index']} has {len(block)} bytes instead of {chunk['len']}")
            file.write(block)


if __name__ == "__main__":
    main(*sys.argv[1:])
