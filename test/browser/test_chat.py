"""examples/chat in a real browser, with a model that the tests steer.

Without Chromium only what needs none is run: the server, asked by a plain client.
"""

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from watch import SECONDS, Watch

# To start Chromium, and to end it, counts for the first test that needs it and for the last.
pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
CHAT = ROOT / "examples" / "chat"
LIBRARIES = f"{ROOT}/_build/default/lib:{ROOT}/_build/chat/default/lib"

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]

START = """
{ok, _} = application:ensure_all_started(chat),
io:format("The page is at ~s ~n", [chat_listener:url()]).
"""


@contextmanager
def running(command: list[str], **environment: str) -> Iterator[str]:
    """The address of the page that this command serves, as long as it runs."""
    program = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TERM": "dumb", **environment},
    )
    with program:
        assert program.stdout is not None
        said = []
        try:
            for line in program.stdout:
                said.append(line)
                if found := re.search(r"The page is at (\S+)", line):
                    yield found[1]
                    break
            else:
                pytest.fail("It ended: " + "".join(said))
        finally:
            program.send_signal(signal.SIGTERM)
            program.wait(SECONDS)


@pytest.fixture(scope="session")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    return Watch(tmp_path_factory.mktemp("watch") / "socket")


@pytest.fixture(scope="session")
def url(watch: Watch) -> Iterator[str]:
    """The application, with the steered model in its worker."""
    subprocess.run(["rebar3", "compile"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    environment = {**os.environ, "ERL_LIBS": f"{ROOT}/_build/default/lib"}
    environment["REBAR_BASE_DIR"] = f"{ROOT}/_build/chat"
    subprocess.run(
        ["rebar3", "compile"], cwd=CHAT, check=True, env=environment, stdout=subprocess.DEVNULL
    )
    paths = f'["{ROOT}/test/browser", "{ROOT}/examples"]'
    command = ["erl", "-noinput", "-erlang_python", "pools", "#{}", "-chat", "port", "0"]
    command += ["-chat", "model", "{watched, tokens}"]
    command += ["-chat", "pool", f'#{{python => "{sys.executable}", python_path => {paths}}}']
    with running(
        [*command, "-eval", START], ERL_LIBS=LIBRARIES, WATCHED_SOCKET=watch.address
    ) as address:
        yield address


class Tab:
    """A tab of the browser with the page in it."""

    def __init__(self, driver: Any, url: str) -> None:
        self._driver = driver
        driver.switch_to.new_window("tab")
        self._handle = driver.current_window_handle
        driver.get(url)

    @property
    def driver(self) -> Any:
        self._driver.switch_to.window(self._handle)
        return self._driver

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        """With the spaces that tokens begin with, which `element.text` leaves out."""
        text = self.find(selector).get_property("textContent")
        assert isinstance(text, str)
        return text

    def ask(self, prompt: str) -> None:
        field = self.find("#prompt")
        field.clear()
        field.send_keys(prompt)
        self.find("#send").click()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, SECONDS, poll_frequency=0.02).until(lambda _: condition())

    def wait_for_text(self, selector: str, text: str) -> None:
        self.wait_for(lambda: self.text(selector) == text)

    def close(self) -> None:
        driver = self.driver
        driver.close()
        driver.switch_to.window(driver.window_handles[0])


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Debian's Chromium, driven by the program that is packaged with it."""
    program, driver_program = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver_program is None:
        pytest.skip("no chromium or no chromedriver here: `script/test browser` installs them")
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="no selenium here: `script/test browser` installs it"
    )
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=driver_program)
    with webdriver.Chrome(options=options, service=service) as driver:
        yield driver


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def open_tab(driver: Any, url: str) -> Iterator[Callable[[], Tab]]:
    """Opens tabs; those that are still open at the end of the test are closed."""
    first = driver.current_window_handle
    yield lambda: Tab(driver, url)
    for handle in driver.window_handles:
        if handle != first:
            driver.switch_to.window(handle)
            driver.close()
    driver.switch_to.window(first)


