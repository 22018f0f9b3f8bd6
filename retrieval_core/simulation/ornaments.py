"""Ornaments: paisleys, medallions, stars and other geometric motifs."""

from __future__ import annotations

import numpy as np

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.drawing import Drawing, Role
from retrieval_core.simulation.families import Family
from retrieval_core.simulation.outlines import Tip

TURNS = (Role.MAIN, Role.SECOND, Role.LIGHT, Role.ACCENT)


def paisley(d: Drawing, filling: str, rim: str, bend: float) -> None:
    shape = o.drop(1.0, bend)
    middle = np.array([0.0, 0.3])
    if rim == "scalloped":
        d.fill(Role.SECOND, *[o.dot(p, 0.13) for p in shape[::4]])
    elif rim == "rayed":
        d.fill(Role.SECOND, *[o.ribbon(np.array([p, middle + (p - middle) * 1.22]), 0.05) for p in shape[::2]])
    d.fill(Role.MAIN, shape)
    d.fill(Role.LIGHT, (shape - middle) * 0.78 + middle)
    inner = d.fill(Role.SECOND, (shape - middle) * 0.68 + middle)
    if filling == "flower":
        d.fill(Role.ACCENT, *[o.place(p, 0, 0.35) for p in o.ring(o.petal(0.36, 0.24, "round"), 7)])
        d.disc(Role.DARK, 0, 0.35, 0.12)
    elif filling == "eye":
        for r, role in ((0.42, Role.ACCENT), (0.28, Role.DARK), (0.14, Role.LIGHT)):
            d.disc(role, 0, 0.35, r)
    elif filling == "sprig":
        d.line(Role.LIGHT, 0.05, (0, 0.85), (0, 0.2), (0.15 * bend, -0.3))
        d.fill(
            Role.ACCENT, *[o.place(o.petal(0.34, 0.16, "lens"), 0, y, s * 50) for y in (0.8, 0.5, 0.2) for s in (-1, 1)]
        )
    else:
        d.decorate(inner, "scales", Role.LIGHT, 0.3)


def star(d: Drawing, points: int, kind: str) -> None:
    if kind == "nested":
        for i, role in enumerate((Role.MAIN, Role.LIGHT, Role.SECOND, Role.ACCENT)):
            d.fill(role, o.star(points, 1 - 0.24 * i, (1 - 0.24 * i) * 0.5))
    elif kind == "faceted":
        for i in range(points):
            tip, left, right = o.regular(points)[i], o.star(points)[2 * i - 1], o.star(points)[2 * i + 1]
            d.fill(Role.MAIN, np.array([[0, 0], left, tip]))
            d.fill(Role.SECOND, np.array([[0, 0], tip, right]))
    else:
        d.fill(Role.MAIN, o.star(points, 1.0, 0.62))
        d.fill(Role.ACCENT, *o.ring(o.ellipse(0, 0, 0.07), points, 0.8))
        d.disc(Role.LIGHT, 0, 0, 0.45)
        d.fill(Role.SECOND, o.star(points, 0.42, 0.2))


def medallion(d: Drawing, folds: int, rim: str, heart: str) -> None:
    if rim == "petals":
        d.fill(Role.MAIN, *o.ring(o.petal(0.45, 3.4 / folds, "round"), folds, 0.55))
    elif rim == "beads":
        d.fill(Role.MAIN, *[o.dot(p, 1.6 / folds) for p in o.regular(folds, 0.88)])
    else:
        d.fill(Role.MAIN, o.star(2 * folds, 1.0, 0.82))
    d.disc(Role.SECOND, 0, 0, 0.74)
    d.disc(Role.LIGHT, 0, 0, 0.66)
    d.fill(Role.MAIN, *o.ring(o.petal(0.42, 2.2 / folds, "lens"), folds, 0.22))
    d.fill(Role.ACCENT, *[o.dot(p, 0.055) for p in o.regular(folds, 0.55, 180 / folds)])
    d.fill(Role.SECOND, o.star(folds, 0.55, 0.32) if heart == "star" else o.ellipse(0, 0, 0.24))
    d.disc(Role.DARK, 0, 0, 0.09)


