"""Pictures of the Dagster UI on a made project: `python tests/e2e/screenshots.py URL FOLDER [PROJECT] [TILE] [ZONE]`.

Looks with Debian's Chromium at a UI that runs already (`make ui`). Not a test: the pictures are for looking at.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")


def main(url: str, folder: str, project: str = "demo", tile: str = "33UUU_4_7", zone: str = "32633") -> None:
    """The asset graph, one tile of each asset with a picture, the map and the model."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1700, "height": 1100})
        elsewhere: list[str] = []
        page.on("request", lambda asked: elsewhere.append(asked.url) if _leaves(asked.url, url) else None)
        _shoot(page, f"{url}/asset-groups", target / "graph.png")
        for asset in ("tiffs", "eopatches", "features", "reference", "samples", "predictions"):
            _shoot(page, f"{url}/assets/{project}/{asset}?view=partitions&partition={tile}", target / f"{asset}.png")
            _shoot_quicklook(page, target / f"{asset}_quicklook.png")
        _shoot(page, f"{url}/assets/{project}/maps?view=partitions&partition={zone}", target / "maps.png")
        _shoot_quicklook(page, target / "maps_quicklook.png")
        for asset in ("aoi", "tile_grid", "training_data", "model", "byoc_collection"):
            _shoot(page, f"{url}/assets/{project}/{asset}?view=events", target / f"{asset}.png")
        _shoot(page, f"{url}/runs", target / "runs.png")
        browser.close()
    print(f"{len(list(target.glob('*.png')))} pictures in {target}; requests to other hosts: {elsewhere or 'none'}")


def _leaves(asked: str, url: str) -> bool:
    return not asked.startswith((url, url.replace("http", "ws", 1), "data:", "blob:"))


def _shoot(page: Page, address: str, target: Path) -> None:
    page.goto(address)
    page.wait_for_load_state("load")
    page.wait_for_timeout(6000)
    page.screenshot(path=target)


def _shoot_quicklook(page: Page, target: Path) -> None:
    """The dialog that long Markdown hides behind."""
    link = page.get_by_text("[Show Markdown]").last
    if link.count():
        link.click()
        page.wait_for_timeout(1500)
        page.screenshot(path=target)


if __name__ == "__main__":
    main(*sys.argv[1:])
