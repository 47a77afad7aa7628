#!/bin/bash
# repository.sh OUT_DIR DEB...: makes OUT_DIR a signed apt repository of these packages, or adds them to the one that it is.
# Put OUT_DIR behind any web server; README.md says how, and what a user types.
#
# GNUPGHOME names the folder with the signing key. If it holds none, one is made, without a passphrase: keep that folder,
# and keep it private. CELLSYNC_SIGNING_KEY names the key where there are several.
#
# With SOURCE_DATE_EPOCH the same packages give the same bytes, but for the signatures. Needs dpkg, gpg, gzip and xz.
set -euo pipefail
export LC_ALL=C

[[ $# -ge 2 ]] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
out=$1
shift
GNUPGHOME=$(realpath -m "${GNUPGHOME:?names the folder of the signing key; a new one will do}")
case $GNUPGHOME/ in
    "$(realpath -m "$out")"/*) echo "$GNUPGHOME would be published with $out" >&2; exit 2 ;;
esac
umask 077
mkdir -p "$GNUPGHOME"
umask 022

signing_key() {
    gpg --batch --list-secret-keys --with-colons "$@" 2>/dev/null | awk -F: '$1 == "fpr" { print $10; exit }'
}

key=$(signing_key ${CELLSYNC_SIGNING_KEY:+"$CELLSYNC_SIGNING_KEY"})
if [[ ! $key ]]; then
    [[ ! ${CELLSYNC_SIGNING_KEY:-} ]] || { echo "$GNUPGHOME has no secret key $CELLSYNC_SIGNING_KEY" >&2; exit 1; }
    gpg --batch --quiet --passphrase '' --quick-gen-key "CellSync packages" ed25519 sign never
    key=$(signing_key)
    echo "made the signing key $key in $GNUPGHOME: keep it, and keep it private"
fi

# Packages first and what names them last, each put in place whole: whoever reads meanwhile sees the old or the new state.
put() { mv -f "$1" "$2"; }

mkdir -p "$out/pool"
for deb in "$@"; do
    cp "$deb" "$out/pool/.new"
    put "$out/pool/.new" "$out/pool/$(basename "$deb")"
done
cd "$out"

# The entry of a package is its own control file and where it lies.
entry() {
    dpkg-deb --field "$1" | sed '/^$/d'
    printf 'Filename: %s\nSize: %s\nSHA256: %s\n\n' "$1" "$(stat -c %s "$1")" "$(sha256sum <"$1" | cut -d ' ' -f 1)"
}

# On the same file system, so that what is put in place is there at once.
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
    place=dists/stable${index#"$new"}
    by_hash=$(dirname "$place")/by-hash/SHA256
    mkdir -p "$by_hash"
    # Those who have read the InRelease until now still find its indices for a month.
    [[ ! -e $place ]] || touch -c "$by_hash/$(sha256sum <"$place" | cut -d ' ' -f 1)"
    find "$by_hash" -type f -mtime +30 -delete
    install -m 644 "$index" "$by_hash/.new"
    put "$by_hash/.new" "$by_hash/$(sha256sum <"$index" | cut -d ' ' -f 1)"
    put "$index" "$place"
done
for file in Release Release.gpg InRelease; do
    put "$new/$file" "dists/stable/$file"
done
put "$new/keyring.gpg" cellsync.gpg
echo "signed with the key $key; \`gpg --show-keys cellsync.gpg\` says the same on a board that has the right one"
