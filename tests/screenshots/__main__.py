"""``make screenshots``: the pictures that README.md shows, taken of a site of their own.

python -m tests.screenshots [NAME …] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from tests import site
from tests.browser import ARGUMENTS, chromium, have_chinese_font

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
QUALITY = 82
"""Of WebP; text stays sharp and a picture of a desktop below some 120 kB."""
LARGEST_BYTES = 150_000
SETTLE_MS = 600
"""Time for the page's scripts to put the draft in and for colours to have changed."""


def main() -> int:
    """Take the pictures; 1 when one is too large for a page that many people open."""
    parser = argparse.ArgumentParser(prog="make screenshots")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sizes = _take(options.names, options.out)
    for path, size in sizes.items():
        print(f"{path}: {size / 1000:.0f} kB{' – too large' if size > LARGEST_BYTES else ''}")
    return int(any(size > LARGEST_BYTES for size in sizes.values()))


def _take(names: list[str], out: Path) -> dict[Path, int]:
    """Sizes in bytes of the pictures that were written."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright's loop runs in this thread
    sizes = {}
    with site.fresh_site() as folder:
        from playwright.sync_api import sync_playwright

        from tests.screenshots.pictures import PICTURES
        from tests.screenshots.stage import prepare

        stage = prepare()
        have_chinese_font("shows Chinese in the pictures")
        with site.web_server(folder) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium("takes the pictures"), args=[*ARGUMENTS])
            for picture in PICTURES:
                if not names or picture.name in names:
                    picture.before(stage)
                    path = out / f"{picture.name}.webp"
                    image = Image.open(io.BytesIO(_shot(browser, address, stage, picture)))
                    image.save(path, quality=QUALITY, method=6)
                    sizes[path] = path.stat().st_size
            browser.close()
    return sizes


def _shot(browser: Any, address: str, stage: Any, picture: Any) -> bytes:
    """The page as PNG."""
    from tests.raters import sessions

    width, height = picture.window
    context = browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=picture.density,
        color_scheme=picture.colours,
        locale=picture.locale,
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    (cookies,) = sessions([stage.people[picture.person]])
    context.add_cookies([{"name": name, "value": value, "url": address} for name, value in cookies.items()])
    page = context.new_page()
    answer = page.goto(f"{address}/p/{stage.project.slug}/{picture.path}", wait_until="networkidle")
    if answer.status != 200:
        raise RuntimeError(f"{picture.path}: {answer.status}")
    page.evaluate("document.fonts.ready")
    if picture.scrolled_to:
        page.locator(picture.scrolled_to).evaluate("place => place.scrollIntoView({block: 'start'})")
    page.wait_for_timeout(SETTLE_MS)
    taken: bytes = page.screenshot()
    context.close()
    return taken


if __name__ == "__main__":
    sys.exit(main())
