# shellcheck shell=dash
# scripts/rdma-check road: each test whose server listens on TCP, with frames that travel by RDMA.
# shellcheck source=scripts/lib/rdma-common.sh
repository=$(cat path)
mkdir -p "$(dirname "$repository")" /nonexistent
ln -s /payload/repository "$repository"
export GPURUN_TEST_TRANSPORT=rdma GPURUN_TEST_HOST=$RXE_IP GPURUN_TEST_PATIENCE=10

# What is not run here, and why: a part of the test's name, and the reason.
not_here() {
    case $1 in
        *directly*) echo "it has no server" ;;
        *over_unix* | *merely_returns*) echo "its server listens on a unix socket" ;;
        *with_no_server* | no_server_is*) echo "it has no server on TCP" ;;
        a_child_after_fork* | gpustat* | nvitop* | nvml_and_cuda* | structures* | children_of_a_process* | a_server_that_is_gone*) echo "it needs Python" ;;
        exactly_*_names_are_exported) echo "it asks no server, and needs binutils" ;;
        *) return 1 ;;
    esac
}

# `run_tests TEST`: a line for each test, and the output of those that failed.
run_tests() {
    file=${1%%::*}
    skips=
    for test in $("tests/$file" --list --format terse | sed -n 's/: test$//p'); do
        case $file::$test in "$1"*) ;; *)
            skips="$skips --skip $test"
            continue
            ;;
        esac
        if why=$(not_here "$test"); then
            echo "not here $file::$test: $why" >>/tmp/absent
            skips="$skips --skip $test"
        else
            echo "$test" >>/tmp/expected
        fi
    done
    # shellcheck disable=SC2086 # names, one word each
    "tests/$file" --exact --test-threads=2 $skips 2>&1 | tee -a /tmp/tests.log
}

: >/tmp/absent
: >/tmp/expected
: >/tmp/tests.log
for name in "$@"; do run_tests "$name"; done
cat /tmp/absent
passed=$(grep -c '^test .* \.\.\. ok$' /tmp/tests.log)
# What did not come to its end has failed as well.
failed=$(($(grep -c . /tmp/expected) - passed))
result=ok
if [ "$failed" != 0 ] || [ "$passed" = 0 ]; then result=FAILED; fi
echo "test result: $result. $passed passed; $failed failed; $(grep -c . /tmp/absent) not for this machine"
[ "$result" = ok ]
