"""Birds, insects and snails."""

from __future__ import annotations

import numpy as np

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.animals import DECOR
from retrieval_core.simulation.drawing import Decor, Drawing, Role
from retrieval_core.simulation.families import Family

M, S, A, L, D = Role.MAIN, Role.SECOND, Role.ACCENT, Role.LIGHT, Role.DARK


def bird(d: Drawing, tail: str, decor: Decor) -> None:
    if tail == "fan":
        d.fill(S, *[o.place(o.petal(0.95, 0.26, "round"), -0.6, 0.1, a) for a in (-110, -88, -66, -44)])
    elif tail == "forked":
        d.fill(S, o.outline((-0.5, 0.0), (-1.6, 0.1), (-1.15, 0.25), (-1.5, 0.6), (-0.5, 0.35)))
    else:
        d.fill(S, o.outline((-0.5, 0.0), (-1.35, -0.5), (-1.45, -0.2), (-0.5, 0.35)))
    d.line(D, 0.05, (0.0, 0.5), (0.0, 0.95), (0.2, 1.0))
    d.line(D, 0.05, (-0.2, 0.5), (-0.22, 0.95), (-0.02, 1.0))
    body = d.blob(
        M,
        (-0.85, 0.1),
        (-0.2, -0.25),
        (0.25, -0.75),
        (0.75, -0.7),
        (0.85, -0.35),
        (0.55, 0.35),
        (0.0, 0.62),
        (-0.55, 0.45),
    )
    d.decorate(body, decor)
    wing = d.blob(A, (0.25, -0.15), (0.2, 0.25), (-0.35, 0.4), (-0.95, 0.1), (-0.3, -0.12))
    d.fill(
        D,
        *[o.ribbon(o.outline((-0.75 + 0.22 * i, 0.1 + 0.05 * i), (0.0 + 0.05 * i, 0.02)), 0.03) for i in range(3)],
        within=wing,
    )
    d.fill(A, o.outline((0.82, -0.6), (1.15, -0.45), (0.82, -0.36)))
    d.eye(0.55, -0.5, 0.07)


def owl(d: Drawing, ears: str, decor: Decor) -> None:
    if ears == "tufted":
        d.fill(M, *o.pair(o.outline((0.2, -0.85), (0.72, -1.25), (0.7, -0.5))))
    body = d.both(M, (0, -0.95), (0.5, -0.9), (0.75, -0.4), (0.72, 0.4), (0.4, 1.0), (0, 1.1))
    d.fill(S, *o.pair(o.smooth(o.outline((0.5, -0.2), (0.85, 0.0), (0.85, 0.6), (0.5, 0.9), (0.6, 0.3)))))
    belly = d.disc(L, 0, 0.4, 0.42, 0.55)
    d.decorate(belly, "scales" if decor == "plain" else decor, M, 0.25)
    assert len(body)
    d.fill(L, *o.pair(o.ellipse(0.32, -0.48, 0.32)))
    d.fill(A, *o.pair(o.ellipse(0.32, -0.48, 0.21)))
    d.fill(D, *o.pair(o.ellipse(0.32, -0.48, 0.12)))
    d.fill(A, o.outline((-0.1, -0.3), (0.1, -0.3), (0, -0.05)))
    d.fill(A, *o.pair(o.ellipse(0.22, 1.08, 0.15, 0.08)))


def waterbird(d: Drawing, kind: str, decor: Decor) -> None:
    """A swan, duck or flamingo."""
    if kind == "flamingo":
        d.line(A, 0.06, (0.0, 0.3), (0.05, 1.6))
        d.line(A, 0.06, (0.1, 0.4), (0.45, 0.85), (0.1, 1.1))
        d.line(M, 0.17, (0.35, 0.1), (0.85, -0.1), (0.35, -0.6), (0.4, -1.15), (0.75, -1.15), taper=0.8)
        body = d.blob(M, (-0.9, 0.15), (-0.3, -0.25), (0.4, -0.1), (0.5, 0.25), (0.0, 0.5), (-0.6, 0.4))
        d.disc(M, 0.72, -1.12, 0.19)
        d.blob(D, (0.85, -1.2), (1.1, -1.0), (1.0, -0.75), (0.82, -0.98))
        d.disc(D, 0.74, -1.16, 0.04)
    else:
        neck = 0.3 if kind == "swan" else 0.36
        top = -1.1 if kind == "swan" else -0.5
        d.line(M, neck, (0.5, 0.4), (0.85, 0.0), (0.5, top * 0.55), (0.55, top), taper=0.8)
        body = d.blob(M, (-1.15, -0.15), (-0.5, 0.0), (0.3, -0.1), (0.8, 0.2), (0.5, 0.65), (-0.4, 0.7), (-0.9, 0.4))
        d.disc(M if kind == "swan" else S, 0.62, top, 0.26 if kind == "swan" else 0.36)
        d.fill(A, o.outline((0.82, top - 0.1), (1.25, top + 0.1), (0.8, top + 0.16)))
        d.disc(D, 0.7, top - 0.06, 0.05)
        if kind == "duck":
            d.line(L, 0.1, (0.4, -0.12), (0.9, -0.12))
    d.decorate(body, decor)
    d.blob(L if kind == "swan" else S, (-0.85, 0.0), (-0.2, -0.12), (0.3, 0.1), (0.05, 0.35), (-0.5, 0.3))


