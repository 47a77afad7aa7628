# shellcheck shell=bash disable=SC2154 # boards_folder is set by boards.sh
# Reporting for tests on boards: named steps, and the first failure with its reason. Source this after boards.sh, with
# `set -Eeuo pipefail`.

# Starts the reporting: from now on every failing command ends the test with a message.
steps_begin() {
    shopt -s inherit_errexit
    current_step=start
    trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
}

step() {
    local started=$SECONDS
    current_step=$1
    shift
    "$@"
    [[ ! -d $boards_folder/failed ]]
    printf 'ok    %s (%s s)\n' "$current_step" $((SECONDS - started))
}

note() { printf '      %s\n' "$*"; }

# fail REASON: ends the test. Only the first failure is printed, in whichever subshell it occurs.
fail() {
    trap - ERR
    if mkdir "$boards_folder/failed" 2>/dev/null; then
        cp "$boards_folder/last" "$boards_folder/failed/board" 2>/dev/null || true
        printf 'FAIL  %s: %s\n' "$current_step" "$*" >&2
    fi
    exit 1
}

# must WHAT COMMAND...: fails unless COMMAND succeeds. WHAT names the condition.
must() {
    local what=$1 output
    shift
    output=$("$@" 2>&1) || fail "$what"$'\n'"      $*"$'\n'"      $output"
}

# must_not WHAT COMMAND...: fails if COMMAND succeeds. WHAT names what must not be.
must_not() {
    local what=$1 output
    shift
    ! output=$("$@" 2>&1) || fail "$what"$'\n'"      $*"$'\n'"      $output"
}

# same WHAT EXPECTED ACTUAL: fails if the values differ, or if the command that printed ACTUAL has failed.
same() { [[ $2 == "$3" && ! -d $boards_folder/failed ]] || fail "$1: expected '$2', got '$3'"; }

# soon SECONDS WHAT COMMAND...: fails unless COMMAND succeeds within SECONDS. Retries until then.
soon() { boards_await "$1" "${@:3}" || fail "$2: not within $1 s"; }

# in_parallel BOARD... -- FUNCTION...: runs FUNCTION for several boards at once, with the board as its last argument.
in_parallel() {
    local boards=() pids=() at
    while [[ $1 != -- ]]; do
        boards+=("$1")
        shift
    done
    shift
    for at in "${!boards[@]}"; do
        "$@" "${boards[at]}" &
        pids+=($!)
    done
    for at in "${!boards[@]}"; do
        wait "${pids[at]}"
    done
}
