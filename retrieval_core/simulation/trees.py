"""Trees, and what else stands on the ground: cacti and mushrooms."""

from __future__ import annotations

import numpy as np

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.drawing import Drawing, Role
from retrieval_core.simulation.families import Family


def palm_tree(d: Drawing, fronds: int) -> None:
    d.line(Role.SECOND, 0.24, (0.25, 1.5), (0.05, 0.6), (0.1, -0.4), taper=0.6)
    for y in (1.2, 0.9, 0.6, 0.3, 0.0):
        d.line(Role.DARK, 0.05, (-0.02 + 0.1 * y, y), (0.24 + 0.12 * y, y - 0.03))
    for i in range(fronds):
        side, lift = (1 if i % 2 else -1), 0.55 - 0.9 * (i // 2) / max(fronds // 2 - 1, 1)
        rib = o.smooth(
            o.outline((0.1, -0.4), (0.1 + side * 0.6, -0.75 + lift * 0.6), (0.1 + side * 1.05, -0.3 + lift)),
            closed=False,
        )
        lower = rib + np.sin(np.linspace(0, np.pi, len(rib)))[:, None] * np.array([0.0, 0.26])
        d.fill(Role.MAIN if i % 3 else Role.LEAF, np.concatenate([rib, lower[::-1]]))
    d.fill(Role.ACCENT, o.ellipse(0, -0.3, 0.13), o.ellipse(0.22, -0.28, 0.13))


def round_tree(d: Drawing, crown: str, fruit: str) -> None:
    d.line(Role.DARK, 0.2, (0, 1.4), (0, 0.1), taper=0.7)
    d.line(Role.DARK, 0.09, (0, 0.5), (0.35, 0.05))
    shape = {
        "cloud": o.place(o.wavy(0.85, 7, 0.09), 0, -0.35),
        "egg": o.ellipse(0, -0.45, 0.7, 0.95),
        "cone": o.outline((0, -1.5), (0.75, 0.5), (-0.75, 0.5)),
    }[crown]
    body = d.fill(Role.MAIN, shape)
    if fruit == "apples":
        d.fill(
            Role.ACCENT,
            *[
                o.ellipse(x, y - 0.35, 0.11)
                for x, y in ((-0.3, -0.2), (0.25, -0.35), (0.05, 0.1), (-0.35, 0.35), (0.4, 0.3))
            ],
        )
    elif fruit == "leaves":
        d.fill(
            Role.SECOND,
            *[
                o.place(o.petal(0.3, 0.16, "lens"), x, y - 0.3, 30 * x)
                for y in (-0.5, -0.1, 0.3, 0.6)
                for x in (-0.45, -0.15, 0.15, 0.45)
            ],
            within=body,
        )
    else:
        d.decorate(body, "scales", Role.SECOND, 0.24)


def fir_tree(d: Drawing, tiers: int, trim: str) -> None:
    d.fill(Role.DARK, o.box(0, 1.2, 0.24, 0.5))
    for i in range(tiers):
        y, w = 1.0 - 2.1 * i / (tiers + 0.5), 0.9 - 0.6 * i / tiers
        d.fill(Role.MAIN, o.outline((0, y - 2.4 / tiers), (w, y), (-w, y)))
        if trim == "snow":
            d.fill(
                Role.LIGHT,
                o.outline(
                    (0, y - 2.4 / tiers), (w * 0.4, y - 1.4 / tiers), (0, y - 1.1 / tiers), (-w * 0.4, y - 1.4 / tiers)
                ),
            )
        elif trim == "baubles":
            d.fill(Role.ACCENT, *[o.ellipse(x * w, y - 0.12, 0.09) for x in (-0.6, 0, 0.6)])
    if trim != "snow":
        d.fill(Role.ACCENT, o.place(o.star(5, 0.24, 0.1), 0, 1.0 - 2.1 * (tiers - 1) / (tiers + 0.5) - 2.4 / tiers))


def cactus(d: Drawing, kind: str, bloom: str) -> None:
    if kind == "saguaro":
        d.line(Role.MAIN, 0.3, (-0.2, 0.3), (-0.62, 0.25), (-0.68, -0.35))
        d.line(Role.MAIN, 0.28, (0.2, 0.55), (0.6, 0.45), (0.65, -0.1))
        d.fill(Role.MAIN, o.ellipse(-0.68, -0.35, 0.15), o.ellipse(0.65, -0.1, 0.14))
        d.both(Role.MAIN, (0, -1.2), (0.3, -0.95), (0.3, 0), (0.28, 1.05), (0, 1.05))
        d.fill(Role.SECOND, *[o.box(x, 0, 0.05, 1.7) for x in (-0.13, 0, 0.13)])
    elif kind == "barrel":
        body = d.disc(Role.MAIN, 0, 0.35, 0.8, 0.75)
        d.fill(
            Role.SECOND,
            *[
                o.ribbon(o.arc(x * 2.5, 0.35, 0.9 + abs(x) * 1.4, 50 if x < 0 else -50, 130 if x < 0 else -130), 0.05)
                for x in (-0.6, -0.3, 0.3, 0.6)
            ],
            within=body,
        )
    else:
        for x, y, r, t in ((0, 0.6, 0.5, 0), (-0.45, -0.15, 0.4, -25), (0.42, -0.2, 0.42, 25), (-0.1, -0.75, 0.32, 5)):
            body = d.fill(Role.MAIN, o.place(o.ellipse(0, 0, r * 0.75, r), x, y, t))
            d.decorate(body, "spots", Role.LIGHT, 0.25)
    if bloom == "bloom":
        top = {"saguaro": -1.2, "barrel": -0.4, "paddle": -1.05}[kind]
        d.fill(Role.ACCENT, *[o.place(p, 0, top) for p in o.ring(o.petal(0.35, 0.22, "point"), 6)])
    d.fill(Role.SECOND, o.outline((-0.6, 1.0), (0.6, 1.0), (0.45, 1.55), (-0.45, 1.55)))
    d.fill(Role.DARK, o.box(0, 1.05, 1.3, 0.16))


def mushroom(d: Drawing, cap: str, count: int) -> None:
    for x, y, s in ((0, 0, 1.0), (0.95, 0.45, 0.55), (-0.85, 0.55, 0.45))[:count]:
        d.fill(
            Role.LIGHT,
            o.place(
                o.smooth(o.mirrored(o.outline((0, -0.2), (0.2, 0), (0.24, 0.7), (0.32, 1.0), (0, 1.05)))), x, y, 0, s
            ),
        )
        half = {
            "dome": ((0, -1.0), (0.65, -0.8), (0.95, -0.15), (0.6, 0.05), (0, 0.08)),
            "cone": ((0, -1.2), (0.3, -0.7), (0.85, 0.05), (0.4, 0.1), (0, 0.12)),
            "flat": ((0, -0.5), (0.8, -0.45), (1.15, -0.15), (0.7, 0.02), (0, 0.05)),
        }[cap]
        body = d.fill(Role.MAIN, o.place(o.smooth(o.mirrored(o.outline(*half))), x, y, 0, s))
        d.fill(
            Role.LIGHT,
            *[
                o.place(o.ellipse(a, b, r), x, y, 0, s)
                for a, b, r in ((-0.45, -0.2, 0.14), (0.1, -0.38, 0.18), (0.55, -0.12, 0.12), (-0.1, -0.8, 0.1))
            ],
            within=body,
        )
    d.line(Role.LEAF, 0.1, (-0.9, 1.1), (0, 1.02), (0.9, 1.1))


FAMILIES = (
    Family("palm-tree", palm_tree, {"fronds": (8, 6)}, (150, 170)),
    Family(
        "tree", round_tree, {"crown": ("cloud", "egg", "cone"), "fruit": ("apples", "leaves", "scales")}, (140, 60, 180)
    ),
    Family("fir-tree", fir_tree, {"trim": ("baubles", "snow", "star"), "tiers": (4, 3)}, (155, 175)),
    Family("cactus", cactus, {"kind": ("saguaro", "barrel", "paddle"), "bloom": ("bloom", "bare")}, (150, 165)),
    Family("mushroom", mushroom, {"cap": ("dome", "cone", "flat"), "count": (1, 3, 2)}, (27, 50, 300)),
)
