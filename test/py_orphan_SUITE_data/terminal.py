"""Runs a node in a terminal, presses Ctrl-C there, and looks at its Python processes."""

import os
import pty
import re
import select
import sys
import time

DEADLINE = time.monotonic() + 40


def read_until(terminal: int, pattern: str) -> str:
    text = ""
    while not re.search(pattern, text):
        ready, _, _ = select.select([terminal], [], [], max(0, DEADLINE - time.monotonic()))
        if not ready:
            sys.exit(f"no {pattern!r} in {text!r}")
        text += os.read(terminal, 4096).decode("utf-8", "replace")
    return text


def is_alive(pid: int) -> bool:
    """A process that nobody has waited for yet is none any more."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
found = re.search(r"pythons \[([\d,]+)\]\.", read_until(terminal, r"pythons \[[\d,]+\]\."))
pids = [int(pid) for pid in found[1].split(",")]
os.write(terminal, b"\x03")
print("the menu:", read_until(terminal, r"BREAK: .*\(a\)bort"))
time.sleep(0.3)
if not all(map(is_alive, pids)):
    sys.exit("a worker did not survive Ctrl-C")
os.write(terminal, b"c\r")
os.write(terminal, b'io:format("~p~n", [py:eval("\'al\' + \'ive\'")]).\r')
print(read_until(terminal, "alive"))
if not all(map(is_alive, pids)):
    sys.exit("a worker did not survive the menu")
os.write(terminal, b"\x03")
read_until(terminal, r"BREAK: .*\(a\)bort")
os.write(terminal, b"a\r")
deadline = time.monotonic() + 1.5
while any(map(is_alive, pids)) and time.monotonic() < deadline:
    time.sleep(0.01)
left = [pid for pid in pids if is_alive(pid)]
for pid in left:
    with open(f"/proc/{pid}/status") as status:
        print(status.read())
sys.exit("a worker outlived its node" if left else 0)