def snail(d: Drawing, rounds: int, decor: str) -> None:
    d.blob(
        S, (-1.1, 0.75), (-0.4, 0.5), (0.5, 0.55), (0.75, -0.1), (1.05, -0.15), (1.05, 0.3), (0.7, 0.8), (-0.3, 0.85)
    )
    d.line(S, 0.07, (0.8, -0.1), (0.75, -0.55))
    d.line(S, 0.07, (0.98, -0.1), (1.15, -0.5))
    d.fill(D, o.ellipse(0.75, -0.58, 0.08), o.ellipse(1.16, -0.53, 0.08))
    shell = d.disc(M, -0.2, 0.0, 0.72)
    if decor == "dotted":
        d.decorate(shell, "spots", L, 0.24)
    elif decor == "rayed":
        d.fill(L, *[o.place(o.petal(0.7, 0.12, "point"), -0.2, 0, 30.0 * i) for i in range(12)])
    t = np.linspace(0, 1, 70)
    angle = 2 * np.pi * rounds * t
    path = np.stack([np.sin(angle), -np.cos(angle)], axis=1) * (0.08 + 0.6 * t)[:, None] + np.array([-0.2, 0.0])
    d.fill(A, o.ribbon(path, 0.1, 1.2))


def butterfly(d: Drawing, wings: str, marks: str) -> None:
    upper, lower = {
        "round": (
            ((0.05, -0.1), (0.35, -0.85), (0.95, -0.9), (1.05, -0.35), (0.5, 0.05)),
            ((0.05, 0.0), (0.6, 0.05), (0.85, 0.45), (0.5, 0.9), (0.15, 0.55)),
        ),
        "swallowtail": (
            ((0.05, -0.1), (0.5, -0.8), (1.25, -1.0), (1.0, -0.3), (0.5, 0.05)),
            ((0.05, 0.0), (0.65, 0.0), (0.75, 0.5), (0.72, 1.2), (0.5, 0.75), (0.12, 0.5)),
        ),
        "pointed": (
            ((0.05, -0.1), (0.6, -0.6), (1.3, -0.75), (0.95, -0.2), (0.5, 0.1)),
            ((0.05, 0.0), (0.7, 0.15), (0.65, 0.6), (0.3, 0.75), (0.1, 0.4)),
        ),
    }[wings]
    for side in (False, True):
        low = d.fill(S, o.place(o.smooth(o.outline(*lower)), flip=side))
        high = d.fill(M, o.place(o.smooth(o.outline(*upper)), flip=side))
        mid_high, mid_low = high.mean(axis=0), low.mean(axis=0)
        if marks == "eyes":
            for (x, y), r in ((mid_high, 0.2), (mid_low, 0.16)):
                d.disc(L, x, y, r)
                d.disc(D, x, y, r * 0.6)
        elif marks == "veins":
            d.fill(D, *[o.ribbon(np.array([[0.0, 0.0], p]), 0.04) for p in high[4:-4:5]], within=high)
            d.fill(D, *[o.ribbon(np.array([[0.0, 0.0], p]), 0.035) for p in low[4:-4:5]], within=low)
        elif marks == "bands":
            d.fill(A, (high - mid_high) * 0.6 + mid_high, (low - mid_low) * 0.6 + mid_low)
            d.fill(L, (high - mid_high) * 0.3 + mid_high)
        else:
            d.decorate(high, "spots", L, 0.28)
            d.decorate(low, "spots", A, 0.28)
    d.disc(D, 0, 0.05, 0.09, 0.5)
    d.line(D, 0.035, (0, -0.4), (0.15, -0.75), (0.3, -0.85))
    d.line(D, 0.035, (0, -0.4), (-0.15, -0.75), (-0.3, -0.85))


def dragonfly(d: Drawing, wings: str) -> None:
    for y, turn, size in ((-0.3, 78, 1.1), (-0.1, 108, 0.95)):
        shapes = o.pair(o.place(o.petal(size, 0.34, "round"), 0.05, y, turn))
        d.fill(M, *shapes)
        inner = o.pair(o.place(o.petal(size * 0.8, 0.12, "lens"), 0.05, y, turn))
        d.fill(L if wings == "clear" else A, *inner)
    tail = d.line(S, 0.2, (0, -0.4), (0, 0.4), (0.0, 1.2), taper=0.5)
    d.fill(D, *[o.box(0, y, 0.3, 0.07) for y in (0.1, 0.35, 0.6, 0.85)], within=tail)
    d.disc(S, 0, -0.3, 0.17, 0.28)
    d.disc(D, 0, -0.62, 0.2, 0.15)
    d.fill(A, *o.pair(o.ellipse(0.13, -0.66, 0.1)))


