"""Finding the program in a worker's reply."""

import re

_FENCE = re.compile(r"^[^\S\n]*```([^\n`]*)\n(.*?)(?:^[^\S\n]*```[^\S\n]*$|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = ("python", "py", "python3", "")


def extract_code(text: str, entry_point: str = "") -> str:
    """The program in a reply: the last Python fence, or the whole text where there is no fence.

    Among several fences the last one that defines ``entry_point`` wins, since many models close with an example of
    use. A fence that is cut off at the end of the text counts; fences in other languages count only where there
    is no Python one.
    """
    fences = [(language.strip().lower(), code) for language, code in _FENCE.findall(text)]
    blocks = [code for language, code in fences if language in _PYTHON] or [code for _, code in fences]
    if not blocks:
        return text.strip("\n")
    if len(blocks) > 1 and entry_point:
        blocks = [code for code in blocks if re.search(rf"\b(?:def|class)\s+{re.escape(entry_point)}\b", code)] or blocks
    return blocks[-1].strip("\n")
