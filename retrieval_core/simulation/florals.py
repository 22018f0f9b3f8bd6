"""Flowers, from stylised daisies to layered roses; all drawn from petals around a centre or on a stem."""

from __future__ import annotations

import numpy as np

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.drawing import Drawing, Role
from retrieval_core.simulation.families import Family
from retrieval_core.simulation.outlines import Tip


def _centre(d: Drawing, radius: float, kind: str = "seeds") -> None:
    d.disc(Role.ACCENT, 0, 0, radius)
    if kind == "seeds":
        d.fill(Role.DARK, *[o.dot(p, radius * 0.1) for p in o.regular(8, radius * 0.62)])
        d.fill(Role.DARK, o.ellipse(0, 0, radius * 0.22))
    else:
        d.disc(Role.DARK, 0, 0, radius * 0.55)
        d.disc(Role.LIGHT, 0, 0, radius * 0.2)


def daisy(d: Drawing, petals: int, centre: str, tip: Tip) -> None:
    width = min(0.62, 4.2 / petals)
    d.fill(Role.MAIN, *o.ring(o.petal(0.82, width, tip), petals, 0.18))
    d.fill(Role.SECOND, *o.ring(o.petal(0.34, width * 0.3, "lens"), petals, 0.24))
    _centre(d, 0.27 if centre == "seeds" else 0.46, centre)


def double_daisy(d: Drawing, petals: int) -> None:
    d.fill(Role.SECOND, *o.ring(o.petal(0.85, 4.4 / petals, "point"), petals, 0.15))
    d.fill(Role.MAIN, *o.ring(o.petal(0.58, 3.2 / petals, "round"), petals, 0.15, 180 / petals))
    _centre(d, 0.22)


def sunflower(d: Drawing, petals: int, face: str) -> None:
    d.fill(Role.SECOND, *o.ring(o.petal(0.6, 0.32, "point"), petals, 0.4, 180 / petals))
    d.fill(Role.MAIN, *o.ring(o.petal(0.56, 0.28, "lens"), petals, 0.4))
    heart = d.disc(Role.DARK, 0, 0, 0.48)
    if face == "checked":
        d.decorate(heart, "check", Role.ACCENT, 0.24)
    else:
        d.fill(Role.ACCENT, *[o.dot(p, 0.045) for r in (0.38, 0.24, 0.1) for p in o.regular(int(r * 40), r)])


def rose(d: Drawing, whorls: int, leaves: int) -> None:
    d.fill(Role.LEAF, *o.ring(o.petal(0.62, 0.42, "point"), leaves, 0.5, 40))
    for i in range(whorls):
        radius = 0.82 * (1 - i / whorls)
        d.fill((Role.MAIN, Role.SECOND)[i % 2], o.wavy(radius, 5, 0.09, 36.0 * i + 10))
        if radius > 0.2:
            d.fill(Role.LIGHT, o.ribbon(o.arc(0.02, 0.02, radius * 0.82, 40.0 * i - 60, 40.0 * i + 60), 0.035))
    d.fill(Role.ACCENT, o.ribbon(o.arc(0, 0, 0.09, 0, 270), 0.06))


def peony(d: Drawing, lobes: int, layers: int) -> None:
    for i in range(layers):
        scale = 1 - i / (layers + 0.6)
        role = (Role.MAIN, Role.SECOND, Role.LIGHT)[i % 3]
        d.fill(role, *o.ring(o.petal(0.62 * scale, 0.78 * scale, "notch"), lobes, 0.38 * scale, 25.0 * i))
        d.fill(role, o.ellipse(0, 0, 0.5 * scale))
    d.fill(Role.ACCENT, *[o.dot(p, 0.05) for p in o.regular(7, 0.12)])


