"""What lives in the sea."""

from __future__ import annotations

import numpy as np

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.drawing import Decor, Drawing, Role
from retrieval_core.simulation.families import Family

M, S, A, L, D = Role.MAIN, Role.SECOND, Role.ACCENT, Role.LIGHT, Role.DARK


def fish(d: Drawing, build: str, decor: Decor) -> None:
    tall = {"slim": 0.36, "round": 0.62, "angel": 0.8}[build]
    d.blob(S, (-0.6, 0), (-1.25, -0.5), (-1.1, 0), (-1.25, 0.5))
    fin = 0.35 if build != "angel" else 0.9
    d.fill(
        S,
        o.outline((-0.3, -tall * 0.7), (0.1, -tall - fin * 0.6), (0.4, -tall * 0.7)),
        o.outline((-0.3, tall * 0.7), (0.0, tall + fin * 0.5), (0.3, tall * 0.7)),
    )
    body = d.blob(
        M,
        (-0.8, 0),
        (-0.2, -tall * 0.9),
        (0.4, -tall * 0.9),
        (1.0, -0.04),
        (1.0, 0.06),
        (0.4, tall * 0.9),
        (-0.2, tall * 0.9),
    )
    d.decorate(body, decor)
    d.blob(M, (0.45, -tall * 0.75), (1.0, -0.05), (1.0, 0.05), (0.45, tall * 0.75), (0.6, 0))
    d.fill(A, o.place(o.petal(0.42, 0.26, "round"), 0.3, 0.08, -100))
    d.eye(0.68, -0.12, 0.07)


def whale(d: Drawing, spout: str, decor: Decor) -> None:
    body = d.blob(
        M,
        (-1.2, -0.35),
        (-0.9, -0.1),
        (-0.5, -0.2),
        (0.2, -0.55),
        (0.9, -0.35),
        (1.15, 0.15),
        (0.8, 0.6),
        (0, 0.65),
        (-0.7, 0.4),
        (-1.1, 0.0),
    )
    d.decorate(body, decor)
    d.blob(L, (1.1, 0.25), (0.8, 0.62), (0, 0.67), (-0.5, 0.5), (0.2, 0.42))
    d.fill(
        M, o.place(o.petal(0.55, 0.3, "round"), -1.1, -0.15, -55), o.place(o.petal(0.55, 0.3, "round"), -1.1, -0.15, 25)
    )
    d.fill(S, o.place(o.petal(0.5, 0.25, "point"), 0.1, 0.35, 200))
    d.disc(D, 0.8, 0.1, 0.06)
    if spout == "fountain":
        d.line(A, 0.07, (0.35, -0.6), (0.3, -0.95), (0.0, -1.0))
        d.line(A, 0.07, (0.35, -0.6), (0.4, -0.95), (0.72, -1.0))
        d.fill(A, o.ellipse(-0.05, -0.9, 0.08, 0.12), o.ellipse(0.76, -0.9, 0.08, 0.12))
    elif spout == "heart":
        d.fill(A, o.place(o.heart(0.28), 0.35, -0.95))


def turtle(d: Drawing, shell: str, view: str) -> None:
    if view == "top":
        d.fill(
            S,
            *[
                o.place(o.petal(0.7, 0.36, "round"), x, y, t)
                for x, y, t in (
                    (0.45, -0.5, 50),
                    (-0.45, -0.5, -50),
                    (0.4, 0.55, 140),
                    (-0.4, 0.55, -140),
                    (0, 0.8, 180),
                )
            ],
        )
        d.disc(S, 0, -1.0, 0.27, 0.34)
        d.fill(D, *o.pair(o.ellipse(0.12, -1.12, 0.045)))
        body = d.disc(M, 0, 0, 0.75, 0.9)
    else:
        d.fill(S, *[o.ellipse(x, 0.62, 0.22, 0.28) for x in (-0.6, 0.5)])
        d.line(S, 0.3, (0.6, 0.4), (1.0, 0.2), (1.15, -0.1))
        d.disc(S, 1.15, -0.12, 0.27)
        d.disc(D, 1.22, -0.18, 0.05)
        d.fill(S, o.place(o.petal(0.4, 0.2, "point"), -0.85, 0.4, -110))
        body = d.blob(M, (-1.0, 0.5), (-0.8, -0.3), (0, -0.75), (0.75, -0.3), (0.95, 0.5), (0, 0.6))
    if shell == "plates":
        centre = 0.0 if view == "top" else -0.1
        d.fill(A, o.regular(6, 0.3) + np.array([0, centre]))
        d.fill(A, *[o.regular(6, 0.22) + np.array([x, y + centre]) for x, y in o.regular(6, 0.62, 30)], within=body)
    elif shell == "rings":
        d.fill(A, o.place(body, 0, 0, 0, 0.72))
        d.fill(M, o.place(body, 0, 0, 0, 0.5))
        d.fill(L, o.place(body, 0, 0, 0, 0.28))
    else:
        d.decorate(body, "blossoms", A)


