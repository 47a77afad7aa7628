#!/usr/bin/env python3
"""Restores a file from a manifest and a folder of chunks, without any code of CellSync.

    python3 restore.py MANIFEST FOLDER OUTPUT

It needs `lzma` from Python's standard library and Fernet from the `cryptography` package. It proves that the format is
open, and restores files if CellSync is not available.
"""

import base64
import hashlib
import json
import lzma
import sys
from pathlib import Path

from cryptography.fernet import Fernet


def main(manifest_path, folder, output):
    manifest = json.loads(Path(manifest_path).read_text(encoding="utf-8"))
    fernet = Fernet(manifest["key"])
    with open(output, "wb") as file:
        for chunk in sorted(manifest["chunks"], key=lambda chunk: chunk["index"]):
            token = (Path(folder) / chunk["id"]).read_bytes()
            if hashlib.sha256(token).hexdigest() != chunk["id"]:
                sys.exit(f"chunk {chunk['index']} does not hash to its id")
            if not token.startswith(b"g"):
                token = base64.urlsafe_b64encode(token)
            file.write(lzma.decompress(fernet.decrypt(token), format=lzma.FORMAT_XZ))


if __name__ == "__main__":
    main(*sys.argv[1:])
