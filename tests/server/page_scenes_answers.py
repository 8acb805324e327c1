"""Scenes of asking: answers, hostile text, history, options, comparison; see `page_browser`."""

from __future__ import annotations

from page_browser import Visit, ask, chip, choose, done, option, scene, sent
from playwright.sync_api import expect

# Notes what the page shows, whenever it changes.
WATCH = """
window.seen = [];
new MutationObserver(() => window.seen.push(document.querySelector(".ask").innerText))
  .observe(document.querySelector(".ask"), {subtree: true, childList: true, characterData: true});
"""


@scene
def panel_streams_then_the_answer_comes(visit: Visit) -> None:
    with visit.page() as page:
        expect(page.locator(".welcome")).to_contain_text("slow asks one, two; judge judges")
        page.evaluate(WATCH)
        ask(page, "How do they differ?", wait=False)
        cards = page.locator(".answer")
        expect(cards).to_have_count(2)
        first = cards.nth(0)
        done(page)
        expect(first.locator(".body")).to_contain_text("omega")
        seen = page.evaluate("window.seen")
        assert any("answering" in text and "alpha" in text and "omega" not in text for text in seen), "no streaming"
        assert not any("omega" not in text and "In short" in text for text in seen), "the answer came before the panel"
        assert any("have answered" in text for text in seen), "nothing was told to a screen reader"
        final = page.locator(".final")
        expect(final).to_contain_text("In short: both are right.")
        expect(final).to_contain_text("written by writer")
        expect(final).to_contain_text("guard:")
        expect(page.locator(".answer.chosen .badge")).to_have_text("best")
        expect(page.locator(".share").first).to_contain_text("%")
        expect(page.get_by_role("status")).to_have_text("The answer is ready.")
        for name in ("Consensus", "Contradictions", "Partial coverage", "Unique insights", "Blind spots"):
            expect(page.locator(".analysis")).to_contain_text(name)
        page.get_by_text("Time and tokens").click()
        expect(page.locator(".timeline li")).not_to_have_count(0)
        stages = page.locator(".figures-table tbody th").all_text_contents()
        assert stages[0] == "panel", stages
        assert {"analysis", "writing", "guard"} <= set(stages), stages
        widths = [bar.evaluate("bar => bar.getBoundingClientRect().width") for bar in page.locator(".bar").all()[1:]]
        assert all(width > 0 for width in widths), "bars have no width"


@scene
def whatever_a_model_says_stays_text(visit: Visit) -> None:
    with visit.page() as page:
        choose(page, "hostile")
        ask(page, '<img src=x onerror="alert(0)"> </textarea><script>alert(0)</script>')
        page.get_by_text("Analysis", exact=False).first.click()
        text = page.locator(".turns").text_content() or ""
        wanted = (
            "<script>alert(1)</script>",
            '<img src=x onerror="alert(2)">',
            "<script>\nalert(10)\n</script>",
            "<img src=x onerror=alert(11)>",
            '<iframe src="https://evil.example/frame"></iframe>',
            "</textarea></div></article>",
            "<svg onload=alert(3)>",
            "[image: spy https://evil.example/pixel.png]",
            "U+202E",
            "<b>agreed</b>",
            '<img src=x onerror="alert(0)">',
        )
        assert not [part for part in wanted if part not in text], [part for part in wanted if part not in text]
        for tag in ("script", "img", "iframe", "object", "embed", "svg", "style", "form", "textarea"):
            assert page.locator(f".turns {tag}").count() == 0, tag
        targets = [link.get_attribute("href") or "" for link in page.locator(".turns a").all()]
        assert targets, "the one good link is missing"
        assert all(target.startswith("https://good.example/") for target in targets), targets
        assert "\u202e" not in text
        assert page.title() == "local-fusion"
        page.reload()
        expect(page.locator(".final")).to_contain_text("<script>alert(1)</script>")


