# shellcheck shell=bash
# What every script of the project shares: where things are, and how to speak and fail.
# Source it after `set -euo pipefail`.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$REPO/target}
TOOLS=$REPO/target/tools
RELEASE=$TARGET/release
# The scripts that source this file read these.
export REPO TARGET TOOLS RELEASE

# A line of progress, on standard error so that a script's own output stays clean.
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# A clear last word, then failure.
die() {
    say "error: $*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Seconds since the epoch with milliseconds, and the seconds since such a moment.
now() { date +%s.%3N; }
since() { awk -v from="$1" -v to="$(now)" 'BEGIN { printf "%.1f", to - from }'; }

# `apt_install WHY PACKAGE…`: on Debian or Ubuntu as root, else a message that says what to type.
apt_install() {
    local why=$1
    shift
    if ! have apt-get; then
        die "$why needs the equivalent of: $* (no apt-get here)"
    elif [ "$(id -u)" != 0 ]; then
        die "$why needs: sudo apt-get install $*"
    fi
    say "installing $* ($why)"
    export DEBIAN_FRONTEND=noninteractive
    # An image that has never seen a package list, or one too old for what it names.
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null 2>&1 || {
        apt-get update -qq >/dev/null || die "apt-get update failed"
        apt-get install -qq -y --no-install-recommends "$@" >/dev/null || die "apt-get install $* failed"
    }
}

need_cargo() {
    have cargo && return
    # A shell that has not read the profile rustup wrote.
    if [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        export PATH
        return
    fi
    die "no Rust toolchain: install it from https://rustup.rs (curl -sSf https://sh.rustup.rs | sh), then run this again"
}

# What the transport by RDMA needs to be built: rdma-core's headers, and clang 14 for the bindings (newer ones fail). Nothing to run.
RDMA_PACKAGES=(pkg-config libibverbs-dev librdmacm-dev libclang-14-dev)

can_build_rdma() {
    have pkg-config && pkg-config --exists libibverbs librdmacm && [ -e /usr/lib/llvm-14/lib/libclang.so.1 ]
}

# The packages that a cargo command chooses, optimised all but these (what only tests and build scripts use), and unoptimised. One test of one package is
# chosen from all of them: cargo gives what packages share the features that all chosen ones want, and builds it again for any other choice.
# shellcheck disable=SC2034 # of those who build
NOT_RELEASED=(--exclude fuzz --exclude tests --exclude test-scratch --exclude driver-api-generator)
# shellcheck disable=SC2034
UNOPTIMISED=(--workspace --exclude soft-gpu)

# Sets FEATURES, the options that every cargo command gets: the same ones, or everything would be built twice. A feature of one crate is
# enough: the others see the transport through it.
choose_features() {
    FEATURES=()
    if [ "${GPURUN_BUILD_RDMA:-auto}" != no ] && can_build_rdma; then
        export LIBCLANG_PATH=/usr/lib/llvm-14/lib
        FEATURES=(--features protocol/rdma)
    elif [ "${GPURUN_BUILD_RDMA:-auto}" = yes ]; then
        apt_install "the transport by RDMA" "${RDMA_PACKAGES[@]}"
        GPURUN_BUILD_RDMA=auto choose_features
    else
        say "without the transport by RDMA (for it, install ${RDMA_PACKAGES[*]})"
    fi
    export FEATURES
}
