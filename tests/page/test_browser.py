"""The page in a browser, as people and their screen readers meet it.

Needs Chromium with its driver: ``apt install chromium chromium-driver``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import axe_core_python
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tarpit_builder import page
from tests.page import kit
from tests.page.test_page import HOSTILE

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="NO BROWSER, the page was not looked at: apt install chromium chromium-driver",
)

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-dev-shm-usage",
)
PHONE, WIDE = (360, 740), (1440, 900)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of thirty cells, and one of hostile records."""
    top = tmp_path_factory.mktemp("page")
    kit.many(top / "dist", 30, size=99)
    page.make(top / "dist", top / "good.html")
    evil = top / "evil"
    folder = kit.build(evil, "6.1.9", "amd64", "trixie", size=99)
    kit.prove(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["plan"] |= {"kernel": HOSTILE, "arch": HOSTILE, "suite": HOSTILE}
    kit.put(folder / "manifest.json", manifest | {"command": HOSTILE, "toolchain": [HOSTILE]})
    proof = json.loads((folder / "proof.json").read_text())
    for check in proof["report"]["results"]:
        check |= {"title": HOSTILE, "detail": HOSTILE, "outcome": "fail", "ladder": [HOSTILE]}
    kit.put(folder / "proof.json", proof)
    (folder / "build.log").write_text(HOSTILE)
    page.make(evil, top / "evil.html")
    return top


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser of the tests' own."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


Open = Callable[..., webdriver.Chrome]


@pytest.fixture
def show(browser: webdriver.Chrome, pages: Path) -> Open:
    """Open a page on a screen of some size, light or dark."""

    def opened(
        name: str = "good", size: tuple[int, int] = WIDE, *, dark: bool = False, place: str = ""
    ) -> webdriver.Chrome:
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        media = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        browser.get("about:blank")
        complaints(browser)
        browser.get((pages / f"{name}.html").as_uri() + place)
        browser.execute_script("localStorage.clear()")
        return browser

    return opened


def chips(driver: webdriver.Chrome) -> list[Any]:
    """The entries of the table that can be seen."""
    return [
        one for one in driver.find_elements(By.CSS_SELECTOR, ".kernels .c") if one.is_displayed()
    ]


def complaints(driver: webdriver.Chrome) -> list[str]:
    """What the browser has complained of since it was asked last."""
    log: Any = driver.get_log
    return [one["message"] for one in log("browser")]


def until(driver: webdriver.Chrome, script: str) -> None:
    """Wait until *script* is true."""
    WebDriverWait(driver, 20).until(lambda d: d.execute_script(f"return {script}"))


def faults(driver: webdriver.Chrome) -> list[str]:
    """What axe-core finds wrong, in a line each."""
    driver.execute_script(AXE)
    driver.set_script_timeout(240)  # seconds: a phone's page is long, and this machine may be busy
    driver.set_script_timeout(240)  # seconds: a page is long, and this machine may be busy
    found = driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run({resultTypes: ['violations', 'passes']}).then(done, (e) => done(String(e)));"
    )
    assert isinstance(found, dict), found
    assert found["passes"]
    return [
        f"{one['id']}: {node['html'][:200]}" for one in found["violations"] for node in one["nodes"]
    ]


@pytest.mark.parametrize(
    ("size", "dark"),
    [
        pytest.param(PHONE, True, id="phone-dark"),
        pytest.param(WIDE, False, id="wide-light"),
        pytest.param(PHONE, False, id="phone-light", marks=pytest.mark.slow),
        pytest.param(WIDE, True, id="wide-dark", marks=pytest.mark.slow),
    ],
)
def test_it_is_accessible(show: Open, size: tuple[int, int], dark: bool) -> None:
    driver = show(size=size, dark=dark)
    driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    assert not faults(driver)
    driver.execute_script("location.hash = document.querySelector('.c.f').hash")
    until(driver, "document.querySelector('dialog').open")
    assert not faults(driver)


