"""A run or sweep folder as one self-contained ``report.html``: ``python -m launch.report FOLDER``."""
