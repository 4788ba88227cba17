// The private tables that CUDA's libraries ask for: which there are, how large, and what their functions answer. What is expected is what
// `driver-api/src/private_tables` does, which was learnt without a device.
#include "tables.h"

#include <cstdlib>
#include <cstring>

Table::Table(const char *uuid) {
    CUuuid id;
    int place = 0;
    for (const char *at = uuid; *at && place < 16; at++) {
        if (*at == '-') continue;
        char two[3] = {at[0], at[1], 0};
        id.bytes[place++] = (char)std::strtoul(two, nullptr, 16);
        at++;
    }
    const void *found = nullptr;
    result = CU(cuGetExportTable, &found, &id);
    if (result == CUDA_SUCCESS) slots = (const unsigned long long *)found;
}

static const char *const RUNTIME = "6BD5FB6C-5BF4-E74A-8987-D93912FD9DF9";
static const char *const TOOL_HOOKS = "A094798C-2E74-2E74-93F2-0800200C0A66";
static const char *const CURRENT_CONTEXT = "42D85A81-23F6-CB47-8298-F6E78A3AECDC";
static const char *const STORAGE = "C693336E-1121-DF11-A8C3-68F355D89593";
static const char *const CONTEXT_CHECKS = "263E8860-7CD2-6143-92F6-BBD5006DFA7E";
static const char *const VALIDITY = "D4082055-BDE6-704B-8D34-BA123C66E1F2";
static const char *const IDENTITIES = "21318C60-9714-3248-8CA6-41FF7324C8F2";
static const char *const TWO_ZEROS = "1734DC26-800D-4745-8726-C0F1E7DD8BCA";
static const char *const MODULE_FUNCTIONS = "6E163FBE-B958-444D-835C-E182AFF1991E";
static const char *const PROFILER = "7CB63F9B-9CA4-8E42-A484-BEB66E6AED7F";
static const char *const REFUSED[] = {"F8CFF951-2146-8B4E-B9E2-FB469E7C0DD9", "DA9151D3-3AE6-CC41-A5C0-4F26D533E328"};

// How many slots ours have: a real one has at least those.
static void sizes() {
    struct {
        const char *uuid;
        size_t slots;
    } known[] = {{RUNTIME, 13},        {TOOL_HOOKS, 7}, {CURRENT_CONTEXT, 3}, {CONTEXT_CHECKS, 4}, {VALIDITY, 2},
                 {IDENTITIES, 52},     {TWO_ZEROS, 5},  {MODULE_FUNCTIONS, 8}, {PROFILER, 1}};
    for (auto [uuid, slots] : known) {
        Table table(uuid);
        std::string name = std::string("table.") + std::string(uuid, 8);
        check(name, CUDA_SUCCESS, table.result);
        note(name, "%zu slots there, %zu in ours", table.count(), slots);
        if (table.slots) check_yes(name + ".has-the-slots", table.count() >= slots);
    }
    check("table.C693336E", CUDA_SUCCESS, Table(STORAGE).result);
    // Ours refuse these two; what a real driver has in them is only recorded.
    for (const char *uuid : REFUSED) {
        Table table(uuid);
        observe(std::string("table.") + std::string(uuid, 8), table.result);
        note(std::string("table.") + std::string(uuid, 8), "%zu slots there", table.count());
    }
    Table unknown("00000000-0000-0000-0000-000000000007");
    check("table.unknown", CUDA_ERROR_INVALID_VALUE, unknown.result);
    observe("table.null", CU(cuGetExportTable, nullptr, nullptr));
}

static void runtime_tables(CUdevice device) {
    Table runtime(RUNTIME), hooks(TOOL_HOOKS), current(CURRENT_CONTEXT);
    CUcontext handle = nullptr, retained = nullptr, now = (CUcontext)1;
    unsigned flags = 0;
    int active = 77;
    if (runtime.count() > 2) {
        auto primary = (CUresult(*)(CUcontext *, CUdevice))runtime.slots[2];
        check("runtime.2", CUDA_SUCCESS, primary(&handle, device));
        CU(cuDevicePrimaryCtxGetState, device, &flags, &active);
        check("runtime.2-does-not-retain", "0", format("%d", active));
    }
    if (hooks.count() > 6)
        for (int slot : {2, 6}) {
            auto words = (void (*)(void **, size_t *))hooks.slots[slot];
            void *array = nullptr;
            size_t count = 0;
            words(&array, &count);
            check(format("hooks.%d-count", slot), slot == 2 ? "1024" : "14", format("%zu", count));
            size_t set = 0;
            for (size_t i = 0; array && i < count; i++) set += ((unsigned *)array)[i] != 0;
            check(format("hooks.%d-words-set", slot), "0", format("%zu", set));
        }
    auto get_current = current.count() > 2 ? (CUresult(*)(CUcontext *))current.slots[2] : nullptr;
    if (get_current) {
        observe("current.2-with-none", get_current(&now));
        check_yes("current.2-none", now == nullptr);
    }
    if (!works("retain", CU(cuDevicePrimaryCtxRetain, &retained, device))) return;
    check_yes("runtime.2-is-the-primary-context", handle == retained);
    CU(cuCtxSetCurrent, retained);
    if (get_current) {
        check("current.2", CUDA_SUCCESS, get_current(&now));
        check_yes("current.2-is-the-context", now == retained);
    }
}

