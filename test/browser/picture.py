"""Makes the pictures of docs/chat.md: the page with the real model, half way through an answer.

python test/browser/picture.py, with the Python of .venv after `script/setup browser`.
"""

import tempfile
from pathlib import Path

from selenium.webdriver.support.wait import WebDriverWait

from test_chat import ROOT, Tab, chromium, running

QUESTION = "Why is the sky blue?"


def main() -> None:
    with (
        running([str(ROOT / "script" / "chat")], PORT="0") as url,
        tempfile.TemporaryDirectory() as profile,
        chromium(Path(profile)) as driver,
    ):
        driver.set_window_size(760, 760)
        tab = Tab(driver, url)
        tab.ask(QUESTION)
        tab.wait_for(lambda: len(tab.text(".text")) > 250)
        for scheme in ["light", "dark"]:
            feature = {"name": "prefers-color-scheme", "value": scheme}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            driver.save_screenshot(str(ROOT / "docs" / "plots" / f"chat-{scheme}.png"))
        WebDriverWait(driver, 60).until(lambda _: tab.find("#send").is_enabled())
        print(tab.text(".figures"))


if __name__ == "__main__":
    main()
