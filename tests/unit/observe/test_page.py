"""The status page in a real browser: its parts, texts of others, colours, phones, keyboards."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from kstash.observe import schema
from kstash.observe.access import Access
from kstash.observe.listening import listen
from kstash.observe.server import HttpServer
from tests.chromium import chromium
from tests.unit.http_source import FakeSource
from tests.unit.page_server import FILES, PageServer, answers, status

Opened = Callable[..., Page]

DASH = "\u2013"

PROVE = pytest.mark.prove

ALL_THREE = re.compile(r"^max 5\.\d+\u2009k/s$")
"""What three workers did together at most; two of them did less than 4,000 a second."""

EVIL = '<img src=x onerror="document.title=1"><script>document.title=1</script>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of this module."""
    with chromium() as made:
        yield made


@pytest.fixture
def server() -> Iterator[PageServer]:
    """A server of three workers that are well."""
    with PageServer(answers()) as made:
        yield made


@pytest.fixture
def opened(browser: Browser, server: PageServer) -> Iterator[Opened]:
    """Opens the page with options of a browser's context; fails when a script complains."""
    contexts = []
    complaints: list[str] = []

    def open_page(url: str | None = None, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: (
                complaints.append(said.text)
                # A browser reports each request that fails; those are the tests' own.
                if said.type == "error" and "Failed to load resource" not in said.text
                else None
            ),
        )
        page.goto(url or server.url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def update(server: PageServer, change: Callable[[list[Any]], None]) -> None:
    """Change the entries of the workers."""
    change(server.answers["workers"]["workers"])


def look_again(page: Page) -> None:
    """Have the page ask now, as when its tab comes to the front, and not within two seconds."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def part(page: Page, name: str) -> Any:
    """A section by its heading."""
    return page.get_by_role("region", name=name, exact=True)


def luminance(page: Page, selector: str) -> float:
    """How bright the background of an element is: 0 black, 1 white."""
    text = page.locator(selector).evaluate("element => getComputedStyle(element).backgroundColor")
    red, green, blue = (int(number) for number in text[4:-1].split(","))
    return (red + green + blue) / 3 / 255


def test_the_answers_of_these_tests_are_those_of_a_server() -> None:
    """What is made up here has the fields of `kstash.observe.schema`, so that the page fits it."""
    found = answers()["workers"]
    made = msgspec.to_builtins(msgspec.convert(found, schema.Workers))
    for entry, again in zip(found["workers"], made["workers"], strict=True):
        assert set(again["status"]) == set(entry["status"])
        for name, items in entry["status"].items():
            if isinstance(items, list):
                assert set(items[0]) == set(again["status"][name][0]), name


def test_no_script_and_no_style_stands_in_the_page() -> None:
    """All of it is files of the server itself, which is all that its content policy allows."""
    html = (FILES / "index.html").read_text(encoding="utf-8")
    assert "<style" not in html
    assert "style=" not in html
    assert " on" + "click=" not in html
    for file in FILES.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file
        assert "https://" not in text, file


def test_the_real_server_serves_it(opened: Opened) -> None:
    """With the headers of a worker's own server every file loads and the page draws."""
    source = FakeSource(found=msgspec.convert(worker_of(answers(1)), schema.Status))
    made = HttpServer(listen("127.0.0.1", 0), source, access=Access())
    try:
        page = opened(f"http://127.0.0.1:{made.port}/")
        expect(page.locator("h1")).to_have_text("shop")
        expect(page.locator("#state")).to_have_text("1 of 1 worker live")
    finally:
        made.close()


def worker_of(answer: dict[str, Any], index: int = 0) -> Any:
    """A worker's status."""
    return answer["workers"]["workers"][index]["status"]


def test_what_the_workers_do(opened: Opened) -> None:
    """Numbers of the whole application: sums of the workers, the latency of the slowest."""
    page = opened()
    expect(page.locator("h1")).to_have_text("shop")
    expect(page.locator("#state")).to_have_text("3 of 3 workers live")
    expect(page).to_have_title("shop · 3 of 3 workers live · kstash")
    figures = part(page, "Flow").locator(".figure")
    expect(figures).to_have_count(5)
    assert figures.nth(0).locator("dd").first.inner_text().endswith("k/s")
    expect(figures.nth(2)).to_contain_text("ms")
    expect(part(page, "Flow").locator(".spark polyline")).to_have_count(5)
    expect(part(page, "Flow").locator(".spark .mark").first).to_be_attached()


def test_the_topology_is_drawn(opened: Opened) -> None:
    """Topics, stages with their operators and stores, and edges of three distinct kinds."""
    page = opened()
    drawing = part(page, "Topology").locator("svg.topology")
    for text in ("from-clicks", "filter(is_human)", "merge", "state customers", "audits"):
        expect(drawing.locator("text", has_text=text).first).to_be_visible()
    expect(drawing.locator(".topic")).to_have_count(6)
    expect(drawing.locator(".stage")).to_have_count(4)
    lines = {
        kind: drawing.locator(f".edge.{kind}").first.evaluate(
            "e => [getComputedStyle(e).strokeWidth, getComputedStyle(e).strokeDasharray].join()"
        )
        for kind in ("narrow", "wide", "mixed")
    }
    assert len(set(lines.values())) == 3, lines
    assert lines["mixed"].endswith("px, 4px"), "broken, as it is distinct without colour or width"
    expect(part(page, "Topology").locator(".legend li")).to_have_count(3)
    expect(drawing.locator(".label.facts", has_text="lag")).to_have_count(6)


def test_windows_and_timers_are_drawn_with_what_the_program_says(opened: Opened) -> None:
    """In the drawing and in the table; an operator that says nothing of time is as high as ever."""
    page = opened()
    drawing = part(page, "Topology").locator("svg.topology")
    chip = drawing.locator(".chip", has_text="tumbling(60 s).count(customers)")
    expect(chip.locator(".facts")).to_have_text("emit=update, grace=5 s")
    expect(chip.locator("title")).to_have_text(
        "tumbling(60 s).count(customers): emit=update, grace=5 s"
    )
    plain = drawing.locator(".chip", has_text="filter(is_human)")
    expect(plain.locator(".facts")).to_have_count(0)
    heights = [one.locator("rect").get_attribute("height") for one in (chip, plain)]
    assert float(heights[0] or 0) > float(heights[1] or 0)
    table = part(page, "Time, windows and timers")
    for operator, said in (
        ("tumbling(60 s).count(customers)", "emit=update, grace=5 s"),
        ("process(idle)", "timers, seen.ttl=3600 s, clock: wall timers"),
    ):
        head = table.get_by_role("rowheader").filter(has_text=operator)
        expect(head.locator(".soft")).to_have_text(said)


@PROVE
def test_edges_are_summed_over_the_workers(opened: Opened, server: PageServer) -> None:
    """A rate and a lag are those of the application; the table has what the drawing shows."""

    def change(entries: list[Any]) -> None:
        for number, entry in enumerate(entries):
            for edge in entry["status"]["edges"]:
                edge["records_per_second"] = 100.0
                edge["lag_records"] = None if number == 0 else 20_000
                is_told = edge["topic"] != "clicks"
                edge["lag_seconds"] = 4.0 * number if is_told else None

    update(server, change)
    page = opened()
    part(page, "Topology").get_by_text("Edges as a table").click()
    row = part(page, "Topology").get_by_role("row").filter(has_text="orders")
    expect(row.get_by_role("cell")).to_have_text(
        ["outside", "from-clicks", "narrow", "300/s", "40\u2009k", "8 s"]
    )
    # By its age, where somebody knows it; else by how long it would take.
    expect(page.locator(".flow.behind")).to_have_count(1)
    expect(page.locator(".flow.behind title")).to_contain_text("clicks: narrow edge")
    update(server, lambda entries: entries[0]["status"]["edges"][1].update(lag_seconds=10.5))
    look_again(page)
    expect(page.locator(".flow.behind")).to_have_count(2)


@PROVE
def test_each_task_stands_by_its_worker(opened: Opened, server: PageServer) -> None:
    """Its state by word and colour, how far a replay is, what waits."""

    def change(entries: list[Any]) -> None:
        entries[1]["status"]["state"] = "recovering"
        task = entries[1]["status"]["tasks"][0]
        task.update(state="recovering", position=10, replay_end=2_500, lag_records=None)

    update(server, change)
    page = opened()
    bodies = part(page, "Workers and tasks").locator("tbody")
    expect(bodies).to_have_count(3)
    expect(bodies.nth(1).locator("tr").first).to_contain_text("shop-1")
    expect(bodies.nth(1).locator("tr.worker .state.busy")).to_have_text("recovering")
    row = bodies.nth(1).locator("tr").nth(1)
    expect(row).to_contain_text("from-clicks_1")
    expect(row.locator(".state.busy")).to_have_text("replaying to 2\u2009500")
    expect(row.locator("td").nth(2)).to_have_text(DASH)
    expect(page.locator("#state")).to_have_text("2 of 3 workers live, 1 recovering")


@PROVE
def test_what_a_task_that_merges_waits_for_is_said(opened: Opened, server: PageServer) -> None:
    """In the place of its state, which stays live."""

    def change(entries: list[Any]) -> None:
        entries[0]["status"]["tasks"][0].update(waits_for=["orders/0"], waits_seconds=12.0)

    update(server, change)
    page = opened()
    row = part(page, "Workers and tasks").locator("tbody").nth(0).locator("tr").nth(1)
    expect(row.locator(".state.good")).to_have_text(re.compile("waits 12.s for orders/0"))


@PROVE
def test_many_tasks_are_shown_on_demand(opened: Opened, server: PageServer) -> None:
    """Of hundreds of tasks those that are not live; all of a worker's after a click."""
    server.answers = answers(workers=2, partitions=40)
    update(server, lambda entries: entries[0]["status"]["tasks"][3].update(state="recovering"))
    # As all workers of a supervisor have.
    for entry in server.answers["workers"]["workers"]:
        entry["address"] = "10.0.0.9:80"
    page = opened()
    bodies = part(page, "Workers and tasks").locator("tbody")
    first, second = bodies.nth(0), bodies.nth(1)
    expect(first.locator("tr")).to_have_count(2)
    first.get_by_role("button", name="all 80 tasks").click()
    expect(first.locator("tr")).to_have_count(81)
    expect(second.locator("tr")).to_have_count(1)
    update(server, lambda entries: entries[1]["status"].update(state="stopping"))
    look_again(page)
    expect(page.locator("#state")).to_have_text("1 of 2 workers live, 1 stopping")
    expect(first.locator("tr")).to_have_count(81)


def test_an_unreachable_worker_is_shown_as_such(opened: Opened, server: PageServer) -> None:
    """With its address, the reason, and since when; the others go on, the sums keep the past."""
    page = opened()
    expect(page.locator("#state")).to_have_text("3 of 3 workers live")
    most = part(page, "Flow").locator(".range").first
    expect(most).to_have_text(ALL_THREE)
    dead = {
        "address": "10.0.0.2:8080",
        "is_reachable": False,
        "status": None,
        "error": "connection refused",
    }
    update(server, lambda entries: entries.__setitem__(1, dead))
    look_again(page)
    expect(page.locator("#state")).to_have_text("2 of 3 workers live, 1 unreachable")
    expect(page.locator("#state")).to_have_class("state bad")
    body = part(page, "Workers and tasks").locator("tbody").nth(1)
    expect(body).to_contain_text("10.0.0.2:8080")
    expect(body.locator(".state.bad")).to_have_text("unreachable")
    expect(body).to_contain_text("connection refused, last seen")
    expect(most).to_have_text(ALL_THREE)


@PROVE
def test_what_a_worker_waits_for_is_said(opened: Opened, server: PageServer) -> None:
    """Beside its name, whether it has tasks at that time or not."""
    reason = "Kafka does not answer since 12 s: 3/3 brokers are down"

    def change(entries: list[Any]) -> None:
        entries[0]["status"]["waiting_for"] = reason
        entries[1]["status"] |= {"waiting_for": reason, "tasks": []}
        entries[2]["status"]["tasks"] = []

    update(server, change)
    body = part(opened(), "Workers and tasks")
    expect(body.get_by_text(reason, exact=True)).to_have_count(2)
    expect(body.get_by_text("It has no tasks")).to_have_count(1)


@PROVE
def test_recoveries_stand_on_a_time_line(opened: Opened) -> None:
    """The newest first; each phase as long as it took, in its order, and in words."""
    page = opened()
    rows = part(page, "Recoveries").locator(".recoveries > li")
    expect(rows).to_have_count(6)
    expect(rows.first).to_contain_text("group 0 in 1.33 s")
    expect(rows.first).to_contain_text("detect 210 ms · claim 34 ms · fence 120 ms")
    boxes = rows.first.locator("rect").evaluate_all(
        "all => all.map(e => [e.getBoundingClientRect().left, e.getBoundingClientRect().width])"
    )
    assert len(boxes) == 7
    assert [left for left, _ in boxes] == sorted(left for left, _ in boxes)
    assert boxes[0][1] / boxes[2][1] == pytest.approx(0.21 / 0.12, rel=0.05)
    names = rows.first.locator("rect title").all_text_contents()
    assert names[-1] == "replay 440 ms"


@PROVE
def test_operators_that_go_by_time(opened: Opened, server: PageServer) -> None:
    """The slowest task of all workers, sums of the rest, and what was dropped by why."""
    page = opened()
    found = part(page, "Time, windows and timers")
    row = found.get_by_role("row").filter(has_text="tumbling(60 s).count(customers)")
    expect(row).to_contain_text("1 min 17 s")
    expect(row.locator("td").nth(3)).to_have_text(
        "nothing comes of clicks/2, whose records move time, for 1 min 13 s"
    )
    expect(row.locator("td").nth(4)).to_have_text("12.3\u2009k")
    expect(row.locator("td").nth(6)).to_have_text("6 late")
    row = found.get_by_role("row").filter(has_text="process(idle)")
    expect(row).to_contain_text("1 h ahead")
    expect(row.locator("td").nth(3)).to_have_text("nothing")
    expect(row.locator("td").nth(4)).to_have_text(DASH)
    expect(row.locator("td").nth(6)).to_have_text("none")
    for entry in server.answers["workers"]["workers"]:
        entry["status"]["operators"] = []
    look_again(page)
    expect(found).to_have_count(0)


@PROVE
def test_checkpoints_and_errors(opened: Opened) -> None:
    """How old checkpoints are, here and remote; what the logs complain of, and where."""
    page = opened()
    checkpoints = part(page, "Checkpoints")
    expect(checkpoints.locator("summary")).to_have_text(
        "Oldest on disk 9 s ago, oldest remote 1 min 6 s ago"
    )
    checkpoints.locator("summary").click()
    row = checkpoints.get_by_role("row").filter(has_text="customers_5")
    expect(row).to_contain_text("1\u2009202\u2009500")
    expect(row).to_contain_text("9 s ago")
    found = part(page, "Warnings and errors").locator("li")
    expect(found.first).to_contain_text("FencedError: incarnation 4 of group 2")
    expect(found.last).to_contain_text("in_euros at orders/3/88121")


def test_texts_of_others_are_texts(opened: Opened, server: PageServer) -> None:
    """A topic, worker, task, error or application that is named like markup is shown as written."""

    def change(entries: list[Any]) -> None:
        entries[0]["address"] = EVIL
        status = entries[0]["status"]
        status.update(application_id=EVIL, worker=EVIL, guarantee=EVIL, kstash=EVIL)
        status["tasks"][0].update(name=EVIL, state=EVIL, inputs=[EVIL])
        status["edges"][0].update(topic=EVIL, kind=EVIL)
        status["checkpoints"][0]["task"] = EVIL
        status["recoveries"][0]["phases"][EVIL] = 0.1
        status["errors"][0].update(event=EVIL, error=EVIL, place=EVIL, logger=EVIL)
        entries[1].update(is_reachable=False, status=None, error=EVIL)

    update(server, change)
    described = server.answers["topology"]
    described["stages"][0]["inputs"][0]["topic"] = EVIL
    described["stages"][0]["nodes"][0].update(label=EVIL, timing=EVIL)
    server.answers["livez"] = {"ok": False, "reasons": [EVIL]}
    page = opened()
    expect(page.locator("h1")).to_have_text(EVIL)
    expect(page.locator("#problems")).to_have_text(f"Not well: {EVIL}.")
    page.wait_for_timeout(300)
    assert page.locator("img").count() == 0
    assert page.locator("body script").count() == 0
    assert page.title() != "1"
    for section in ("Workers and tasks", "Recoveries", "Warnings and errors", "Topology"):
        assert "<script>" in (part(page, section).text_content() or "")


@PROVE
def test_colours_follow_the_system_and_the_button(opened: Opened) -> None:
    """Dark where the system is; the button overrules it, and is remembered by the browser."""
    page = opened(color_scheme="dark")
    assert luminance(page, "html") < 0.2
    button = page.get_by_role("button", name="Theme:")
    expect(button).to_have_text("Theme: system")
    button.click()
    expect(button).to_have_text("Theme: light")
    assert luminance(page, "html") > 0.8
    page.reload()
    expect(button).to_have_text("Theme: light")
    assert luminance(page, "html") > 0.8
    page.emulate_media(color_scheme="light")
    button.click()
    assert luminance(page, "html") < 0.2
    button.click()
    assert luminance(page, "html") > 0.8


@PROVE
@pytest.mark.parametrize(
    "width", [pytest.param(320, marks=PROVE), 390, pytest.param(768, marks=PROVE), 1280]
)
def test_nothing_scrolls_sideways_but_what_says_so(
    opened: Opened, server: PageServer, width: int
) -> None:
    """On a phone too, with long names; the drawing goes from top to bottom there."""
    update(server, lambda entries: entries[0].update(address="a-long-host-name." * 6 + ":8080"))
    worker_of(server.answers)["errors"][0]["error"] = "x" * 400
    page = opened(viewport={"width": width, "height": 844})
    expect(page.locator("svg.topology")).to_be_visible()
    page.get_by_text("Edges as a table").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    places = [
        page.locator(f"svg.topology .{kind}").first.bounding_box() for kind in ("topic", "stage")
    ]
    assert page.locator(".stage").count() == 4
    assert all(places)
    box = page.locator("svg.topology").bounding_box()
    assert box is not None
    assert (box["height"] > box["width"]) == (width < 1000)


@PROVE
def test_the_keyboard_reaches_all_in_order(opened: Opened) -> None:
    """First a way past the head, then its buttons and the parts, then what can be opened."""
    page = opened()
    expect(page.locator("#state")).to_have_text("3 of 3 workers live")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the status")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the status")).to_be_in_viewport()
    order = []
    for _ in range(10):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.textContent"))
    assert order == [
        "Theme: system",
        "Flow",
        "Topology",
        "Time, windows and timers",
        "Workers and tasks",
        "Recoveries",
        "Checkpoints",
        "Warnings and errors",
        "Edges as a table",
        "Oldest on disk 9 s ago, oldest remote 1 min 6 s ago",
    ]
    page.keyboard.press("Enter")
    expect(part(page, "Checkpoints").locator("tbody")).to_be_visible()
    ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"


