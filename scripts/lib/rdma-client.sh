# shellcheck shell=dash
# scripts/rdma-check on two machines: the one without a device.
# shellcheck source=scripts/lib/rdma-common.sh
. ./rdma-common.sh
export SERVER=10.77.0.1:7370
export GPU_MEMORY="large copies from and to the GPU go directly, by peer memory"
tries=0
until bin/gpurun list --server "$SERVER" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || failed "the other machine does not answer"
    usleep 100000
done
for name in vector_add stream_overlap tiled_matmul; do by_rdma "$name between two machines" "programs/$name"; done
# Nothing that is sent arrives, for two seconds: packets are sent again, and the program does not notice. For good: it is told, within the
# time that the card tries.
mute() { ip neigh replace 10.77.0.1 lladdr 02:00:00:00:00:99 dev "$RXE_NETDEV" nud permanent; }
unmute() { ip neigh del 10.77.0.1 dev "$RXE_NETDEV"; }
outlives() {
    what=$1
    shift
    begin "$@"
    before=$(grep -c ^iteration /tmp/client.log)
    mute
    sleep 2
    unmute
    wait "$program" || failed "a wire that was dead for two seconds, $what"
    # It was at work when the wire died, and went on.
    after=$(grep -c ^iteration /tmp/client.log)
    [ "$after" -gt "$before" ] || failed "nothing happened after the outage, $what: $before iterations before, $after in all"
    passed "a wire that is dead for two seconds harms nobody, $what"
}
outlives "small calls" programs/long_run 5 16
outlives "large copies from the device" programs/long_run 8 4 back
outlives "large copies to the device" programs/long_run 8 4 forth
begin programs/long_run 60 16
mute
wait "$program" && failed "a program whose wire is dead passes"
unmute
grep -q "the session is lost" /tmp/client.log || failed "the dead wire is not told"
passed "a dead wire ends the session: $(sed -n 's/.*the session is lost: \(.*\); every.*/\1/p' /tmp/client.log)"

# The other machine waits for this name.
cp programs/vector_add /tmp/the_last_one
by_rdma "the last program" /tmp/the_last_one
exit 0
