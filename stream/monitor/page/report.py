"""A finished run as one self-contained HTML file, and as pictures: the page's figures without a server."""

from pathlib import Path

from state_store.errors import OperatorError
from stream.monitor.figures.bucket import merge
from stream.monitor.history.history import SERVED, TWIN
from stream.monitor.history.recorder import read_buckets
from stream.monitor.page.pictures import draw_pictures
from stream.monitor.page.points import groups
from stream.monitor.page.server import page_file, plotly_js
from stream.monitor.page.tasks import figures_by_task
from stream.monitor.page.view import View, to_json
from stream.predictions.log import read_predictions
from stream.settings import Settings

_PICTURE_POINTS = 20
"""Points per line of a picture, which nobody can zoom into."""


class NoHistoryError(OperatorError):
    """A folder holds no cohort figures."""


def write_report(settings: Settings, folder: Path) -> list[Path]:
    """Write `report.html`, and PNG figures in the folder `report`; returns their paths, the page first.

    Raises:
        NoHistoryError: the folder has no cohort figures, or they are of other cohorts or fields than the settings'.
    """
    buckets = read_buckets(folder)
    if not buckets:
        raise NoHistoryError(f"{folder}: no cohort figures there; give the folder of a run, as in runs/demo")
    view = View(settings)
    if not any(map(view.fits, buckets)):
        raise NoHistoryError(
            f"{folder}: its cohorts or fields are not those of the settings; give the run's own with --config or --set"
        )
    html = page_file("index.html")
    # A closing tag inside a script would end it.
    shown = view.show(buckets, read_buckets(folder, TWIN), read_buckets(folder, SERVED))
    by_task = figures_by_task(read_predictions(folder / "predictions"), settings.labels)
    tasks = [{"task": t.name, "learned": t.name in settings.learned_tasks, **by_task[t.name]} for t in settings.labels]
    data = to_json({"run": folder.name, "tasks": tasks, **shown}).decode().replace("</", "<\\/")
    style = f"<style>{page_file('page.css')}\n.live {{ display: none; }}</style>"
    scripts = f"<script>{plotly_js()}</script><script>window.REPORT = {data};</script>"
    html = html.replace('<link rel="stylesheet" href="page.css">', style)
    html = html.replace('<script src="plotly.js" defer></script>\n', "")
    for script in ("rollout.js", "abtest.js", "page.js"):
        html = html.replace(f'<script src="{script}" defer></script>\n', "")
    html = html.replace('<p id="state" role="status" aria-live="polite">loading</p>', f"<p>run {folder.name}</p>")
    html = html.replace("</body>", f"{scripts}<script>{page_file('page.js')}</script></body>")
    path = folder / "report.html"
    path.write_text(html, encoding="utf-8")
    coarse = [merge(group) for group in groups(buckets, _PICTURE_POINTS)]
    return [path, *draw_pictures({**shown, "series": view.series(coarse)}, folder / "report")]
