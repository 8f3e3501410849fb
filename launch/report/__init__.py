"""A run or sweep folder as one self-contained ``report.html``: ``python -m launch.report FOLDER``."""

from launch.report.page import write_report
from launch.report.sweep_page import write_sweep_report

__all__ = ["write_report", "write_sweep_report"]
