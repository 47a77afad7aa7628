#!/bin/bash
# repository.sh OUT_DIR DEB...: creates a signed apt repository in OUT_DIR, or adds these packages to the one there.
#
# Serve OUT_DIR with any web server. README.md in this folder has an example, and the commands for users.
#
# GNUPGHOME is the folder of the signing key. If it has no key, a new one without a passphrase is created there: back up
# the folder, and keep it private. CELLSYNC_SIGNING_KEY selects the key if there are several.
#
# With SOURCE_DATE_EPOCH set, the output is reproducible except for the signatures. Needs dpkg, gpg, gzip and xz.
set -euo pipefail
export LC_ALL=C

[[ $# -ge 2 ]] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
out=$1
shift
GNUPGHOME=$(realpath -m "${GNUPGHOME:?set it to the folder of the signing key; an empty folder gets a new key}")
case $GNUPGHOME/ in
    "$(realpath -m "$out")"/*) echo "the signing key in $GNUPGHOME would be published with $out; use a GNUPGHOME outside of it" >&2; exit 2 ;;
esac
umask 077
mkdir -p "$GNUPGHOME"
umask 022

signing_key() {
    gpg --batch --list-secret-keys --with-colons "$@" 2>/dev/null | awk -F: '$1 == "fpr" { print $10; exit }'
}

key=$(signing_key ${CELLSYNC_SIGNING_KEY:+"$CELLSYNC_SIGNING_KEY"})
if [[ ! $key ]]; then
    [[ ! ${CELLSYNC_SIGNING_KEY:-} ]] || { echo "no secret key $CELLSYNC_SIGNING_KEY in $GNUPGHOME; check CELLSYNC_SIGNING_KEY" >&2; exit 1; }
    gpg --batch --quiet --passphrase '' --quick-gen-key "CellSync packages" ed25519 sign never
    key=$(signing_key)
    echo "created the signing key $key in $GNUPGHOME; back up this folder, and keep it private"
fi

# Files are replaced atomically, the packages first and the index that lists them last. A client that reads meanwhile
# sees the old state or the new one.
put() { mv -f "$1" "$2"; }

mkdir -p "$out/pool"
for deb in "$@"; do
    cp "$deb" "$out/pool/.new"
    put "$out/pool/.new" "$out/pool/$(basename "$deb")"
done
cd "$out"

# Prints the index entry of a package: its control file, then its path, size and hash.
entry() {
    dpkg-deb --field "$1" | sed '/^$/d'
    printf 'Filename: %s\nSize: %s\nSHA256: %s\n\n' "$1" "$(stat -c %s "$1")" "$(sha256sum <"$1" | cut -d ' ' -f 1)"
}

# On the same file system as OUT_DIR, so that `put` is atomic.
new=$(mktemp -d "$PWD/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT
architectures=$(for deb in pool/*.deb; do dpkg-deb --field "$deb" Architecture; done | sort -u | xargs)
for architecture in $architectures; do
    index=main/binary-$architecture
    mkdir -p "$new/$index"
    for deb in pool/*.deb; do
        [[ $(dpkg-deb --field "$deb" Architecture) != "$architecture" ]] || entry "$deb"
    done >"$new/$index/Packages"
    gzip -9nk "$new/$index/Packages"
    xz -k --threads=1 "$new/$index/Packages"
done

cd "$new"
{
    cat <<END
Origin: CellSync
Label: CellSync
Suite: stable
Codename: stable
Date: $(date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" '+%a, %d %b %Y %H:%M:%S UTC')
Architectures: $architectures
Components: main
Acquire-By-Hash: yes
SHA256:
END
    for index in main/binary-*/Packages*; do
        echo " $(sha256sum <"$index" | cut -d ' ' -f 1) $(stat -c %s "$index") $index"
    done
} >Release
gpg --batch --yes --quiet --local-user "$key" --clearsign --output InRelease Release
gpg --batch --yes --quiet --local-user "$key" --armor --detach-sign --output Release.gpg Release
gpg --batch --yes --quiet --export "$key" >keyring.gpg
cd "$OLDPWD"

for index in "$new"/main/binary-*/Packages*; do
    path=dists/stable${index#"$new"}
    by_hash=$(dirname "$path")/by-hash/SHA256
    mkdir -p "$by_hash"
    # Keeps the previous indices for a month, for clients that have already read the previous InRelease.
    [[ ! -e $path ]] || touch -c "$by_hash/$(sha256sum <"$path" | cut -d ' ' -f 1)"
    find "$by_hash" -type f -mtime +30 -delete
    install -m 644 "$index" "$by_hash/.new"
    put "$by_hash/.new" "$by_hash/$(sha256sum <"$index" | cut -d ' ' -f 1)"
    put "$index" "$path"
done
for file in Release Release.gpg InRelease; do
    put "$new/$file" "dists/stable/$file"
done
put "$new/keyring.gpg" cellsync.gpg
echo "signed with the key $key; to compare it on a board, run: gpg --show-keys /etc/apt/keyrings/cellsync.gpg"