def tile(d: Drawing, frame: str, inside: str) -> None:
    """A tile as on azulejos: a framed square, diamond, hexagon or octagon."""
    corners, turn = {"square": (4, 45), "diamond": (4, 0), "hexagon": (6, 30), "octagon": (8, 22.5)}[frame]
    for i, role in enumerate((Role.MAIN, Role.LIGHT, Role.SECOND)):
        d.fill(role, o.regular(corners, 1 - 0.12 * i, turn))
    if inside == "cross":
        d.fill(Role.LIGHT, *o.ring(o.petal(0.6, 0.42, "notch"), 4))
        d.fill(Role.MAIN, *o.ring(o.petal(0.45, 0.14, "lens"), 4, 0, 45))
    elif inside == "blossom":
        d.fill(Role.LIGHT, *o.ring(o.petal(0.6, 0.34, "round"), 8))
        d.fill(Role.ACCENT, *o.ring(o.petal(0.4, 0.16, "point"), 8, 0, 22.5))
    else:
        d.fill(Role.ACCENT, o.star(8, 0.62, 0.34))
        d.fill(Role.LIGHT, o.star(8, 0.36, 0.2, 22.5))
    d.disc(Role.DARK, 0, 0, 0.12)


def snowflake(d: Drawing, arms: int, barbs: int, heart: str) -> None:
    for arm in range(arms):
        parts = [o.ribbon(o.outline((0, 0), (0, -1)), 0.09)]
        for i in range(barbs):
            y = -0.35 - 0.6 * i / barbs
            parts += o.pair(o.ribbon(o.outline((0, y), (0.3 - 0.06 * i, y - 0.24)), 0.075))
        d.fill(Role.MAIN, *[o.place(p, turn=360.0 * arm / arms) for p in parts])
    if heart == "hexagon":
        d.fill(Role.SECOND, o.regular(arms, 0.3))
        d.fill(Role.LIGHT, o.regular(arms, 0.16))
    else:
        d.fill(Role.ACCENT, *[o.dot(p, 0.09) for p in o.regular(arms, 1.0)])
        d.fill(Role.SECOND, o.star(arms, 0.34, 0.14, 180 / arms))


def sun(d: Drawing, rays: int, kind: str, face: str) -> None:
    if kind == "wavy":
        for i in range(rays):
            path = o.smooth(o.outline((0, -0.5), (0.09, -0.68), (-0.07, -0.84), (0.03, -1.05)), closed=False)
            d.fill(Role.MAIN, o.place(o.ribbon(path, 2.2 / rays, 0.2), turn=360.0 * i / rays))
    elif kind == "mixed":
        d.fill(Role.SECOND, *o.ring(o.petal(0.5, 1.6 / rays, "lens"), rays, 0.5, 180 / rays))
        d.fill(Role.MAIN, o.star(rays, 1.0, 0.5))
    else:
        d.fill(Role.MAIN, *o.ring(o.petal(0.4, 2.0 / rays, "square"), rays, 0.62))
    d.disc(Role.ACCENT, 0, 0, 0.54)
    if face == "face":
        d.fill(Role.DARK, o.ellipse(-0.2, -0.1, 0.06, 0.09), o.ellipse(0.2, -0.1, 0.06, 0.09))
        d.fill(Role.DARK, o.ribbon(o.arc(0, 0, 0.28, 110, 250), 0.06))
        d.fill(Role.MAIN, o.ellipse(-0.32, 0.1, 0.09), o.ellipse(0.32, 0.1, 0.09))
    else:
        d.disc(Role.LIGHT, 0, 0, 0.36)
        d.fill(Role.SECOND, o.ribbon(o.arc(0, 0, 0.2, 0, 300), 0.1, 0.5))