@PROVE
def test_what_a_reader_opened_and_focused_stays(opened: Opened, server: PageServer) -> None:
    """New numbers come into the elements that are there: nothing closes, the focus stays."""
    page = opened()
    summary = page.get_by_text("Edges as a table")
    summary.focus()
    page.keyboard.press("Enter")
    update(server, lambda entries: entries[2]["status"].update(state="stopping"))
    look_again(page)
    expect(page.locator("#state")).to_have_text("2 of 3 workers live, 1 stopping")
    expect(summary).to_be_focused()
    expect(part(page, "Topology").locator("tbody")).to_be_visible()


@PROVE
def test_a_stale_page_says_so(opened: Opened, server: PageServer) -> None:
    """While the server answers nothing useful: how long, and why; gone with the next answer."""
    page = opened()
    expect(page.locator("#state")).to_have_text("3 of 3 workers live")
    expect(page.locator("#stale")).to_be_hidden()
    server.answers["workers"] = 500
    look_again(page)
    expect(page.locator("#stale")).to_be_visible()
    expect(page.locator("#stale")).to_contain_text(f"No answer from {server.address} for")
    expect(page.locator("#stale")).to_contain_text("it answered 500. What is shown was so at")
    expect(page.locator("h1")).to_have_text("shop")
    server.answers = answers(2)
    look_again(page)
    expect(page.locator("#stale")).to_be_hidden()
    expect(page.locator("#state")).to_have_text("2 of 2 workers live")


