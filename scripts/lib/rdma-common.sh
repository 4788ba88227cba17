# shellcheck shell=dash
# What the commands of scripts/rdma-check share, inside the machine.

# `passed WHAT`, `failed WHAT`: a line each; a failure ends the machine.
passed() { echo "ok $*"; }
failed() {
    tail -n 30 /tmp/*.log
    echo "FAILED $*"
    exit 1
}

# `start_server [GPU_MEMORY]`: with this setting of `rdma_gpu_memory`, which is also how the client is told that GPU memory goes.
start_server() {
    printf "rdma_gpu_memory = '%s'\n" "${1:-auto}" >/tmp/server.toml
    case ${1:-auto} in
        off) export GPU_MEMORY="GPU memory by way of host memory: this server's settings say no" ;;
        *) export GPU_MEMORY="large copies from and to the GPU go directly, by peer memory" ;;
    esac
    # Empty before it is looked at: the last server's words are not this one's, however late its process begins.
    : >/tmp/server.log
    GPURUN_LOG=info,gpu_server::worker=debug bin/gpu-server serve --config /tmp/server.toml --device soft --insecure --listen "tcp://$RXE_IP:7370" --listen "tcp://[$RXE_IP6]:7370" >/tmp/server.log 2>&1 &
    export SERVER_PID=$!
    tries=0
    until grep -q listening /tmp/server.log; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || failed "the server does not listen"
        usleep 100000
    done
}

stop_server() {
    kill "$SERVER_PID"
    wait "$SERVER_PID" 2>/dev/null
    return 0
}

# `direct_copies`: how many copies from the device have gone directly since the server began.
direct_copies() { grep -c "a copy from the device went directly" /tmp/server.log || :; }

# `direct_reads`: the same for copies to the device.
direct_reads() { grep -c "a copy to the device went directly" /tmp/server.log || :; }

# `find_process TEXT`: the ids of processes whose command line has it.
find_process() {
    for process in /proc/[0-9]*; do
        { tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null | grep -q -- "$1" && echo "${process#/proc/}"
    done
    return 0
}

# `await_none TEXT`: until there is no such process. A minute at most.
await_none() {
    tries=0
    while [ -n "$(find_process "$1")" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || failed "a process $1 stays"
        usleep 100000
    done
}

# `client COMMAND…`: a program whose GPU is behind RDMA, and nothing else.
client() { LD_PRELOAD=/payload/bin/guest/libcuda.so.1 LD_LIBRARY_PATH=/payload/bin/guest GPURUN_SERVER="${SERVER:-}" GPURUN_TRANSPORT=${TRANSPORT:-rdma} GPURUN_LOG=info timeout 400 "$@"; }

# `by_rdma NAME PROGRAM [ARGUMENT…]`: it passes, and its frames went by RDMA.
by_rdma() {
    name=$1
    shift
    client "$@" >/tmp/client.log 2>&1 || failed "$name"
    grep -q "frames travel by rdma by rxe0" /tmp/client.log || failed "$name: not by RDMA"
    grep -q "$GPU_MEMORY" /tmp/client.log || failed "$name: nothing is told of GPU memory"
    passed "$name over RDMA"
}

# `begin PROGRAM [ARGUMENT…]`: the client runs beside, as $program, until it has gone round a few times (a program that prints its iterations).
begin() {
    # As the server's log: the last program's lines are not this one's.
    : >/tmp/client.log
    client "$@" >/tmp/client.log 2>&1 &
    program=$!
    tries=0
    until [ "$(grep -c ^iteration /tmp/client.log)" -gt 2 ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || failed "$1 does not begin"
        usleep 100000
    done
}
