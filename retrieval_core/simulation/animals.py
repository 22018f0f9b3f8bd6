"""Beasts from the side; bodies may carry a printed pattern, as in folk art."""

from __future__ import annotations

import numpy as np

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.drawing import Decor, Drawing, Role
from retrieval_core.simulation.families import Family

M, S, A, L, D = Role.MAIN, Role.SECOND, Role.ACCENT, Role.LIGHT, Role.DARK
DECOR: tuple[Decor, ...] = ("spots", "plain", "blossoms", "stripes", "zigzag", "check")


def cat(d: Drawing, tail: str, decor: Decor) -> None:
    if tail == "up":
        d.line(M, 0.2, (0.4, 0.95), (0.95, 0.8), (0.85, 0.1), (1.1, -0.3), taper=0.6)
    else:
        d.line(M, 0.22, (0.35, 1.0), (0.95, 1.05), (1.1, 0.6), (0.8, 0.5), taper=0.6)
    body = d.both(M, (0, -0.45), (0.35, -0.2), (0.5, 0.5), (0.55, 0.95), (0.2, 1.1), (0, 1.1))
    d.decorate(body, decor)
    d.both(L, (0, 0.0), (0.16, 0.2), (0.1, 0.6), (0, 0.65))
    d.fill(M, *o.pair(o.outline((0.08, -0.95), (0.46, -1.3), (0.5, -0.6))))
    d.fill(S, *o.pair(o.outline((0.22, -0.95), (0.42, -1.15), (0.43, -0.8))))
    d.disc(M, 0, -0.6, 0.54, 0.44)
    d.eye(-0.2, -0.65, 0.07)
    d.eye(0.2, -0.65, 0.07)
    d.fill(A, o.outline((-0.07, -0.5), (0.07, -0.5), (0, -0.41)))
    for s in (-1, 1):
        d.line(D, 0.025, (0.12 * s, -0.42), (0.62 * s, -0.5))
        d.line(D, 0.025, (0.12 * s, -0.38), (0.62 * s, -0.33))


def rabbit(d: Drawing, pose: str, decor: Decor) -> None:
    if pose == "leaping":
        body = d.blob(
            M,
            (-1.1, 0.35),
            (-0.9, -0.25),
            (-0.3, -0.4),
            (0.35, -0.4),
            (0.6, -0.1),
            (0.2, 0.25),
            (-0.5, 0.3),
            (-1.2, 0.75),
        )
        d.decorate(body, decor)
        d.line(M, 0.2, (0.3, 0.05), (0.8, 0.3), (1.25, 0.3), taper=0.6)
        head, ear = (0.75, -0.45), (-40, -70)
    else:
        body = d.blob(M, (-0.7, 0.9), (-0.75, 0.2), (-0.25, -0.25), (0.25, -0.3), (0.45, 0.1), (0.5, 0.9), (0.0, 1.0))
        d.decorate(body, decor)
        d.blob(S, (-0.65, 0.95), (-0.6, 0.45), (-0.2, 0.35), (0.05, 0.7), (0.3, 1.0), (-0.2, 1.05))
        head, ear = (0.45, -0.4), (-8, -32)
    d.disc(L, -1.05 if pose == "leaping" else -0.78, 0.0 if pose == "leaping" else 0.65, 0.2)
    for turn in ear:
        d.fill(M, o.place(o.petal(0.95, 0.3, "round"), head[0] - 0.08, head[1] - 0.15, turn))
        d.fill(S, o.place(o.petal(0.75, 0.12, "lens"), head[0] - 0.08, head[1] - 0.2, turn))
    d.disc(M, *head, 0.4, 0.32, 15)
    d.eye(head[0] + 0.12, head[1] - 0.08, 0.06)
    d.disc(A, head[0] + 0.38, head[1] + 0.04, 0.06)