def tulip(d: Drawing, leaves: int, cup: str) -> None:
    d.line(Role.LEAF, 0.09, (0, 0), (0.03, 0.5), (0, 1.2))
    for i in range(leaves):
        d.fill(Role.LEAF, o.place(o.petal(0.95, 0.3, "point"), 0, 1.2, (-32, 32, -58)[i]))
    if cup == "open":
        d.fill(Role.SECOND, *o.ring(o.petal(0.9, 0.5, "point"), 3, 0, 0)[:1])
        d.fill(Role.MAIN, *o.pair(o.place(o.petal(1.05, 0.62, "point"), 0, 0.1, 34)))
        return
    d.both(Role.MAIN, (0, -0.62), (0.3, -0.5), (0.52, -0.95), (0.56, -0.2), (0.3, 0.22), (0, 0.28))
    if cup == "striped":
        d.fill(Role.SECOND, *[o.place(o.petal(0.95, 0.16, "lens"), 0, 0.2, a) for a in (-24, 0, 24)])
    else:
        d.fill(Role.SECOND, o.place(o.petal(0.98, 0.5, "point"), 0, 0.24))


def poppy(d: Drawing, petals: int, stem: str) -> None:
    if stem == "stem":
        d.line(Role.LEAF, 0.07, (0, 0.2), (0.15, 0.9), (-0.05, 1.7))
        d.fill(Role.LEAF, o.place(o.petal(0.7, 0.26, "point"), 0.08, 1.3, 60))
        d.fill(Role.LEAF, o.place(o.petal(0.6, 0.24, "point"), 0.04, 1.5, -55))
    for i, shape in enumerate(o.ring(o.petal(0.9, 1.1, "notch"), petals, 0)):
        d.fill((Role.MAIN, Role.SECOND)[i % 2], shape)
    d.fill(Role.DARK, o.star(12, 0.36, 0.16))
    d.disc(Role.LEAF, 0, 0, 0.16)


def lotus(d: Drawing, petals: int, water: str) -> None:
    spread = [(i - (petals - 1) / 2) * 150 / petals for i in range(petals)]
    for angle in sorted(spread, key=lambda a: -abs(a)):
        d.fill(Role.MAIN, o.place(o.petal(1.05, 0.44, "lens"), 0, 0.5, angle))
        d.fill(Role.SECOND, o.place(o.petal(0.6, 0.2, "lens"), 0, 0.46, angle))
    if water == "pad":
        d.fill(Role.LEAF, o.ellipse(0, 0.62, 0.85, 0.16))
    else:
        d.fill(Role.LEAF, *[o.ribbon(o.arc(0, 0.2, r, 130, 230), 0.06) for r in (0.55, 0.72)])


def carnation(d: Drawing, layers: int, stem: str) -> None:
    if stem == "stem":
        d.line(Role.LEAF, 0.08, (0, 0.3), (0, 1.5))
        d.fill(Role.LEAF, *o.pair(o.place(o.petal(0.8, 0.14, "lens"), 0, 1.35, 30)))
    d.both(Role.LEAF, (0, 0.2), (0.2, 0.3), (0.14, 0.75), (0, 0.8))
    for i in range(layers):
        size = 1 - 0.24 * i
        fan = [o.outline((0, 0.45))]
        for j in range(13):
            angle = -75 + 150 * j / 12
            fan.append(o.place(o.outline((0, -(1.0 if j % 2 else 0.84) * size)), 0, 0.45, angle))
        d.fill((Role.MAIN, Role.SECOND, Role.LIGHT)[i % 3], np.concatenate(fan))


def hibiscus(d: Drawing, petals: int, eye: str) -> None:
    d.fill(Role.MAIN, *o.ring(o.petal(0.95, 0.95, "notch"), petals, 0.02))
    d.fill(Role.SECOND, *o.ring(o.petal(0.8, 0.1, "lens"), petals, 0.0))
    d.fill(Role.DARK if eye == "dark" else Role.LIGHT, o.star(petals, 0.42, 0.2))
    d.line(Role.ACCENT, 0.08, (0, 0), (0.3, -0.4), (0.55, -0.85))
    d.fill(
        Role.ACCENT,
        *[o.ellipse(0.5 + x, -0.85 + y, 0.06) for x, y in ((0, 0), (0.12, 0.05), (0.02, 0.14), (-0.1, 0.06))],
    )