@PROVE
def test_a_server_that_is_gone(opened: Opened) -> None:
    """The page stays and says that nobody answers."""
    with PageServer(answers()) as server:
        page = opened(server.url)
        expect(page.locator("#state")).to_have_text("3 of 3 workers live")
    look_again(page)
    expect(page.locator("#stale")).to_contain_text("it cannot be reached")


@PROVE
def test_a_worker_that_is_not_well(opened: Opened, server: PageServer) -> None:
    """What `/livez` complains of stands above everything."""
    server.answers["livez"] = {"ok": False, "reasons": ["the loop has not turned for 305 s"]}
    page = opened()
    expect(page.locator("#problems")).to_have_text("Not well: the loop has not turned for 305 s.")


@PROVE
def test_clocks_of_workers_may_differ(opened: Opened, server: PageServer) -> None:
    """What a worker says of times is by its own clock, and is shown by the browser's."""

    def change(entries: list[Any]) -> None:
        for number, entry in enumerate(entries):
            entry["status"] = status(number, 3, now=time.time() - 3_600.0 * number)

    update(server, change)
    page = opened()
    expect(part(page, "Recoveries").locator("li", has_text="1 min 44 s ago")).to_have_count(3)
    expect(part(page, "Flow").locator(".range").first).to_have_text(ALL_THREE)
    expect(part(page, "Warnings and errors").locator("li").last).to_contain_text("15 min 2 s ago")


