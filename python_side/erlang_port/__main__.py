"""``python -m erlang_port [READ_FD WRITE_FD]``: the program that a port runs."""

import sys

if sys.version_info < (3, 10):
    # Nothing newer than this line can be imported; a frame says so, in any Python.
    import os
    import struct

    WHY = "Python %d.%d is too old: CPython 3.10 or newer is needed" % sys.version_info[:2]
    FRAME = struct.pack(">BB", 74, 0) + WHY.encode("utf-8")
    os.write(
        int((sys.argv + ["0", "1"])[-1]) if len(sys.argv) < 3 else int(sys.argv[2]),
        struct.pack(">I", len(FRAME)) + FRAME,
    )
    sys.exit(1)

from erlang_port.main import main

main(sys.argv[1:])