def elephant(d: Drawing, trunk: str, decor: Decor) -> None:
    d.line(D, 0.06, (-0.95, -0.2), (-1.2, 0.1), (-1.15, 0.45))
    d.fill(M, *[o.box(x, 0.7, 0.3, 0.75) for x in (-0.7, -0.3, 0.15, 0.42)])
    body = d.blob(M, (-1.0, 0.2), (-0.85, -0.5), (-0.2, -0.72), (0.4, -0.6), (0.65, 0.1), (0.3, 0.55), (-0.7, 0.6))
    d.decorate(body, decor)
    if trunk == "up":
        d.line(M, 0.38, (0.6, -0.3), (1.05, 0.1), (1.35, -0.2), (1.3, -0.75), taper=0.45)
    else:
        d.line(M, 0.38, (0.6, -0.3), (1.1, -0.05), (1.1, 0.6), (1.35, 0.85), taper=0.4)
    d.disc(M, 0.62, -0.42, 0.42)
    d.blob(S, (0.5, -0.6), (0.2, -0.8), (-0.1, -0.45), (0.0, 0.0), (0.3, 0.15), (0.5, -0.15))
    d.fill(L, o.place(o.petal(0.4, 0.12, "point"), 0.85, -0.05, 120))
    d.disc(D, 0.76, -0.48, 0.055)
    d.fill(A, *[o.box(x, 1.02, 0.3, 0.1) for x in (-0.7, -0.3, 0.15, 0.42)])


def fox(d: Drawing, tail: str, decor: Decor) -> None:
    if tail == "raised":
        d.blob(S, (-0.5, 0.3), (-1.0, 0.1), (-1.25, -0.6), (-0.95, -1.1), (-0.8, -0.5), (-0.45, 0.0))
        d.blob(L, (-1.22, -0.6), (-1.15, -0.95), (-0.95, -1.12), (-0.88, -0.7))
    else:
        d.blob(S, (-0.6, 0.1), (-1.1, 0.2), (-1.5, 0.75), (-1.1, 0.85), (-0.7, 0.5))
        d.blob(L, (-1.3, 0.5), (-1.52, 0.78), (-1.15, 0.84), (-1.05, 0.62))
    d.fill(
        D,
        *[
            o.outline((x - 0.1, 0.2), (x + 0.1, 0.2), (x + 0.06, 0.95), (x - 0.06, 0.95))
            for x in (-0.5, -0.25, 0.3, 0.5)
        ],
    )
    body = d.blob(M, (-0.75, 0.35), (-0.6, -0.1), (0, -0.1), (0.5, -0.35), (0.7, 0.1), (0.4, 0.45), (-0.4, 0.45))
    d.decorate(body, decor)
    d.fill(
        M, o.outline((0.4, -0.6), (0.42, -1.1), (0.68, -0.75)), o.outline((0.72, -0.75), (0.95, -1.05), (0.98, -0.6))
    )
    d.blob(M, (0.35, -0.4), (0.45, -0.75), (0.95, -0.75), (1.05, -0.4), (1.3, -0.05), (0.75, 0.0))
    d.blob(L, (0.55, -0.2), (0.8, -0.25), (1.3, -0.05), (0.75, 0.02))
    d.disc(D, 1.28, -0.06, 0.075)
    d.disc(D, 0.82, -0.45, 0.065)


def bear(d: Drawing, pose: str, decor: Decor) -> None:
    if pose == "walking":
        d.fill(M, *[o.box(x, 0.65, 0.32, 0.8) for x in (-0.75, -0.4, 0.3, 0.62)])
        body = d.blob(M, (-1.1, 0.2), (-0.95, -0.45), (-0.2, -0.55), (0.4, -0.6), (0.85, -0.1), (0.6, 0.5), (-0.7, 0.6))
        d.decorate(body, decor)
        head = (0.95, -0.35)
    else:
        d.fill(
            M,
            o.ellipse(-0.55, 0.85, 0.35, 0.25),
            o.ellipse(0.55, 0.85, 0.35, 0.25),
            o.ellipse(-0.62, 0.1, 0.2, 0.42, 30),
            o.ellipse(0.62, 0.1, 0.2, 0.42, -30),
        )
        body = d.disc(M, 0, 0.35, 0.65, 0.7)
        d.decorate(body, decor)
        d.fill(S, o.ellipse(-0.6, 0.88, 0.17), o.ellipse(0.6, 0.88, 0.17))
        head = (0.0, -0.6)
    d.fill(M, *[o.ellipse(head[0] + x, head[1] - 0.38, 0.18) for x in (-0.36, 0.36)])
    d.fill(S, *[o.ellipse(head[0] + x, head[1] - 0.38, 0.1) for x in (-0.36, 0.36)])
    d.disc(M, *head, 0.5, 0.45)
    d.disc(L, head[0] + 0.02, head[1] + 0.16, 0.26, 0.2)
    d.disc(D, head[0] + 0.02, head[1] + 0.08, 0.1, 0.07)
    d.fill(D, *[o.ellipse(head[0] + x, head[1] - 0.08, 0.055) for x in (-0.18, 0.2)])


