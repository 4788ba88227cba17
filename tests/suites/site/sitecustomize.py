"""Python imports this before a program's own modules: numba-cuda links as it does where nvJitLink is not installed, by the driver.

What nvJitLink makes is machine code, which the software GPU cannot execute; what the driver links stays PTX there. It holds for the processes that
tests start, too.
"""

import importlib.abc
import importlib.util
import sys

FINDER = "cuda.pathfinder"


def leave_out_nvjitlink(pathfinder):
    find = pathfinder.load_nvidia_dynamic_lib

    def find_all_but_one(name):
        if name == "nvJitLink":
            raise pathfinder.DynamicLibNotFoundError(name)
        return find(name)

    pathfinder.load_nvidia_dynamic_lib = find_all_but_one


class AfterImport(importlib.abc.MetaPathFinder):
    """Changes the module that finds NVIDIA's libraries, once it is imported."""

    def find_spec(self, name, path, target=None):
        if name != FINDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            leave_out_nvjitlink(module)

        spec.loader.exec_module = execute_and_change
        return spec


sys.meta_path.insert(0, AfterImport())