def compass(d: Drawing, points: int, ring: str) -> None:
    if ring == "ring":
        d.fill(Role.SECOND, o.ribbon(o.arc(0, 0, 0.7, 0, 360, 48), 0.1))
    for i in range(points * 2):
        size = 1.0 if i % 2 == 0 else 0.66
        d.fill(Role.MAIN, o.place(o.outline((0, 0), (0, -size), (-0.13, -0.2)), turn=180.0 * i / points))
        d.fill(
            Role.LIGHT if ring == "ring" else Role.ACCENT,
            o.place(o.outline((0, 0), (0, -size), (0.13, -0.2)), turn=180.0 * i / points),
        )
    d.disc(Role.DARK, 0, 0, 0.1)


def fleur_de_lis(d: Drawing, band: str, foot: str) -> None:
    d.fill(Role.MAIN, o.place(o.petal(1.15, 0.5, "point"), 0, 0.1))
    for side in (1, -1):
        shape = o.smooth(
            o.outline(
                (0.12, 0.2),
                (0.25, -0.2),
                (0.65, -0.5),
                (0.95, -0.2),
                (0.8, 0.12),
                (0.68, -0.08),
                (0.5, -0.12),
                (0.35, 0.2),
            )
        )
        d.fill(Role.MAIN, o.place(shape, flip=side < 0))
    if foot == "flared":
        d.fill(Role.MAIN, *[o.place(o.petal(0.7, 0.26, "round"), 0, 0.15, a) for a in (180, 150, 210)])
    else:
        d.fill(Role.MAIN, o.outline((-0.1, 0.2), (0.1, 0.2), (0.3, 0.8), (-0.3, 0.8)))
    d.fill(Role.ACCENT, o.box(0, 0.2, 0.75, 0.16))
    if band == "jewelled":
        d.fill(Role.LIGHT, *[o.ellipse(x, 0.2, 0.055) for x in (-0.22, 0, 0.22)])
        d.fill(Role.SECOND, o.place(o.petal(0.7, 0.18, "lens"), 0, 0.0))


def ogee(d: Drawing, heart: str, layers: int) -> None:
    half = o.outline(
        (0, -1.25), (0.12, -0.95), (0.5, -0.6), (0.78, -0.2), (0.78, 0.2), (0.5, 0.6), (0.12, 0.95), (0, 1.25)
    )
    for i in range(layers):
        d.fill(TURNS[i % 3], o.smooth(o.mirrored(half)) * (1 - 0.17 * i))
    if heart == "palmette":
        d.fill(Role.ACCENT, *[o.place(o.petal(0.62, 0.15, "round"), 0, 0.3, a) for a in (-70, -35, 0, 35, 70)])
        d.disc(Role.DARK, 0, 0.3, 0.1)
    else:
        d.fill(Role.ACCENT, *o.ring(o.petal(0.35, 0.2, "point"), 6))
        d.disc(Role.DARK, 0, 0, 0.09)


def fan(d: Drawing, ribs: int, edge: str) -> None:
    for i in range(ribs):
        a0, a1 = -70 + 140 * i / ribs, -70 + 140 * (i + 1) / ribs
        d.fill((Role.MAIN, Role.SECOND)[i % 2], np.concatenate([o.outline((0, 0.6)), o.arc(0, 0.6, 1.5, a0, a1, 6)]))
    if edge == "banded":
        d.fill(Role.LIGHT, o.ribbon(o.arc(0, 0.6, 1.25, -70, 70), 0.09))
        d.fill(Role.ACCENT, o.ribbon(o.arc(0, 0.6, 0.75, -70, 70), 0.07))
    else:
        d.fill(Role.ACCENT, *[o.dot(p, 0.1) for p in o.arc(0, 0.6, 1.5, -64, 64, ribs)])
    d.fill(Role.DARK, o.ribbon(o.arc(0, 0.6, 0.3, -70, 70), 0.08))
    d.disc(Role.DARK, 0, 0.6, 0.12)


