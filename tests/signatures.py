"""Faults of signatures and calls, as the tests count them.

``python tests/signatures.py`` prints them.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
N_POSITIONAL, N_GIVEN = 2, 4  # arguments of a public function, and of any call, that may be positional
FORCED = {  # by an interface that is not ours
    # Optuna's trials take (name, low, high) by place, and objectives are written for both kinds of trials
    "naaplib/search/samplers.py: Choices.suggest_int()",
    "naaplib/search/samplers.py: Trial.suggest_int()",
}
COMPILED = "jit"  # decorator of kernels, whose arguments Triton's compiler reads only if they may be positional


def functions(tree: ast.Module | ast.ClassDef, prefix: str = "") -> list[str]:
    """Public functions and methods, and initialisers, of which more than two arguments may be positional."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found += functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
            arguments = [one.arg for one in (*node.args.posonlyargs, *node.args.args) if one.arg not in ("self", "cls")]
            is_kernel = COMPILED in map(ast.unparse, node.decorator_list)
            if len(arguments) > N_POSITIONAL and not is_kernel:
                found.append(f"{prefix}{node.name}()")
    return found


def calls(tree: ast.Module) -> set[str]:
    """Functions that are called with more than four positional arguments."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) > N_GIVEN]
    return {f"call of {ast.unparse(node.func)}" for node in found}


def faults() -> list[str]:
    """All faults of the library, each with its module."""
    found = set()
    for path in sorted((ROOT / "naaplib").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {f"{path.relative_to(ROOT).as_posix()}: {what}" for what in (*functions(tree), *calls(tree))}
    return sorted(found)


if __name__ == "__main__":
    print("\n".join(sorted(set(faults()) - FORCED)))