@PROVE
def test_a_page_that_nobody_sees_asks_nothing(opened: Opened) -> None:
    """A tab in the background leaves the workers alone, until it is visible again."""
    page = opened()
    expect(page.locator("#state")).to_have_text("3 of 3 workers live")
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.wait_for_load_state("networkidle")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    look_again(page)
    page.wait_for_timeout(300)
    assert requests == []
    page.evaluate("delete document.hidden")
    with page.expect_request("**/workers"):
        look_again(page)


@PROVE
def test_an_answer_that_does_not_come(opened: Opened) -> None:
    """It is not waited for: after some seconds the page says that it is stale."""
    page = opened()
    expect(page.locator("#state")).to_have_text("3 of 3 workers live")
    page.route("**/workers", lambda _: None)
    expect(page.locator("#stale")).to_contain_text("no answer within 5 s", timeout=15_000)


@PROVE
def test_a_server_without_peers(opened: Opened, server: PageServer) -> None:
    """Where there is no `/workers`, `/status` is one worker; without `/topology`, edges do."""
    server.answers = {"status": worker_of(answers(1))}
    page = opened()
    expect(page.locator("#state")).to_have_text("1 of 1 worker live")
    expect(page.locator(".stage")).to_have_count(4)


@PROVE
def test_a_worker_that_has_just_started(opened: Opened, server: PageServer) -> None:
    """Nothing is known yet, and the page says so without a gap."""

    def change(entries: list[Any]) -> None:
        del entries[1:]
        empty: dict[str, Any] = {
            name: [] for name in ("tasks", "history", "recoveries", "checkpoints", "errors")
        }
        entries[0]["status"].update(empty, state="starting")
        for edge in entries[0]["status"]["edges"]:
            edge.update(records_per_second=None, lag_records=None)

    update(server, change)
    page = opened()
    expect(page.locator("#state")).to_have_text("0 of 1 worker live, 1 starting")
    expect(part(page, "Flow")).to_contain_text("Too few points yet.")
    expect(part(page, "Recoveries")).to_contain_text("None since these workers started.")
    expect(page.locator(".label.facts").first).to_have_text(f"{DASH} · lag {DASH}")


