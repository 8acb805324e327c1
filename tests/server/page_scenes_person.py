"""Scenes of a person: keyboard, colours, narrow screens, stopping, failures, keys, the fleet; see `page_browser`."""

from __future__ import annotations

from page_browser import Visit, ask, choose, done, focused, scene, to_the_top
from playwright.sync_api import Page, expect


@scene
def escape_stops(visit: Visit) -> None:
    with visit.page() as page:
        choose(page, "stuck")
        ask(page, "Will this end?", wait=False)
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        expect(page.locator(".answer")).to_have_count(2)
        page.keyboard.press("Escape")
        done(page)
        expect(page.locator(".status")).to_contain_text("stopped")
        expect(page.locator(".answer .badge", has_text="stopped")).to_have_count(2)
        ask(page, "And this?", wait=False)
        page.get_by_role("button", name="Stop").click()
        done(page)


@scene
def failures_are_told(visit: Visit) -> None:
    visit.expected = ("503",)
    with visit.page() as page:
        choose(page, "half")
        ask(page, "Who is missing?")
        expect(page.locator(".answer.failed")).to_contain_text("scripted failure")
        expect(page.locator(".final .notice")).to_contain_text("1 of 2")
        page.get_by_text("Receipt", exact=False).last.click()
        expect(page.locator(".failures")).to_contain_text("broken")
        page.get_by_role("button", name="New conversation").click()
        choose(page, "none")
        ask(page, "Anybody?")
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.locator(".status")).to_be_visible()


@scene
def the_keyboard_is_enough(visit: Visit) -> None:
    with visit.page() as page:
        expect(page.locator(".welcome p")).to_be_visible()
        to_the_top(page)
        page.keyboard.press("Tab")
        assert "Skip" in focused(page), focused(page)
        page.keyboard.press("Enter")
        assert focused(page, "id") == "question"
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_label("Compare")).to_be_checked()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Tab")
        page.keyboard.type("quick")
        expect(page.get_by_label("Fusion", exact=True)).to_have_value("quick")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator(".options")).to_be_visible()
        page.keyboard.press("Enter")
        page.locator("#question").focus()
        page.keyboard.type("Typed?")
        page.keyboard.press("Enter")
        page.keyboard.type("Yes.")
        page.keyboard.press("Control+Enter")
        done(page)
        expect(page.locator(".question")).to_have_text("Typed?\nYes.")
        seen = []
        to_the_top(page)
        for _ in range(60):
            page.keyboard.press("Tab")
            seen.append(focused(page))
            box = page.evaluate(
                "(() => { const b = document.activeElement.getBoundingClientRect(); return b.width * b.height })()"
            )
            assert box > 0, f"the focus went to something unseen: {seen[-1]}"
        for name in ("Ask", "Fleet", "New conversation", "Typed?", "Copy", "Options"):
            assert any(name in one for one in seen), (name, seen)


@scene
def light_and_dark(visit: Visit) -> None:
    def shade(page: Page) -> int:
        colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return sum(int(part) for part in colour[4:-1].split(",")[:3])

    with visit.page(color_scheme="dark") as page:
        assert shade(page) < 150, "the system is dark and the page is not"
        page.locator("button.theme").click()
        assert shade(page) > 600, "light was chosen"
        page.reload()
        assert shade(page) > 600, "light was forgotten"
        page.locator("button.theme").click()
        page.emulate_media(color_scheme="light")
        assert shade(page) < 150, "dark was chosen"
        page.locator("button.theme").click()
        assert shade(page) > 600, "the system is light again"


@scene
def a_narrow_screen_never_scrolls_sideways(visit: Visit) -> None:
    within = "document.querySelector('.turns, main').scrollWidth"
    wide = f"Math.max(document.documentElement.scrollWidth, {within}) - innerWidth"
    with visit.page(360, 740, has_touch=True) as page:
        assert page.evaluate(wide) <= 0
        choose(page, "hostile")
        ask(page, "W" * 300)
        assert page.evaluate(wide) <= 0, "after an answer"
        for _ in range(page.locator(".behind > details:not([open])").count()):
            page.locator(".behind > details:not([open]) > summary").first.click()
        assert page.evaluate(wide) <= 0, "with everything open"
        page.get_by_role("button", name="Options").click()
        assert page.evaluate(wide) <= 0, "with options"
        page.get_by_role("button", name="Options").click()
        page.get_by_role("button", name="Conversations").click()
        expect(page.locator(".history")).to_be_visible()
        page.locator(".history .title").first.click()
        expect(page.locator(".history")).to_be_hidden()
        page.get_by_role("link", name="Fleet").click()
        expect(page.locator(".engines")).to_be_visible()
        assert page.evaluate(wide) <= 0, "the fleet"


@scene
def less_motion_where_it_is_asked_for(visit: Visit) -> None:
    with visit.page(reduced_motion="reduce") as page:
        choose(page, "stuck")
        ask(page, "Does it move?", wait=False)
        moving = page.locator(".pulse").first.evaluate("dot => getComputedStyle(dot).animationName")
        assert moving == "none", moving
        page.keyboard.press("Escape")
        done(page)


@scene
def the_fleet_is_shown(visit: Visit) -> None:
    with visit.page(path="/fleet") as page:
        rows = page.locator(".engines tbody tr")
        expect(rows).not_to_have_count(0)
        names = page.locator(".engines tbody th").all_text_contents()
        assert {"one", "two", "judge"} <= set(names), names
        assert set(page.locator(".engines .badge").all_text_contents()) == {"ready"}
        expect(page.locator(".summary")).to_contain_text(f"{len(names)} of {len(names)}")
        page.get_by_role("link", name="Ask").click()
        expect(page.locator("#question")).to_be_visible()
        page.go_back()
        expect(page.locator(".engines")).to_be_visible()


@scene
def a_key_is_asked_for_and_kept_as_the_user_says(visit: Visit) -> None:
    visit.expected = ("401",)
    with visit.page(path=visit.keyed + "/") as page:
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        page.get_by_role("button", name="Enter a key").click()
        page.get_by_label("Key", exact=True).fill("lf-wrong")
        page.get_by_role("button", name="Use key").click()
        expect(dialog).to_contain_text("does not accept this key")
        page.get_by_label("Key", exact=True).fill(visit.key)
        page.get_by_role("button", name="Use key").click()
        expect(dialog).to_be_hidden()
        choose(page, "quick")
        ask(page, "Am I let in?")
        expect(page.locator(".final")).to_contain_text("Quickly said.")
        places = page.evaluate("[sessionStorage, localStorage].map(place => place.getItem('local-fusion/key'))")
        assert places == [visit.key, None], places
        page.reload()
        expect(page.get_by_label("Fusion", exact=True)).to_be_enabled()
        expect(dialog).to_be_hidden()
        page.get_by_role("button", name="Forget the API key").click()
        expect(dialog).to_be_visible()
        assert page.evaluate("sessionStorage.getItem('local-fusion/key')") is None
