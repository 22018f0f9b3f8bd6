"""Fruit, vegetables and things from the kitchen."""

from __future__ import annotations

import numpy as np

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.drawing import Decor, Drawing, Role
from retrieval_core.simulation.families import Family

M, S, A, L, D, G = Role.MAIN, Role.SECOND, Role.ACCENT, Role.LIGHT, Role.DARK, Role.LEAF


def _stalk(d: Drawing, y: float, leaves: int) -> None:
    d.line(D, 0.09, (0, y + 0.15), (0.03, y - 0.1), (0.12, y - 0.32))
    d.fill(G, *[o.place(o.petal(0.6, 0.28, "point"), 0.02, y - 0.05, t) for t in (65, -60)[:leaves]])


def apple(d: Drawing, cut: str) -> None:
    body = d.both(M, (0, -0.55), (0.35, -0.75), (0.85, -0.5), (0.85, 0.15), (0.45, 0.85), (0.12, 0.85), (0, 0.8))
    if cut == "halved":
        d.fill(L, o.place(body, 0, 0.01, 0, 0.86))
        d.fill(S, o.ribbon(o.arc(0, 0.05, 0.3, 0, 360, 30), 0.04))
        d.fill(D, *o.pair(o.place(o.drop(0.12), 0.11, 0.08, 10)))
    else:
        d.fill(S, o.box(0.75, 0, 0.9, 2.2, 8), within=body)
        d.disc(L, -0.45, -0.25, 0.11, 0.22, 25)
    _stalk(d, -0.55, 2)


def pear(d: Drawing, cut: str) -> None:
    body = d.both(M, (0, -0.9), (0.28, -0.8), (0.36, -0.3), (0.72, 0.3), (0.55, 0.9), (0, 1.0))
    if cut == "halved":
        d.fill(L, o.place(body, 0, 0.02, 0, 0.85))
        d.fill(S, o.place(o.petal(0.75, 0.36, "round"), 0, 0.75))
        d.fill(D, *o.pair(o.place(o.drop(0.1), 0.1, 0.5)))
    else:
        d.fill(
            S,
            *[
                o.ellipse(x, y, 0.045)
                for x, y in ((0.3, 0.3), (0.15, 0.55), (0.4, 0.6), (0.1, 0.1), (0.25, 0.8), (-0.1, 0.75))
            ],
        )
        d.disc(L, -0.35, 0.35, 0.1, 0.25, 15)
    _stalk(d, -0.9, 1)


def cherries(d: Drawing, pieces: int, leaf: str) -> None:
    spots = ((-0.5, 0.6), (0.45, 0.75), (-0.02, 0.25))[:pieces]
    for x, y in spots:
        d.line(G, 0.07, (0.1, -0.95), (x * 0.5 + 0.05, -0.3), (x, y - 0.3))
    for i, (x, y) in enumerate(spots):
        d.disc((M, S, M)[i], x, y, 0.42)
        d.disc(L, x - 0.14, y - 0.14, 0.09, 0.13, 30)
    turns = (70, -70) if leaf == "two" else (65,)
    for t in turns:
        d.fill(G, o.place(o.petal(0.9, 0.4, "point"), 0.1, -0.95, t))
        d.fill(L, o.place(o.petal(0.7, 0.05, "lens"), 0.1, -0.95, t))


def strawberry(d: Drawing, seeds: str, flower: str) -> None:
    body = d.both(M, (0, -0.6), (0.5, -0.65), (0.8, -0.3), (0.6, 0.4), (0.2, 0.95), (0, 1.02))
    if seeds == "seeds":
        d.fill(
            A,
            *[
                o.place(o.drop(0.06), x, y)
                for j, y in enumerate((-0.3, -0.05, 0.2, 0.45, 0.7))
                for x in np.arange(-0.6 + 0.12 * (j % 2), 0.62, 0.25)
            ],
            within=body,
        )
    elif seeds == "hearts":
        d.fill(
            L,
            *[
                o.place(o.heart(0.1), x, y)
                for x, y in ((-0.4, -0.2), (0.1, -0.1), (0.45, -0.3), (-0.15, 0.3), (0.3, 0.3), (0.02, 0.7))
            ],
        )
    else:
        d.decorate(body, "check", S, 0.2)
    d.fill(G, *[o.place(o.petal(0.55, 0.26, "point"), 0, -0.65, a) for a in (-110, -55, 0, 55, 110)])
    if flower == "bloom":
        d.fill(L, *[o.place(p, 0.55, -0.75) for p in o.ring(o.petal(0.34, 0.3, "round"), 5)])
        d.disc(A, 0.55, -0.75, 0.1)


