"""Scenes of what goes wrong between a person, the browser and the server; see `page_browser`."""

from __future__ import annotations

import json

from page_browser import Visit, ask, choose, done, focused, option, scene, sent
from playwright.sync_api import Page, Route, expect

SETTINGS = "local-fusion/settings"


def kept(page: Page) -> int:
    """Conversations in the browser's store."""
    return int(page.evaluate("Object.keys(localStorage).filter(name => name.includes('conversation/')).length"))


@scene
def stop_is_no_second_ask(visit: Visit) -> None:
    with visit.page() as page:
        choose(page, "stuck")
        ask(page, "First?", wait=False)
        page.locator("#question").fill("A draft")
        page.get_by_role("button", name="Stop").click()
        done(page)
        expect(page.locator(".turn")).to_have_count(1)
        expect(page.locator("#question")).to_have_value("A draft")
        assert focused(page, "id") == "question", "the focus went with the button"
        page.get_by_role("button", name="Ask", exact=True).dblclick()
        expect(page.locator(".turn")).to_have_count(2)
        expect(page.locator(".answer")).to_have_count(4)
        expect(page.locator(".turn").last).to_have_attribute("data-state", "running")
        page.keyboard.press("Escape")
        done(page)


@scene
def what_is_deleted_while_it_runs_stays_deleted(visit: Visit) -> None:
    with visit.page() as page:
        choose(page, "stuck")
        ask(page, "To be deleted?", wait=False)
        expect(page.locator(".answer")).to_have_count(2)
        page.get_by_label("Delete “To be deleted?”").click()
        expect(page.locator(".stop")).to_have_count(0)
        expect(page.locator(".welcome")).to_be_visible()
        expect(page.locator(".history .title")).to_have_count(0)
        assert kept(page) == 0


@scene
def a_reload_keeps_what_was_heard_and_the_draft(visit: Visit) -> None:
    with visit.page() as page:
        ask(page, "How far?", wait=False)
        expect(page.locator(".answer .body").first).to_contain_text("alpha word")
        page.locator("#question").fill("The next")
        page.reload()
        expect(page.locator(".answer .body").first).to_contain_text("alpha word")
        expect(page.locator(".status")).to_contain_text("stopped")
        expect(page.locator(".notice")).to_have_count(0)
        expect(page.locator("#question")).to_have_value("The next")


@scene
def without_a_store_the_page_forgets_and_works(visit: Visit) -> None:
    forbidden = "Object.defineProperty(window, name, {get() { throw new DOMException('no', 'SecurityError') }})"
    with visit.page() as page:
        page.add_init_script(f"for (const name of ['localStorage', 'sessionStorage']) {forbidden}")
        page.reload()
        choose(page, "quick")
        ask(page, "Forgotten?")
        expect(page.locator(".final")).to_contain_text("Quickly said.")
        page.reload()
        expect(page.locator(".welcome")).to_be_visible()


@scene
def settings_of_another_time_do_no_harm(visit: Visit) -> None:
    odd: list[object] = [None, {"options": None, "members": None}, {"options": {"panel": "x"}, "members": "quick-one"}]
    with visit.page() as page:
        for settings in odd:
            page.evaluate("([name, text]) => localStorage.setItem(name, text)", [SETTINGS, json.dumps(settings)])
            page.reload()
            expect(page.locator(".welcome p")).to_be_visible()
        old = {"fusion": "quick", "options": {"panel": ["gone"], "judge": "gone-too", "criteria": "kept"}}
        page.evaluate("([name, text]) => localStorage.setItem(name, text)", [SETTINGS, json.dumps(old)])
        page.evaluate(
            "localStorage.setItem('local-fusion/conversation/x', JSON.stringify({id: 'x', turns: [null, {}]}))"
        )
        page.reload()
        expect(page.locator(".count")).to_have_text("1")
        body = sent(page, "/v1/responses", lambda: ask(page, "Who is left?"))
        assert set(body["fusion"]) == {"criteria", "include"}, body
        expect(page.locator(".final")).to_contain_text("Quickly said.")


@scene
def a_number_out_of_range_is_not_passed_over(visit: Visit) -> None:
    with visit.page() as page:
        choose(page, "quick")
        page.get_by_role("button", name="Options").click()
        option(page, "Samples").fill("99")
        page.locator("#question").fill("How many?")
        page.locator("#question").press("Control+Enter")
        assert page.evaluate("document.activeElement.validationMessage"), "nothing points at the number"
        expect(page.locator(".turn")).to_have_count(0)
        option(page, "Samples").fill("2")
        body = sent(page, "/v1/responses", lambda: ask(page, "How many?"))
        assert body["fusion"]["samples"] == 2, body


