"""A program's graph as one HTML page: zoom, pan, search, folded by layer, one stage or two side by side."""

from qcompiler.report.page import check_report_extra, render_page, write_page
from qcompiler.report.page_data import Stage
from qcompiler.report.stage import collect_stage
from qcompiler.report.stage_matching import mark_changes

__all__ = ["Stage", "check_report_extra", "collect_stage", "mark_changes", "render_page", "write_page"]
