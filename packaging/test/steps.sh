# shellcheck shell=bash disable=SC2154 # boards_folder is set by boards.sh
# How a test on boards is told: named steps, the first failure, and why. To be sourced with `set -Eeuo pipefail`, after
# boards.sh.

# From now on whatever fails is told.
steps_begin() {
    shopt -s inherit_errexit
    doing=start
    trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
}

step() {
    local started=$SECONDS
    doing=$1
    shift
    "$@"
    [[ ! -d $boards_folder/failed ]]
    printf 'ok    %s (%s s)\n' "$doing" $((SECONDS - started))
}

note() { printf '      %s\n' "$*"; }

# The first failure is the one that is told, wherever in the tree of subshells it happens.
fail() {
    trap - ERR
    if mkdir "$boards_folder/failed" 2>/dev/null; then
        cp "$boards_folder/last" "$boards_folder/failed/board" 2>/dev/null || true
        printf 'FAIL  %s: %s\n' "$doing" "$*" >&2
    fi
    exit 1
}

# must WHAT COMMAND...: what holds when the command succeeds.
must() {
    local what=$1 said
    shift
    said=$("$@" 2>&1) || fail "$what"$'\n'"      $*"$'\n'"      $said"
}

must_not() {
    local what=$1 said
    shift
    ! said=$("$@" 2>&1) || fail "$what"$'\n'"      $*"$'\n'"      $said"
}

# same WHAT EXPECTED FOUND. Where FOUND is the output of a command, the command may have failed.
same() { [[ $2 == "$3" && ! -d $boards_folder/failed ]] || fail "$1 is '$3' instead of '$2'"; }

# soon SECONDS WHAT COMMAND...: what holds before so many seconds have passed.
soon() { boards_await "$1" "${@:3}" || fail "$2: not within $1 s"; }

# together BOARD... -- FUNCTION...: the same on several boards at once; the board is the last argument.
together() {
    local boards=() waited=() at
    while [[ $1 != -- ]]; do
        boards+=("$1")
        shift
    done
    shift
    for at in "${!boards[@]}"; do
        "$@" "${boards[at]}" &
        waited+=($!)
    done
    for at in "${!boards[@]}"; do
        wait "${waited[at]}"
    done
}
