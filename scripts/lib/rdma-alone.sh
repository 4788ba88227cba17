# shellcheck shell=dash
# scripts/rdma-check on one machine.
# shellcheck source=scripts/lib/rdma-common.sh
. ./rdma-common.sh
export GPURUN_TEST_RDMA=1 GPURUN_TEST_RDMA6=$RXE_IP6
export SERVER=$RXE_IP:7370

tests/transports by_rdma --test-threads=1 >/tmp/transports.log 2>&1 || failed "the conformance tests"
sed -n 's/^test by_rdma::\(.*\) \.\.\. ok$/\1/p' /tmp/transports.log | while read -r name; do passed "transport $name"; done
tests/rdma --test-threads=1 >/tmp/faults.log 2>&1 || failed "the tests of faults"
sed -n 's/^test \(.*\) \.\.\. ok$/\1/p' /tmp/faults.log | while read -r name; do passed "fault $name"; done

start_server
for name in vector_add stream_overlap multi_thread memory tiled_matmul; do by_rdma "$name" "programs/$name"; done
by_rdma "a program that forks before and after it has a session" programs/forks after
by_rdma "a forked child that goes on" programs/forks connected
by_rdma "a program that closes every descriptor that it does not know" programs/descriptors close-all

# Large copies: measured, some each way; then all of them directly, and what goes wrong around them; then none.
by_rdma "large copies, whichever way is cheaper" bin/large_copies
grep -q "large copies from and to the GPU go directly, by peer memory" /tmp/server.log || failed "the server says nothing of GPU memory"
[ "$(direct_copies)" -gt 0 ] || failed "no copy from the device went directly"
[ "$(direct_reads)" -gt 0 ] || failed "no copy to the device went directly"
stop_server
start_server always
by_rdma "large copies, directly" bin/large_copies
some=$(direct_copies)
[ "$some" -gt 40 ] || failed "only $some copies from the device went directly"
reads=$(direct_reads)
[ "$reads" -gt 25 ] || failed "only $reads copies to the device went directly"
! grep -q "a copy .* the device goes by way of host memory" /tmp/server.log || failed "the card refused memory"
passed "$some copies from the device and $reads to it went directly"
by_rdma "large copies around a fault, directly" bin/large_copies fault
by_rdma "a large copy to the device behind a fault" bin/large_copies fault to
for name in memory multi_thread stream_overlap; do by_rdma "$name, directly" "programs/$name"; done
# `killed_among WAY COUNT VICTIM`: long_run copies back or forth, its copies are counted, and the victim is killed.
killed_among() {
    before=$($2)
    begin programs/long_run 60 24 "$1"
    tries=0
    until [ "$($2)" -gt $((before + 2)) ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || failed "no copy goes directly, $1, before the kill"
        usleep 100000
    done
    for process in $(find_process "$3"); do kill -9 "$process"; done
    wait "$program" && failed "a program passes though $3 is killed"
    await_none "gpu-server worker"
    passed "$3 is killed among direct copies, $1, and the other side ends"
}
for victim in "gpu-server worker" "programs/long_run 60"; do
    killed_among back direct_copies "$victim"
    killed_among forth direct_reads "$victim"
done
by_rdma "the next program" programs/vector_add
stop_server
start_server off
by_rdma "large copies, by way of host memory" bin/large_copies
[ "$(direct_copies)$(direct_reads)" = 00 ] || failed "a copy went directly though the settings say no"
stop_server
start_server

SERVER="[$RXE_IP6]:7370" by_rdma "vector_add by an IPv6 address" programs/vector_add
grep -q "frames travel by rdma.*$RXE_IP6" /tmp/client.log || failed "not by the IPv6 address: $(cat /tmp/client.log)"

# A training job: losses equal to those of a run without any of this, to the last printed digit.
export PYTHONHOME=/payload/python PYTHONPATH=/payload/python/packages DEV=CUDA:PTX JIT=2 PARALLEL=0
by_rdma "tinygrad trains" python/bin/python python/train_tiny.py
unset PYTHONHOME PYTHONPATH
grep -v '^gpurun:' /tmp/client.log | cmp -s - python/expected || failed "the losses differ: $(cat /tmp/client.log python/expected)"
passed "the losses are those of a run without RDMA"

TRANSPORT=auto by_rdma "the automatic choice" programs/vector_add

# Without a device at the other end the reason is told, and frames go by TCP; who requires RDMA gets an error.
if GPURUN_RDMA_DEVICE=mlx9_9 client programs/vector_add >/tmp/client.log 2>&1; then failed "a device that is not there"; fi
grep -q "no RDMA to tcp://.*mlx9_9\|no RDMA to tcp://.*rxe0" /tmp/client.log || failed "no reason is told"
passed "a device that is not there is an error where RDMA is required"
TRANSPORT=auto GPURUN_RDMA_DEVICE=mlx9_9 client programs/vector_add >/tmp/client.log 2>&1 || failed "without a device"
grep -q "not by RDMA: no RDMA device" /tmp/client.log || failed "it is not told why there is no RDMA"
passed "without a device frames go by TCP, and it is told why"

# The worker is killed: a clear error, soon.
begin programs/long_run 60 16
kill -9 "$(find_process "gpu-server worker")"
wait "$program" && failed "a program whose worker is gone passes"
grep -q "the session is lost" /tmp/client.log || failed "the lost worker is not told"
passed "a killed worker ends the session with a clear error"

# The program is killed: its worker ends.
begin programs/long_run 60 16
for process in $(find_process "programs/long_run 60"); do kill -9 "$process"; done
await_none "gpu-server worker"
passed "a killed program's worker ends"

stop_server
exit 0