def test_the_first_token_is_shown_before_the_last_is_made(
    watch: Watch, open_tab: Callable[[], Tab]
) -> None:
    tab = open_tab()
    tab.ask("An iterator")
    generation = watch.next("An iterator")
    generation.start(stepwise=True)

    generation.step()
    tab.wait_for_text(".text", generation.made[0])
    assert len(generation.made) == 1
    assert tab.find("article").get_attribute("aria-busy") == "true"
    assert tab.text("#status") == "The model is writing."

    generation.step()
    generation.tell("end")
    tab.wait_for_text("#status", "The answer is complete.")
    assert tab.text(".text") == generation.text()
    assert tab.find("article").get_attribute("aria-busy") is None
    # The browser does not ask again when the server has closed the connection.
    assert tab.find("#send").is_enabled()
    generation.wait_closed()


def test_stop_closes_the_generator(watch: Watch, open_tab: Callable[[], Tab]) -> None:
    tab = open_tab()
    tab.ask("A list")
    generation = watch.next("A list")
    generation.start(pace=0.01)
    tab.wait_for(lambda: tab.text(".text") != "")

    stopped_at = time.monotonic()
    tab.find("#stop").click()
    print(f"stop: {1000 * (generation.wait_closed() - stopped_at):.0f} ms until finally")

    assert tab.text("#status") == "Stopped."
    assert generation.text().startswith(tab.text(".text"))
    assert not tab.find("#stop").is_enabled()


def test_a_closed_tab_closes_the_generator(watch: Watch, open_tab: Callable[[], Tab]) -> None:
    tab = open_tab()
    tab.ask("A tuple")
    generation = watch.next("A tuple")
    generation.start(pace=0.01)
    tab.wait_for(lambda: tab.text(".text") != "")

    closed_at = time.monotonic()
    tab.close()
    print(f"closed tab: {1000 * (generation.wait_closed() - closed_at):.0f} ms until finally")


def test_two_tabs_side_by_side(watch: Watch, open_tab: Callable[[], Tab]) -> None:
    first, second = open_tab(), open_tab()
    first.ask("A set")
    of_first = watch.next("A set")
    second.ask("A map")
    of_second = watch.next("A map")
    of_first.start(stepwise=True)
    of_second.start(stepwise=True)

    for _ in range(3):  # Neither waits for the other.
        of_first.step()
        first.wait_for_text(".text", of_first.text())
        of_second.step()
        second.wait_for_text(".text", of_second.text())

    first.close()
    of_first.wait_closed()
    of_second.step()
    of_second.tell("end")
    second.wait_for_text("#status", "The answer is complete.")
    assert second.text(".text") == of_second.text()


def test_an_error_of_the_model_is_shown(watch: Watch, open_tab: Callable[[], Tab]) -> None:
    tab = open_tab()
    tab.ask("A string")
    generation = watch.next("A string")
    generation.start(stepwise=True)
    generation.step()
    generation.tell("<b>no words</b>\nare left")

    tab.wait_for(lambda: tab.find(".error").is_displayed())
    assert tab.text(".error") == "RuntimeError: <b>no words</b>\nare left"
    assert tab.text(".text") == generation.text()
    generation.wait_closed()

    tab.ask("Bytes")  # The page goes on, the newest answer first.
    generation = watch.next("Bytes")
    generation.start(stepwise=True)
    generation.step()
    generation.tell("end")
    tab.wait_for_text("#status", "The answer is complete.")
    assert tab.text(".text") == generation.text()


READ_NOTHING = """
const answer = await fetch("tokens?prompt=" + encodeURIComponent(arguments[0]));
window.reader = answer.body.getReader();
"""
READ_AND_COUNT = """
let size = 0;
while (size < arguments[0]) size += (await window.reader.read()).value.length;
return size;
"""


