"""The poller before the input, as far as one process can show it."""

import os
import threading

from erlang_port.wire.poller import make_poller


def test_two_threads_may_poll_at_once() -> None:
    # The one that has just lost the right to read is still in there when the next one comes.
    read_fd, write_fd = os.pipe()
    entrance = make_poller(read_fd)
    found: list[bool | BaseException] = []

    def poll() -> None:
        try:
            found.append(entrance.poll(10.0))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=poll) for _ in range(3)]
    for thread in threads:
        thread.start()
    # Whichever of them are in there by now; the others find the byte at once.
    assert entrance.poll(0.05) is False
    os.write(write_fd, b"!")
    for thread in threads:
        thread.join()
    assert found == [True, True, True]
    os.close(read_fd)
    os.close(write_fd)