static int destroyed = 0;
static void count_destroyed(CUcontext, void *, void *value) { destroyed += (int)(size_t)value; }

static void storage(CUdevice device) {
    Table table(STORAGE);
    if (!table.slots) return;
    auto put = (CUresult(*)(CUcontext, void *, void *, void (*)(CUcontext, void *, void *)))table.slots[0];
    auto forget = (CUresult(*)(CUcontext, void *))table.slots[1];
    auto get = (CUresult(*)(void **, CUcontext, void *))table.slots[2];
    static char key, other;
    void *value = nullptr;
    CUcontext context = nullptr;
    CU(cuCtxGetCurrent, &context);
    check("storage.miss", CUDA_ERROR_INVALID_HANDLE, get(&value, context, &key));
    check("storage.put", CUDA_SUCCESS, put(context, &key, (void *)11, nullptr));
    check("storage.get", CUDA_SUCCESS, get(&value, context, &key));
    check("storage.value", "11", format("%zu", (size_t)value));
    check("storage.of-current", CUDA_SUCCESS, get(&value, nullptr, &key));
    observe("storage.put-again", put(context, &key, (void *)12, nullptr));
    get(&value, context, &key);
    observe("storage.value-then", format("%zu", (size_t)value));
    check("storage.other-key", CUDA_ERROR_INVALID_HANDLE, get(&value, context, &other));
    check("storage.delete", CUDA_SUCCESS, forget(context, &key));
    check("storage.get-deleted", CUDA_ERROR_INVALID_HANDLE, get(&value, context, &key));
    observe("storage.delete-again", forget(context, &key));
    CUcontext second = nullptr;
    if (!driver.create_context || driver.create_context(&second, 0, device) != CUDA_SUCCESS) return;
    check("storage.put-in-second", CUDA_SUCCESS, put(second, &key, (void *)1, count_destroyed));
    CU(cuCtxDestroy, second);
    check("storage.destructors", "1", format("%d", destroyed));
}

void check_tables() {
    sizes();
    if (!works("init", CU(cuInit, 0))) return;
    runtime_tables(0);
    storage(0);
    check_validity(Table(RUNTIME), Table(VALIDITY));
}

// Their argument lists are inferred: a driver that sees them otherwise may crash here, which is an answer too.
void check_table_calls() {
    Setup setup;
    if (!setup.is_good) return;
    Table checks(CONTEXT_CHECKS), identities(IDENTITIES), zeros(TWO_ZEROS), functions(MODULE_FUNCTIONS);
    unsigned long long id = 0, expected = 1, object_id = 0;
    CU(cuCtxGetId, setup.context, &expected);
    if (identities.count() > 4) {
        auto context_id = (CUresult(*)(CUcontext, unsigned long long *))identities.slots[4];
        check("identities.4", CUDA_SUCCESS, context_id(setup.context, &id));
        check_yes("identities.4-is-the-context-id", id == expected);
    }
    if (checks.count() > 3) {
        unsigned word = 77;
        void *pointer = (void *)1;
        auto second = (CUresult(*)(CUcontext, unsigned *, void **))checks.slots[2];
        check("context-checks.2", CUDA_SUCCESS, second(setup.context, &word, &pointer));
        check("context-checks.2-writes", "0 null", format("%u %s", word, pointer ? "pointer" : "null"));
        auto third = (CUresult(*)())checks.slots[3];
        check("context-checks.3", CUDA_SUCCESS, third());
    }
    if (zeros.count() > 4) {
        unsigned long long first = 5, second = 5;
        auto ask = (CUresult(*)(unsigned long long *, unsigned long long *))zeros.slots[4];
        observe("zeros.4", ask(&first, &second));
        check("zeros.4-writes", "0 0", format("%llu %llu", first, second));
    }
    if (functions.count() > 7) {
        static int seen = 0;
        auto visit = (int (*)(CUcontext, CUmodule, void (*)(void *, CUfunction), void *))functions.slots[7];
        int result = visit(setup.context, setup.module, [](void *, CUfunction) { seen++; }, nullptr);
        check("module-functions.7", "1", format("%d", result));
        check("module-functions.7-visits", "6", format("%d", seen));
    }
    if (identities.count() > 51) {
        void *object = nullptr;
        auto stream_object = (CUresult(*)(CUcontext, CUstream, void **))identities.slots[51];
        auto stream_id = (CUresult(*)(CUcontext, void *, unsigned long long *))identities.slots[39];
        CUstream stream = nullptr;
        CU(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
        CU(cuStreamGetId, stream, &expected);
        observe("identities.51", stream_object(setup.context, stream, &object));
        observe("identities.39", stream_id(setup.context, object, &object_id));
        check_yes("identities.39-is-the-stream-id", object_id == expected);
    }
}
