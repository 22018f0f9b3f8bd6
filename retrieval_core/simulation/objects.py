"""Things of the outdoors: at sea, in the sky, on the road."""

from __future__ import annotations

import numpy as np

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.drawing import Decor, Drawing, Role
from retrieval_core.simulation.families import Family

M, S, A, L, D, G = Role.MAIN, Role.SECOND, Role.ACCENT, Role.LIGHT, Role.DARK, Role.LEAF
PATTERNS: tuple[Decor, ...] = ("plain", "spots", "stripes", "blossoms", "check", "zigzag")


def anchor(d: Drawing, rope: str) -> None:
    d.fill(M, o.box(0, 0.15, 0.17, 1.6), o.box(0, -0.45, 0.9, 0.15))
    d.fill(M, o.ribbon(o.arc(0, -0.8, 0.2, 0, 360, 30), 0.12))
    d.fill(M, o.ribbon(o.arc(0, 0.1, 0.8, 105, 255, 30), 0.17))
    d.fill(M, *o.pair(o.outline((0.58, 0.32), (0.98, 0.38), (0.86, -0.12))))
    if rope == "rope":
        d.line(A, 0.1, (0.0, -0.8), (0.55, -0.6), (-0.45, -0.05), (0.5, 0.35), (-0.1, 0.75), (-0.5, 1.15))
    elif rope == "star":
        d.fill(A, o.place(o.star(5, 0.32, 0.13), 0, 0.15))


def moon(d: Drawing, phase: float, company: str) -> None:
    d.fill(M, o.place(o.crescent(1.0, phase), turn=-20))
    if company == "stars":
        d.fill(
            A,
            o.place(o.star(5, 0.28, 0.12), 0.35, -0.2),
            o.place(o.star(5, 0.18, 0.08), 0.72, 0.3),
            o.place(o.star(4, 0.16, 0.06), 0.05, 0.35),
        )
    elif company == "face":
        d.fill(D, o.ellipse(-0.62, -0.05, 0.06, 0.08))
        d.fill(D, o.ribbon(o.arc(-0.5, 0.3, 0.18, 120, 230), 0.05))
        d.fill(S, o.ellipse(-0.78, 0.2, 0.1))
    else:
        d.fill(L, o.place(o.wavy(0.26, 5, 0.16), 0.05, 0.6), o.ellipse(0.32, 0.66, 0.2), o.ellipse(-0.2, 0.68, 0.18))


def sailboat(d: Drawing, sails: int, decor: Decor) -> None:
    d.fill(D, o.box(0, -0.25, 0.07, 1.9))
    right = d.fill(
        M,
        o.smooth(o.outline((0.08, -1.15), (0.5, -0.4), (0.8, 0.35), (0.08, 0.35)), steps=3)
        if sails == 3
        else o.outline((0.08, -1.15), (0.8, 0.35), (0.08, 0.35)),
    )
    d.decorate(right, decor)
    if sails > 1:
        d.fill(S, o.outline((-0.08, -0.9), (-0.7, 0.35), (-0.08, 0.35)))
    d.fill(A, o.outline((0, -1.2), (0.3, -1.08), (0, -0.96)))
    d.fill(D, o.outline((-1.0, 0.48), (1.0, 0.48), (0.7, 0.9), (-0.7, 0.9)))
    d.line(S, 0.07, (-1.1, 1.05), (-0.55, 0.95), (0.0, 1.05), (0.55, 0.95), (1.1, 1.05))


def balloon(d: Drawing, gores: int, swag: str) -> None:
    for i in range(gores):
        w = 0.85 * (1 - 2 * i / gores) if i < gores / 2 else 0
        if w > 0:
            d.fill(
                (M, S)[i % 2],
                o.smooth(
                    o.mirrored(
                        o.outline((0, -1.2), (w * 0.75, -1.0), (w, -0.45), (w * 0.75, 0.1), (w * 0.3, 0.42), (0, 0.45))
                    )
                ),
            )
    if swag == "swags":
        d.fill(A, *[o.ribbon(o.arc(x, -0.5, 0.22, 90, 270), 0.07) for x in (-0.6, -0.2, 0.2, 0.6)])
    else:
        d.fill(A, *[o.place(o.star(5, 0.16, 0.07), x, -0.45) for x in (-0.5, 0, 0.5)])
    d.line(D, 0.035, (-0.2, 0.42), (-0.15, 0.8))
    d.line(D, 0.035, (0.2, 0.42), (0.15, 0.8))
    d.fill(D, o.outline((-0.2, 0.78), (0.2, 0.78), (0.16, 1.1), (-0.16, 1.1)))