def ikat(d: Drawing, layers: int, fringe: str) -> None:
    for i in range(layers):
        size = 1 - i / layers
        steps = 7
        half = []
        for j in range(steps):
            y = -1.3 + 2.6 * j / steps
            w = (1 - abs((j + 0.5) / steps * 2 - 1)) * 0.95 + 0.08
            half += [(w * size, y * size), (w * size, (y + 2.6 / steps) * size)]
        d.fill(TURNS[i % 4], o.mirrored(o.outline(*half)))
    if fringe == "combs":
        d.fill(Role.DARK, *[o.box(s * 0.85, y, 0.4, 0.07) for s in (-1, 1) for y in (-0.45, -0.3, 0.3, 0.45)])
    else:
        d.fill(
            Role.DARK,
            *o.pair(o.place(o.regular(4, 0.25), 0.95, 0.75)),
            *o.pair(o.place(o.regular(4, 0.25), 0.95, -0.75)),
        )


def spiral(d: Drawing, rounds: int, tail: str) -> None:
    t = np.linspace(0, 1, 90)
    angle = 2 * np.pi * rounds * t
    path = np.stack([np.sin(angle), -np.cos(angle)], axis=1) * (0.08 + 0.9 * t)[:, None]
    d.fill(Role.MAIN, o.ribbon(path, 0.2 / rounds, 2.4))
    if tail == "beads":
        d.fill(Role.ACCENT, *[o.dot(p, 0.1) for p in o.regular(9, 1.18)])
    elif tail == "leaves":
        d.fill(Role.LEAF, *o.ring(o.place(o.petal(0.42, 0.2, "point"), 0, 0, 50), 8, 1.02))
    d.disc(Role.SECOND, 0, 0, 0.16)


def target(d: Drawing, rings: int, shape: str) -> None:
    for i in range(rings):
        size = 1 - i / rings
        outline = {
            "round": o.ellipse(0, 0, size),
            "scalloped": o.wavy(size * 0.9, 12, 0.07),
            "offset": o.ellipse(0, 0.55 * (1 - size), size),
        }[shape]
        d.fill(TURNS[i % 4], outline)


def quatrefoil(d: Drawing, lobes: int, inside: str) -> None:
    for i, role in enumerate((Role.MAIN, Role.LIGHT, Role.SECOND)):
        r = 0.46 - 0.09 * i
        d.fill(role, *[o.dot(p, r) for p in o.regular(lobes, 0.54)], o.regular(lobes, 0.6))
    if inside == "cross":
        d.fill(Role.ACCENT, *o.ring(o.petal(0.8, 0.24, "point"), lobes))
    else:
        d.fill(Role.ACCENT, *[o.dot(p, 0.16) for p in o.regular(lobes, 0.54)], o.ellipse(0, 0, 0.2))


def pinwheel(d: Drawing, blades: int, kind: str) -> None:
    for i in range(blades):
        turn = 360.0 * i / blades
        if kind == "folded":
            d.fill(Role.MAIN, o.place(o.outline((0, 0), (0, -1), (0.62, -0.62)), turn=turn))
            d.fill(Role.SECOND, o.place(o.outline((0, 0), (0, -1), (0.24, -0.5)), turn=turn))
        else:
            blade = o.smooth(o.outline((0, 0), (-0.1, -0.6), (0.2, -1.0), (0.62, -0.8), (0.3, -0.55)))
            d.fill((Role.MAIN, Role.SECOND)[i % 2], o.place(blade, turn=turn))
    d.disc(Role.ACCENT, 0, 0, 0.14)


def argyle(d: Drawing, layers: int, cross: str) -> None:
    for i in range(layers):
        d.fill(TURNS[i % 4], o.regular(4, 1 - i / layers) * np.array([0.78, 1.1]))
    if cross == "crossed":
        d.fill(
            Role.DARK,
            o.ribbon(o.outline((-0.6, -0.8), (0.6, 0.8)), 0.04),
            o.ribbon(o.outline((0.6, -0.8), (-0.6, 0.8)), 0.04),
        )
    else:
        d.fill(Role.DARK, *[o.ellipse(x, y, 0.07) for x, y in ((0, 0), (0, -0.3), (0, 0.3), (0.2, 0), (-0.2, 0))])


