// A private table of `cuGetExportTable`: slot 0 is mostly its size in bytes, the others are functions.
#pragma once

#include "report.h"

struct Table {
    const unsigned long long *slots = nullptr;
    CUresult result = CUDA_ERROR_UNKNOWN;
    explicit Table(const char *uuid);
    size_t count() const { return slots ? slots[0] / 8 : 0; }
};

void check_validity(const Table &runtime, const Table &validity);
