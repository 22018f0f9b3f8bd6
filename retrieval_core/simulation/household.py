"""Things people wear, play and keep at home."""

from __future__ import annotations

import numpy as np

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.drawing import Decor, Drawing, Role
from retrieval_core.simulation.families import Family

M, S, A, L, D, G = Role.MAIN, Role.SECOND, Role.ACCENT, Role.LIGHT, Role.DARK, Role.LEAF
PATTERNS: tuple[Decor, ...] = ("plain", "spots", "stripes", "blossoms", "check", "zigzag")


def heart(d: Drawing, kind: str, decor: Decor) -> None:
    body = d.fill(M, o.heart(1.0))
    if kind == "framed":
        d.fill(L, o.heart(0.84))
        body = d.fill(S, o.heart(0.74))
        d.decorate(body, decor, M)
    elif kind == "laced":
        d.fill(S, *[o.dot(p, 0.11) for p in o.heart(1.03)[::3]])
        body = d.fill(M, o.heart(0.98))
        d.decorate(body, decor, L)
    else:
        d.decorate(body, decor)
        d.line(A, 0.12, (-1.2, 0.6), (1.2, -0.6))
        d.fill(A, o.place(o.regular(3, 0.24), 1.2, -0.6, 63), o.place(o.petal(0.4, 0.36, "square"), -1.0, 0.5, -117))


def umbrella(d: Drawing, decor: Decor) -> None:
    d.line(D, 0.08, (0, -1.0), (0, 0.75))
    d.fill(D, o.ribbon(o.arc(0.17, 0.75, 0.17, 90, 270), 0.08))
    panels = 5
    rim = [o.outline((1.0, 0.0))]
    for i in range(panels):
        x0, x1 = 1 - 2 * i / panels, 1 - 2 * (i + 1) / panels
        rim.append(o.smooth(o.outline((x0, 0.0), ((x0 + x1) / 2, -0.13), (x1, 0.0)), closed=False, steps=4))
    body = d.fill(M, np.concatenate([o.arc(0, 0, 1.0, -90, 90), *rim]))
    if decor == "plain":
        for i in range(0, panels, 2):
            x0, x1 = -1 + 2 * i / panels, -1 + 2 * (i + 1) / panels
            d.fill(S, o.outline((0, -1.0), (x0 * 1.05, 0.05), (x1 * 1.05, 0.05)), within=body)
    else:
        d.decorate(body, decor)
    d.disc(A, 0, -1.03, 0.08)


def key(d: Drawing, bow: str) -> None:
    if bow == "round":
        d.fill(M, o.ribbon(o.arc(0, -0.65, 0.4, 0, 360, 36), 0.17))
    elif bow == "heart":
        d.fill(M, o.place(o.heart(0.55), 0, -0.7))
        d.fill(Role.CLEAR, o.place(o.heart(0.32), 0, -0.7))
    else:
        d.fill(M, *[o.ellipse(x, y - 0.65, 0.3) for x, y in ((0, -0.28), (-0.3, 0.1), (0.3, 0.1))])
        d.fill(Role.CLEAR, *[o.ellipse(x, y - 0.65, 0.14) for x, y in ((0, -0.28), (-0.3, 0.1), (0.3, 0.1))])
    d.fill(M, o.box(0, 0.4, 0.15, 1.4))
    d.fill(M, *[o.box(0.2, 1.0 - 0.24 * i, 0.32, 0.13) for i in range(2)])
    d.fill(A, o.box(0, -0.2, 0.32, 0.1), o.box(0, -0.02, 0.26, 0.08))


