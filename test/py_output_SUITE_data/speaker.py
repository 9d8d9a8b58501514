"""What py_output_SUITE runs: Python code that prints and logs."""

import contextlib
import io
import logging
import os
import subprocess
import sys
import threading

log = logging.getLogger("speaker.sub")
notes: dict[str, object] = {}


def say(*lines):
    for line in lines:
        print(line)


def say_in_pieces(*pieces):
    for piece in pieces:
        print(piece, end="")


def say_and_flush(text):
    print(text, end="", flush=True)


def say_in_threads(threads, lines):
    def one(name):
        for number in range(lines):
            print("thread", name, "line", number)

    running = [threading.Thread(target=one, args=(name,)) for name in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def say_everything():
    print("ö\udcff")
    sys.stdout.buffer.write(b"bytes\xff\n")
    sys.stdout.writelines(["one\n", "two\n"])
    print(1, 2.5, None, sep="|")


def about_stdout():
    return sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.fileno(), sys.stdout.writable()


def child_processes():
    """Neither a child's descriptors nor the real ones are the node's."""
    subprocess.run(["echo", "of a child process"], check=True)
    os.write(1, b"to the descriptor\n")
    if os.fork() == 0:
        print("of a forked child")
        logging.getLogger("speaker").error("of a forked child")
        sys.stdout.flush()
        os._exit(0)
    os.wait()
    print("of the worker")


def flood(lines):
    text = "x" * 99
    for _ in range(lines):
        print(text)
    notes["flood"] = "through"


async def flood_the_loop(lines):
    flood(lines)


def note(key):
    return notes.get(key, "nothing")


def count(n):
    yield from range(n)


def record(level, text, *args):
    log.log(level, text, *args)


def record_failure():
    try:
        {}["missing"]
    except KeyError:
        log.exception("it failed")


def strange_records():
    log.error("%s", "ö\udcff")
    # logging prints what is wrong with it, which is not for the log of the tests.
    with contextlib.redirect_stderr(io.StringIO()):
        log.error("bad %d", "number")
    log.error("after")


def records(count):
    for number in range(count):
        log.error("record %d %s", number, "x" * 100)
    notes["records"] = "through"


def enabled(level):
    return log.isEnabledFor(level)


def root_level(level=None):
    if level is not None:
        logging.getLogger().setLevel(level)
    return logging.getLogger().level


def fail():
    raise ValueError("wrong")


def failing_stream():
    yield 1
    raise ValueError("wrong stream")


def say_each(text):
    print(text)
    yield 1


async def say_in_a_pool(text):
    import asyncio

    await asyncio.to_thread(print, text)
