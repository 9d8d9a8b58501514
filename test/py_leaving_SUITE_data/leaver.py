"""Leaves something behind in every way that Python clears up at its end."""

import atexit
import concurrent.futures
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

executor = concurrent.futures.ProcessPoolExecutor(2)
held = []


def write_and_keep(path):
    """A line in a file that stays open, and a temporary file; the temporary file's name."""
    held.append(open(path, "w"))
    held[-1].write("important\n")
    held.append(tempfile.NamedTemporaryFile(dir=os.path.dirname(path)))
    return held[-1].name


def write_at_exit(path, seconds):
    def write():
        time.sleep(seconds)
        with open(path, "w") as file:
            file.write("flushed")

    atexit.register(write)


def stay_at_exit():
    atexit.register(time.sleep, 3600)


def square(number):
    return number * number


def processes_of_an_executor():
    list(executor.map(square, range(8)))
    return list(executor._processes)


def child(new_session):
    # It must not hold open what a test run writes to.
    null = subprocess.DEVNULL
    sleep = ["sleep", "3600"]
    return subprocess.Popen(sleep, stdout=null, stderr=null, start_new_session=new_session).pid


def forked_child():
    pid = os.fork()
    if pid == 0:
        os.closerange(0, 3)
        while True:
            time.sleep(3600)
    return pid


def terminate_a_forked_child():
    pid = forked_child()
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forked_child_that_exits(code):
    pid = os.fork()
    if pid == 0:
        sys.exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forks_and_goes_on(path):
    """The child comes back into the generator's loop; it has files of its own open."""
    yield "before"
    pid = os.fork()
    if pid == 0:
        held.extend(open(f"{path}{i}", "wb", 0) for i in range(8))
    for i in range(10_000):
        yield i
    yield os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def save(path, seconds):
    try:
        time.sleep(seconds)
        return "saved"
    finally:
        with open(path, "w") as file:
            file.write("finally")


def forever(path):
    try:
        while True:
            yield 1
            time.sleep(0.001)
    finally:
        with open(path, "w") as file:
            file.write("closed")


def in_a_thread(path):
    """A thread that Python waits for at its end."""

    def write():
        while threading.main_thread().is_alive():
            time.sleep(0.001)
        with open(path, "w") as file:
            file.write("joined")

    threading.Thread(target=write).start()
