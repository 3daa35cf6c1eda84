"""Compile the fused trainer's kernels without a GPU, and count what its steps move.

    python benchmarks/fused_kernels.py

It writes three tables into this folder, for the 440 networks and batches of 256.

- ``fused-kernels.csv``: registers, bytes of stack (spilled registers) and of shared memory of every kernel that a
  training step or an evaluation launches, as compiled for compute capabilities 7.5, 8.0 and 9.0, and the instructions
  that load from global memory, among them those of 16 bytes. Any spill, or more shared memory than a card of that
  capability has, ends the script with status 1.
- ``fused-steps.csv``: launches, bytes and products of a training step, beside those of the stacked trainer, whose
  operations are counted; some of them launch several kernels. A value counts once for each kernel or operation that
  uses it. Memory is that of `naaplib.training.gpus.step_bytes`.
- ``fused-estimates.csv``: estimates of a step's time on cards that this was not run on, from makers' data sheets and
  the shares in `REACHED`, which are assumed.

No time in these tables was measured.
"""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
import triton
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from naaplib.architectures.scheme_networks import Network
from naaplib.architectures.schemes import enumerate_schemes
from naaplib.training.fused import KERNELS, PRODUCTS, STORED
from naaplib.training.fused_layout import OPTIONS, Layout
from naaplib.training.gpus import RESERVED, ROUNDING, step_bytes
from naaplib.training.recipe import PUBLISHED
from naaplib.training.trainer import Trainer

HERE = Path(__file__).parent
TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
SHARED = {75: 65_536, 80: 166_912, 90: 232_448}  # most bytes of a block (CUDA C++ Programming Guide, table of limits)
N_EPOCH_STEPS, N_EPOCHS = 196, 90
# Makers' data sheets: gigabytes, bytes a second, and multiply-accumulates a second of float32 and TF32 without
# sparsity; a T4 has no TF32.
CARDS = {
    "H100 SXM 80 GB": (80, 3.35e12, 33.5e12, 247e12),
    "A100 SXM 80 GB": (80, 2.04e12, 9.75e12, 78e12),
    "RTX 4060 8 GB": (8, 0.272e12, 7.55e12, 7.55e12),
    "T4 16 GB": (16, 0.32e12, 4.05e12, 0.0),
}
REACHED = 0.75, 0.4  # shares of these speeds that are assumed: of bandwidth, and of products
SECONDS_PER_LAUNCH = 2e-6  # in a CUDA graph, assumed
POINTERS = {"images": "*u8"} | dict.fromkeys(("table", "rows", "labels", "order", "step"), "*i64")
LOADS = {  # instructions of PTX, to registers or to shared memory
    "loads": r"ld\.global|cp\.async\.c[ag]\.",
    "loads_of_16_bytes": r"ld\.global\S*\.v4\.\S*32|cp\.async\.c[ag]\.\S+ [^;]*, 0x10,",
}
REALS = ("share", "eps", "momentum", "decay")


def launches(layout: Layout) -> list:
    """Launches of a training step and of an evaluation."""
    n = layout.batch_size
    return [*layout.step(n), layout.statistics(n), *layout.forward(n, train=False)]


def compile_kernel(name: str, constants: dict, numbers: dict, capability: int, stored: str = "*fp32") -> dict:
    """Registers, stack, shared memory and loads of one kernel."""
    kernel, pointers = KERNELS[name], POINTERS | dict.fromkeys(("y", "gradients"), stored)
    signature, attributes = {}, {}
    for i, argument in enumerate(kernel.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in numbers:
            signature[argument] = "i32"
        else:
            signature[argument] = "fp32" if argument in REALS else pointers.get(argument, "*fp32")
        aligned = numbers.get(argument, 0) % 16 == 0 and argument not in REALS
        if argument not in constants and aligned:
            attributes[(i,)] = [["tt.divisibility", 16]]
    values = {(kernel.arg_names.index(key),): value for key, value in constants.items() if key in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values, attrs=attributes)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=OPTIONS)
    path = HERE / "kernel.cubin"
    path.write_bytes(made.asm["cubin"])
    try:
        said = subprocess.run([TOOL, "-res-usage", path], capture_output=True, text=True, check=True)
    finally:
        path.unlink()
    usage = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", said.stdout + said.stderr))
    stack = int(usage["STACK"]) + int(usage["LOCAL"])
    found = {"registers": int(usage["REG"]), "stack_bytes": stack, "shared_bytes": made.metadata.shared}
    return found | {name: len(re.findall(pattern, made.asm["ptx"])) for name, pattern in LOADS.items()}


def kernels(layout: Layout) -> pd.DataFrame:
    """One row for each kernel, precision and capability."""
    numbers = {"n_images": layout.batch_size, "batch_size": layout.batch_size, "n_classes": layout.n_classes}
    numbers |= {"n_channels": layout.sizes["channels"], "n_weights": layout.sizes["weights"]}
    numbers["n_networks"] = len(layout.schemes)
    rows, known = [], set()
    for capability in SHARED:
        for launch in launches(layout):
            arguments = KERNELS[launch.kernel].arg_names
            for precision, products in PRODUCTS.items():
                constants = launch.constants | ({"PRECISION": products} if "PRECISION" in arguments else {})
                stored = "*bf16" if precision in STORED and "y" in arguments else "*fp32"
                key = (capability, launch.kernel, stored, *sorted(constants.items()))
                if key in known:
                    continue
                known.add(key)
                found = compile_kernel(launch.kernel, constants, numbers, capability, stored)
                text = " ".join(f"{name}={value}" for name, value in launch.constants.items())
                row = {"capability": capability / 10, "kernel": launch.kernel, "rows": launch.rows or "all"}
                rows.append(row | {"precision": precision, "constants": text} | found)
    return pd.DataFrame(rows)