@scene
def history_is_kept_deleted_and_switched_off(visit: Visit) -> None:
    with visit.page() as page:
        choose(page, "quick")
        ask(page, "The first question?")
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator(".welcome")).to_be_visible()
        ask(page, "The second question?")
        page.reload()
        expect(page.locator(".question")).to_have_text("The second question?")
        expect(page.locator(".final")).to_contain_text("Quickly said.")
        titles = page.locator(".history .title")
        assert titles.all_text_contents() == ["The second question?", "The first question?"]
        titles.nth(1).click()
        expect(page.locator(".question")).to_have_text("The first question?")
        page.get_by_label("Delete “The first question?”").click()
        expect(titles).to_have_count(1)
        page.get_by_label("Keep in this browser").click()
        page.reload()
        expect(titles).to_have_count(0)
        ask(page, "Not to be kept?")
        kept = page.evaluate("Object.keys(localStorage).filter(name => name.includes('conversation')).length")
        assert kept == 0, kept
        page.get_by_label("Keep in this browser").click()
        page.reload()
        expect(titles).to_have_count(1)
        page.get_by_role("button", name="Delete all").click()
        page.get_by_role("button", name="Really delete all?").click()
        expect(titles).to_have_count(0)
        expect(page.locator(".welcome")).to_be_visible()


@scene
def a_broken_store_is_ignored(visit: Visit) -> None:
    with visit.page() as page:
        for name in ("conversation/x", "settings"):
            page.evaluate(f"localStorage.setItem('local-fusion/{name}', '[1')")
        page.reload()
        expect(page.locator(".welcome")).to_be_visible()


@scene
def a_conversation_goes_on(visit: Visit) -> None:
    with visit.page() as page:
        choose(page, "quick")
        ask(page, "First?")
        body = sent(page, "/v1/responses", lambda: ask(page, "Second?"))
        said = [(one["role"], one["content"]) for one in body["input"]]
        assert said == [("user", "First?"), ("assistant", "Quickly said."), ("user", "Second?")], said
        assert (body["store"], body["stream"], body["model"]) == (False, True, "quick"), body


@scene
def options_reach_the_server(visit: Visit) -> None:
    with visit.page() as page:
        page.get_by_role("button", name="Options").click()
        option(page, "Mode").select_option("best-of")
        chip(page, "quick-one").click()
        option(page, "Judge").select_option("judge")
        option(page, "Writer").select_option("one")
        option(page, "The answer comes").select_option("live")
        option(page, "Samples").fill("2")
        option(page, "Quorum").fill("2")
        option(page, "Deadline").fill("30")
        option(page, "Length").fill("200")
        option(page, "Criteria").fill("brevity")
        option(page, "Instructions").fill("Be kind.")
        body = sent(page, "/v1/responses", lambda: ask(page, "What now?", wait=False))
        own = body["fusion"]
        assert own.pop("include"), own
        assert own == {
            "mode": "best-of",
            "panel": ["one", "two", "quick-one"],
            "judge": "judge",
            "writer": "one",
            "samples": 2,
            "quorum": 2,
            "deadline_s": 30,
            "criteria": "brevity",
            "stream": "live",
        }, own
        assert (body["instructions"], body["max_output_tokens"]) == ("Be kind.", 200), body
        done(page)
        expect(page.locator(".answer")).to_have_count(6)
        expect(page.locator(".status .badge")).to_have_text("best-of")
        page.get_by_role("button", name="Options").click()
        page.get_by_role("button", name="Back to the fusion's own settings").click()
        body = sent(page, "/v1/responses", lambda: ask(page, "And now?", wait=False))
        assert list(body["fusion"]) == ["include"], body["fusion"]
        page.keyboard.press("Escape")


@scene
def members_are_compared(visit: Visit) -> None:
    with visit.page() as page:
        page.get_by_text("Compare", exact=True).click()
        chip(page, "quick-one").click()
        ask(page, "Side by side?", wait=False)
        expect(page.locator(".answer")).to_have_count(3)
        expect(page.locator(".answer .badge", has_text="answering").first).to_be_visible()
        done(page)
        expect(page.locator(".answer .badge", has_text="done")).to_have_count(3)
        expect(page.locator(".answer").nth(0)).to_contain_text("omega")
        expect(page.locator(".answer").nth(0).locator(".figures")).to_contain_text("tokens")
        expect(page.locator(".final")).to_have_count(0)
        chip(page, "two").click()
        chip(page, "one").click()
        body = sent(page, "/v1/chat/completions", lambda: ask(page, "And then?"))
        said = [one["content"] for one in body["messages"]]
        assert (body["model"], said) == ("quick-one", ["Side by side?", "Quickly said.", "And then?"]), body


@scene
def later_rounds_stand_under_their_number(visit: Visit) -> None:
    with visit.page() as page:
        choose(page, "argued")
        ask(page, "Who is right?")
        expect(page.locator(".round h4")).to_have_text(["Round 1", "Round 2"])
        for part in page.locator(".round").all():
            expect(part.locator(".answer")).to_have_count(2)