def crab(d: Drawing, legs: int, decor: Decor) -> None:
    for s in (-1, 1):
        for i in range(legs):
            y = 0.1 + 0.5 * i / legs
            d.line(M, 0.1, (0.5 * s, y), (1.0 * s, y - 0.05), (1.15 * s, y + 0.38), taper=0.5)
        d.line(M, 0.15, (0.6 * s, -0.1), (0.95 * s, -0.35), (0.85 * s, -0.65))
        d.fill(M, o.place(o.crescent(0.36, 0.1), 0.85 * s, -0.85, 90 + 20 * s))
        d.line(M, 0.07, (0.2 * s, -0.3), (0.22 * s, -0.62))
        d.eye(0.22 * s, -0.66, 0.07)
    body = d.both(M, (0, -0.42), (0.5, -0.38), (0.78, 0.0), (0.5, 0.42), (0, 0.5))
    d.decorate(body, decor)
    d.fill(D, o.ribbon(o.arc(0, -0.08, 0.24, 120, 240), 0.05))


def octopus(d: Drawing, arms: int, decor: Decor) -> None:
    for i in range(arms):
        x = -0.8 + 1.6 * i / (arms - 1)
        d.line(
            M,
            0.26,
            (x * 0.5, 0.1),
            (x * 1.0, 0.5),
            (x * 0.95 + 0.12, 0.85),
            (x * 1.3 + 0.1 * (1 if x > 0 else -1), 1.15),
            taper=0.4,
        )
    body = d.both(M, (0, -1.1), (0.55, -0.9), (0.68, -0.35), (0.5, 0.3), (0, 0.4))
    d.decorate(body, decor)
    d.eye(-0.24, -0.1, 0.1)
    d.eye(0.24, -0.1, 0.1)
    d.fill(D, o.ribbon(o.arc(0, 0.08, 0.12, 100, 260), 0.05))


def jellyfish(d: Drawing, arms: int, bell: str) -> None:
    for i in range(arms):
        x = -0.6 + 1.2 * i / (arms - 1)
        d.line(S if i % 2 else A, 0.09, (x, 0), (x + 0.14, 0.4), (x - 0.12, 0.8), (x + 0.08, 1.2 + 0.2 * (i % 2)))
    body = d.both(M, (0, -0.95), (0.6, -0.75), (0.85, -0.15), (0.75, 0.05), (0.4, -0.02), (0, 0.05))
    if bell == "ribbed":
        d.fill(L, *[o.place(o.petal(0.85, 0.09, "lens"), 0, 0.0, a) for a in (-50, -25, 0, 25, 50)], within=body)
    elif bell == "spotted":
        d.decorate(body, "spots", L, 0.25)
    else:
        d.fill(L, o.ribbon(o.arc(0, -0.1, 0.55, -65, 65), 0.09))


