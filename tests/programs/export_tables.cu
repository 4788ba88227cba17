// Private tables that no driver has: an error and a null pointer, however often and from whichever thread they are asked for.
#include <cstdio>
#include <cstdlib>
#include <thread>

#include <cuda.h>
#include <dlfcn.h>

static const char *const PROGRAM = "export_tables";

static CUuuid uuid(unsigned char last) {
    CUuuid made = {};
    for (int i = 0; i < 16; i++) made.bytes[i] = (char)(0xA0 + i);
    made.bytes[15] = (char)last;
    return made;
}

static void ask(decltype(&cuGetExportTable) get, unsigned char last) {
    static const int something = 0;
    const void *table = &something;
    CUuuid unknown = uuid(last);
    CUresult result = get(&table, &unknown);
    if (result == CUDA_ERROR_INVALID_VALUE && table == nullptr) return;
    std::printf("FAIL %s: %d, %p\n", PROGRAM, (int)result, table);
    std::fflush(stdout);
    std::_Exit(1);
}

int main() {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    auto get = library ? (decltype(&cuGetExportTable))dlsym(library, "cuGetExportTable") : nullptr;
    if (!get) {
        std::printf("FAIL %s: no cuGetExportTable: %s\n", PROGRAM, dlerror());
        return 1;
    }
    for (int round = 0; round < 3; round++) {
        ask(get, 1);
        std::thread([get] { ask(get, 2); }).join();
    }
    std::printf("PASS %s two unknown tables, asked for three times each\n", PROGRAM);
    return 0;
}
