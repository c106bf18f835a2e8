# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# lib.sh: what install-deps, quickstart and check share. The sourcing script sets `program`.

say() {
    echo "$program: $*" >&2
}

die() {
    say "$*"
    exit 2
}

# The command that step() waits for. It runs in the background, where Ctrl-C does not reach it: whoever leaves early
# ends it. A script with an EXIT trap of its own calls stop_step from there.
step_pid=
stop_step() {
    [ -n "$step_pid" ] || return 0
    kill "$step_pid" 2>/dev/null || true
    wait "$step_pid" 2>/dev/null || true
    step_pid=
}
trap stop_step EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# step LOG TEXT COMMAND…
# Runs a command with its output in LOG and shows what it does: on a terminal one line with the seconds and ninja's
# [done/all] counter, elsewhere a line at the start and at the end. Returns 1 after showing the end of LOG on failure.
step() {
    local log=$1 text=$2 started=$SECONDS counter
    shift 2
    [ -t 2 ] || say "$text …"
    "$@" >"$log" 2>&1 </dev/null &
    step_pid=$!
    if [ -t 2 ]; then
        while kill -0 "$step_pid" 2>/dev/null; do
            counter=$(tail -c 300 "$log" | grep -oE '^\[[0-9]+/[0-9]+\]' | tail -n 1) || true
            printf '\r\033[K%s: %s … %s %d s' "$program" "$text" "$counter" $((SECONDS - started)) >&2
            sleep 0.5 # how often the line is drawn
        done
        printf '\r\033[K' >&2
    fi
    if ! wait "$step_pid"; then
        step_pid=
        tail -n 30 "$log" >&2
        say "$text: failed after $((SECONDS - started)) s (its last lines are above, all of them in $log)"
        return 1
    fi
    step_pid=
    say "$text: done in $((SECONDS - started)) s"
}
