"""Opens a report in headless Chromium and says what happened there. Run by the client's Python, which has Playwright.

    look.py PAGE [--search WORDS] [--shot FILE] [--width N] [--dark]

Prints one JSON object: dialogs, console (errors and warnings), violations of the policy, rows listed before and after
the search, and the text of the chosen row.
"""

import argparse
import json
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WATCH = """
window.found = [];
document.addEventListener("securitypolicyviolation", (event) => window.found.push(event.violatedDirective));
window.addEventListener("error", (event) => window.found.push("error: " + event.message));
"""
OVERFLOWS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("page", type=Path)
    parser.add_argument("--browser", required=True)
    parser.add_argument("--search", default="")
    parser.add_argument("--chip", default="")
    parser.add_argument("--shot", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.browser, headless=True, args=list(FLAGS))
        page = browser.new_page(
            viewport={"width": arguments.width, "height": 900},
            color_scheme="dark" if arguments.dark else "light",
        )
        heard = {"dialogs": [], "console": [], "requests": []}
        page.on("dialog", lambda dialog: (heard["dialogs"].append(dialog.message), dialog.dismiss()))
        page.on("console", lambda line: heard["console"].append(f"{line.type}: {line.text}"))
        page.on("pageerror", lambda problem: heard["console"].append(f"error: {problem}"))
        page.on("request", lambda request: heard["requests"].append(request.url[:200]))
        page.add_init_script(WATCH)
        page.goto(arguments.page.resolve().as_uri())
        heard["title"] = page.title()
        heard["listed"] = page.locator(".entry").count()
        heard["overflows"] = page.evaluate(OVERFLOWS)
        if arguments.shot:
            page.screenshot(path=arguments.shot, full_page=True)
        if arguments.chip:
            page.locator(".chip", has_text=arguments.chip).first.click()
        if arguments.search:
            page.keyboard.press("/")
            page.keyboard.type(arguments.search)
            page.wait_for_timeout(300)
        heard["found"] = page.locator(".entry").count()
        heard["count"] = page.locator("#count").inner_text()
        heard["first"] = page.locator("#detail").inner_text()
        heard["marks"] = page.locator("#detail mark").count()
        page.locator("#list").focus()
        page.keyboard.press("j")
        heard["second"] = page.locator("#detail").inner_text()
        heard["scripts"] = page.locator("script").count()
        heard["images"] = page.locator("img, iframe, object, embed, link").count()
        heard["violations"] = page.evaluate("window.found")
        browser.close()
    print(json.dumps(heard))


main()
