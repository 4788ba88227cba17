// How much longer a program runs, from start to end, while a library is in the list of the preloaded:
//   start_cost LIST LIBRARY RUNS PROGRAM     LIST: /etc/ld.so.preload, which is rewritten for each run
// With and without in turn, so that whatever else the machine does falls on both. Prints medians in microseconds.
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static int ascending(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void list(const char *path, const char *library) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || write(file, library, strlen(library)) < 0 || close(file) != 0) die(path);
}

static double run(const char *program, int *status) {
    char *arguments[] = {(char *)program, NULL}, *environment[] = {NULL};
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    pid_t child;
    double since = now_us();
    if (posix_spawn(&child, program, &quiet, NULL, arguments, environment) != 0) die(program);
    if (waitpid(child, status, 0) != child) die("waitpid");
    double took = now_us() - since;
    posix_spawn_file_actions_destroy(&quiet);
    return took;
}

int main(int count, char **arguments) {
    if (count != 5) return 2;
    int runs = atoi(arguments[3]), status[2] = {0, 0};
    double *took[2] = {calloc((size_t)runs, sizeof(double)), calloc((size_t)runs, sizeof(double))};
    for (int i = 0; i < runs; i++)
        for (int with = 0; with < 2; with++) {
            list(arguments[1], with ? arguments[2] : "");
            took[with][i] = run(arguments[4], &status[with]);
        }
    list(arguments[1], "");
    if (status[0] != status[1]) {
        printf("FAIL status %d without, %d with\n", status[0], status[1]);
        return 1;
    }
    for (int with = 0; with < 2; with++) qsort(took[with], (size_t)runs, sizeof(double), ascending);
    double without = took[0][runs / 2], with = took[1][runs / 2];
    printf("PASS without %.0f us, with %.0f us, %.0f us more (medians of %d runs each)\n", without, with, with - without, runs);
    return 0;
}
