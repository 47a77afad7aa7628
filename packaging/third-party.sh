#!/bin/bash
# third-party.sh: prints the licences and copyright notices of all crates that are linked into the programs. Most
# licences require this of those who distribute the programs. Each text is printed once, after the names of all crates
# that have it.
set -euo pipefail
# The same order on every machine.
export LC_ALL=C
cd "$(dirname "$0")/.."

# The folders of all packages in the dependency graph. A folder is named `crate-version`.
folders=$(cargo metadata --locked --format-version 1 | grep -o '"manifest_path":"[^"]*/Cargo.toml"' | cut -d'"' -f4)

declare -A names texts
order=()
while read -r crate; do
    folder=$(grep -F "/$crate/Cargo.toml" <<<"$folders" | head -n 1)
    folder=${folder%/Cargo.toml}
    found=()
    shopt -s nullglob nocaseglob
    for file in "$folder"/{licen[cs]e,copying,notice,copyright}*; do
        [[ -f $file ]] && found+=("$file")
    done
    shopt -u nullglob nocaseglob
    if [[ ${#found[@]} == 0 ]]; then
        # Some crates contain no licence file. The manifest is then the only source.
        license=$(sed -n 's/^license = "\(.*\)"/\1/p' "$folder/Cargo.toml" | head -n 1)
        [[ -n $license ]] || { echo "crate $crate has neither a licence file nor a licence in its manifest" >&2; exit 1; }
        text="Licence: $license (no text in the crate)"
        authors=$(sed -n '/^authors = \[/,/\]/p' "$folder/Cargo.toml" | tr -d '\n' | sed 's/^authors = \[ *//; s/,* *\].*//')
        [[ -z $authors ]] || text+=$'\n'"Authors: $authors"
        key=$(sha256sum <<<"$text")
        [[ -n ${names[$key]:-} ]] || { order+=("$key"); texts[$key]=$text; }
        names[$key]+="$crate "
    fi
    for file in "${found[@]}"; do
        key=$(sha256sum <"$file")
        [[ -n ${names[$key]:-} ]] || { order+=("$key"); texts[$key]=$(<"$file"); }
        names[$key]+="$crate "
    done
done < <(cargo tree --locked --edges normal --target all --prefix none --format '{p}' |
    sed -n 's/^\([^ ]*\) v\([^ ]*\).*/\1-\2/p' | grep -v "^cellsync-" | sort -u)

for key in "${order[@]}"; do
    printf '%s\n' "==============================================================================="
    printf '%s' "${names[$key]}" | fold -s -w 79
    printf '\n-------------------------------------------------------------------------------\n%s\n\n' "${texts[$key]}"
done