def lily(d: Drawing, petals: int, spots: str) -> None:
    long = o.petal(1.0, 0.46, "point")
    d.fill(Role.SECOND, *o.ring(long, petals, 0, 180 / petals))
    d.fill(Role.MAIN, *o.ring(long, petals, 0))
    if spots == "spotted":
        d.fill(Role.DARK, *[o.dot(p, 0.035) for r in (0.32, 0.46, 0.58) for p in o.regular(petals, r, r * 30)])
    else:
        d.fill(Role.LIGHT, *o.ring(o.petal(0.8, 0.09, "lens"), petals, 0))
    for path in o.ring(o.outline((0, 0), (0.03, -0.5)), petals * 2, 0, 20):
        d.fill(Role.ACCENT, o.ribbon(path, 0.03), o.dot(path[-1], 0.055))


def pansy(d: Drawing, face: str) -> None:
    d.fill(Role.SECOND, *o.pair(o.place(o.petal(1.0, 0.95, "round"), 0, 0, 28)))
    d.fill(Role.MAIN, *o.pair(o.place(o.petal(0.85, 0.85, "round"), 0, 0, 82)))
    d.fill(Role.MAIN, o.place(o.petal(0.95, 1.15, "notch"), 0, 0, 180))
    rays = {"whiskers": (0.06, 9), "blotch": (0.3, 4)}[face]
    d.fill(
        Role.DARK,
        *[o.place(o.petal(0.52, rays[0], "lens"), 0, 0.02, 80 + 200 * i / (rays[1] - 1)) for i in range(rays[1])],
    )
    d.disc(Role.ACCENT, 0, 0, 0.13)


def cherry_blossom(d: Drawing, blooms: int, twig: str) -> None:
    spots = ((0, 0), (0.95, -0.55), (-0.8, -0.75), (0.5, 0.95))[:blooms]
    if twig == "twig":
        d.line(Role.DARK, 0.13, (-1.3, 1.1), (-0.3, 0.35), (0.5, -0.1), (1.5, -1.1), taper=0.4)
        d.fill(
            Role.LEAF,
            o.place(o.petal(0.5, 0.22, "point"), 0.8, -0.2, 80),
            o.place(o.petal(0.5, 0.22, "point"), -0.8, 0.6, -30),
        )
    for i, (x, y) in enumerate(spots):
        size = 0.62 if i == 0 else 0.45
        d.fill(Role.MAIN, *[o.place(p, x, y, 15.0 * i, size) for p in o.ring(o.petal(0.95, 0.85, "notch"), 5, 0.05)])
        d.fill(Role.SECOND, *[o.place(p, x, y, 15.0 * i, size) for p in o.ring(o.petal(0.5, 0.1, "lens"), 5, 0.1)])
        d.fill(Role.ACCENT, *[o.ellipse(x, y, 0.16 * size)])


def dahlia(d: Drawing, petals: int, tip: Tip) -> None:
    for i in range(5):
        scale = 1 - 0.19 * i
        d.fill(
            (Role.MAIN, Role.SECOND)[i % 2],
            *o.ring(o.petal(0.62 * scale, 3.4 / petals * scale, tip), petals, 0.38 * scale, 180 / petals * (i % 2)),
        )
        d.fill((Role.MAIN, Role.SECOND)[i % 2], o.ellipse(0, 0, 0.45 * scale))
    d.disc(Role.ACCENT, 0, 0, 0.1)


