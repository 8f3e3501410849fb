"""Blocks of a workflow as an SVG flow chart, laid out from the top down."""

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from launch.report.blocks import Block, Branch, Call, End, Loop, workflow_blocks
from launch.report.style import operator_colour, tint

FONT_PX = 13
CHAR_PX = 7.4
"""Mean width of a character at ``FONT_PX``; wide rather than tight, so that any sans-serif font fits."""
GAP = 22
NODE_H = 30
PAD = 14
INK = "#333333"
HEAD = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z"/></marker>'
)


@dataclass
class Canvas:
    """SVG elements so far."""

    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, *, anchor: str = "middle", weight: str = "400", colour: str = "#222222") -> None:
        """One line, vertically centred on ``y``."""
        place = f'x="{x:.1f}" y="{y + FONT_PX * 0.35:.1f}" text-anchor="{anchor}"'
        self.parts.append(f'<text {place} font-weight="{weight}" fill="{colour}">{escape(text)}</text>')

    def box(self, x: float, y: float, w: float, h: float, *, fill: str, stroke: str, radius: float = 7, dash: str = "") -> None:
        """A rectangle with round corners."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{radius}"'
        self.parts.append(f'<rect {place} fill="{fill}" stroke="{stroke}" stroke-width="1.5"{dashed}/>')

    def path(self, points: list[tuple[float, float]], *, arrow: bool = True) -> None:
        """Straight lines through the points, with an arrow head at the last."""
        line = " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        head = ' marker-end="url(#head)"' if arrow else ""
        self.parts.append(f'<path d="M {line}" fill="none" stroke="{INK}" stroke-width="1.4"{head}/>')

    def diamond(self, x: float, y: float, w: float, h: float) -> None:
        """A decision whose centre is (x, y)."""
        points = f"{x - w / 2:.1f},{y:.1f} {x:.1f},{y - h / 2:.1f} {x + w / 2:.1f},{y:.1f} {x:.1f},{y + h / 2:.1f}"
        self.parts.append(f'<polygon points="{points}" fill="#ffffff" stroke="{INK}" stroke-width="1.5"/>')


def workflow_svg(source: str) -> str:
    """The workflow as one self-contained ``<svg>``; an empty string where there is nothing to draw."""
    blocks = workflow_blocks(source)
    if not blocks:
        return ""
    canvas = Canvas()
    _, left, right, height = _measure(blocks)
    width, centre = left + right + 2 * PAD, left + PAD
    top = PAD + NODE_H
    _pill(canvas, centre, PAD + NODE_H / 2, "query", fill="#ffffff")
    canvas.path([(centre, top), (centre, top + GAP)])
    _draw(canvas, blocks, centre, top + GAP)
    total = top + GAP + height + PAD
    size = f'width="{width:.0f}" height="{total:.0f}" viewBox="0 0 {width:.0f} {total:.0f}"'
    about = 'class="flow" role="img" aria-label="Flow chart of the workflow"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {about} {size} font-size="{FONT_PX}"><defs>{HEAD}</defs>{"".join(canvas.parts)}</svg>'


def _width(text: str) -> float:
    return len(text) * CHAR_PX + 26


def _size(block: Block) -> tuple[float, float, float]:
    """Extent left and right of the centre line, and height."""
    if isinstance(block, Call):
        half = _width(f"{block.operator} {block.repeat}") / 2
        return half, half + (8 if block.repeat else 0), NODE_H + (8 if block.repeat else 0)
    if isinstance(block, End):
        half = _width(block.label) / 2
        return half, half, NODE_H
    if isinstance(block, Loop):
        _, left, right, height = _measure(block.body)
        label = len(f"↻ {block.label}") * CHAR_PX + 20
        return left + PAD + 4, max(right + PAD + 22, label - left - PAD), height + 26 + 2 * PAD + (20 if _floats(block.body) else 6)
    half = _diamond_width(block) / 2
    _, yes_left, yes_right, yes_height = _measure(block.yes)
    if not block.no:
        return half, half + 34 + yes_left + yes_right, max(_diamond_height(), yes_height)
    _, no_left, no_right, no_height = _measure(block.no)
    offset = _branch_offset(block)
    below = _diamond_height() + GAP + max(yes_height, no_height) + GAP
    return max(half, no_left), max(half, no_right, offset + yes_right), below


def _floats(blocks: tuple[Block, ...]) -> bool:
    """True where the way on leaves below the last block's diamond rather than below the block."""
    return bool(blocks) and isinstance(blocks[-1], Branch) and not blocks[-1].no


def _diamond_width(block: Branch) -> float:
    return len(block.condition) * CHAR_PX + 64


def _diamond_height() -> float:
    return 46


def _branch_offset(block: Branch) -> float:
    """Distance from the centre line (no) to the column of yes."""
    _, yes_left, _, _ = _measure(block.yes)
    _, _, no_right, _ = _measure(block.no)
    return max(no_right + 24 + yes_left, _diamond_width(block) / 2 + 30)


def _measure(blocks: tuple[Block, ...]) -> tuple[int, float, float, float]:
    """Number of blocks, extents left and right of the centre line, height with the gaps between."""
    sizes = [_size(block) for block in blocks]
    if not sizes:
        return 0, 0.0, 0.0, 0.0
    height = sum(size[2] for size in sizes) + GAP * (len(sizes) - 1)
    return len(sizes), max(size[0] for size in sizes), max(size[1] for size in sizes), height