def crown(d: Drawing, points: int, tips: str) -> None:
    rim = [(-0.85, 0.6)]
    for i in range(points):
        x = -0.95 + 1.9 * i / (points - 1)
        rim.append((x, -0.55 - 0.15 * (i == points // 2)))
        if i < points - 1:
            rim.append((x + 0.95 / (points - 1), 0.0))
    d.fill(M, o.outline(*rim, (0.85, 0.6)))
    for i in range(points):
        x, y = -0.95 + 1.9 * i / (points - 1), -0.62 - 0.15 * (i == points // 2)
        d.fill(A, o.ellipse(x, y, 0.12) if tips == "balls" else o.place(o.star(5, 0.22, 0.1), x, y))
    d.fill(S, o.box(0, 0.5, 1.72, 0.3))
    d.fill(L, *[o.ellipse(x, 0.5, 0.08) for x in (-0.6, -0.2, 0.2, 0.6)])
    d.fill(D, o.place(o.regular(4, 0.17), 0, 0.12))


def gem(d: Drawing, cut: str, setting: str) -> None:
    top = {
        "brilliant": ((-1.0, -0.25), (-0.55, -0.75), (0.55, -0.75), (1.0, -0.25)),
        "pear": ((-0.7, 0.1), (-0.45, -0.6), (0.45, -0.6), (0.7, 0.1)),
        "trillion": ((-1.0, -0.5), (-0.3, -0.7), (0.3, -0.7), (1.0, -0.5)),
    }[cut]
    left, tl, tr, right = top
    d.fill(M, o.outline(left, tl, tr, right, (0, 0.95)))
    d.fill(L, o.outline(tl, (0, left[1]), left), o.outline(tr, right, (0, right[1])))
    d.fill(S, o.outline((left[0] * 0.45, left[1]), (right[0] * 0.45, right[1]), (0, 0.95)))
    d.fill(A, o.outline(tl, tr, (0, left[1])))
    if setting == "rayed":
        d.fill(
            D,
            *[
                o.place(o.ribbon(o.outline((0, -1.15), (0, -1.4)), 0.06), 0, 0.1, a)
                for a in (-80, -45, -15, 15, 45, 80)
            ],
        )


def lantern(d: Drawing, ribs: int, shape: str) -> None:
    d.line(D, 0.05, (0, -1.3), (0, -0.85))
    wide = {"round": 0.85, "tall": 0.52, "drum": 0.7}[shape]
    tall = {"round": 0.68, "tall": 0.85, "drum": 0.55}[shape]
    body = d.fill(
        M,
        o.ellipse(0, 0, wide, tall)
        if shape != "drum"
        else o.smooth(o.outline((-0.7, -0.5), (0.7, -0.5), (0.75, 0.5), (-0.75, 0.5)), steps=3),
    )
    for i in range(ribs):
        rx = wide * (1 - 2 * i / ribs)
        if rx > 0.05:
            ring = o.ellipse(0, 0, rx, tall)
            d.fill(S, o.ribbon(np.concatenate([ring, ring[:1]]), 0.045), within=body)
    d.fill(D, o.box(0, -tall, 0.6, 0.14), o.box(0, tall, 0.6, 0.14))
    d.line(A, 0.05, (0, tall), (0, tall + 0.2))
    d.fill(A, o.outline((-0.08, tall + 0.15), (0.08, tall + 0.15), (0.16, tall + 0.6), (-0.16, tall + 0.6)))


def bow(d: Drawing, loops: int, decor: Decor) -> None:
    d.fill(
        S,
        *o.pair(o.smooth(o.outline((0, 0), (0.35, 0.45), (0.65, 1.0), (0.35, 0.85), (0.2, 1.0), (0.0, 0.35)), steps=3)),
    )
    for i in range(loops):
        for side in (False, True):
            shape = o.smooth(o.outline((0, 0), (0.45, -0.5), (1.0, -0.45), (1.05, 0.15), (0.5, 0.25)))
            body = d.fill(M, o.place(shape, 0, 0, -22.0 * i * (-1 if side else 1), 1 - 0.25 * i, side))
            if i == 0:
                d.decorate(body, decor, L, 0.24)
    d.disc(A, 0, 0, 0.2, 0.24)


def bell(d: Drawing, trim: str, count: int) -> None:
    for i in range(count):
        x, t, s = (
            ((0.0, 0.0, 1.0), (0.75, -18.0, 0.8))[i] if count == 1 else ((-0.55, 14.0, 0.85), (0.55, -14.0, 0.85))[i]
        )
        d.fill(D, o.place(o.ellipse(0, 0.85, 0.19), x, 0, t, s))
        body = d.fill(
            M,
            o.place(
                o.smooth(
                    o.mirrored(o.outline((0, -0.95), (0.3, -0.8), (0.42, 0.1), (0.85, 0.7), (0.5, 0.75), (0, 0.75)))
                ),
                x,
                0,
                t,
                s,
            ),
        )
        if trim == "banded":
            d.fill(S, o.place(o.box(0, 0.35, 2.0, 0.2), x, 0, t, s), within=body)
        else:
            d.decorate(body, "blossoms", S)
    d.fill(A, *o.pair(o.place(o.petal(0.55, 0.36, "round"), 0, -0.95, 70)))
    d.disc(A, 0, -0.95, 0.13)


def guitar(d: Drawing, body: str, decor: Decor) -> None:
    d.fill(D, o.box(0, -0.75, 0.15, 1.3))
    d.fill(S, o.box(0, -1.4, 0.28, 0.36))
    if body == "figure":
        shape = d.both(M, (0, -0.25), (0.36, -0.2), (0.4, 0.1), (0.34, 0.3), (0.6, 0.75), (0.4, 1.15), (0, 1.2))
    else:
        shape = d.fill(M, o.place(o.drop(0.75), 0, 0.45))
    d.decorate(shape, decor)
    d.disc(D, 0, 0.3, 0.18)
    d.fill(A, o.box(0, 0.85, 0.42, 0.1))
    d.fill(L, *[o.box(x, -0.3, 0.015, 2.3) for x in (-0.04, 0.04)])


def vase(d: Drawing, flowers: int, decor: Decor) -> None:
    for i in range(flowers):
        a = (i - (flowers - 1) / 2) * 34
        tip = o.place(o.outline((0, -1.05 if flowers > 1 else -0.95)), 0, 0.0, a)[0]
        d.line(G, 0.05, (0, 0.1), (tip[0] * 0.6, tip[1] * 0.5), (float(tip[0]), float(tip[1])))
        d.fill((A, L, A, L, A)[i], *[o.at(p, tip) for p in o.ring(o.petal(0.3, 0.24, "round"), 6)])
        d.disc(D, float(tip[0]), float(tip[1]), 0.09)
    body = d.both(M, (0, 0.0), (0.22, 0.0), (0.2, 0.2), (0.55, 0.6), (0.4, 1.1), (0, 1.15))
    d.decorate(body, decor)


def button(d: Drawing, holes: int, rim: str) -> None:
    d.fill(
        M,
        o.ellipse(0, 0, 1.0)
        if rim == "round"
        else o.wavy(0.94, 10, 0.07)
        if rim == "scalloped"
        else o.regular(8, 1.0, 22.5),
    )
    d.disc(S, 0, 0, 0.72)
    d.disc(M, 0, 0, 0.64)
    spots = o.regular(holes, 0.26, 45 if holes == 4 else 90)
    d.fill(L, *[o.ribbon(np.array([spots[i - 1], spots[i]]), 0.08) for i in range(0, holes, 2)])
    d.fill(D, *[o.dot(p, 0.12) for p in spots])
    d.fill(A, *[o.dot(p, 0.05) for p in o.regular(16, 0.85)])


def mitten(d: Drawing, cuff: str, decor: Decor) -> None:
    d.fill(M, o.place(o.ellipse(0, -0.35, 0.24, 0.45), 0.42, 0.3, 40))
    body = d.blob(M, (-0.5, 0.6), (-0.58, -0.2), (-0.4, -0.9), (0.05, -1.1), (0.42, -0.8), (0.46, 0.0), (0.42, 0.6))
    d.decorate(body, decor)
    if cuff == "ribbed":
        d.fill(A, o.box(-0.03, 0.75, 1.1, 0.4))
        d.fill(D, *[o.box(x, 0.75, 0.04, 0.38) for x in (-0.4, -0.2, 0.0, 0.2, 0.38)])
    else:
        d.fill(L, *[o.ellipse(x, 0.72, 0.2) for x in (-0.45, -0.18, 0.1, 0.38)])


def hat(d: Drawing, kind: str, band: str) -> None:
    if kind == "top":
        d.fill(M, o.outline((-0.6, -0.95), (0.6, -0.95), (0.5, 0.45), (-0.5, 0.45)))
        d.disc(M, 0, 0.48, 1.05, 0.18)
    elif kind == "sun":
        d.disc(M, 0, 0.35, 1.2, 0.32)
        d.both(M, (0, -0.6), (0.45, -0.5), (0.58, 0.2), (0, 0.35))
    else:
        d.both(M, (0, -0.55), (0.6, -0.35), (0.72, 0.25), (0, 0.3))
        d.fill(M, o.smooth(o.outline((0.4, 0.1), (1.1, 0.2), (1.2, 0.42), (0.3, 0.38))))
    d.fill(A, o.box(0, 0.2, 1.14 if kind != "top" else 1.04, 0.2))
    if band == "flower":
        d.fill(S, *[o.place(p, 0.35, 0.12) for p in o.ring(o.petal(0.3, 0.26, "round"), 6)])
        d.disc(L, 0.35, 0.12, 0.1)
    elif band == "feather":
        d.fill(S, o.place(o.petal(1.0, 0.26, "lens"), 0.3, 0.2, 40))


def spectacles(d: Drawing, lens: str, tint: str) -> None:
    for side in (-1, 1):
        shape = {
            "round": o.ellipse(0.52 * side, 0, 0.44),
            "square": o.box(0.52 * side, 0, 0.86, 0.66),
            "heart": o.place(o.heart(0.46), 0.52 * side, 0),
        }[lens]
        d.fill(M, shape)
        centre = np.array([0.52 * side, 0.0])
        inner = d.fill(S if tint == "dark" else L, (shape - centre) * 0.72 + centre)
        d.fill(A, o.box(0.4 * side, 0, 0.1, 1.2, 25), within=inner)
    d.fill(M, o.ribbon(o.arc(0, 0.05, 0.18, -70, 70), 0.1))
    d.fill(M, *o.pair(o.outline((0.9, -0.2), (1.3, -0.35), (1.3, -0.2), (0.92, -0.05))))


def bottle(d: Drawing, kind: str, label: str) -> None:
    if kind == "perfume":
        d.fill(D, o.box(0, -0.62, 0.2, 0.3))
        d.disc(A, 0, -0.85, 0.22)
        d.fill(M, o.smooth(o.outline((-0.55, -0.4), (0.55, -0.4), (0.75, 0.75), (-0.75, 0.75)), steps=4))
    elif kind == "jar":
        d.fill(A, o.box(0, -0.75, 1.0, 0.25))
        d.fill(M, o.smooth(o.outline((-0.5, -0.6), (0.5, -0.6), (0.65, 0.9), (-0.65, 0.9)), steps=4))
    else:
        d.fill(A, o.box(0, -1.2, 0.26, 0.2))
        d.both(M, (0, -1.1), (0.16, -1.1), (0.17, -0.5), (0.42, -0.1), (0.42, 1.0), (0, 1.02))
    if label == "label":
        d.fill(L, o.box(0, 0.35, 0.66, 0.55))
        d.fill(S, o.place(o.heart(0.18), 0, 0.36))
    else:
        d.fill(L, *[o.ellipse(x, y, 0.08) for x, y in ((-0.15, 0.2), (0.18, 0.45), (-0.05, 0.65), (0.1, 0.0))])


FAMILIES = (
    Family("heart", heart, {"kind": ("framed", "laced", "pierced"), "decor": PATTERNS[:5]}, (20, 0, 350, 300)),
    Family("umbrella", umbrella, {"decor": PATTERNS[:5]}),
    Family("key", key, {"bow": ("round", "heart", "trefoil")}),
    Family("crown", crown, {"points": (5, 3, 7), "tips": ("balls", "stars")}, (85, 75, 300)),
    Family("gem", gem, {"cut": ("brilliant", "pear", "trillion"), "setting": ("rayed", "plain")}),
    Family("lantern", lantern, {"shape": ("round", "tall", "drum"), "ribs": (7, 5)}, (25, 50, 350)),
    Family("bow", bow, {"loops": (1, 2), "decor": PATTERNS[:5]}),
    Family("bell", bell, {"trim": ("banded", "blossoms"), "count": (1, 2)}, (85, 25)),
    Family("guitar", guitar, {"body": ("figure", "drop"), "decor": ("plain", "blossoms", "stripes")}),
    Family("vase", vase, {"flowers": (3, 1, 5), "decor": ("zigzag", "blossoms", "stripes", "spots")}),
    Family("button", button, {"holes": (4, 2), "rim": ("round", "scalloped", "octagon")}),
    Family("mitten", mitten, {"cuff": ("ribbed", "fur"), "decor": ("zigzag", "check", "spots", "blossoms")}),
    Family("hat", hat, {"kind": ("top", "sun", "cap"), "band": ("flower", "feather", "plain")}),
    Family("spectacles", spectacles, {"lens": ("round", "square", "heart"), "tint": ("dark", "clear")}),
    Family("bottle", bottle, {"kind": ("perfume", "jar", "flask"), "label": ("label", "bubbles")}),
)