def house(d: Drawing, storeys: int, roof: str) -> None:
    top = 0.35 - 0.6 * storeys
    d.fill(D, o.box(0.45, top - 0.45, 0.2, 0.6))
    d.fill(M, o.box(0, (top + 1.0) / 2, 1.3, 1.0 - top))
    if roof == "gable":
        shape = d.fill(S, o.outline((0, top - 0.75), (0.85, top), (-0.85, top)))
    elif roof == "dome":
        shape = d.fill(S, o.place(o.arc(0, 0, 0.75, -90, 90), 0, top))
    else:
        shape = d.fill(S, o.outline((-0.45, top - 0.5), (0.45, top - 0.5), (0.85, top), (-0.85, top)))
    d.decorate(shape, "scales", D, 0.16)
    d.fill(A, o.box(0, 0.72, 0.32, 0.56))
    for s in range(storeys):
        y = 0.55 - 0.6 * s if s else 0.6
        for x in (-0.42, 0.42):
            d.fill(L, o.box(x, y, 0.28, 0.32))
            d.fill(D, o.box(x, y, 0.04, 0.32), o.box(x, y, 0.28, 0.04))
    if storeys > 1:
        d.disc(L, 0, -0.05, 0.15)


def car(d: Drawing, kind: str, decor: Decor) -> None:
    if kind == "beetle":
        body = d.blob(
            M, (-1.15, 0.4), (-0.95, 0.0), (-0.55, -0.35), (0, -0.6), (0.5, -0.35), (0.95, 0.0), (1.15, 0.4), (0, 0.5)
        )
    elif kind == "van":
        body = d.fill(M, o.smooth(o.outline((-1.1, 0.5), (-1.1, -0.6), (0.8, -0.6), (1.1, 0.0), (1.1, 0.5)), steps=3))
    else:
        body = d.fill(
            M,
            o.outline(
                (-1.2, 0.45),
                (-1.2, 0.05),
                (-0.75, -0.05),
                (-0.45, -0.5),
                (0.35, -0.5),
                (0.65, -0.05),
                (1.2, 0.1),
                (1.2, 0.45),
            ),
        )
    d.decorate(body, decor)
    y = -0.3 if kind != "van" else -0.25
    d.fill(
        L,
        o.outline((-0.4, y + 0.24), (-0.3, y - 0.08), (-0.04, y - 0.08), (-0.04, y + 0.24)),
        o.outline((0.04, y + 0.24), (0.04, y - 0.08), (0.28, y - 0.08), (0.46, y + 0.24)),
    )
    d.fill(S, o.box(0, 0.44, 2.3, 0.1))
    for x in (-0.65, 0.65):
        d.disc(D, x, 0.5, 0.28)
        d.disc(L, x, 0.5, 0.13)
    d.disc(A, 1.08, 0.2, 0.1)


def kite(d: Drawing, panes: str, tail: int) -> None:
    d.line(D, 0.035, (0, 0.45), (0.2, 0.8), (-0.15, 1.1), (0.15, 1.5))
    for i in range(tail):
        x, y = ((0.18, 0.75), (-0.08, 1.05), (0.1, 1.4))[i]
        d.fill(A, *[o.place(o.petal(0.24, 0.2, "square"), x, y, t) for t in (70, -110)])
    corners = o.outline((0, -1.1), (0.7, -0.4), (0, 0.5), (-0.7, -0.4))
    body = d.fill(M, corners)
    if panes == "quarters":
        d.fill(S, o.outline((0, -1.1), (0.7, -0.4), (0, -0.4)), o.outline((0, 0.5), (-0.7, -0.4), (0, -0.4)))
    elif panes == "star":
        d.fill(L, o.place(o.star(5, 0.4, 0.17), 0, -0.38))
    else:
        d.decorate(body, "stripes", S)
    d.line(D, 0.04, (0, -1.1), (0, 0.5))
    d.line(D, 0.04, (-0.7, -0.4), (0.7, -0.4))