def hedgehog(d: Drawing, spines: int, load: str) -> None:
    quills = [o.ellipse(0, 0, 0.1)]
    quills = [o.place(o.petal(1.05, 0.2, "point"), -0.15, 0.4, -105 + 160 * i / (spines - 1)) for i in range(spines)]
    d.fill(D, *quills)
    d.fill(
        M,
        *[o.place(o.petal(0.88, 0.18, "point"), -0.15, 0.4, -100 + 150 * i / (spines - 2)) for i in range(spines - 1)],
    )
    d.fill(S, *[o.place(o.petal(0.55, 0.12, "point"), -0.15, 0.4, -95 + 140 * i / 8) for i in range(9)])
    d.blob(L, (0.15, 0.6), (0.2, 0.0), (0.55, -0.1), (1.05, 0.4), (0.7, 0.62))
    d.blob(L, (-0.9, 0.5), (-0.2, 0.4), (0.4, 0.5), (0.3, 0.7), (-0.6, 0.7))
    d.disc(D, 1.05, 0.38, 0.09)
    d.disc(D, 0.55, 0.2, 0.07)
    d.fill(D, *[o.ellipse(x, 0.74, 0.13, 0.07) for x in (-0.5, 0.3)])
    if load == "apple":
        d.disc(A, -0.35, -0.6, 0.24)
        d.fill(Role.LEAF, o.place(o.petal(0.28, 0.14, "point"), -0.35, -0.8, 40))
    elif load == "leaf":
        d.fill(
            Role.LEAF,
            o.place(o.petal(0.8, 0.4, "point"), -0.3, -0.3, -60),
            o.place(o.petal(0.7, 0.36, "point"), -0.3, -0.3, 20),
        )


def dog(d: Drawing, build: str, decor: Decor) -> None:
    long = 1.35 if build == "dachshund" else 0.75
    leg = 0.4 if build == "dachshund" else 0.85
    d.line(M, 0.15, (-long, -0.05), (-long - 0.25, -0.3), (-long - 0.3, -0.75), taper=0.5)
    d.fill(M, *[o.box(x, 0.2 + leg / 2, 0.2, leg) for x in (-long + 0.15, -long + 0.45, long - 0.55, long - 0.25)])
    body = d.blob(
        M,
        (-long, 0.1),
        (-long + 0.1, -0.25),
        (0, -0.28),
        (long - 0.2, -0.35),
        (long, 0.05),
        (long - 0.3, 0.4),
        (0, 0.32),
        (-long + 0.2, 0.38),
    )
    d.decorate(body, decor)
    x = long - 0.05
    d.blob(
        M,
        (x - 0.25, -0.2),
        (x - 0.2, -0.85),
        (x + 0.2, -0.95),
        (x + 0.75, -0.65),
        (x + 0.78, -0.45),
        (x + 0.3, -0.35),
        (x + 0.1, 0.1),
    )
    d.blob(S, (x - 0.1, -0.9), (x + 0.12, -0.8), (x + 0.1, -0.25), (x - 0.2, -0.2), (x - 0.25, -0.6))
    d.disc(D, x + 0.76, -0.6, 0.09)
    d.disc(D, x + 0.3, -0.72, 0.06)
    d.line(A, 0.11, (x - 0.22, -0.12), (x + 0.2, -0.05))


def sheep(d: Drawing, wool: str, facing: str) -> None:
    d.fill(D, *[o.box(x, 0.75, 0.15, 0.6) for x in (-0.5, -0.25, 0.25, 0.5)])
    body = d.fill(M, o.place(o.wavy(0.78, 11, 0.08), 0, 0.1) * np.array([1.15, 0.9]))
    if wool == "curls":
        d.fill(
            S,
            *[
                o.ribbon(o.arc(x, y, 0.13, 0, 290), 0.045)
                for x, y in ((-0.5, 0.0), (0, -0.25), (0.45, 0.1), (-0.15, 0.3), (0.15, 0.05), (-0.35, -0.35))
            ],
        )
    else:
        d.decorate(body, "blossoms" if wool == "flowers" else "spots", S)
    x, y = (0.85, -0.3) if facing == "side" else (0.55, -0.15)
    d.fill(D, o.ellipse(x - 0.28, y - 0.08, 0.2, 0.08, -20), o.ellipse(x + 0.28, y - 0.08, 0.2, 0.08, 20))
    d.disc(D, x, y, 0.27, 0.36)
    d.disc(M, x, y - 0.32, 0.24, 0.14)
    d.fill(L, o.ellipse(x - 0.1, y - 0.05, 0.06), o.ellipse(x + 0.1, y - 0.05, 0.06))
    d.disc(A, x, y + 0.22, 0.09, 0.05)