def knot(d: Drawing, loops: int, band: str) -> None:
    t = np.linspace(0, 2 * np.pi, 160)
    r = 0.62 + 0.36 * np.cos(loops * t)
    inner = np.stack([r * np.sin(t), -r * np.cos(t)], axis=1)
    r2 = 0.62 - 0.36 * np.cos(loops * t)
    other = np.stack([r2 * np.sin(t), -r2 * np.cos(t)], axis=1)
    for path, role in ((inner, Role.MAIN), (other, Role.SECOND)):
        d.fill(role, o.ribbon(path, 0.17))
        if band == "inlaid":
            d.fill(Role.LIGHT, o.ribbon(path, 0.05))
    d.fill(Role.ACCENT, o.regular(loops, 0.14))


def damask(d: Drawing, fronds: int, crown: str) -> None:
    for i in range(fronds):
        y, s = 0.9 - 1.5 * i / fronds, 1.0 - 0.16 * i
        curl = o.smooth(
            o.outline(
                (0, 0.15), (0.4, 0.1), (0.75, -0.2), (0.7, -0.55), (0.42, -0.5), (0.5, -0.28), (0.38, -0.12), (0, -0.12)
            )
        )
        d.fill(Role.MAIN if i % 2 == 0 else Role.SECOND, *o.pair(o.place(curl, 0, y, 0, s)))
    top: tuple[Tip, int] = ("point", 5) if crown == "pointed" else ("round", 7)
    d.fill(
        Role.ACCENT,
        *[o.place(o.petal(0.75, 0.26, top[0]), 0, -0.5, -60 + 120 * j / (top[1] - 1)) for j in range(top[1])],
    )
    d.disc(Role.LIGHT, 0, -0.45, 0.14)
    d.fill(Role.MAIN, o.place(o.drop(0.3), 0, 1.15, 180))


FAMILIES = (
    Family(
        "paisley",
        paisley,
        {"filling": ("flower", "eye", "sprig", "scales"), "rim": ("scalloped", "plain", "rayed"), "bend": (0.7, -0.4)},
    ),
    Family("star", star, {"points": (5, 8, 6, 12), "kind": ("nested", "faceted", "badge")}),
    Family(
        "medallion", medallion, {"folds": (10, 6, 16), "rim": ("petals", "beads", "rays"), "heart": ("star", "disc")}
    ),
    Family(
        "tile", tile, {"frame": ("square", "diamond", "hexagon", "octagon"), "inside": ("cross", "blossom", "star")}
    ),
    Family("snowflake", snowflake, {"arms": (6, 8), "barbs": (2, 3, 1), "heart": ("hexagon", "star")}, (250, 220, 200)),
    Family(
        "sun", sun, {"kind": ("mixed", "wavy", "blocks"), "rays": (12, 16, 8), "face": ("face", "swirl")}, (85, 60, 35)
    ),
    Family("compass", compass, {"points": (4, 8, 6), "ring": ("ring", "open")}),
    Family("fleur-de-lis", fleur_de_lis, {"band": ("jewelled", "plain"), "foot": ("flared", "straight")}),
    Family("ogee", ogee, {"heart": ("palmette", "rosette"), "layers": (3, 2, 4)}),
    Family("fan", fan, {"ribs": (7, 5, 10), "edge": ("banded", "beaded")}),
    Family("ikat", ikat, {"layers": (4, 3, 5), "fringe": ("combs", "diamonds")}),
    Family("spiral", spiral, {"rounds": (3, 2, 4), "tail": ("leaves", "beads", "plain")}),
    Family("target", target, {"rings": (5, 3, 7), "shape": ("round", "scalloped", "offset")}),
    Family("quatrefoil", quatrefoil, {"lobes": (4, 3, 6), "inside": ("cross", "dots")}),
    Family("pinwheel", pinwheel, {"blades": (6, 4, 8), "kind": ("folded", "curved")}),
    Family("argyle", argyle, {"layers": (3, 2, 4), "cross": ("crossed", "dotted")}),
    Family("knot", knot, {"loops": (4, 3, 5, 8), "band": ("inlaid", "plain")}),
    Family("damask", damask, {"fronds": (3, 2, 4), "crown": ("pointed", "rounded")}),
)