def seahorse(d: Drawing, decor: Decor) -> None:
    path = o.smooth(
        o.outline(
            (0.1, -0.9), (-0.2, -0.5), (0.1, 0.0), (0.12, 0.5), (-0.1, 0.95), (-0.45, 0.9), (-0.4, 0.62), (-0.22, 0.7)
        ),
        closed=False,
    )
    wide = np.interp(np.linspace(0, 1, len(path)), [0, 0.15, 0.35, 0.6, 1], [0.32, 0.3, 0.55, 0.3, 0.07])
    along = np.gradient(path, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.hypot(along[:, 0], along[:, 1])[:, None]
    d.fill(S, *[o.at(o.regular(3, 0.16), path[i] + across[i] * wide[i] * 0.5, 60) for i in range(4, 30, 4)])
    d.fill(A, o.place(o.petal(0.5, 0.4, "round"), -0.05, -0.05, -80))
    body = d.fill(M, np.concatenate([path + across * wide[:, None] / 2, (path - across * wide[:, None] / 2)[::-1]]))
    d.decorate(body, decor, S, 0.16)
    d.line(M, 0.17, (0.15, -0.92), (0.5, -0.82), (0.75, -0.72), taper=0.7)
    d.disc(M, 0.15, -0.95, 0.27)
    d.fill(S, o.place(o.star(5, 0.24, 0.1), 0.05, -1.2))
    d.disc(D, 0.22, -0.97, 0.06)


def starfish(d: Drawing, arms: int, marks: str) -> None:
    body = d.fill(M, o.smooth(o.star(arms, 1.0, 0.42)))
    if marks == "dots":
        d.fill(L, *[o.dot(p, 0.1 - 0.09 * r) for r in (0.2, 0.4, 0.58, 0.74) for p in o.regular(arms, r)])
    elif marks == "lines":
        d.fill(S, *o.ring(o.petal(0.8, 0.13, "point"), arms))
    else:
        d.decorate(body, "spots", S, 0.16)
        d.fill(A, o.star(arms, 0.4, 0.18))


def shell(d: Drawing, ribs: int, kind: str) -> None:
    if kind == "scallop":
        rim = [
            o.place(o.outline((0, -1.25 if i % 2 else -1.12)), 0, 0.6, -72 + 144 * i / (2 * ribs))
            for i in range(2 * ribs + 1)
        ]
        body = d.fill(M, o.smooth(np.concatenate([o.outline((-0.12, 0.62), (0.12, 0.62)), *rim[::-1]]), steps=3))
        d.fill(
            S,
            *[
                o.place(o.ribbon(o.outline((0, 0), (0, -1.15)), 0.06), 0, 0.6, -66 + 132 * i / ribs)
                for i in range(ribs + 1)
            ],
            within=body,
        )
        d.fill(A, o.outline((-0.36, 0.5), (0.36, 0.5), (0.26, 0.76), (-0.26, 0.76)))
        return
    for i in range(ribs):
        t = i / ribs
        x, y, r = 0.75 - 1.5 * t, -0.75 + 1.5 * t, 0.52 * (1 - t) + 0.07
        d.disc((M, S)[i % 2], x * 0.8, y * 0.8, r, r * 1.25, -45)
    d.disc(L, 0.78, -0.62, 0.2, 0.42, -30)


SEA = (230.0, 200.0, 260.0, 30.0)

FAMILIES = (
    Family("fish", fish, {"build": ("round", "slim", "angel"), "decor": ("scales", "stripes", "spots", "plain")}),
    Family("whale", whale, {"spout": ("fountain", "heart", "calm"), "decor": ("plain", "spots", "stripes")}, SEA),
    Family("turtle", turtle, {"view": ("top", "side"), "shell": ("plates", "rings", "blossoms")}, (145, 170, 120)),
    Family("crab", crab, {"legs": (3, 2), "decor": ("plain", "spots", "check")}, (27, 45, 10)),
    Family("octopus", octopus, {"arms": (6, 8), "decor": ("plain", "spots", "blossoms")}),
    Family("jellyfish", jellyfish, {"bell": ("ribbed", "spotted", "banded"), "arms": (5, 7)}),
    Family("seahorse", seahorse, {"decor": ("stripes", "spots", "check")}),
    Family("starfish", starfish, {"arms": (5, 6), "marks": ("dots", "lines", "speckled")}, (35, 25, 60, 300)),
    Family("shell", shell, {"kind": ("scallop", "whelk"), "ribs": (7, 5, 10)}, (30, 60, 350, 200)),
)
