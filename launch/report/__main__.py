"""``python -m launch.report RUN_DIR [--out FILE]``."""

import argparse
import sys
from pathlib import Path

from launch.report.page import write_report
from launch.shell import one_sentence_errors


@one_sentence_errors
def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m launch.report", description="Write a run folder's report as one HTML file.")
    parser.add_argument("run_dir", type=Path, help="run folder; it may be of a run that still goes on or was stopped")
    parser.add_argument("--out", type=Path, help="file to write (default: report.html in the run folder)")
    options = parser.parse_args()
    print(f"Report: {write_report(options.run_dir, options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
