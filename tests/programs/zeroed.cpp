// Calls each function named as an argument twice, with zeros for arguments, and prints `NAME RESULT RESULT` for it.
//
//   zeroed [--context] NAME…
//
// With `--context` a context is current. More arguments are passed than any function has: the rest are not looked at.
#include "driver.h"

const char *const PROGRAM = "zeroed";

int main(int count, char **arguments) {
    char *none[] = {arguments[0], nullptr};
    open_driver(1, none);
    int first = 1;
    if (count > 1 && !std::strcmp(arguments[1], "--context")) {
        CUcontext context;
        OK("cuInit", 0u);
        OK("cuCtxCreate_v2", &context, 0u, (CUdevice)0);
        first = 2;
    }
    for (int i = first; i < count; i++) {
        uint64_t zero = 0;
        std::printf("%s", arguments[i]);
        for (int time = 0; time < 2; time++) {
            int result = call(arguments[i], zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero,
                              zero, zero, zero);
            std::printf(" %d", result);
        }
        std::printf("\n");
        std::fflush(stdout);
    }
    return 0;
}
