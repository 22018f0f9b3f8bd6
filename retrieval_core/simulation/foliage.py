"""Leaves and sprigs."""

from __future__ import annotations

import numpy as np

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.drawing import Drawing, Role
from retrieval_core.simulation.families import Family
from retrieval_core.simulation.outlines import Outline, Tip


def leaf(d: Drawing, shape: Tip, veins: str) -> None:
    width = {"round": 1.25, "point": 0.95, "lens": 0.75}.get(shape, 0.9)
    body = d.fill(Role.MAIN, o.place(o.petal(2.0, width, shape), 0, 1.0))
    if veins == "half":
        d.fill(Role.SECOND, o.box(0.5, 0, 1.0, 2.2), within=body)
    elif veins == "pinnate":
        for y in (-0.5, -0.15, 0.2, 0.55):
            d.fill(Role.LIGHT, *o.pair(o.ribbon(o.outline((0, y), (0.7, y - 0.42)), 0.05)), within=body)
    elif veins == "ringed":
        d.fill(Role.SECOND, o.place(o.petal(1.5, width * 0.62, shape), 0, 0.8))
        d.fill(Role.ACCENT, o.place(o.petal(1.0, width * 0.3, shape), 0, 0.6))
    d.line(Role.LIGHT, 0.06, (0, 1.3), (0, -0.7), taper=0.4)
    d.line(Role.DARK, 0.08, (0, 1.0), (0.05, 1.25), (0.15, 1.45))


def maple(d: Drawing, points: int, veins: str) -> None:
    step = 260 / (points - 1)
    rim: list[Outline] = []
    for i in range(points):
        a, size = -130 + step * i, 1.0 if i == points // 2 else 0.9 - 0.12 * abs(i - points // 2) / points * 2
        for angle, r in ((-0.42, 0.5), (-0.22, 0.6), (-0.2, 0.78), (0, 1.0), (0.2, 0.78), (0.22, 0.6)):
            rim.append(o.place(o.outline((0, -r * size)), turn=a + angle * step))
    body = d.fill(Role.MAIN, np.concatenate([*rim, o.outline((0.1, 0.25), (-0.1, 0.25))]))
    role = Role.LIGHT if veins == "light" else Role.DARK
    d.fill(
        role,
        *[o.place(o.ribbon(o.outline((0, 0), (0, -0.75)), 0.05, 0.3), turn=-130 + step * i) for i in range(points)],
        within=body,
    )
    d.line(Role.DARK, 0.07, (0, 0.1), (0.04, 0.6), (0.15, 0.95))


def oak(d: Drawing, lobes: int, acorn: str) -> None:
    half = [(0.0, -1.1)]
    for i in range(lobes):
        y = -0.95 + 1.7 * i / lobes
        out = 0.3 + 0.32 * np.sin(np.pi * (i + 0.8) / (lobes + 0.6))
        half += [(out, y), (out * 0.98, y + 0.7 / lobes), (out * 0.45, y + 1.3 / lobes)]
    d.both(Role.MAIN, *half, (0.08, 0.95), (0, 1.0))
    d.line(Role.SECOND, 0.07, (0, 1.4), (0, -0.85), taper=0.4)
    if acorn == "acorn":
        d.both(Role.ACCENT, (0.0, 1.0), (0.3, 1.05), (0.26, 1.45), (0, 1.7))
        d.both(Role.DARK, (0, 0.82), (0.34, 0.95), (0.32, 1.15), (0, 1.15))