def giraffe(d: Drawing, neck: str, decor: Decor) -> None:
    d.fill(
        M,
        *[
            o.outline((x - 0.09, 0.3), (x + 0.09, 0.3), (x + 0.05, 1.5), (x - 0.07, 1.5))
            for x in (-0.6, -0.38, 0.15, 0.35)
        ],
    )
    lean = 0.55 if neck == "straight" else 1.0
    body = d.blob(
        M,
        (-0.85, 0.3),
        (-0.7, -0.1),
        (0.1, -0.35),
        (lean - 0.2, -1.5),
        (lean + 0.1, -1.5),
        (0.5, 0.1),
        (0.3, 0.5),
        (-0.6, 0.5),
    )
    d.decorate(body, "check" if decor == "plain" else decor, S, 0.2)
    d.line(D, 0.06, (-0.82, 0.1), (-1.0, 0.4), (-0.95, 0.75))
    d.line(D, 0.06, (lean - 0.1, -1.6), (lean - 0.12, -1.95))
    d.line(D, 0.06, (lean + 0.08, -1.6), (lean + 0.1, -1.95))
    d.blob(
        M,
        (lean - 0.25, -1.5),
        (lean - 0.1, -1.75),
        (lean + 0.2, -1.7),
        (lean + 0.6, -1.4),
        (lean + 0.5, -1.25),
        (lean, -1.3),
    )
    d.fill(S, o.ellipse(lean - 0.3, -1.62, 0.16, 0.07, 25), o.ellipse(lean + 0.5, -1.36, 0.12, 0.09))
    d.disc(D, lean + 0.12, -1.55, 0.055)


def deer(d: Drawing, tines: int, decor: Decor) -> None:
    d.fill(
        M,
        *[
            o.outline((x - 0.09, 0.2), (x + 0.09, 0.2), (x + 0.04, 1.2), (x - 0.04, 1.2))
            for x in (-0.6, -0.4, 0.25, 0.45)
        ],
    )
    d.disc(L, -0.85, -0.1, 0.14, 0.2, 30)
    body = d.blob(
        M, (-0.85, 0.1), (-0.7, -0.25), (0.1, -0.25), (0.5, -0.9), (0.8, -0.85), (0.7, -0.2), (0.5, 0.3), (-0.6, 0.35)
    )
    d.decorate(body, decor, L if decor == "spots" else S, 0.2)
    d.blob(M, (0.45, -0.95), (0.6, -1.15), (0.9, -1.05), (1.2, -0.75), (1.1, -0.65), (0.7, -0.7))
    d.fill(S, o.place(o.petal(0.4, 0.17, "point"), 0.52, -1.0, -75))
    for s in (-0.25, 0.35):
        d.line(D, 0.07, (0.65, -1.1), (0.62 + s, -1.45), (0.68 + 1.6 * s, -1.9), taper=0.6)
        for i in range(tines):
            y = -1.35 - 0.42 * i / tines
            d.line(D, 0.055, (0.64 + s * (0.9 + 0.4 * i / tines), y), (0.68 + s * 0.2, y - 0.28))
    d.disc(D, 1.17, -0.72, 0.07)
    d.disc(D, 0.8, -0.97, 0.05)


FUR = (55.0, 35.0, 80.0, 260.0)

FAMILIES = (
    Family("cat", cat, {"tail": ("up", "curled"), "decor": DECOR}),
    Family("rabbit", rabbit, {"pose": ("sitting", "leaping"), "decor": DECOR}),
    Family("elephant", elephant, {"trunk": ("up", "down"), "decor": DECOR}),
    Family("fox", fox, {"tail": ("raised", "low"), "decor": ("plain", "blossoms", "zigzag")}, (45, 30, 60)),
    Family("bear", bear, {"pose": ("seated", "walking"), "decor": DECOR}),
    Family("hedgehog", hedgehog, {"spines": (16, 10), "load": ("apple", "leaf", "bare")}, FUR),
    Family("dog", dog, {"build": ("dachshund", "terrier"), "decor": DECOR}),
    Family("sheep", sheep, {"wool": ("curls", "flowers", "dots"), "facing": ("side", "front")}),
    Family(
        "giraffe", giraffe, {"neck": ("straight", "leaning"), "decor": ("check", "spots", "stripes")}, (80, 60, 350)
    ),
    Family("deer", deer, {"tines": (3, 2), "decor": ("spots", "plain", "blossoms", "stripes")}, FUR),
)
