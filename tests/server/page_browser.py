"""Run by `.venv-clients` (Playwright): does in a real headless Chromium what a person does with the page, and prints as
JSON, by name of the scene, what went wrong. Each scene has a fresh browser profile; whatever leaves the server, breaks
the policy, opens a dialog or reaches the console as an error is a fault of its scene.

    python page_browser.py ORIGIN CHROMIUM KEYED_ORIGIN KEY SCENE...
"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 20_000
SCENES: dict[str, Callable[[Visit], None]] = {}


class Visit:
    """One profile of the browser on one server, and the faults seen in it."""

    def __init__(self, browser: Browser, origin: str, keyed: str, key: str) -> None:
        self.origin, self.keyed, self.key = origin, keyed, key
        self.faults: list[str] = []
        self.expected: tuple[str, ...] = ()
        self._browser = browser

    @contextmanager
    def page(self, width: int = 1280, height: int = 860, path: str = "/", **options: Any) -> Iterator[Page]:
        """A page in a new profile; `path` may be a whole address."""
        context = self._browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self._request(request.url))
        page.goto(path if "://" in path else self.origin + path)
        yield page
        context.close()

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(word in text for word in self.expected):
            self.faults.append(f"console: {text}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.origin + "/", self.keyed + "/", "data:")):
            self.faults.append(f"outside: {url}")


def scene(work: Callable[[Visit], None]) -> Callable[[Visit], None]:
    SCENES[work.__name__] = work
    return work


def ask(page: Page, question: str, wait: bool = True) -> None:
    turns = page.locator(".turn").count()
    page.locator("#question").fill(question)
    page.locator("#question").press("Control+Enter")
    expect(page.locator(".turn")).to_have_count(turns + 1)
    if wait:
        done(page)


def done(page: Page) -> None:
    """The last turn has come to its end, whichever."""
    expect(page.locator(".turn").last).to_have_attribute("data-state", re.compile("done|failed|stopped"))
    expect(page.locator(".stop")).to_have_count(0)


def choose(page: Page, fusion: str) -> None:
    page.get_by_label("Fusion", exact=True).select_option(fusion)


def option(page: Page, name: str) -> Locator:
    """The field of the options that is called so."""
    field = page.locator(".options .field").filter(has=page.locator("span", has_text=re.compile(f"^{name}")))
    return field.locator("input, select, textarea")


def chip(page: Page, name: str) -> Locator:
    """A member that can be chosen."""
    return page.locator(".composer .chip span").filter(has_text=re.compile(f"^{name}$"))


def sent(page: Page, path: str, act: Callable[[], None]) -> dict[str, Any]:
    """The body of the request that `act` makes the page send."""
    with page.expect_request(lambda request: request.url.endswith(path)) as waiting:
        act()
    return dict(json.loads(waiting.value.post_data or "{}"))


def to_the_top(page: Page) -> None:
    """The next Tab goes to the first element."""
    page.evaluate("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')")


def focused(page: Page, what: str = "text") -> str:
    inside = (
        "e.id" if what == "id" else "(e.getAttribute('aria-label') || '') + ' ' + (e.innerText || e.id || e.tagName)"
    )
    return str(page.evaluate(f"(() => {{ const e = document.activeElement; return {inside} }})()"))


def main(origin: str, chromium: str, keyed: str, key: str, *names: str) -> None:
    import page_scenes_answers  # noqa: F401 (each names its scenes in SCENES)
    import page_scenes_person  # noqa: F401
    import page_scenes_real  # noqa: F401
    import page_scenes_trouble  # noqa: F401

    found: dict[str, list[str]] = {}
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for name in names:
            visit = Visit(browser, origin, keyed, key)
            began = time.monotonic()
            try:
                SCENES[name](visit)
            except Exception:
                visit.faults.append(traceback.format_exc(limit=-3))
            found[name] = visit.faults
            print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
        browser.close()
    print(json.dumps(found))


if __name__ == "__main__":
    import page_browser  # the scenes import this file by name: run that copy of it

    page_browser.main(*sys.argv[1:])
