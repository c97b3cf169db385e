"""The shell and the network panel in a real browser: what is clicked, typed and read is what happens."""

import re
import threading
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from jaxprop_explorer import sessions
from jaxprop_explorer.experiments.problems import Table, Tables
from tests.explorer.conftest import PHONE

pytestmark = pytest.mark.browser

WEIGHT = '.edge[data-path="0.W"][data-index="1,2"]'


def told(page, symbol: str) -> float:
    """The number that the page shows beside a symbol, in full."""
    number = page.locator(".told-numbers div").filter(has=page.get_by_text(symbol, exact=True)).locator("dd")
    return float(number.get_attribute("data-value"))


def choose(page, selector: str) -> None:
    """Choose a weight or a unit by the keyboard, as its neighbours may lie over it; then look away from it."""
    page.locator(selector).focus()
    page.keyboard.press("Enter")
    page.locator(".net-step").focus()


def test_an_update_changes_a_weight_by_eta_times_the_gradient_that_was_shown(opened):
    page = opened("#data=xor&batch_size=1&learning_rate=0.25&optimizer=sgd&steps=5")
    choose(page, WEIGHT)
    page.get_by_role("radio", name="Backward").check()
    page.locator(".net-drawing[data-phase=backward]").wait_for()
    w, slope = told(page, "w"), told(page, "∂C/∂w")
    page.get_by_role("button", name="Update", exact=True).click()
    page.locator(".count-step").get_by_text("6", exact=True).wait_for()
    expected = np.float32(w) - np.float32(0.25) * np.float32(slope)
    assert abs(told(page, "w") - expected) <= np.spacing(np.float32(abs(expected)))
    assert told(page, "∂C/∂w") == slope != 0


def test_a_gradient_is_not_computed_yet_before_a_backward_pass(opened):
    page = opened("#data=xor")
    assert page.locator(WEIGHT).get_attribute("aria-label").endswith("derivative not computed yet")
    choose(page, WEIGHT)
    assert page.locator(".told-numbers dd").nth(1).text_content() == "not computed yet"
    page.get_by_role("button", name="Step", exact=True).click()
    page.locator(".count-step").get_by_text("1", exact=True).wait_for()
    words = r"weight from x₁ to hidden 1 unit 2: [−\d.]+, derivative [−\d.]+"
    assert re.fullmatch(words, page.locator(WEIGHT).get_attribute("aria-label"))


def weights(page) -> list[str]:
    """What every weight and unit says of itself."""
    return page.locator(".edge, .tile").evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")


def test_an_address_brings_the_same_numbers_back_and_so_does_the_back_button(opened, page):
    opened("#data=moons&seed=3")
    page.get_by_role("button", name="One unit of hidden layer 1 less").click()
    page.get_by_role("group", name="7 × unit of hidden layer 1").wait_for()
    page.get_by_role("button", name="Step", exact=True).click()
    page.locator(".count-step").get_by_text("1", exact=True).wait_for()
    page.get_by_label("Rate η", exact=True).fill("0.5")
    page.keyboard.press("Enter")
    page.wait_for_url("**learning_rate**")
    page.get_by_role("button", name="Step", exact=True).click()
    page.locator(".count-step").get_by_text("2", exact=True).wait_for()
    choose(page, WEIGHT)
    page.wait_for_url("**steps=2**selected=0.W:1,2**")
    second = page.context.new_page()
    opened(page.url.removeprefix(page.url.split("#")[0]), second)
    page.get_by_role("radio", name="Backward").check()
    second.get_by_role("radio", name="Backward").check()
    for one in (page, second):
        one.locator(".net-drawing[data-phase=backward]").wait_for()
    assert weights(second) == weights(page) and "seed=3" in second.url and "layers=(7)" in second.url
    assert second.locator(".edge.chosen").get_attribute("data-index") == "1,2"
    second.close()


def test_back_and_forward_go_through_what_was_set(opened, until):
    page = opened("#data=xor")
    page.get_by_label("Data", exact=True).select_option("moons")
    page.wait_for_url("**data=moons**")
    page.get_by_role("tab", name="Share").click()
    assert page.title() == "Share · jaxprop explorer"
    page.go_back()
    page.get_by_role("tab", name="Network", selected=True).wait_for()
    assert page.title() == "Network · jaxprop explorer"
    page.go_back()
    page.wait_for_url(lambda url: "moons" not in url)
    until("document.querySelector('#set-data').value === 'xor'")


