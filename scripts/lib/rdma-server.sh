# shellcheck shell=dash
# scripts/rdma-check on two machines: the one with the device. It ends when the other says so.
# shellcheck source=scripts/lib/rdma-common.sh
. ./rdma-common.sh
start_server always
# The other machine runs a program of this name when it is done.
tries=0
until grep -q the_last_one /tmp/server.log; do
    tries=$((tries + 1))
    [ "$tries" -lt 1200 ] || failed "the other machine does not come to its end"
    usleep 100000
done
await_none "gpu-server worker"
stop_server
exit 0
