# shellcheck shell=dash
# scripts/rdma-check road: each test whose server listens on TCP, with frames that travel by RDMA.
# shellcheck source=scripts/lib/rdma-common.sh
repository=$(cat path)
mkdir -p "$(dirname "$repository")" /nonexistent
ln -s /payload/repository "$repository"
export GPURUN_TEST_TRANSPORT=rdma GPURUN_TEST_HOST=$RXE_IP GPURUN_TEST_PATIENCE=10
status=0
for name in "$@"; do
    # Without what has nothing to do with a server on TCP.
    "tests/$name" --test-threads=2 --skip directly --skip over_unix --skip merely_returns --skip with_no_server || status=1
done
exit $status