def citrus(d: Drawing, segments: int, cut: str) -> None:
    if cut == "wedge":
        d.fill(M, np.concatenate([o.arc(0, -0.4, 1.0, 90, 270), o.outline((-1, -0.4))]))
        d.fill(L, o.arc(0, -0.4, 0.86, 90, 270))
        for i in range(segments // 2):
            d.fill(S, o.place(o.petal(0.74, 2.6 / segments, "round"), 0, -0.38, 90 + 180 * (i + 0.5) / (segments // 2)))
        return
    d.disc(M, 0, 0, 1.0)
    d.disc(L, 0, 0, 0.87)
    for i in range(segments):
        half = 180 / segments - 4
        d.fill(
            S,
            o.place(
                o.smooth(np.concatenate([o.outline((0, -0.08)), o.arc(0, 0, 0.78, -half, half, 5)]), steps=3),
                turn=360.0 * i / segments,
            ),
        )
    if cut == "leafy":
        d.fill(
            G, o.place(o.petal(0.9, 0.4, "point"), 0.6, -0.7, 50), o.place(o.petal(0.8, 0.36, "point"), 0.6, -0.7, -10)
        )


def pineapple(d: Drawing, skin: Decor) -> None:
    d.fill(G, *[o.place(o.petal(0.95 - 0.004 * abs(a), 0.24, "point"), 0, -0.3, a) for a in np.linspace(-62, 62, 7)])
    body = d.disc(M, 0, 0.45, 0.58, 0.8)
    d.decorate(body, skin, S, 0.2)
    d.fill(G, o.place(o.petal(0.7, 0.26, "point"), 0, -0.25), *o.pair(o.place(o.petal(0.5, 0.2, "point"), 0, -0.2, 30)))


def grapes(d: Drawing, rows: int, leaf: str) -> None:
    d.line(D, 0.09, (0, -0.6), (0.05, -1.1))
    for r in range(rows):
        n = rows - r
        for i in range(n):
            x, y = (i - (n - 1) / 2) * 1.6 / rows, -0.45 + r * 1.5 / rows
            d.disc((M, S)[(i + r) % 2], x, y, 0.9 / rows)
            d.disc(L, x - 0.25 / rows, y - 0.25 / rows, 0.2 / rows)
    if leaf == "leaf":
        d.fill(G, o.place(o.wavy(0.42, 5, 0.2), -0.38, -0.8))
        d.fill(L, o.place(o.petal(0.6, 0.06, "lens"), -0.1, -0.8, -90))
    else:
        d.fill(D, o.ribbon(o.arc(0.4, -0.85, 0.24, 220, 560), 0.05, 0.5))


def melon(d: Drawing, cut: str) -> None:
    if cut == "triangle":
        d.fill(M, o.outline((0, -1.0), (0.9, 0.7), (-0.9, 0.7)))
        d.fill(L, o.box(0, 0.72, 1.86, 0.14))
        d.fill(G, o.box(0, 0.86, 1.98, 0.2))
        spots = [(x * (y + 1.0) * 0.5, y) for y in (-0.3, 0.1, 0.45) for x in (-0.6, 0.0, 0.6)]
    else:
        d.fill(G, o.arc(0, -0.4, 1.1, 90, 270))
        d.fill(L, o.arc(0, -0.4, 0.98, 90, 270))
        d.fill(M, o.arc(0, -0.4, 0.9, 90, 270))
        spots = [tuple(p) for p in o.arc(0, -0.4, 0.6, 108, 252, 9)]
    d.fill(D, *[o.place(o.drop(0.09), float(x), float(y)) for x, y in spots])


def banana(d: Drawing, pieces: int) -> None:
    for i in range(pieces):
        turn = -18.0 * i
        shape = o.smooth(
            o.outline(
                (0.55, -1.0),
                (0.62, -0.35),
                (0.35, 0.4),
                (-0.4, 0.85),
                (-0.95, 0.75),
                (-0.4, 0.45),
                (0.1, 0.0),
                (0.3, -0.6),
                (0.42, -1.0),
            )
        )
        d.fill(M if i % 2 == 0 else S, o.place(shape, turn=turn))
        d.fill(D, o.place(o.box(0.49, -1.0, 0.14, 0.24), turn=turn), o.place(o.ellipse(-0.95, 0.74, 0.08), turn=turn))
        d.fill(
            S if i % 2 == 0 else M,
            o.place(
                o.ribbon(o.smooth(o.outline((0.5, -0.8), (0.46, -0.3), (0.2, 0.25), (-0.5, 0.65)), closed=False), 0.05),
                turn=turn,
            ),
        )


def avocado(d: Drawing, pit: str, skin: str) -> None:
    d.both(M, (0, -1.0), (0.32, -0.8), (0.45, -0.3), (0.75, 0.3), (0.5, 0.92), (0, 1.02))
    inner = d.both(
        S if skin == "ringed" else L, (0, -0.85), (0.22, -0.68), (0.34, -0.25), (0.61, 0.32), (0.4, 0.78), (0, 0.87)
    )
    d.fill(L, o.place(inner, 0, 0.03, 0, 0.85))
    if pit == "stone":
        d.disc(D, 0, 0.35, 0.32)
        d.disc(A, -0.08, 0.27, 0.12)
    else:
        d.fill(A, o.place(o.heart(0.34), 0, 0.35))


def carrot(d: Drawing, fronds: int, rings: str) -> None:
    d.fill(G, *[o.place(o.petal(0.9, 0.24, "round"), 0, -0.5, a) for a in np.linspace(-40, 40, fronds)])
    body = d.both(M, (0, -0.55), (0.4, -0.5), (0.38, 0.0), (0.15, 0.8), (0, 1.3))
    if rings == "rings":
        d.fill(
            S,
            *[o.box(x, y, 0.36, 0.05) for x, y in ((-0.25, -0.2), (0.22, 0.05), (-0.15, 0.35), (0.12, 0.6))],
            within=body,
        )
    else:
        d.decorate(body, "zigzag", S, 0.22)


def aubergine(d: Drawing, shape: str, shine: str) -> None:
    if shape == "long":
        body = d.blob(M, (-0.1, -0.75), (0.3, -0.6), (0.45, 0.2), (0.3, 1.1), (-0.25, 1.15), (-0.4, 0.5), (-0.3, -0.3))
    else:
        body = d.blob(M, (-0.2, -0.7), (0.25, -0.7), (0.7, 0.2), (0.45, 0.95), (-0.35, 1.0), (-0.7, 0.3))
    if shine == "striped":
        d.decorate(body, "stripes", S, 0.2)
    else:
        d.line(L, 0.09, (-0.2, -0.3), (-0.28, 0.2), (-0.2, 0.6), taper=0.3)
    d.fill(G, *[o.place(o.petal(0.5, 0.26, "point"), 0.02, -0.8, a) for a in (115, 160, 200, 245)])
    d.line(G, 0.15, (0.02, -0.75), (0.1, -1.15))


def pomegranate(d: Drawing, cut: str) -> None:
    body = d.disc(M, 0, 0.1, 0.85, 0.82)
    d.fill(M, o.place(o.star(5, 0.36, 0.15), 0, -0.85))
    if cut == "open":
        d.fill(L, o.place(o.wavy(0.52, 6, 0.08), 0, 0.15))
        d.fill(
            A,
            *[o.at(o.drop(0.11), p) for r, n in ((0.36, 8), (0.17, 4)) for p in o.regular(n, r) + np.array([0, 0.15])],
        )
    else:
        d.decorate(body, "scales", S, 0.24)
    d.fill(G, o.place(o.petal(0.75, 0.28, "point"), 0.3, -0.6, 65))


def cupcake(d: Drawing, icing: int, top: str) -> None:
    cup = d.fill(S, o.outline((-0.6, 0.2), (0.6, 0.2), (0.42, 1.0), (-0.42, 1.0)))
    d.fill(D, *[o.ribbon(o.outline((x, 0.2), (x * 0.7, 1.0)), 0.04) for x in (-0.36, -0.12, 0.12, 0.36)], within=cup)
    for i in range(icing):
        w = 0.78 * (1 - i / (icing + 0.3))
        d.disc(M if i % 2 == 0 else L, 0, 0.12 - 0.85 * i / icing, w, 0.55 / icing + 0.08)
    y = 0.12 - 0.85
    if top == "cherry":
        d.disc(A, 0, y - 0.02, 0.17)
        d.line(G, 0.04, (0, y - 0.15), (0.1, y - 0.42))
    elif top == "star":
        d.fill(A, o.place(o.star(5, 0.26, 0.11), 0, y))
    else:
        d.fill(A, o.box(0, y - 0.1, 0.09, 0.42))
        d.fill(D, o.place(o.drop(0.11), 0, y - 0.42))


def ice_cream(d: Drawing, scoops: int, kind: str) -> None:
    if kind == "lolly":
        d.fill(D, o.box(0, 1.05, 0.2, 0.6))
        body = d.fill(M, o.smooth(o.outline((-0.5, 0.75), (-0.5, -0.6), (0, -1.1), (0.5, -0.6), (0.5, 0.75)), steps=4))
        d.fill(S, o.box(0, -0.1 + 0.3 * scoops, 2, 1.0), within=body)
        d.fill(L, o.box(-0.2, -0.1, 0.1, 0.9), o.box(0.2, -0.1, 0.1, 0.9))
        return
    cone = d.fill(A, o.outline((-0.48, 0.1), (0.48, 0.1), (0, 1.4)))
    d.decorate(cone, "check", D, 0.16)
    spots = {1: ((0, -0.15),), 2: ((0, -0.05), (0, -0.7)), 3: ((-0.3, -0.1), (0.3, -0.1), (0, -0.65))}[scoops]
    for i, (x, y) in enumerate(spots):
        d.fill((M, S, L)[i], o.place(o.wavy(0.46, 9, 0.05), x, y))
        d.fill(
            D,
            *[
                o.box(x + a, y + b, 0.12, 0.04, c)
                for a, b, c in ((-0.15, -0.1, 30), (0.14, -0.16, -40), (0.05, 0.14, 70))
            ],
        )


def teapot(d: Drawing, decor: Decor) -> None:
    d.fill(M, o.ribbon(o.arc(-0.75, 0.1, 0.4, 200, 360), 0.13))
    d.fill(M, o.smooth(o.outline((0.55, 0.4), (0.9, 0.1), (1.1, -0.55), (1.32, -0.55), (1.15, 0.2), (0.6, 0.7))))
    body = d.disc(M, 0, 0.2, 0.78, 0.64)
    d.decorate(body, decor)
    d.fill(S, o.ellipse(0, -0.4, 0.44, 0.12), o.box(0, 0.84, 0.8, 0.1))
    d.disc(A, 0, -0.58, 0.14)


def cup(d: Drawing, steam: int, decor: Decor) -> None:
    d.fill(S, o.ellipse(0, 0.82, 1.0, 0.15))
    d.fill(M, o.ribbon(o.arc(0.66, 0.15, 0.3, 0, 180), 0.12))
    body = d.both(M, (0, -0.3), (0.66, -0.3), (0.62, 0.3), (0.35, 0.78), (0, 0.8))
    d.decorate(body, decor)
    d.disc(L, 0, -0.28, 0.68, 0.14)
    d.disc(D, 0, -0.27, 0.56, 0.09)
    for i in range(steam):
        x = (i - (steam - 1) / 2) * 0.36
        d.line(A, 0.06, (x, -0.5), (x + 0.1, -0.7), (x - 0.08, -0.9), (x + 0.05, -1.12))


FAMILIES = (
    Family("apple", apple, {"cut": ("whole", "halved")}, (27, 130, 20)),
    Family("pear", pear, {"cut": ("whole", "halved")}, (115, 95, 60)),
    Family("cherries", cherries, {"pieces": (2, 3), "leaf": ("one", "two")}, (20, 5)),
    Family("strawberry", strawberry, {"seeds": ("seeds", "hearts", "check"), "flower": ("bloom", "plain")}, (22, 10)),
    Family("citrus", citrus, {"segments": (8, 6, 10), "cut": ("round", "wedge", "leafy")}, (65, 100, 125, 35)),
    Family("pineapple", pineapple, {"skin": ("check", "scales", "zigzag")}, (85, 70)),
    Family("grapes", grapes, {"rows": (5, 4), "leaf": ("leaf", "tendril")}, (305, 130, 350)),
    Family("melon", melon, {"cut": ("triangle", "half")}, (20, 60, 10)),
    Family("bananas", banana, {"pieces": (2, 1, 3)}, (95, 85)),
    Family("avocado", avocado, {"pit": ("stone", "heart"), "skin": ("ringed", "plain")}, (135, 125)),
    Family("carrot", carrot, {"fronds": (5, 3), "rings": ("rings", "zigzag")}, (50, 40, 320)),
    Family("aubergine", aubergine, {"shape": ("long", "round"), "shine": ("glossy", "striped")}, (310, 300)),
    Family("pomegranate", pomegranate, {"cut": ("open", "whole")}, (15, 25)),
    Family("cupcake", cupcake, {"icing": (3, 2, 4), "top": ("cherry", "star", "candle")}),
    Family("ice-cream", ice_cream, {"kind": ("cone", "lolly"), "scoops": (1, 2, 3)}),
    Family("teapot", teapot, {"decor": ("blossoms", "plain", "stripes", "spots")}),
    Family("cup", cup, {"decor": ("spots", "plain", "zigzag", "blossoms"), "steam": (3, 0)}),
)
