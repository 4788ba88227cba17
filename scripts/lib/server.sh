# shellcheck shell=bash
# One gpu-server for a script: started on a free port, stopped by its own process id.
# Source it after common.sh; call `stop_server` from the script's exit trap.

SERVER_PID=
SERVER_ADDRESS=

# `start_server DIRECTORY [OPTION…]`: sets SERVER_ADDRESS once the server says that it accepts.
# Its output is DIRECTORY/server.out and DIRECTORY/server.err.
start_server() {
    local directory=$1 waited
    shift
    # There when it is looked at, however late the server's own process begins.
    : >"$directory/server.out"
    "$RELEASE/gpu-server" serve --listen tcp://127.0.0.1:0 "$@" \
        >"$directory/server.out" 2>"$directory/server.err" &
    SERVER_PID=$!
    for ((waited = 0; waited < 600; waited++)); do
        SERVER_ADDRESS=$(sed -n 's/^listening on //p' "$directory/server.out" | head -n 1)
        [ -z "$SERVER_ADDRESS" ] || return 0
        if ! kill -0 "$SERVER_PID" 2>/dev/null; then
            cat "$directory/server.err" >&2
            SERVER_PID=
            die "gpu-server ended before it was ready"
        fi
        sleep 0.05
    done
    cat "$directory/server.err" >&2
    die "gpu-server was not ready within 30 s"
}

# Politely, then not; and reaps it, so that no process outlives the script.
stop_server() {
    [ -n "$SERVER_PID" ] || return 0
    local waited
    kill "$SERVER_PID" 2>/dev/null || true
    for ((waited = 0; waited < 100; waited++)); do
        kill -0 "$SERVER_PID" 2>/dev/null || break
        sleep 0.05
    done
    kill -9 "$SERVER_PID" 2>/dev/null || true
    wait "$SERVER_PID" 2>/dev/null || true
    SERVER_PID=
}