def test_the_keyboard_alone_is_enough(opened):
    page = opened("#data=xor")
    page.locator(".skip").focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.net .tile')"):
            break
    here = "document.activeElement.getAttribute('aria-label').split(':')[0]"
    assert page.evaluate(here) == "hidden 1 unit 0"
    for key, words in [
        ("ArrowDown", "hidden 1 unit 1"),
        ("ArrowLeft", "weight from x₀ to hidden 1 unit 1"),
        ("ArrowDown", "weight from x₀ to hidden 1 unit 2"),
        ("ArrowRight", "hidden 1 unit 2"),
        ("ArrowRight", "weight from hidden 1 unit 2 to the output"),
    ]:
        page.keyboard.press(key)
        assert page.evaluate(here) == words
    assert page.locator(".net [tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_url("**selected=2.W:2,0**")
    page.get_by_role("tab", name="Network").focus()
    page.keyboard.press("End")
    assert page.get_by_role("tab", name="Share").get_attribute("aria-selected") == "true"


def test_a_pruned_weight_stays_zero(opened):
    page = opened("#data=xor")
    choose(page, WEIGHT)
    page.get_by_role("button", name="Prune it").click()
    page.get_by_role("button", name="Let it grow again").wait_for()
    page.get_by_role("button", name="Step", exact=True).click()
    page.locator(".count-step").get_by_text("1", exact=True).wait_for()
    assert told(page, "w") == 0
    page.get_by_role("tab", name="Share").click()
    address = page.get_by_label("The address of this page").input_value()
    assert "steps=1&changes=0:0.W[1,2]:pruned" in address
    page.get_by_role("tab", name="Network").click()
    page.reload()
    page.get_by_role("button", name="Let it grow again").wait_for()
    assert told(page, "w") == 0


def test_who_wants_no_motion_goes_on_with_next(opened):
    page = opened("#data=xor")
    page.emulate_media(reduced_motion="reduce")
    page.get_by_role("radio", name="Backward").check()
    page.get_by_text("Backward begins at the cost").wait_for()
    assert page.locator(".tile[data-waiting=true]").count() == 7
    for _ in range(2):  # the output, then the hidden units: with them every gradient is there
        page.get_by_role("button", name="Next", exact=True).click()
    page.get_by_text("Backward is done").wait_for()
    assert page.locator(".tile[data-waiting=true]").count() == 0
    assert page.locator(".edge.unknown").count() == 0


def test_a_table_of_ones_own_is_learned(opened):
    page = opened("#data=xor")
    rows = "height,width,area\n" + "".join(f"{a},{b},{a * b}\n" for a in range(5) for b in range(4))
    page.set_input_files("#set-file", {"name": "areas.csv", "mimeType": "text/csv", "buffer": rows.encode()})
    page.get_by_text("areas.csv: learning area").wait_for()
    assert page.locator(".tile-name").first.text_content() == "height"
    assert page.locator(".tile").first.get_attribute("aria-label").startswith("height: ")


def test_pictures_are_files_of_their_own(opened):
    page = opened("#data=xor")
    page.get_by_role("tab", name="Share").click()
    with page.expect_download() as kept:
        page.get_by_role("button", name="The network as SVG").click()
    drawn = ET.parse(kept.value.path()).getroot()
    svg = "{http://www.w3.org/2000/svg}"
    assert len(drawn.findall(f"{svg}path")) == 12 + 2  # the weights and the legend
    assert len(drawn.findall(f"{svg}image")) == 2 + 4 + 1
    assert drawn.find(f"{svg}title").text == "Network 2 – 4 – 1"
    assert not re.search(r"var\(|class=", ET.tostring(drawn, "unicode"))
    with page.expect_download() as kept:
        page.get_by_role("button", name="The network as PNG").click()
    assert kept.value.path().read_bytes().startswith(b"\x89PNG")


COMPLETE = {  # what each panel shows last
    "tab-network": ".chain-card", "tab-rules": ".norm-bar", "tab-surface": "#surface [data-key=steps]",
    "tab-digit": ".digit-verdict:not([data-kind=waiting])", "tab-lessons": ".lesson[data-complete]",
    "tab-model": "#model tbody tr", "tab-share": ".share-picture",
}  # fmt: skip


def test_nothing_is_wider_than_a_phone(opened):
    page = opened("#data=moons&layers=(4,3)")
    page.set_viewport_size(PHONE)
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.locator(COMPLETE[tab.get_attribute("id")]).first.wait_for()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, tab.text_content()


REFUSED = {
    "unknown": ("data=nonsense", "unknown data"),
    "out of range": ("example=9999&steps=3", "example: found 9999"),
    "gone": ("data=own&table=abc", "no longer here"),
    "no number": ("changes=0:0.W[0,0]:abc", "is not readable"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_address_that_is_refused_leaves_a_page_that_works(opened, case):
    address, why = REFUSED[case]
    page = opened(f"#{address}")
    assert why in page.locator(".notice").inner_text()
    page.get_by_role("button", name="Step", exact=True).click()
    page.locator(".count-step").get_by_text("1", exact=True).wait_for()
    page.wrong.clear()  # the browser itself writes down that an answer was a refusal


def test_an_address_whose_table_was_gone_comes_true_when_the_table_is_dropped(opened):
    table = {"name": "mine.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n2,4\n3,6\n4,9\n5,9\n6,13\n"}
    name = Tables().keep(Table(table["buffer"].decode(), "mine.csv"))
    page = opened(f"#data=own&table={name}&seed=3&steps=7")
    page.locator("#set-file").set_input_files(files=[table])
    page.locator(".count-step").get_by_text("7", exact=True).wait_for()
    assert page.locator("#set-seed").input_value() == "3"
    page.wrong.clear()


def test_an_address_cannot_change_what_all_objects_have(opened):
    keys = ["__proto__.x", "constructor.entries", "~__proto__", "chain.__proto__", "toString"]
    page = opened(f"#{'&'.join(f'{key}=1' for key in keys)}&data=line&steps=2")
    assert page.evaluate("[({}).x ?? null, typeof Object.entries, Object.keys(Object.prototype)]") == [
        None, "function", [],
    ]  # fmt: skip
    page.locator(".count-step").get_by_text("2", exact=True).wait_for()


def test_a_comma_is_a_point_and_what_was_refused_is_forgotten_when_it_is_mended(opened, until):
    page = opened("#data=xor")
    rate = page.locator("#set-learning_rate")
    rate.focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("-1")
    page.keyboard.press("Enter")
    until("document.querySelector('.notice').textContent.includes('Rate')")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("0,25")
    page.keyboard.press("Enter")
    until("location.hash.includes('learning_rate=0.25')")
    assert page.locator(".notice").inner_text() == "" and rate.get_attribute("aria-invalid") is None


HIDE = "Object.defineProperty(document, 'hidden', { get: () => window.away, configurable: true })"
TURN = "away => { window.away = away; document.dispatchEvent(new Event('visibilitychange')); }"


def test_more_tabs_than_a_browser_has_connections(opened, page):
    context = page.context
    context.add_init_script(HIDE)
    tabs = [context.new_page() for _ in range(7)]  # of which six would take all connections
    for tab in tabs:
        opened("#data=line", tab)
        tab.evaluate(TURN, True)
    tabs[-1].get_by_role("button", name="Step", exact=True).click()
    tabs[-1].locator(".count-step").get_by_text("1", exact=True).wait_for()
    tabs[0].evaluate(TURN, False)
    tabs[0].get_by_role("button", name="Play", exact=True).click()
    tabs[0].locator(".count-step").get_by_text(re.compile(r"^\d\d")).wait_for()  # a frame of the stream


OBSERVE = """() => {
  [window.read, window.changes] = [[], 0];
  const spoken = '[aria-live], [role=status], [role=alert], output';
  const quiet = element => (element.getAttribute('aria-live') ?? 'polite') === 'off';
  new MutationObserver(changes => {
    window.changes += 1;
    for (const { target } of changes) {
      const region = (target.closest ? target : target.parentElement)?.closest(spoken);
      if (region && !quiet(region)) window.read.push(region.className);
    }
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""


def test_nothing_is_read_out_with_every_frame(opened, until):
    page = opened("#data=xor")
    choose(page, WEIGHT)
    page.locator(".card-value").first.wait_for()
    page.get_by_role("button", name="Play", exact=True).click()
    for panel in ("network", "rules"):
        page.get_by_role("tab", name=panel.capitalize()).click()
        page.locator("#network .net-drawing, .rule-dials output").locator("visible=true").first.wait_for()
        page.evaluate(OBSERVE)
        until("() => window.changes >= 5")  # of the page, each as a frame comes
        assert page.evaluate("window.read") == []


def test_a_page_whose_session_ended_goes_on_from_its_address(opened, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(
        sessions.Sessions, "_end", lambda *ending, end=sessions.Sessions._end: (end(*ending), ended.set())
    )
    page = opened("#data=line&steps=7")
    page.locator(".count-step").get_by_text("7", exact=True).wait_for()
    monkeypatch.setattr(sessions, "GRACE", 0.1)  # from now on: the page has to come first
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # lets go of the stream, and rests
    page.evaluate("dispatchEvent(new Event('pagehide'))")  # and then goes, as into the browser's memory
    assert ended.wait(30)
    page.get_by_role("button", name="Step", exact=True).click()
    page.locator(".count-step").get_by_text("8", exact=True).wait_for()
    assert page.locator(".notice").inner_text() == ""
    page.wrong.clear()  # the browser itself writes down that an answer was a refusal