def frond(d: Drawing, pairs: int, blade: Tip, bend: float) -> None:
    """Fern, palm or ash leaf: leaflets in pairs along a midrib."""
    path = o.smooth(
        o.outline((0, 1.2), (0.1 * bend, 0.4), (0.25 * bend, -0.4), (0.7 * bend, -1.2)), closed=False, steps=pairs
    )
    for i in range(2, len(path) - 1, max(1, len(path) // (pairs + 1))):
        t = i / len(path)
        size = 0.95 * (1 - t) ** 0.7 + 0.15
        along = path[i + 1] - path[i - 1]
        lean = float(np.degrees(np.arctan2(along[0], -along[1])))
        for side in (-1, 1):
            d.fill(
                Role.MAIN if side > 0 else Role.SECOND,
                o.at(o.petal(size, 2.4 * size / pairs + 0.05, blade), path[i], lean + side * 58),
            )
    d.fill(Role.DARK, o.ribbon(path, 0.06, 0.4))
    d.fill(Role.MAIN, o.at(o.petal(0.35, 0.15, blade), path[-1], 30 * bend))


def monstera(d: Drawing, cuts: int, holes: str) -> None:
    body = d.both(Role.MAIN, (0, -0.5), (0.4, -0.85), (0.95, -0.55), (1.05, 0.1), (0.7, 0.7), (0, 1.25))
    for side in (-1, 1):
        for i in range(cuts):
            y = -0.25 + 1.05 * i / cuts
            d.fill(Role.CLEAR, o.outline((side * 1.3, y - 0.02), (side * 0.42, y), (side * 1.3, y + 0.16)))
            if holes == "holed":
                d.fill(Role.CLEAR, o.ellipse(side * 0.26, y + 0.1, 0.15, 0.06))
    d.fill(Role.SECOND, o.ribbon(o.outline((0, -0.6), (0, 1.1)), 0.07, 0.4), within=body)
    d.line(Role.SECOND, 0.09, (0, -0.5), (0.06, -0.9), (0.25, -1.3))


def ginkgo(d: Drawing, split: float, ribs: int) -> None:
    rim = [o.place(o.outline((0, -1.0 - (0.06 if i % 2 else 0))), turn=-70 + 140 * i / 14) for i in range(15)]
    rim[7] = o.outline((0, -1.0 + split))
    body = d.fill(Role.MAIN, o.smooth(np.concatenate([o.outline((0, 0.15)), *rim]), steps=4))
    d.fill(
        Role.SECOND,
        *[
            o.place(o.ribbon(o.outline((0, 0.1), (0, -0.9)), 0.04), turn=-58 + 116 * i / (ribs - 1))
            for i in range(ribs)
        ],
        within=body,
    )
    d.line(Role.LEAF, 0.08, (0, 0.05), (0.05, 0.6), (-0.15, 1.1))


def clover(d: Drawing, leaves: int, mark: str) -> None:
    d.line(Role.LEAF, 0.1, (0, 0), (0.12, 0.6), (0.45, 1.15))
    d.fill(Role.MAIN, *o.ring(o.place(o.heart(0.48), 0, -0.05), leaves, 0.52))
    if mark == "banded":
        d.fill(Role.LIGHT, *o.ring(o.ribbon(o.outline((-0.28, 0.05), (0, -0.16), (0.28, 0.05)), 0.09), leaves, 0.5))
    else:
        d.fill(Role.SECOND, *o.ring(o.petal(0.55, 0.12, "lens"), leaves, 0.1))


def sprig(d: Drawing, leaves: int, shape: Tip, fruit: str) -> None:
    """A leafy branch: olive, willow, eucalyptus; with or without berries."""
    path = o.smooth(o.outline((-0.15, 1.3), (0.1, 0.6), (-0.05, -0.2), (0.1, -1.0)), closed=False, steps=leaves)
    d.fill(Role.DARK, o.ribbon(path, 0.07, 0.5))
    width = {"lens": 0.22, "round": 0.5, "point": 0.34}.get(shape, 0.3)
    for i in range(leaves):
        x, y = path[2 + i * (len(path) - 3) // leaves]
        side = 1 if i % 2 else -1
        d.fill(
            Role.LEAF if i % 2 else Role.MAIN, o.place(o.petal(0.85 - 0.3 * i / leaves, width, shape), x, y, side * 52)
        )
        if fruit == "berries":
            d.fill(Role.ACCENT, o.ellipse(x - side * 0.32, y - 0.1, 0.13))
    d.fill(Role.MAIN, o.place(o.petal(0.5, width * 0.8, shape), 0.1, -0.95, 6))


def wheat(d: Drawing, awns: str) -> None:
    d.line(Role.LEAF, 0.06, (0.05, 1.6), (0, 0.8), (0, -0.2))
    for i in range(6):
        y = 0.5 - 0.2 * i
        if awns == "bearded":
            d.fill(Role.SECOND, *o.pair(o.place(o.ribbon(o.outline((0, 0), (0.02, -1.0)), 0.03), 0.1, y, 20)))
        d.fill(Role.MAIN, *o.pair(o.place(o.petal(0.5, 0.24, "lens"), 0.02, y, 34)))
    d.fill(Role.MAIN, o.place(o.petal(0.5, 0.22, "lens"), 0, -0.62))
    d.fill(Role.LEAF, o.place(o.petal(0.9, 0.16, "point"), 0, 1.4, -35))


def berry_branch(d: Drawing, berries: int, leaf_shape: Tip) -> None:
    d.line(Role.DARK, 0.08, (-1.0, 0.9), (-0.2, 0.2), (0.9, -0.7), taper=0.5)
    for i in range(3):
        x, y = -0.7 + 0.6 * i, 0.65 - 0.5 * i
        d.fill(Role.LEAF, o.place(o.petal(0.75, 0.36, leaf_shape), x, y, -25 if i % 2 else -50))
    for i in range(berries):
        x, y = -0.6 + 1.5 * i / berries, 0.62 - 1.15 * i / berries
        bx, by = x + 0.34, y + 0.38 + 0.08 * (i % 2)
        d.line(Role.DARK, 0.04, (x, y), (bx, by))
        d.disc(Role.MAIN, bx, by, 0.19)
        d.disc(Role.LIGHT, bx - 0.06, by - 0.06, 0.05)


def holly(d: Drawing, leaves: int, berries: int) -> None:
    half = o.outline(
        (0, -1.1), (0.12, -0.8), (0.42, -0.75), (0.26, -0.4), (0.5, -0.25), (0.24, -0.02), (0.3, 0.12), (0, 0.1)
    )
    for i in range(leaves):
        turn = -80 + 160 * i / max(leaves - 1, 1) if leaves < 5 else 72.0 * i
        d.fill(Role.MAIN, o.place(o.mirrored(half), turn=turn))
        d.fill(Role.SECOND, o.place(o.petal(0.85, 0.07, "lens"), turn=turn))
    for x, y in o.regular(berries, 0.19, 180) if berries > 1 else o.outline((0, 0)):
        d.disc(Role.ACCENT, x, y + 0.08, 0.18)
        d.disc(Role.LIGHT, x - 0.05, y + 0.03, 0.05)


def ivy(d: Drawing, leaves: int) -> None:
    d.line(Role.DARK, 0.07, (-0.9, 1.2), (0.2, 0.7), (-0.3, -0.1), (0.3, -0.6), (0.0, -1.2))
    d.fill(Role.DARK, o.ribbon(o.arc(0.5, -0.95, 0.22, 200, 520), 0.05, 0.5))
    half = o.outline((0, -0.62), (0.12, -0.3), (0.42, -0.32), (0.3, 0.0), (0.36, 0.22), (0, 0.14))
    spots = ((-0.45, 0.85, -60), (0.55, 0.45, 70), (-0.6, -0.1, -50), (0.6, -0.55, 60), (-0.15, -1.1, -10))
    for x, y, turn in spots[:leaves]:
        d.fill(Role.MAIN, o.place(o.mirrored(half), x, y, turn, 0.95))
        d.fill(Role.LIGHT, o.place(o.ribbon(o.outline((0, 0.1), (0, -0.42)), 0.05), x, y, turn))


def wreath(d: Drawing, leaves: int, trim: str) -> None:
    d.fill(Role.DARK, o.ribbon(o.arc(0, 0, 0.75, 0, 360, 48), 0.05))
    for i, shape in enumerate(o.ring(o.place(o.petal(0.5, 0.24, "point"), 0, 0, 55), leaves, 0.72)):
        d.fill(Role.MAIN if i % 2 else Role.LEAF, shape)
    d.fill(Role.LEAF, *o.ring(o.place(o.petal(0.4, 0.2, "point"), 0, 0, 130), leaves, 0.72))
    if trim == "bow":
        d.fill(
            Role.ACCENT,
            *o.pair(o.place(o.petal(0.55, 0.4, "round"), 0, 0.78, 75)),
            *o.pair(o.place(o.petal(0.6, 0.22, "square"), 0, 0.78, 155)),
        )
        d.disc(Role.DARK, 0, 0.78, 0.1)
    else:
        d.fill(Role.ACCENT, *[o.dot(p, 0.11) for p in o.regular(leaves // 2, 0.75, 12)])


GREENS = (145.0, 125.0, 165.0, 190.0)

FAMILIES = (
    Family(
        "leaf", leaf, {"veins": ("pinnate", "half", "ringed"), "shape": ("point", "round", "lens")}, (145, 120, 55, 30)
    ),
    Family("maple-leaf", maple, {"points": (7, 5), "veins": ("light", "dark")}, (35, 60, 90, 145)),
    Family("oak-leaf", oak, {"lobes": (4, 3, 5), "acorn": ("acorn", "bare")}, (130, 60, 80)),
    Family("fern", frond, {"pairs": (10, 6), "blade": ("lens", "round"), "bend": (1.0, 0.0)}, GREENS),
    Family("monstera", monstera, {"cuts": (4, 6), "holes": ("holed", "whole")}, (150, 170)),
    Family("ginkgo", ginkgo, {"ribs": (7, 12), "split": (0.5, 0.2)}, (95, 130, 190)),
    Family("clover", clover, {"leaves": (3, 4), "mark": ("banded", "veined")}, GREENS),
    Family(
        "sprig",
        sprig,
        {"leaves": (7, 10, 5), "shape": ("lens", "round", "point"), "fruit": ("bare", "berries")},
        GREENS,
    ),
    Family("wheat", wheat, {"awns": ("bearded", "smooth")}, (85, 70)),
    Family("berry-branch", berry_branch, {"berries": (5, 3), "leaf_shape": ("point", "round")}, (25, 280, 350)),
    Family("holly", holly, {"leaves": (2, 3, 5), "berries": (3, 5)}, (150, 160)),
    Family("ivy", ivy, {"leaves": (5, 3)}, GREENS),
    Family("wreath", wreath, {"leaves": (14, 10), "trim": ("bow", "berries")}, GREENS),
)