def beetle(d: Drawing, back: str, legs: int) -> None:
    for i in range(legs):
        y = -0.2 + 0.9 * i / legs
        for s in (-1, 1):
            d.line(D, 0.06, (0.5 * s, y), (0.88 * s, y - 0.12), (1.02 * s, y + 0.28))
    d.line(D, 0.05, (0.1, -0.85), (0.3, -1.15), (0.55, -1.2))
    d.line(D, 0.05, (-0.1, -0.85), (-0.3, -1.15), (-0.55, -1.2))
    d.disc(D, 0, -0.72, 0.32, 0.26)
    body = d.disc(M, 0, 0.15, 0.68, 0.85)
    if back == "ladybird":
        d.fill(
            D,
            *o.pair(o.ellipse(0.36, -0.2, 0.15)),
            *o.pair(o.ellipse(0.3, 0.5, 0.14)),
            *o.pair(o.ellipse(0.5, 0.18, 0.1)),
        )
    elif back == "striped":
        d.fill(S, *[o.box(0, y, 1.6, 0.16) for y in (-0.3, 0.05, 0.4, 0.75)], within=body)
    elif back == "scarab":
        d.fill(S, o.smooth(o.outline((-0.7, -0.4), (0, -0.65), (0.7, -0.4), (0, -0.25))), within=body)
        d.fill(A, *o.pair(o.place(o.petal(0.95, 0.2, "lens"), 0.32, 0.8, -8)))
    else:
        d.decorate(body, "blossoms", L, 0.3)
    d.fill(D, o.box(0, 0.2, 0.05, 1.6), within=body)


def bee(d: Drawing, wings: int, stripes: int) -> None:
    d.fill(
        L,
        *[
            o.place(o.petal(0.85, 0.5, "round"), -0.05 - 0.2 * i, -0.25, t)
            for i, t in enumerate((20, -25, -60)[:wings])
        ],
    )
    d.fill(
        S,
        *[o.place(o.petal(0.7, 0.12, "lens"), -0.05 - 0.2 * i, -0.25, t) for i, t in enumerate((20, -25, -60)[:wings])],
    )
    d.fill(D, o.outline((-1.0, 0.1), (-1.25, 0.25), (-0.95, 0.3)))
    body = d.disc(M, -0.2, 0.15, 0.88, 0.52)
    d.fill(
        D, *[o.box(-0.85 + 1.1 * (i + 0.5) / stripes, 0.15, 0.55 / stripes, 1.2) for i in range(stripes)], within=body
    )
    d.disc(M, 0.68, 0.1, 0.36)
    d.eye(0.8, 0.02, 0.07)
    d.line(D, 0.045, (0.7, -0.2), (0.8, -0.55), (1.02, -0.62))
    d.line(D, 0.045, (0.58, -0.22), (0.58, -0.58), (0.75, -0.72))


def feather(d: Drawing, shape: str, bars: str) -> None:
    width = 0.75 if shape == "broad" else 0.42
    body = d.fill(M, o.place(o.petal(2.0, width, "round"), 0, 0.75))
    if bars == "barred":
        for y in np.arange(-1.1, 0.7, 0.3):
            d.fill(S, *o.pair(o.ribbon(o.outline((0, y), (0.5, y - 0.28)), 0.12)), within=body)
    elif bars == "eyed":
        for r, role in ((0.85, S), (0.6, A), (0.3, D)):
            d.disc(role, 0, -0.72, width * 0.48 * r, width * 0.6 * r)
    else:
        d.fill(A, o.box(0, -1.05, 2.0, 0.7), within=body)
        d.fill(L, o.box(0, -0.62, 2.0, 0.12), within=body)
    for y in (-0.15, 0.4):
        d.fill(Role.CLEAR, o.outline((0.5, y - 0.02), (0.06, y + 0.12), (0.5, y + 0.08)))
    d.line(D, 0.05, (0, 1.25), (0, -1.0), taper=0.4)


FAMILIES = (
    Family("bird", bird, {"tail": ("straight", "fan", "forked"), "decor": DECOR[:4]}),
    Family("owl", owl, {"ears": ("tufted", "round"), "decor": ("scales", "spots", "zigzag")}),
    Family("swan", waterbird, {"decor": ("plain", "blossoms", "scales"), "kind": ("swan",)}),
    Family("duck", waterbird, {"decor": ("plain", "spots", "stripes"), "kind": ("duck",)}),
    Family("flamingo", waterbird, {"decor": ("plain", "scales", "blossoms"), "kind": ("flamingo",)}, (5, 350, 25)),
    Family("snail", snail, {"rounds": (2, 3), "decor": ("plain", "dotted", "rayed")}),
    Family(
        "butterfly",
        butterfly,
        {"wings": ("round", "swallowtail", "pointed"), "marks": ("eyes", "veins", "bands", "dots")},
    ),
    Family("dragonfly", dragonfly, {"wings": ("clear", "inked")}),
    Family("beetle", beetle, {"back": ("ladybird", "striped", "scarab", "blossoms"), "legs": (3,)}),
    Family("bee", bee, {"wings": (2, 3), "stripes": (3, 2)}, (85, 75)),
    Family("feather", feather, {"bars": ("barred", "eyed", "tipped"), "shape": ("broad", "narrow")}),
)