@scene
def an_answer_is_read_from_its_start(visit: Visit) -> None:
    top = "box => box.getBoundingClientRect().top"
    with visit.page() as page:
        choose(page, "lengthy")
        for question in ("First?", "Second?"):
            ask(page, question)
            turn = page.locator(".turn").last
            expect(turn.locator(".final")).to_contain_text("line 150")
            expect(turn.locator(".final h3")).to_be_in_viewport()
            below = turn.locator(".final").evaluate(top) - page.locator(".turns").evaluate(top)
            assert 0 <= below < 40, below
        page.locator(".turns").evaluate("box => (box.scrollTop = 0)")
        page.wait_for_timeout(200)
        assert page.locator(".turns").evaluate("box => box.scrollTop") == 0, "the page pulled the reader away"


@scene
def a_table_can_be_scrolled_by_keyboard(visit: Visit) -> None:
    with visit.page() as page:
        choose(page, "hostile")
        ask(page, "A table?")
        table = page.get_by_role("region", name="Table", exact=True).first
        table.focus()
        expect(table).to_be_focused()


@scene
def everything_can_be_reached_on_a_small_screen(visit: Visit) -> None:
    with visit.page(360, 640, has_touch=True, is_mobile=True) as page:
        page.get_by_role("button", name="Options").click()
        expect(page.get_by_role("button", name="Ask", exact=True)).to_be_in_viewport(ratio=1)
        expect(page.get_by_role("button", name="Options")).to_be_in_viewport(ratio=1)
        option(page, "Instructions").scroll_into_view_if_needed()
        expect(page.locator("#question")).to_be_in_viewport(ratio=1)
        page.get_by_role("button", name="Options").click()
        page.get_by_role("button", name="Conversations").click()
        expect(page.locator(".history")).to_be_visible()
        page.touchscreen.tap(350, 400)
        expect(page.locator(".history")).to_be_hidden()


@scene
def many_conversations_are_kept(visit: Visit) -> None:
    make = """for (let i = 0; i < 200; i++) localStorage.setItem(`local-fusion/conversation/c${i}`, JSON.stringify(
      {id: `c${i}`, title: `Number ${i}.`, changed: i, turns: []}))"""
    with visit.page() as page:
        page.evaluate(make)
        page.reload()
        titles = page.locator(".history .title")
        expect(titles).to_have_count(200)
        choose(page, "quick")
        ask(page, "One more?")
        expect(titles).to_have_count(201)
        assert kept(page) == 201
        page.get_by_label("Delete “Number 150.”").focus()
        page.keyboard.press("Enter")
        expect(titles).to_have_count(200)
        assert "Number 149." in focused(page), focused(page)


@scene
def a_rating_goes_to_its_own_conversation(visit: Visit) -> None:
    held: list[Route] = []
    with visit.page() as page:
        choose(page, "quick")
        ask(page, "Good?")
        page.route("**/v1/feedback", lambda route: held.append(route))
        with page.expect_request("**/v1/feedback"):
            page.get_by_role("button", name="Good answer").click()
        page.get_by_role("button", name="New conversation").click()
        with page.expect_response("**/v1/feedback"):
            held[0].fulfill(json={})
        page.wait_for_timeout(200)
        expect(page.locator(".history .title")).to_have_text(["Good?"])
        page.locator(".history .title").click()
        page.reload()
        expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")


@scene
def a_stream_that_ends_early_is_no_answer(visit: Visit) -> None:
    half = 'data: {"choices": [{"index": 0, "delta": {"content": "Half of"}, "finish_reason": null}]}\n\n'
    with visit.page() as page:
        page.get_by_text("Compare", exact=True).click()
        page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=half))
        ask(page, "And the rest?")
        expect(page.locator(".answer.failed")).to_have_count(2)
        expect(page.locator(".answer .error").first).to_contain_text("ended before")


@scene
def a_broken_list_is_read_again(visit: Visit) -> None:
    with visit.page() as page:
        for path, address in (("/fleet", "**/fleet.json"), ("/", "**/v1/models")):
            page.route(address, lambda route: route.fulfill(content_type="application/json", body='{"ready": tr'))
            page.goto(visit.origin + path)
            expect(page.locator(".notice")).to_contain_text("broke")
            page.unroute(address)
            expect(page.locator(".notice")).to_have_count(0)
        expect(page.locator(".welcome p")).to_be_visible()


@scene
def engines_that_start_are_waited_for(visit: Visit) -> None:
    def starting(route: Route) -> None:
        body = route.fetch().json()
        for entry in body["data"]:
            entry["local_fusion"]["ready"] = False
        route.fulfill(json=body)

    with visit.page() as page:
        page.route("**/v1/models", starting)
        page.reload()
        expect(page.locator(".notice")).to_contain_text("not ready yet")
        page.unroute("**/v1/models")
        expect(page.locator(".notice")).to_have_count(0)