def test_a_token_is_asked_for_and_kept_for_the_tab(opened: Opened, server: PageServer) -> None:
    """A wrong one is refused in words; the right one outlives a reload, and can be forgotten."""
    server.token = "secret-1"
    page = opened()
    field = page.get_by_label("This server asks for a token")
    expect(field).to_be_focused()
    field.fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#refused")).to_have_text("The server refused this token.")
    field.fill("secret-1")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("3 of 3 workers live")
    expect(field).to_be_hidden()
    page.reload()
    expect(page.locator("#state")).to_have_text("3 of 3 workers live")
    assert page.evaluate("JSON.stringify(localStorage)").count("secret") == 0
    assert "secret" not in page.url
    page.get_by_role("button", name="Forget the token").click()
    expect(field).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


@PROVE
@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1280),
        pytest.param("dark", 1280, marks=PROVE),
        pytest.param("light", 390, marks=PROVE),
        pytest.param("dark", 390, marks=PROVE),
    ],
)
def test_axe_finds_nothing(opened: Opened, server: PageServer, scheme: Any, width: int) -> None:
    """Contrast, names, roles and order of headings by axe-core's rules, with all states on it."""

    def change(entries: list[Any]) -> None:
        entries[0]["status"]["tasks"][0].update(state="recovering", lag_seconds=99.0)
        entries[1].update(is_reachable=False, status=None, error="connection refused")

    update(server, change)
    server.answers["livez"] = {"ok": False, "reasons": ["from-clicks_0 makes no progress"]}
    page = opened(color_scheme=scheme, viewport={"width": width, "height": 900})
    expect(page.locator(".stage").first).to_be_visible()
    for summary in page.locator("summary").all():
        summary.click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@PROVE