def _draw(canvas: Canvas, blocks: tuple[Block, ...], x: float, y: float) -> None:
    """Draws a column of blocks with arrows between them."""
    for index, block in enumerate(blocks):
        _, _, height = _size(block)
        if isinstance(block, Call):
            _call(canvas, block, x, y)
        elif isinstance(block, End):
            _pill(canvas, x, y + NODE_H / 2, block.label, fill="#ffffff" if block.kind == "return" else "#f2f2f2")
        elif isinstance(block, Loop):
            _loop(canvas, block, x, y, height)
        else:
            _branch(canvas, block, x, y, height)
        bottom = y + height
        if index + 1 < len(blocks):
            start = y + _diamond_height() if isinstance(block, Branch) and not block.no else bottom
            if _goes_on(block):
                canvas.path([(x, start), (x, bottom + GAP)])
            if isinstance(block, Branch) and not block.no:
                canvas.text(x - 6, start + 9, "no", anchor="end")
        y = bottom + GAP


def _goes_on(block: Block) -> bool:
    """False where no path reaches the block below."""
    if isinstance(block, End):
        return False
    if isinstance(block, Branch) and block.no:
        return _falls_through(block.yes) or _falls_through(block.no)
    return True


def _falls_through(blocks: tuple[Block, ...]) -> bool:
    return not blocks or _goes_on(blocks[-1])


def _call(canvas: Canvas, call: Call, x: float, y: float) -> None:
    stroke = operator_colour(call.operator)
    fill = tint(stroke)
    width = _width(f"{call.operator} {call.repeat}")
    top = y + (8 if call.repeat else 0)
    if call.repeat:  # a stack of cards: calls made side by side
        for shift in (8, 4):
            canvas.box(x - width / 2 + shift, top - shift, width, NODE_H, fill=fill, stroke=stroke)
    canvas.box(x - width / 2, top, width, NODE_H, fill=fill, stroke=stroke)
    canvas.text(x, top + NODE_H / 2, f"{call.operator} {call.repeat}".strip(), weight="600")


def _pill(canvas: Canvas, x: float, y: float, label: str, *, fill: str) -> None:
    width = _width(label)
    canvas.box(x - width / 2, y - NODE_H / 2, width, NODE_H, fill=fill, stroke="#777777", radius=NODE_H / 2)
    canvas.text(x, y, label)


def _loop(canvas: Canvas, loop: Loop, x: float, y: float, height: float) -> None:
    left, right, _ = _size(loop)
    canvas.box(x - left, y, left + right, height, fill="#fafafa", stroke="#8a8a8a", dash="5 4", radius=9)
    canvas.text(x - left + 10, y + 15, f"↻ {loop.label}", anchor="start", weight="600", colour="#555555")
    top = y + 26 + PAD
    _draw(canvas, loop.body, x, top)
    if not loop.body or not _goes_on(loop.body[-1]):
        return
    _, _, body_right, body_height = _measure(loop.body)
    last = loop.body[-1]
    _, _, last_height = _size(last)
    floating = _floats(loop.body)
    bottom = top + body_height - (last_height - _diamond_height() if floating else 0)
    lane = x + max(body_right, 0) + 16
    if floating:
        canvas.text(x - 6, bottom + 9, "no", anchor="end")
        lane = x + right - 8
    turn = y + height - 8
    canvas.path([(x, bottom), (x, turn), (lane, turn), (lane, top - 8), (x, top - 8), (x, top)])


def _branch(canvas: Canvas, branch: Branch, x: float, y: float, height: float) -> None:
    width, tall = _diamond_width(branch), _diamond_height()
    middle = y + tall / 2
    canvas.diamond(x, middle, width, tall)
    canvas.text(x, middle, branch.condition)
    _, yes_left, _, yes_height = _measure(branch.yes)
    if not branch.no:
        column = x + width / 2 + 34 + yes_left
        canvas.path([(x + width / 2, middle), (column - yes_left if _starts_beside(branch) else column, middle)])
        canvas.text(x + width / 2 + 4, middle - 9, "yes", anchor="start")
        _draw(canvas, branch.yes, column, middle - NODE_H / 2)
        if _falls_through(branch.yes):
            canvas.path(
                [(column, middle - NODE_H / 2 + yes_height), (column, y + height + GAP / 2), (x, y + height + GAP / 2)], arrow=False
            )
        return
    column = x + _branch_offset(branch)
    top = y + tall + GAP
    canvas.path([(x + width / 2, middle), (column, middle), (column, top)])
    canvas.text(x + width / 2 + 4, middle - 9, "yes", anchor="start")
    canvas.path([(x, y + tall), (x, top)])
    canvas.text(x - 6, y + tall + 9, "no", anchor="end")
    _draw(canvas, branch.yes, column, top)
    _draw(canvas, branch.no, x, top)
    _, _, _, no_height = _measure(branch.no)
    if _falls_through(branch.no):
        canvas.path([(x, top + no_height), (x, y + height)], arrow=False)
    if _falls_through(branch.yes):
        canvas.path([(column, top + yes_height), (column, y + height), (x, y + height)], arrow=False)


def _starts_beside(branch: Branch) -> bool:
    """True where the first block of yes is as high as a node, so that the arrow meets its side."""
    first = branch.yes[0] if branch.yes else None
    return isinstance(first, End) or (isinstance(first, Call) and not first.repeat)
