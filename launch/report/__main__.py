"""``python -m launch.report FOLDER [--out FILE]``: of a run, or of a sweep."""

import argparse
import sys
from pathlib import Path

from launch.report.page import write_report
from launch.report.sweep_data import is_sweep
from launch.report.sweep_page import write_sweep_report
from launch.shell import one_sentence_errors
from trainer.run.at_url import fetch


@one_sentence_errors
def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.report", description="Write the report of a run or of a sweep as one HTML file."
    )
    parser.add_argument(
        "folder", help="run folder, its URL, sweep folder, or a folder of run folders; what still goes on or was stopped may be in it"
    )
    parser.add_argument("--out", type=Path, help="file to write (default: report.html in the folder)")
    options = parser.parse_args()
    folder = fetch(options.folder)
    write = write_sweep_report if is_sweep(folder) else write_report
    print(f"Report: {write(folder, options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