class Traffic(TorchDispatchMode):
    """Count operations that launch a kernel, and the bytes of their operands."""

    VIEWS = frozenset((
        *("view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "split", "split_with_sizes"),
        *("select", "unsqueeze", "squeeze", "detach", "alias", "as_strided", "unfold", "_reshape_alias", "unbind"),
        *("empty", "empty_like", "empty_strided", "new_empty"),
    ))  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.n_launches = self.n_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Compute, and count what is no view."""
        result = function(*args, **(kwargs or {}))
        if function._schema.name.split("::")[1] not in self.VIEWS:
            self.n_launches += 1
            for value in tree_leaves((args, kwargs, result)):
                if isinstance(value, torch.Tensor):
                    sizes = [n for n, stride in zip(value.shape, value.stride(), strict=True) if stride]
                    self.n_bytes += value.element_size() * torch.Size(sizes).numel()
        return result


def stacked(schemes: list, n: int) -> Traffic:
    """Operands of a step of the stacked trainer, counted on tensors without data."""
    with torch.device("meta"):
        networks = [Network(scheme) for scheme in schemes]
        images = type("Shapes", (), {"to": lambda self, _: self})()
        images.train_images = torch.empty(n, 3, 32, 32, dtype=torch.uint8)
        images.train_labels = torch.empty(n, dtype=torch.int64)
    trainer = Trainer(networks, [images], recipe=PUBLISHED, device="meta")
    with Traffic() as traffic:
        trainer._step(n)
    return traffic


def steps(layout: Layout) -> pd.DataFrame:
    """Launches and bytes of a step of both trainers."""
    n, schemes = layout.batch_size, layout.schemes
    theirs = stacked(list(schemes), n)
    rows: list[dict] = [{"trainer": "stacked", "stored_bits": 32, "kernel": "all", "launches": theirs.n_launches}]
    rows[0] |= {"gigabytes": theirs.n_bytes / 1e9, "memory_gigabytes": step_bytes(schemes) / 1e9}
    for precision, one in (("fp32", layout), ("bf16", replace(layout, n_stored=2))):
        mine, memory = list(one.step(n)), step_bytes(schemes, trainer="fused", precision=precision) / 1e9
        for name in ("all", *dict.fromkeys(launch.kernel for launch in mine)):
            some = [launch for launch in mine if name in ("all", launch.kernel)]
            row = {"trainer": "fused", "stored_bits": 8 * one.n_stored, "kernel": name, "launches": len(some)}
            row |= {"gigabytes": sum_bytes(some), "giga_products": sum(launch.n_products for launch in some) / 1e9}
            rows.append(row | ({"memory_gigabytes": memory} if name == "all" else {}))
    return pd.DataFrame(rows).round(2)


def sum_bytes(some: list) -> float:
    """Gigabytes of some launches."""
    return sum(launch.n_bytes for launch in some) / 1e9


def estimates(layout: Layout, stacked_gigabytes: float) -> pd.DataFrame:
    """Milliseconds of a step: the slower of memory and products, kernel by kernel, at the assumed shares."""
    rows = []
    bandwidth_share, product_share = REACHED
    theirs_fit = step_bytes(layout.schemes)
    for card, (gigabytes, bandwidth, *speeds) in CARDS.items():
        for precision in PRODUCTS:
            products = speeds[precision != "fp32"]
            if not products:
                continue
            one = replace(layout, n_stored=STORED.get(precision, torch.float32).itemsize)
            seconds = sum(
                max(launch.n_bytes / bandwidth / bandwidth_share, launch.n_products / products / product_share)
                + SECONDS_PER_LAUNCH
                for launch in one.step(layout.batch_size)
            )
            n_bytes = {"stacked": theirs_fit, "fused": step_bytes(layout.schemes, trainer="fused", precision=precision)}
            theirs = stacked_gigabytes * 1e9 / bandwidth / bandwidth_share
            row = {"card": card, "precision": precision, "kind": "estimate", "fused_ms": 1000 * seconds}
            row |= {"fused_minutes_of_90_epochs": seconds * N_EPOCH_STEPS * N_EPOCHS / 60}
            row |= {"stacked_ms_at_least": 1000 * theirs}
            fits = {f"{name}_fits": size * ROUNDING + RESERVED <= gigabytes * 1e9 for name, size in n_bytes.items()}
            rows.append(row | fits | {"fused_is_used": not card.startswith("T4")})
    return pd.DataFrame(rows).round(1)


def main() -> int:
    """Write the tables; status 1 if a kernel spills or needs too much shared memory."""
    layout = Layout(enumerate_schemes())
    table = steps(layout)
    table.to_csv(HERE / "fused-steps.csv", index=False)
    print(table.to_string(index=False))
    table = estimates(layout, float(table.loc[0, "gigabytes"]))
    table.to_csv(HERE / "fused-estimates.csv", index=False)
    print(table.to_string(index=False), flush=True)
    table = kernels(layout)
    table.to_csv(HERE / "fused-kernels.csv", index=False)
    wrong = table[(table["stack_bytes"] > 0) | (table["shared_bytes"] > (table["capability"] * 10).map(SHARED))]
    print(wrong.to_string(index=False) if len(wrong) else f"{len(table)} kernels, no spills")
    return int(len(wrong) > 0)


if __name__ == "__main__":
    sys.exit(main())
