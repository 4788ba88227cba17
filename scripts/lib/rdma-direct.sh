# shellcheck shell=dash
# scripts/rdma-check direct: copies of 16 MiB to and from the software GPU, with the card reading its memory and without, and perftest, in turn.
# shellcheck source=scripts/lib/rdma-common.sh
. ./rdma-common.sh
PORT=7400
for way in always off auto; do
    printf "rdma_gpu_memory = '%s'\n" "$way" >"/tmp/$way.toml"
    GPURUN_LOG=error bin/gpu-server serve --config "/tmp/$way.toml" --device soft --insecure --listen "tcp://$RXE_IP:$PORT" >"/tmp/$way.log" 2>&1 &
    eval "port_$way=$PORT"
    PORT=$((PORT + 1))
done
for way in always off auto; do
    tries=0
    until grep -q listening "/tmp/$way.log"; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || failed "a server does not listen"
        usleep 100000
    done
done

# `perftest PROGRAM`: milliseconds of 16 MiB in messages of 1 MiB.
perftest() {
    "$1" -F -d "$RXE_DEV" -x "$RXE_GID_INDEX" -s 1048576 -n 16 >/tmp/perftest.log 2>&1 &
    tries=0
    until "$1" -F -d "$RXE_DEV" -x "$RXE_GID_INDEX" -s 1048576 -n 16 "$RXE_IP" >/tmp/perftest 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || failed "$1: $(cat /tmp/perftest)"
        usleep 50000
    done
    wait $!
    awk -v name="$1" '$1 == 1048576 { printf "%s %.1f\n", name, 16 * 1000 / $4 }' /tmp/perftest >>/tmp/figures
}

round=0
while [ "$round" -lt "$1" ]; do
    round=$((round + 1))
    for way in always off auto; do
        eval "port=\$port_$way"
        # shellcheck disable=SC2154 # the loop above names it
        SERVER="$RXE_IP:$port" client bin/large_copies time 16 7 >/tmp/client.log 2>&1 || failed "$way"
        # The first copies have what was never touched before.
        awk -v way="$way" '$1 == "to" && seen++ > 1 { printf "to_%s %.1f\nfrom_%s %.1f\n", way, $2 / 1000, way, $4 / 1000 }' /tmp/client.log >>/tmp/figures
    done
    perftest ib_write_bw
    perftest ib_read_bw
done
for name in to_always to_off to_auto ib_write_bw from_always from_off from_auto ib_read_bw; do
    sort -k2 -n /tmp/figures | awk -v name="$name" '$1 == name { all[count++] = $2 }
        END { printf "%-14s median %7.1f ms  least %7.1f  most %7.1f  of %d\n", name, all[int(count / 2)], all[0], all[count - 1], count }'
done
exit 0
