"""Machine code of single modules, for machines of every kind."""

from minigrad.backends.native.runtime import cache, jit
from minigrad.backends.native.runtime.jit import Target

TARGETS = {
    "x86-64": Target("x86_64-unknown-linux-gnu", "x86-64"),
    "x86-64-avx2": Target("x86_64-unknown-linux-gnu", "x86-64-v3"),
    "x86-64-avx512": Target("x86_64-unknown-linux-gnu", "x86-64-v4", "-prefer-256-bit"),
    "aarch64": Target("aarch64-unknown-linux-gnu", "generic", "+neon"),
    "macos-arm64": Target("arm64-apple-macosx11.0.0", "apple-m1")}


def verbatim(text):
    """Return the request for the code of a module with this text."""
    return cache.CodeRequest(text, lambda: (text, None))


def object_code(text, target=None):
    """Return the object code of a module, from disk if it is there."""
    return cache.object_codes([verbatim(text)], target)[0][1]


def compile_ir(text, target=None):
    """Return the object code of one module."""
    return jit.compile_all([text], target)[0]


def assembly(text, target=None):
    """Return the assembly of one module, optimised, to read."""
    import llvmlite.binding as llvm

    target = target or jit.host()
    with jit.lock, jit._tools(target) as (machine, passes):
        module = llvm.parse_assembly(text, llvm.create_context())
        module.triple, module.data_layout = target.triple, str(machine.target_data)
        passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
        return machine.emit_assembly(module)
