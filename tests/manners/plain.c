// A program that does not use the driver: says who it runs as, and ends with a status of its own.
#include <stdio.h>
#include <unistd.h>

int main(int count, char **arguments) {
    (void)arguments;
    printf("plain %d %d\n", (int)geteuid(), count);
    return 3;
}