def anemone(d: Drawing, petals: int) -> None:
    d.fill(Role.MAIN, *o.ring(o.petal(0.9, 5.4 / petals, "round"), petals, 0.08))
    d.disc(Role.LIGHT, 0, 0, 0.4)
    d.fill(Role.DARK, *[o.dot(p, 0.05) for p in o.regular(2 * petals, 0.33)])
    d.disc(Role.DARK, 0, 0, 0.19)


def bellflower(d: Drawing, bells: int, cut: str) -> None:
    d.line(Role.LEAF, 0.08, (-0.9, 1.3), (-0.7, 0), (-0.2, -0.9), (0.7, -1.2), taper=0.6)
    d.fill(
        Role.LEAF,
        o.place(o.petal(1.0, 0.3, "point"), -0.88, 1.2, 30),
        o.place(o.petal(0.8, 0.26, "point"), -0.88, 1.2, -40),
    )
    for x, y, s in ((0.75, -1.1, 0.62), (0.05, -0.75, 0.55), (-0.45, -0.1, 0.5))[:bells]:
        rim = (
            [(0.55, 1.0), (0.3, 0.82), (0.18, 1.05), (0, 0.85)]
            if cut == "pointed"
            else [(0.62, 1.02), (0.3, 0.95), (0, 0.98)]
        )
        half = o.outline((0, 0), (0.22, 0.05), (0.34, 0.45), *rim)
        d.fill(Role.ACCENT, o.ellipse(x, y + 1.05 * s, 0.11 * s, 0.16 * s))
        d.fill(Role.MAIN, o.place(o.mirrored(half), x, y, 0, s))
        d.fill(Role.SECOND, o.place(o.petal(0.7, 0.16, "lens"), x, y + 0.85 * s, 0, s))


def thistle(d: Drawing, spikes: int, leaves: str) -> None:
    d.line(Role.LEAF, 0.1, (0, 0.4), (0, 1.5))
    if leaves == "jagged":
        d.fill(
            Role.LEAF,
            *o.pair(
                o.place(
                    o.outline(
                        (0, 0),
                        (0.2, -0.3),
                        (0.15, -0.55),
                        (0.4, -0.6),
                        (0.35, -0.9),
                        (0.7, -1.0),
                        (0.6, -0.55),
                        (0.8, -0.4),
                        (0.5, -0.25),
                        (0.5, 0),
                    ),
                    0,
                    1.4,
                )
            ),
        )
    else:
        d.fill(Role.LEAF, *o.pair(o.place(o.petal(0.9, 0.25, "point"), 0, 1.4, 50)))
    d.fill(
        Role.MAIN, *[o.place(o.petal(1.0, 0.14, "point"), 0, 0.25, -48 + 96 * i / (spikes - 1)) for i in range(spikes)]
    )
    d.fill(Role.SECOND, *[o.place(o.petal(0.8, 0.08, "lens"), 0, 0.2, -36 + 72 * i / 6) for i in range(7)])
    bulb = d.disc(Role.LEAF, 0, 0.3, 0.42, 0.4)
    d.decorate(bulb, "scales", Role.DARK, 0.3)


def dandelion(d: Drawing, rays: int, heads: str) -> None:
    d.line(Role.LEAF, 0.07, (0, 0), (0.05, 0.9), (-0.1, 1.8))
    for ray in o.ring(o.outline((0, 0), (0, -0.9)), rays):
        tip = ray[-1]
        d.fill(Role.MAIN, o.ribbon(ray, 0.035))
        if heads == "dots":
            d.fill(Role.SECOND, o.dot(tip, 0.1))
        else:
            d.fill(Role.SECOND, o.at(o.star(6, 0.17, 0.04), tip))
    d.disc(Role.DARK, 0, 0, 0.15)


