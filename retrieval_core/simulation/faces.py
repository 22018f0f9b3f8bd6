"""Heads of beasts from the front."""

from __future__ import annotations

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.animals import FUR
from retrieval_core.simulation.drawing import Drawing, Role
from retrieval_core.simulation.families import Family

M, S, A, L, D = Role.MAIN, Role.SECOND, Role.ACCENT, Role.LIGHT, Role.DARK


def face(d: Drawing, beast: str, mood: str) -> None:
    """A beast's head from the front."""
    round_ear = {
        "bear": (0.62, -0.62, 0.32),
        "panda": (0.62, -0.62, 0.32),
        "mouse": (0.72, -0.62, 0.5),
        "koala": (0.85, -0.3, 0.46),
        "monkey": (0.92, 0.0, 0.32),
        "lion": (0.6, -0.6, 0.25),
    }
    if beast == "lion":
        d.fill(S, *o.ring(o.petal(0.65, 0.5, "point"), 14, 0.55))
    if beast in round_ear:
        x, y, r = round_ear[beast]
        d.fill(D if beast == "panda" else M, *o.pair(o.ellipse(x, y, r)))
        d.fill(D if beast == "panda" else S, *o.pair(o.ellipse(x, y, r * 0.6)))
    elif beast == "rabbit":
        d.fill(M, *o.pair(o.place(o.petal(1.3, 0.5, "round"), 0.3, -0.5, 10)))
        d.fill(S, *o.pair(o.place(o.petal(1.1, 0.24, "lens"), 0.31, -0.55, 10)))
    elif beast == "pig":
        d.fill(S, *o.pair(o.outline((0.25, -0.65), (0.8, -0.95), (0.8, -0.35))))
    elif beast == "frog":
        d.fill(M, *o.pair(o.ellipse(0.5, -0.62, 0.32)))
    else:
        d.fill(M, *o.pair(o.outline((0.2, -0.6), (0.78, -1.15), (0.88, -0.2))))
        d.fill(S, *o.pair(o.outline((0.42, -0.62), (0.7, -0.92), (0.74, -0.42))))
    d.disc(L if beast == "panda" else M, 0, 0, 0.9, 0.74 if beast in ("frog", "cat", "pig") else 0.82)
    _muzzle(d, beast)
    y = -0.62 if beast == "frog" else -0.14
    x = 0.5 if beast == "frog" else 0.36
    if mood == "glasses":
        d.fill(A, *[o.ribbon(o.arc(s * x, y, 0.25, 0, 360, 32), 0.07) for s in (-1, 1)], o.box(0, y, 0.3, 0.07))
        d.fill(D, *o.pair(o.ellipse(x, y, 0.09)))
    else:
        d.eye(-x, y, 0.1)
        d.eye(x, y, 0.1)


def _muzzle(d: Drawing, beast: str) -> None:
    if beast == "panda":
        d.fill(D, *o.pair(o.ellipse(0.36, -0.12, 0.26, 0.2, -40)))
    if beast == "fox":
        d.fill(L, *o.pair(o.smooth(o.outline((0, 0.75), (0.15, 0.2), (0.6, 0.1), (0.85, 0.15), (0.5, 0.62)))))
    elif beast in ("monkey",):
        d.fill(L, o.ellipse(-0.3, -0.1, 0.38), o.ellipse(0.3, -0.1, 0.38), o.ellipse(0, 0.35, 0.52, 0.38))
    elif beast in ("bear", "lion", "mouse", "rabbit", "cat"):
        d.disc(L, 0, 0.36, 0.4, 0.3)
    if beast == "pig":
        d.disc(S, 0, 0.22, 0.36, 0.26)
        d.fill(D, *o.pair(o.ellipse(0.13, 0.22, 0.07, 0.1)))
    elif beast == "frog":
        d.fill(D, o.ribbon(o.arc(0, -0.25, 0.62, 120, 240), 0.06))
        d.fill(A, *o.pair(o.ellipse(0.62, 0.1, 0.14)))
        return
    elif beast == "koala":
        d.disc(D, 0, 0.12, 0.2, 0.32)
    else:
        d.disc(A if beast in ("cat", "rabbit", "mouse") else D, 0, 0.22, 0.15, 0.1)
    d.fill(D, *[o.ribbon(o.arc(s * 0.13, 0.36, 0.13, 90, 270), 0.045) for s in (-1, 1)])
    if beast in ("cat", "mouse", "rabbit"):
        for s in (-1, 1):
            d.fill(D, *[o.ribbon(o.outline((0.35 * s, 0.3 + k), (1.05 * s, 0.22 + 2 * k)), 0.03) for k in (0, 0.1)])


MOODS = ("awake", "glasses")

FAMILIES = (
    *(
        Family(f"{beast}-face", face, {"mood": MOODS, "beast": (beast,)}, hues)
        for beast, hues in (
            ("bear", FUR),
            ("cat", ()),
            ("fox", (45.0, 35.0)),
            ("panda", (200.0, 350.0)),
            ("mouse", (260.0, 300.0, 60.0)),
            ("koala", (250.0, 290.0)),
            ("monkey", (50.0, 30.0)),
            ("lion", (75.0, 60.0)),
            ("rabbit", (350.0, 250.0, 80.0)),
            ("pig", (5.0, 350.0)),
            ("frog", (140.0, 125.0)),
        )
    ),
)