def test_motion_is_reduced_where_it_is_asked_for(opened: Opened) -> None:
    """No smooth scrolling for those who want none."""
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert opened(reduced_motion="no-preference").evaluate(behaviour) == "smooth"
    assert opened(reduced_motion="reduce").evaluate(behaviour) == "auto"


@PROVE
def test_a_part_that_fails_leaves_the_others(browser: Browser, server: PageServer) -> None:
    """An answer of another version breaks one part at most, which says so."""
    worker_of(server.answers)["tasks"] = [None, None]
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("#state")).to_have_text("3 of 3 workers live")
    expect(part(page, "Workers and tasks")).to_contain_text("This part cannot be drawn:")
    expect(page.locator(".stage").first).to_be_visible()
    expect(part(page, "Recoveries").locator("li").first).to_be_visible()
    context.close()


@PROVE
def test_a_pointer_reads_all_charts_at_one_time(opened: Opened) -> None:
    """Where a pointer is over one of them, all figures are those of that time; then now again."""
    page = opened()
    figures = part(page, "Flow").locator(".figure")
    before = figures.nth(1).locator("dd").first.inner_text()
    chart = figures.nth(0).locator(".spark")
    box = chart.bounding_box()
    assert box is not None
    chart.hover(position={"x": box["width"] * (1 - 106 / 280), "y": 10})
    expect(figures.nth(2).locator("dd").first).to_have_text("900 ms")
    expect(part(page, "Flow").locator(".spark .pointed")).to_have_count(5)
    expect(part(page, "Flow")).to_contain_text("1 min 46 s ago")
    page.mouse.move(0, 0)
    expect(figures.nth(1).locator("dd").first).to_have_text(before)