def folk_flower(d: Drawing, petals: int, fill: str) -> None:
    d.fill(Role.LEAF, *o.ring(o.petal(0.5, 0.36, "point"), petals, 0.52, 180 / petals))
    for shape in o.ring(o.heart(0.36), petals, 0.6):
        d.fill(Role.MAIN, shape)
    if fill == "dots":
        d.fill(Role.LIGHT, *[o.dot(p, 0.09) for p in o.regular(petals, 0.66)])
    else:
        d.fill(Role.SECOND, *o.ring(o.petal(0.4, 0.2, "round"), petals, 0.36))
    d.disc(Role.ACCENT, 0, 0, 0.28)
    d.fill(Role.DARK, *[o.dot(p, 0.035) for p in o.regular(10, 0.2)])


def cosmea(d: Drawing, petals: int, stem: str) -> None:
    if stem == "stem":
        d.line(Role.LEAF, 0.05, (0, 0), (-0.15, 0.9), (0.1, 1.8))
        for y, side in ((0.8, 1), (1.2, -1), (1.5, 1)):
            d.line(Role.LEAF, 0.05, (-0.05, y), (0.3 * side, y - 0.2), (0.55 * side, y - 0.55))
    d.fill(Role.MAIN, *o.ring(o.petal(0.85, 4.6 / petals, "square"), petals, 0.1))
    d.fill(Role.SECOND, *o.ring(o.petal(0.4, 0.12, "lens"), petals, 0.1))
    _centre(d, 0.2)


RED, ORANGE, YELLOW, GREEN, BLUE, VIOLET, PINK = 27, 55, 92, 145, 255, 300, 355

FAMILIES = (
    Family("daisy", daisy, {"petals": (7, 5, 10, 14), "centre": ("seeds", "eye"), "tip": ("round", "lens")}),
    Family("double-daisy", double_daisy, {"petals": (8, 12, 16)}),
    Family("sunflower", sunflower, {"petals": (12, 18), "face": ("ringed", "checked")}, (YELLOW, 75)),
    Family("rose", rose, {"whorls": (5, 3, 7), "leaves": (3, 5, 2)}, (RED, PINK, 80, VIOLET)),
    Family("peony", peony, {"lobes": (6, 8, 5), "layers": (3, 4)}, (PINK, RED, VIOLET)),
    Family("tulip", tulip, {"cup": ("plain", "striped", "open"), "leaves": (2, 3)}, (RED, YELLOW, VIOLET, PINK)),
    Family("poppy", poppy, {"petals": (4, 6), "stem": ("stem", "head")}, (RED, ORANGE, 10)),
    Family("lotus", lotus, {"petals": (7, 5, 9), "water": ("pad", "ripples")}, (PINK, VIOLET, BLUE)),
    Family("carnation", carnation, {"layers": (3, 2), "stem": ("stem", "head")}, (RED, PINK, YELLOW)),
    Family("hibiscus", hibiscus, {"petals": (5, 6), "eye": ("dark", "light")}, (RED, ORANGE, PINK)),
    Family("lily", lily, {"petals": (3, 4, 5), "spots": ("spotted", "veined")}),
    Family("pansy", pansy, {"face": ("whiskers", "blotch")}, (VIOLET, YELLOW, BLUE)),
    Family("cherry-blossom", cherry_blossom, {"blooms": (3, 1, 4), "twig": ("twig", "loose")}, (PINK, 10)),
    Family("dahlia", dahlia, {"petals": (12, 8, 18), "tip": ("point", "round")}),
    Family("anemone", anemone, {"petals": (8, 6, 5)}),
    Family("bellflower", bellflower, {"bells": (3, 1, 2), "cut": ("pointed", "rounded")}, (BLUE, VIOLET)),
    Family("thistle", thistle, {"spikes": (11, 7), "leaves": ("jagged", "smooth")}, (VIOLET, PINK, BLUE)),
    Family("dandelion", dandelion, {"rays": (16, 11, 24), "heads": ("dots", "stars")}),
    Family("folk-flower", folk_flower, {"petals": (6, 4, 8), "fill": ("dots", "drops")}),
    Family("cosmea", cosmea, {"petals": (8, 6), "stem": ("stem", "head")}),
)
