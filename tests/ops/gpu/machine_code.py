"""Compile what the kernels in Triton are called with into machine code for GPUs, without one. Run by test_machine_code.py.

Writes one JSON line for each kernel, variant and GPU: its shared memory in bytes, the bytes of a thread that did not find room in
registers (`stack`), and whether it works on float32 (`wide`).
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from genus.ops.gpu.loss import losses
from genus.ops.gpu.scan import memory_scan, memory_scan_back
from genus.ops.gpu.systems import unit_lower_inverse
from genus.ops.gpu.trial import trial

GPUS = (86, 90)  # compute capabilities: of GPUs for consumers, with the least shared memory, and of H100
TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.int64: "i64"}
DISASSEMBLE = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def compile_instead(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
    """In the place of a launch. Whole numbers that 16 divides, and 1, are known to the compiler, as in a launch."""
    given = dict(zip(kernel.arg_names, args, strict=False)) | {n: options.pop(n) for n in kernel.arg_names if n in options}
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = given[parameter.name]
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1):
            signature[parameter.name] = "constexpr"
            constants[(place,)] = value
            continue
        kind = "*" + TYPES[value.dtype] if isinstance(value, torch.Tensor) else {int: "i32", float: "fp32"}[type(value)]
        signature[parameter.name] = kind
        if kind[0] == "*" or (kind == "i32" and value % 16 == 0):
            attributes[(place,)] = [["tt.divisibility", 16]]
    for gpu in GPUS:
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
        made = triton.compile(source, target=GPUTarget("cuda", gpu, 32), options=options)
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(made.asm["cubin"])
            file.flush()
            told = subprocess.run([DISASSEMBLE, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
        stack = sum(int(n) for n in re.findall(r"(?:STACK|LOCAL):(\d+)", told))
        wide = signature[kernel.arg_names[0]] == "*fp32"
        told_of = {"kernel": kernel.fn.__name__, "gpu": gpu, "shared": made.metadata.shared, "stack": stack, "wide": wide}
        print(json.dumps(told_of))


def main() -> None:
    JITFunction.run = compile_instead
    with suppress(RuntimeError):  # nothing runs, so its result is wrong
        trial(torch.device("cpu"))
    targets = torch.zeros(4, dtype=torch.int64)
    losses(torch.zeros(4, 32000, dtype=torch.bfloat16), targets, -100, 1.0, 30.0, 0.1, True)
    losses(torch.zeros(4, 32001), targets, -100, 1.0, None, 0.0, True)
    losses(torch.zeros(4, 1, dtype=torch.float16), targets, -100, 1.0, None, 0.0, False)
    for size in (8, 128):
        unit_lower_inverse(torch.zeros(2, size, size))
    for dtype, size, features, width, delta in (
        (torch.bfloat16, 64, 128, 128, True),
        (torch.float16, 64, 256, 64, True),
        (torch.float32, 64, 128, 32, True),
        (torch.float32, 8, 5, 1, False),
    ):
        v, k = torch.zeros(2, 3, size, width, dtype=dtype), torch.zeros(2, 3, size, features, dtype=dtype)
        used, keep = (k, torch.zeros(2, 3)) if delta else (None, None)
        _, before, last = memory_scan(v, used, k, keep, torch.zeros(2, features, width), not delta)
        memory_scan_back(v, before, last, used, k, keep)


if __name__ == "__main__":
    main()