def rocket(d: Drawing, fins: str, windows: int) -> None:
    d.fill(A, o.place(o.drop(0.36), 0, 1.05, 180))
    d.fill(L, o.place(o.drop(0.18), 0, 0.95, 180))
    if fins == "swept":
        d.fill(S, *o.pair(o.outline((0.3, 0.1), (0.78, 0.75), (0.75, 1.05), (0.25, 0.7))))
    else:
        d.fill(S, *o.pair(o.smooth(o.outline((0.3, 0.2), (0.75, 0.4), (0.7, 0.85), (0.25, 0.7)))))
    body = d.both(M, (0, -1.3), (0.28, -0.85), (0.42, -0.2), (0.3, 0.75), (0, 0.8))
    d.fill(S, o.box(0, -1.15, 2, 0.7), within=body)
    for i in range(windows):
        d.disc(D, 0, -0.42 + 0.42 * i, 0.17)
        d.disc(L, 0, -0.42 + 0.42 * i, 0.11)


def planet(d: Drawing, ring: str, bands: str) -> None:
    body = d.disc(M, 0, 0, 0.68)
    if bands == "bands":
        d.fill(S, *[o.box(0, y, 2, h, -18) for y, h in ((-0.36, 0.14), (0.0, 0.2), (0.38, 0.12))], within=body)
    elif bands == "craters":
        d.fill(
            S,
            *[
                o.ellipse(x, y, r)
                for x, y, r in ((-0.25, -0.25, 0.17), (0.28, 0.05, 0.13), (-0.1, 0.35, 0.12), (0.2, -0.42, 0.08))
            ],
        )
    else:
        d.fill(G, o.place(o.wavy(0.36, 4, 0.25), -0.25, -0.2), o.place(o.wavy(0.28, 3, 0.3), 0.3, 0.32), within=body)
    if ring == "ring":
        path = o.place(
            np.stack([1.15 * np.cos(np.linspace(-0.7, 3.84, 60)), 0.32 * np.sin(np.linspace(-0.7, 3.84, 60))], axis=1),
            turn=-18,
        )
        d.fill(A, o.ribbon(path, 0.12))
    elif ring == "moons":
        d.disc(A, 0.9, -0.55, 0.17)
        d.disc(L, -0.85, 0.6, 0.12)


def cloud(d: Drawing, falls: str) -> None:
    for i in range(4):
        x = -0.75 + 0.5 * i
        d.disc(M, x, -0.25 - 0.3 * float(np.sin(np.pi * (i + 0.5) / 4)), 0.42)
    d.fill(
        M,
        o.smooth(o.outline((-1.1, -0.1), (-0.9, -0.35), (0.9, -0.35), (1.1, -0.1), (0.9, 0.12), (-0.9, 0.12)), steps=4),
    )
    d.fill(L, o.ribbon(o.arc(-0.1, -0.35, 0.3, -90, 60), 0.07))
    if falls == "rain":
        d.fill(
            S, *[o.place(o.drop(0.15), x, y) for x, y in ((-0.6, 0.5), (0, 0.6), (0.6, 0.5), (-0.3, 0.95), (0.3, 0.95))]
        )
    elif falls == "bolt":
        d.fill(A, o.outline((0.15, 0.15), (-0.35, 0.75), (-0.02, 0.72), (-0.2, 1.25), (0.4, 0.58), (0.05, 0.6)))
    elif falls == "hearts":
        d.fill(A, *[o.place(o.heart(0.17), x, y) for x, y in ((-0.55, 0.5), (0.05, 0.75), (0.6, 0.48))])
    else:
        d.fill(S, *[o.place(o.star(6, 0.18, 0.07), x, y) for x, y in ((-0.55, 0.5), (0.05, 0.75), (0.6, 0.48))])


def rainbow(d: Drawing, bands: int, ends: str) -> None:
    for i in range(bands):
        r = 1.1 - 0.75 * i / bands
        d.fill((M, L, S, A, G, D)[i % 6], o.arc(0, 0.5, r, -90, 90))
    d.fill(Role.CLEAR, o.arc(0, 0.52, 0.35, -91, 91))
    shapes = [o.place(o.wavy(0.3, 5, 0.15), x, 0.5) for x in (-0.75, 0.75)]
    if ends == "clouds":
        d.fill(L, *shapes)
    elif ends == "hearts":
        d.fill(A, *[o.place(o.heart(0.3), x, 0.5) for x in (-0.75, 0.75)])


