"""``python DIRECTORY [READ_FD WRITE_FD]``: the program that a port runs.

Not by ``-m``, which puts the current directory first in `sys.path`: what lies there must
replace no module.
"""

import sys

WHY = None
if sys.version_info < (3, 10):
    WHY = "Python %d.%d is too old: CPython 3.10 or newer is needed" % sys.version_info[:2]
elif sys.implementation.name != "cpython":
    WHY = "%s is another Python: CPython 3.10 or newer is needed" % sys.implementation.name
if WHY:
    # Nothing newer than this line can be imported; a frame says so, in any Python.
    import os
    import struct

    FRAME = struct.pack(">BB", 74, 0) + WHY.encode("utf-8")
    os.write(
        int((sys.argv + ["0", "1"])[-1]) if len(sys.argv) < 3 else int(sys.argv[2]),
        struct.pack(">I", len(FRAME)) + FRAME,
    )
    sys.exit(1)

import erlang  # noqa: F401  Before other directories come first.
from erlang_port.main import main

# It comes again behind the pool's python_path, unless PYTHONPATH cannot hold it.
if sys.path[0] in sys.path[1:]:
    del sys.path[0]

main(sys.argv[1:])
