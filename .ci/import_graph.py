"""Fails where files of the project import each other in a circle, lazy and typing imports counted.

usage: python .ci/import_graph.py
"""

from __future__ import annotations

import sys
from graphlib import CycleError, TopologicalSorter

import grimp

# Conveniences that users look for on the object; each calls a function of the file it imports.
EXCEPTIONS = {
    ("mousev1.model.response_model", "mousev1.hub.model_files"),  # ResponseModel.save
    ("mousev1.data.scan", "mousev1.data.io"),  # Scan.write
}


def main() -> int:
    """Print the first circle, or how many files stand in none."""
    graph = grimp.build_graph("mousev1", "training", include_external_packages=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    if unknown := {(a, b) for a, b in EXCEPTIONS if b not in imports.get(a, ())}:
        print(f"exceptions that no file needs any more: {sorted(unknown)}")
        return 1
    for importer, imported in EXCEPTIONS:
        imports[importer] = imports[importer] - {imported}
    try:
        order = list(TopologicalSorter(imports).static_order())
    except CycleError as error:
        print("files that import each other: " + " <- ".join(error.args[1]))
        return 1
    print(f"{len(order)} files, no circle but the {len(EXCEPTIONS)} exceptions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
