// What the static C++ library of a newer system takes from a newer C library than the bundle's programs may need (2.17).
// Linked into each program, so that none of these becomes a symbol that an older system lacks.
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

// glibc 2.32: "no other thread ever ran"; 0 is always a correct answer.
char __libc_single_threaded = 0;

// glibc 2.25
int getentropy(void *bytes, size_t count) {
    if (count > 256) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_getrandom, bytes, count, 0) == (long)count ? 0 : -1;
}

// glibc 2.36
uint32_t arc4random(void) {
    uint32_t word;
    while (getentropy(&word, sizeof word) != 0) {
    }
    return word;
}