def test_a_slow_reader_stops_its_generator_only(watch: Watch, open_tab: Callable[[], Tab]) -> None:
    slow, other = open_tab(), open_tab()
    slow.driver.execute_script(READ_NOTHING, "A file")
    generation = watch.next("A file")
    generation.start(words=2000)
    count = generation.wait_stalled(1.0)
    size = len(generation.text())
    print(f"slow reader: the generator stood still after {count} values, {size / 1e6:.1f} MB")

    other.ask("A thread")
    of_other = watch.next("A thread")
    of_other.start(stepwise=True)
    of_other.step()
    other.wait_for_text(".text", of_other.text())
    of_other.tell("end")

    # A reader that goes on gets all of it, and the generator goes on, too.
    slow.driver.execute_script(READ_AND_COUNT, 2 * size)
    assert len(generation.made) > count
    slow.close()
    generation.wait_closed()


def test_the_page_needs_nothing_of_another_host(open_tab: Callable[[], Tab], url: str) -> None:
    tab = open_tab()
    names = tab.driver.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert sorted(names) == [url + "chat.css", url + "chat.js"]
    problems = [entry for entry in tab.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(open_tab: Callable[[], Tab], scheme: str) -> None:
    """The ratio of WCAG 2, level AA, for each text of the page on what is behind it."""
    tab = open_tab()
    feature = {"name": "prefers-color-scheme", "value": scheme}
    tab.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for selector, behind in [
        ("body", "body"),
        ("header p", "body"),
        ("#hint", "body"),
        ("#prompt", "#prompt"),
        ("#send", "#send"),
        ("#stop", "body"),
    ]:
        text = tab.find(selector).value_of_css_property("color")
        ground = tab.find(behind).value_of_css_property("background-color")
        assert contrast(text, ground) >= 4.5, (selector, text, ground)
    for control in ["#prompt", "#send", "#stop"]:
        assert tab.find(control).accessible_name != ""


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        shares = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_the_script_serves_the_page(driver: Any) -> None:
    """`script/chat small`, as a user starts it, with its own model and its own pace."""
    with running([str(ROOT / "script" / "chat"), "small"], PORT="0") as address:
        tab = Tab(driver, address)
        tab.ask("An iterator")
        tab.wait_for(lambda: tab.text(".text") != "")
        tab.close()


# What follows needs no browser.


@contextmanager
def asked(url: str, target: str, method: str = "GET") -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)
    connection.request(method, target)
    with connection.getresponse() as answer:
        yield answer
    connection.close()


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/../chat.app", 404),
        ("GET", "/tokens", 400),
        ("GET", "/tokens?prompt=%ff", 400),
        ("GET", "/tokens?prompt=" + "x" * 5000, 400),
        ("POST", "/", 405),
    ],
)
def test_each_request_has_its_status(url: str, method: str, target: str, status: int) -> None:
    with asked(url, target, method) as answer:
        assert answer.status == status


def test_tokens_are_server_sent_events(watch: Watch, url: str) -> None:
    prompt = "Ünicode & <signs>?"
    with asked(url, "/tokens?prompt=" + quote(prompt)) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        generation = watch.next(prompt)
        generation.start(stepwise=True)
        generation.step()
        assert answer.readline() == f'data: "{generation.text()}"\n'.encode()
        generation.tell("end")
        assert answer.read() == b"\nevent: done\ndata:\n\n"


@pytest.mark.parametrize("stepwise", [False, True], ids=["while it yields", "while it waits"])
def test_a_closed_connection_closes_the_generator(watch: Watch, url: str, stepwise: bool) -> None:
    """Also one that has no token to send, on which an error could be seen."""
    with asked(url, "/tokens?prompt=None") as answer:
        generation = watch.next("None")
        generation.start(stepwise=stepwise, pace=0.01)
        if stepwise:
            generation.step()
        answer.readline()
    generation.wait_closed()
