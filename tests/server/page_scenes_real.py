"""Scenes on real engines, asked for by `tests/real/test_page.py`; see `page_browser`."""

from __future__ import annotations

import re

from page_browser import Visit, ask, chip, option, scene
from playwright.sync_api import expect


@scene
def real_members_write_and_are_compared(visit: Visit) -> None:
    with visit.page() as page:
        page.get_by_role("button", name="Options").click()
        option(page, "Mode").select_option("merge")
        ask(page, "Reverse the word 'planet'.")
        expect(page.locator(".status .badge")).to_have_text("merge")
        expect(page.locator(".answer .badge", has_text="failed")).to_have_count(0)
        assert page.locator(".answer").count() >= 3
        texts = page.locator(".answer .prose").all_text_contents()
        assert all(text.strip() for text in texts), texts
        assert (page.locator(".final .prose").text_content() or "").strip()
        page.get_by_text("Time and tokens").click()
        stages = page.locator(".figures-table tbody th").all_text_contents()
        assert {"panel", "analysis", "writing"} <= set(stages), stages
        page.get_by_text("Compare", exact=True).click()
        chip(page, "qwen-numbers").click()
        ask(page, "Reverse the word 'stone'.")
        compared = page.locator(".compared .answer")
        assert compared.count() >= 2
        expect(page.locator(".compared .badge", has_text="done")).to_have_count(compared.count())


@scene
def real_hosts_are_shown(visit: Visit) -> None:
    with visit.page(path="/fleet") as page:
        expect(page.locator(".engines tbody tr")).not_to_have_count(0)
        expect(page.locator(".engines .badge", has_text="ready")).to_have_count(
            page.locator(".engines tbody tr").count()
        )
        expect(page.locator(".engines thead")).to_contain_text("last probe")
        starts = page.locator(".engines td[data-name=start]").all_text_contents()
        assert starts, "no host says how long it took to start"
        assert all(re.fullmatch(r"[\d.]+ (ms|s)|\d+ min \d+ s", start) for start in starts), starts
