"""The site in a browser, from the disk: index, search, the figure; no error in the console, nothing missing.

Skipped where Chromium, its driver or selenium is not installed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import projsym

selenium = pytest.importorskip("selenium", reason="selenium is not installed: `pip install '.[browser]'`")

from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

Driver = Any
PHONE, DESKTOP = (390, 844), (1280, 900)
WAIT = 30


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    service = shutil.which("chromedriver")
    if binary is None or service is None:
        # A browser is no package that an extra could bring.
        pytest.skip("Chromium or chromedriver is not installed: `apt-get install chromium chromium-driver`")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    # Names resolve to nothing: what the site loads must be its own.
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(service))
    yield started
    started.quit()


def open_page(driver: Driver, site: Path, page: str, size: tuple[int, int] = DESKTOP) -> None:
    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    driver.get((site / page).as_uri())


def wait(driver: Driver, script: str) -> Any:
    return WebDriverWait(driver, WAIT).until(lambda d: d.execute_script(f"return {script}"))


def no_complaints(driver: Driver) -> None:
    found = [x["message"] for x in driver.get_log("browser") if x["level"] in ("SEVERE", "WARNING")]
    assert not found, found


def test_from_the_index_to_a_proof_and_its_notebook(driver: Driver, site: Path) -> None:
    open_page(driver, site, "index.html")
    main = driver.find_element(By.TAG_NAME, "article")
    main.find_element(By.LINK_TEXT, "Theorems").click()
    driver.find_element(By.TAG_NAME, "article").find_element(By.PARTIAL_LINK_TEXT, "The identity").click()
    driver.find_element(By.TAG_NAME, "article").find_element(By.LINK_TEXT, "I.4").click()
    assert "Equal key norms are enough" in driver.find_element(By.TAG_NAME, "h1").text
    # The mathematics is set: as many results as formulas, none of them an error.
    wait(driver, "document.querySelectorAll('mjx-container').length > 0")
    assert not driver.find_elements(By.CSS_SELECTOR, "[data-mjx-error], .MathJax_Error")
    driver.find_element(By.PARTIAL_LINK_TEXT, "1.5 Equal key norms").click()
    assert driver.current_url.partition("#")[0].endswith("notebooks/01_identity.html")
    no_complaints(driver)


def test_search_finds_a_page(driver: Driver, site: Path) -> None:
    open_page(driver, site, "index.html")
    box = driver.find_element(By.CSS_SELECTOR, "input[name=q]")
    box.send_keys("polarization", Keys.ENTER)
    wait(driver, "document.querySelectorAll('#search-results li a').length > 0")
    titles = [a.text for a in driver.find_elements(By.CSS_SELECTOR, "#search-results li a")]
    assert any("Polarization" in t for t in titles), titles
    no_complaints(driver)


def shown(driver: Driver, what: str) -> list[float]:
    text = driver.find_element(By.CSS_SELECTOR, f"[data-out={what}]").text
    return [float(x) for x in text.replace("−", "-").strip("()").split(", ")]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_figure_shows_what_project_gives(driver: Driver, site: Path, size: tuple[int, int]) -> None:
    open_page(driver, site, "drag_the_query.html", size)
    wait(driver, "document.querySelector('.projection').dataset.ready === 'true'")
    Select(driver.find_element(By.NAME, "surface")).select_by_value("circle")
    angle = np.pi * np.arange(24) / 12
    keys = 1.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    handle = driver.find_element(By.CSS_SELECTOR, ".query [tabindex]")
    slider = driver.find_element(By.NAME, "sigma")
    before = shown(driver, "query")
    for target, key in ((handle, Keys.ARROW_LEFT), (handle, Keys.ARROW_DOWN), (slider, Keys.ARROW_RIGHT)):
        for _ in range(3):
            target.send_keys(key)
        sigma = 10 ** float(slider.get_property("value"))
        query = shown(driver, "query")
        point = projsym.project(np.array([query]), keys, sigma=sigma)[0]
        # The query moves in steps of 0.05 and shows all its digits; other figures are rounded to 3 places.
        np.testing.assert_allclose(shown(driver, "point"), point, rtol=0, atol=0.00051)
    np.testing.assert_allclose(np.subtract(query, before), [-0.15, -0.15], rtol=0, atol=1e-9)
    drag = webdriver.ActionChains(driver)
    drag.move_to_element(handle).click_and_hold().move_by_offset(-30, 20).release().perform()
    assert shown(driver, "query")[0] < query[0] and shown(driver, "query")[1] < query[1]
    no_complaints(driver)


NOTEBOOKS = ["notebooks/03_geometry.html", "notebooks/11_training.html"]
PAGES = [
    "index.html",
    "theorems/chapter-I.html",
    "theorems/I.4.html",
    "claims.html",
    "api/projsym.html",
    "bench.html",
]


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS])
def test_a_phone_scrolls_in_one_direction(driver: Driver, site: Path, page: str) -> None:
    open_page(driver, site, page, PHONE)
    assert wait(driver, "document.documentElement.scrollWidth") <= PHONE[0]
    no_complaints(driver)


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_figures_are_as_large_as_a_screen_needs(driver: Driver, site: Path, page: str) -> None:
    """On a phone a figure is wider than the text and scrolls; on a desktop it is not wider."""
    for size in (PHONE, DESKTOP):
        open_page(driver, site, page, size)
        figures = driver.find_elements(By.CSS_SELECTOR, ".cell_output img")
        text = driver.find_element(By.CSS_SELECTOR, "article p").size["width"]
        assert figures
        for figure in figures:
            assert figure.size["width"] >= 500 if size == PHONE else figure.size["width"] <= text
    no_complaints(driver)


CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_told_from_its_ground(driver: Driver, site: Path, scheme: str) -> None:
    """WCAG 2.1, level AA: a contrast of 4.5, of 3 for large text."""
    try:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        for page in (*PAGES, *NOTEBOOKS, "prove_a_theorem.html", "drag_the_query.html"):
            open_page(driver, site, page)
            assert driver.execute_script(CONTRAST) == [], page
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_dark_mode_follows_the_reader(driver: Driver, site: Path) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        open_page(driver, site, "index.html")
        colour = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        grounds.append([int(x) for x in colour.removeprefix("rgb(").rstrip(")").split(",")])
    assert min(grounds[0]) > 200 and max(grounds[1]) < 60
    no_complaints(driver)
