"""What a request asks for, one run or a study, from start to the last words."""

from __future__ import annotations

from configs.cli import Request
from engine.interrupt import StopRequest
from engine.progress import console
from engine.stages import run_stages
from engine.study import run_probe, run_study
from engine.study_report import write_study_report
from engine.summary import print_summary


def run_request(request: Request, stop: StopRequest) -> None:
    """Runs it. Raises UserError for what the user must change, Interrupted when a signal asked to stop."""
    if not request.config.study.axes:
        print_summary(request, run_stages(request, stop))
        return
    folder = run_study(request, stop)
    run_probe(request, folder, stop)
    write_study_report(request.config, folder)
    console.print(folder.table.read_text(encoding="utf-8"), highlight=False, markup=False, soft_wrap=True)
    for path in (folder.table, folder.results, folder.report):
        console.print(f"  {path}", highlight=False, soft_wrap=True)