@pytest.mark.parametrize("name", ["good", "evil"])
def test_no_screen_is_too_narrow(show: Open, name: str) -> None:
    for width in (320, 360, 1024):
        driver = show(name, (width, 800))
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        driver.execute_script("location.hash = document.querySelector('.c').hash")
        until(driver, "document.querySelector('dialog').open")
        assert driver.execute_script(
            "const d = document.querySelector('dialog'); return d.scrollWidth <= d.clientWidth"
        )


def test_it_loads_nothing_and_complains_of_nothing(show: Open) -> None:
    driver = show()
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert complaints(driver) == []


def test_hostile_records_are_shown_and_do_nothing(show: Open) -> None:
    driver = show("evil")
    driver.execute_script("window.pwned = () => { window.done = true }")
    driver.execute_script("location.hash = document.querySelector('.c.f').hash")
    until(driver, "document.querySelector('dialog').open")
    text = driver.find_element(By.ID, "d-body").text
    assert "<img src=x onerror='pwned()'>" in text
    assert "{{ 7*7 }}" in text
    assert not driver.find_elements(By.TAG_NAME, "img")
    assert driver.execute_script("return window.done") is None
    assert complaints(driver) == []


def test_filters_leave_what_fits_and_say_how_much(show: Open) -> None:
    driver = show()
    everything = len(chips(driver))
    assert driver.find_element(By.ID, "found").text == f"{everything} results"
    driver.find_element(By.ID, "q").send_keys("6.12 amd64")
    left = chips(driver)
    assert 0 < len(left) < everything
    assert driver.find_element(By.ID, "found").text == f"{len(left)} of {everything} results"
    driver.find_element(By.ID, "q").send_keys(" nonsense")
    assert not chips(driver)
    assert driver.find_element(By.ID, "none").is_displayed()
    driver.find_element(By.ID, "reset").click()
    until(driver, f"document.getElementById('found').textContent === '{everything} results'")
    assert len(chips(driver)) == everything
    for box in driver.find_elements(By.NAME, "state"):
        if box.get_attribute("value") != "failed":
            box.click()
    assert chips(driver)
    assert {one.text.split()[0] for one in chips(driver)} == {"failed"}


def test_a_keyboard_opens_details_and_comes_back(show: Open) -> None:
    driver = show()
    first = chips(driver)[0]
    driver.execute_script("arguments[0].focus()", first)
    first.send_keys(Keys.ENTER)
    until(driver, "document.querySelector('dialog').open")
    assert driver.switch_to.active_element.get_attribute("id") == "d-title"
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(driver, "!document.querySelector('dialog').open && !location.hash")
    assert driver.switch_to.active_element == first


def test_details_of_a_cell_have_an_address(show: Open) -> None:
    driver = show()
    failed = driver.find_element(By.CSS_SELECTOR, ".c.f").get_attribute("href") or ""
    driver = show(place="#" + failed.partition("#")[2])
    until(driver, "document.querySelector('dialog').open")
    body = driver.find_element(By.ID, "d-body").text
    for part in ("Packages", "Checks", "Manifest", "The end of the log"):
        assert part in body
    driver.find_element(By.ID, "close").click()
    until(driver, "!document.querySelector('dialog').open")


def test_a_check_tells_its_result_on_each_kernel(show: Open) -> None:
    driver = show()
    driver.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    driver.find_element(By.LINK_TEXT, kit.FAILING).click()
    until(driver, "document.querySelector('dialog').open")
    rows = driver.find_elements(By.CSS_SELECTOR, "#d-body tbody tr")
    assert len(rows) > 15
    assert "failed" in rows[0].text
    assert "expected 1 answer, saw 0" in rows[0].text
    assert "passed" in rows[-1].text


def test_colours_follow_the_system_unless_somebody_chooses(show: Open) -> None:
    def background() -> str:
        return str(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))

    driver = show()
    light = background()
    driver = show(dark=True)
    dark = background()
    assert light != dark
    theme = driver.find_element(By.ID, "theme")
    theme.find_element(By.CSS_SELECTOR, "[value=light]").click()
    assert background() == light
    driver.refresh()
    assert background() == light