def lighthouse(d: Drawing, bands: int, beams: str) -> None:
    if beams == "beams":
        d.fill(L, *o.pair(o.outline((0.15, -0.85), (1.0, -1.15), (1.0, -0.6))))
    tower = d.fill(M, o.outline((-0.26, -0.6), (0.26, -0.6), (0.45, 1.0), (-0.45, 1.0)))
    for i in range(bands):
        d.fill(L, o.box(0, -0.4 + 1.5 * i / bands, 2, 0.7 / bands), within=tower)
    d.fill(A, o.box(0, -0.82, 0.36, 0.4))
    d.fill(D, o.box(0, -0.6, 0.7, 0.1), o.outline((0, -1.35), (0.32, -1.0), (-0.32, -1.0)))
    d.disc(S, 0, 1.05, 0.8, 0.2)


def ship_wheel(d: Drawing, spokes: int) -> None:
    for ray in o.ring(o.outline((0, 0), (0, -1.05)), spokes):
        d.fill(M, o.ribbon(ray, 0.11), o.dot(ray[-1], 0.11))
    d.fill(M, o.ribbon(o.arc(0, 0, 0.68, 0, 360, 48), 0.2))
    d.fill(S, o.ribbon(o.arc(0, 0, 0.68, 0, 360, 48), 0.07))
    d.fill(A, o.star(spokes, 0.34, 0.18))


def arrow(d: Drawing, flights: int, head: str) -> None:
    d.line(D, 0.09, (0, 1.0), (0, -0.8))
    d.fill(
        A,
        {
            "point": o.outline((0, -1.25), (0.3, -0.7), (0, -0.82), (-0.3, -0.7)),
            "heart": o.place(o.heart(0.32), 0, -0.9, 180),
            "diamond": o.place(o.regular(4, 0.3), 0, -0.92),
        }[head],
    )
    for i in range(flights):
        y = 0.95 - 0.22 * i
        d.fill((M, S)[i % 2], *o.pair(o.outline((0.02, y), (0.4, y + 0.22), (0.4, y - 0.02), (0.02, y - 0.24))))


def tent(d: Drawing, kind: str, decor: Decor) -> None:
    if kind == "teepee":
        d.line(D, 0.06, (-0.15, -1.15), (0.05, -0.8))
        d.line(D, 0.06, (0.15, -1.15), (-0.05, -0.8))
        body = d.fill(M, o.outline((0, -0.95), (0.85, 0.95), (-0.85, 0.95)))
    else:
        d.fill(A, o.outline((0, -1.3), (0.35, -1.18), (0, -1.05)))
        d.fill(M, o.box(0, 0.55, 1.5, 0.8))
        body = d.fill(S, o.outline((0, -1.0), (0.95, 0.15), (-0.95, 0.15)))
    d.decorate(body, decor, L)
    d.fill(D, o.outline((0, 0.2), (0.28, 0.95), (-0.28, 0.95)))


NAVY = (260.0, 240.0, 25.0)

FAMILIES = (
    Family("anchor", anchor, {"rope": ("rope", "bare", "star")}, NAVY),
    Family("moon", moon, {"company": ("stars", "face", "cloud"), "phase": (0.45, 0.2, 0.65)}, (90, 250, 300)),
    Family("sailboat", sailboat, {"sails": (2, 1, 3), "decor": ("plain", "stripes", "spots")}, NAVY),
    Family("hot-air-balloon", balloon, {"gores": (7, 5, 11), "swag": ("swags", "stars")}),
    Family("house", house, {"roof": ("gable", "dome", "hip"), "storeys": (1, 2)}),
    Family("car", car, {"kind": ("beetle", "van", "saloon"), "decor": ("plain", "blossoms", "spots", "check")}),
    Family("kite", kite, {"panes": ("quarters", "star", "stripes"), "tail": (3, 2)}),
    Family("rocket", rocket, {"fins": ("swept", "round"), "windows": (1, 3)}),
    Family("planet", planet, {"ring": ("ring", "moons", "bare"), "bands": ("bands", "craters", "lands")}),
    Family("cloud", cloud, {"falls": ("rain", "bolt", "hearts", "snow")}, (240, 220, 270)),
    Family("rainbow", rainbow, {"bands": (4, 6, 3), "ends": ("clouds", "hearts", "plain")}),
    Family("lighthouse", lighthouse, {"bands": (3, 2, 5), "beams": ("beams", "dark")}, NAVY),
    Family("ship-wheel", ship_wheel, {"spokes": (8, 6)}),
    Family("arrow", arrow, {"flights": (3, 2, 5), "head": ("point", "heart", "diamond")}),
    Family("tent", tent, {"kind": ("teepee", "circus"), "decor": ("zigzag", "stripes", "check")}),
)
