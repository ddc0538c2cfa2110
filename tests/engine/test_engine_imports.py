"""The engine stands alone."""

from __future__ import annotations

import subprocess
import sys


def test_the_engine_imports_no_torch_and_no_other_room():
    code = (
        "import sys, evodiff\n"
        "before = set(sys.modules)\n"  # the package's own front door is not the engine's doing
        "import evodiff.engine, evodiff.engine.testing\n"
        "new = set(sys.modules) - before\n"
        "rooms = {name.split('.')[1] for name in new if name.startswith('evodiff.')}\n"
        "print(sorted(rooms - {'errors'}), 'torch' in new, 'sklearn' in new)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['engine'] False False"
