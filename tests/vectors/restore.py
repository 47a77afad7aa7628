#!/usr/bin/env python3
"""Restores a file from a manifest and a folder of chunks, with nothing of CellSync.

    python3 restore.py MANIFEST FOLDER OUTPUT

This is what a client in Python does: `lzma` from its standard library, Fernet from the `cryptography` package. It is
the judge of whether the format is as open as it is said to be, and the way back to the data should CellSync be gone.
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
