"""cuda.core's graphs with conditions: captured by its builders, and made node by node."""

import numpy
from common import close, passed, true
from cuda.core import Device, LaunchConfig, LegacyPinnedMemoryResource, Program, ProgramOptions, launch
from cuda.core.graph import GraphDefinition

SOURCE = """
extern "C" __device__ __cudart_builtin__ void cudaGraphSetConditional(unsigned long long handle, unsigned int value);
extern "C" __global__ void add(int *at, int number) { atomicAdd(at, number); }
extern "C" __global__ void down(unsigned long long handle, int *left) { cudaGraphSetConditional(handle, --*left > 0); }
extern "C" __global__ void choose(unsigned long long handle, int *from) { cudaGraphSetConditional(handle, *from); }
"""

device = Device()
device.set_current()
stream = device.create_stream()
major, minor = device.compute_capability
program = Program(SOURCE, code_type="c++", options=ProgramOptions(std="c++17", arch=f"compute_{major}{minor}"))
module = program.compile("ptx")
add, down, choose = (module.get_kernel(name) for name in ("add", "down", "choose"))
once = LaunchConfig(grid=1, block=1)

buffer = LegacyPinnedMemoryResource().allocate(16)
words = numpy.from_dlpack(buffer).view(numpy.int32)
at = int(buffer.handle)
left, chosen = at + 4, at + 8


def launched(graph, times, choice):
    """What a launch makes of zero."""
    words[:3] = 0, times, choice
    graph.launch(stream)
    stream.sync()
    return int(words[0])


def expected(times, choice):
    return 10 * times + (1 if choice else 2) + (1000 * (choice + 1) if choice < 3 else 0)


def compare(name, graph):
    cases = [(times, choice) for times in (1, 3) for choice in (0, 1, 2, 7)]
    found = numpy.array([launched(graph, *case) for case in cases])
    close(name, found, numpy.array([expected(*case) for case in cases]))


# What a stream is given between the builder's beginning and its end; a builder for each body.
builder = device.create_graph_builder().begin_building()
loop = builder.create_condition(default_value=1)
body = builder.while_loop(loop).begin_building()
launch(body, once, add, at, 10)
launch(body, once, down, loop, left)
body.end_building()
branch = builder.create_condition(default_value=0)
launch(builder, once, choose, branch, chosen)
for number, case in zip((1, 2), builder.if_else(branch)):
    case.begin_building()
    launch(case, once, add, at, number)
    case.end_building()
choice = builder.create_condition(default_value=0)
launch(builder, once, choose, choice, chosen)
for number, case in enumerate(builder.switch(choice, 3)):
    case.begin_building()
    launch(case, once, add, at, 1000 * (number + 1))
    case.end_building()
compare("captured", builder.end_building().complete())

# The same, node by node.
graph = GraphDefinition()
loop, branch, choice = (graph.create_condition(default_value=value) for value in (1, 0, 0))
again = graph.while_loop(loop)
again.body.launch(once, add, at, 10).launch(once, down, loop, left)
either = again.launch(once, choose, branch, chosen).if_else(branch)
either.then.launch(once, add, at, 1)
either.else_.launch(once, add, at, 2)
switch = either.launch(once, choose, choice, chosen).switch(choice, 3)
for number, case in enumerate(switch.branches):
    case.launch(once, add, at, 1000 * (number + 1))
true("nodes", len(graph.nodes()) == 5 and len(graph.edges()) == 4, type(switch).__name__, switch.cond_type)
compare("node by node", graph.instantiate())
passed("cuda_python_graphs")
