"""How many embedding actors there are, and how they share CPUs with decoding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ray_jobs.cluster.connect import Resources

UNSEEN_VIEWS = 16
"""What a core decodes at least until Ray Data has seen that a task ended, and starts the next: 0.1 s and more. Tasks
beyond that take the cores from the actors: with four on two, shards of 64 are embedded a quarter more slowly."""
MOST_DECODERS = 2
"""Of a CPU, however small the shards."""


class Sizing(NamedTuple):
    """Shape of the actor pool in Ray's logical resources."""

    actors: int
    actor_cpus: float
    actor_gpus: int
    decode_cpus: float
    decoders: int | None
    """Decode tasks at a time; None: as many as there is room for."""
    threads: int
    """Torch threads of an actor."""
    room: int
    """Shards whose pixels may be held, in being decoded or waiting. Ray gives decoding half of it at least. Without a
    bound the cores would decode thousands of images while the actors load their model, which then takes longer."""


def pool_sizing(
    resources: Resources, num_actors: int | None, shards: int, views: int, nodes: Sequence[Resources] = ()
) -> Sizing:
    """One actor a GPU, or one a CPU where there are none; never more than there are shards.

    Actors of one thread wait for nobody: two threads of one actor would wait for each other whenever decoding takes a
    core from either. Decoding always has some share of the CPUs, and another one than the actors, or Ray Data would
    fuse the two into one process. That share is left on each node, however the actors come to lie: those of a lost node
    start again on the others, and would wait for ever for images if they took all of these.

    Args:
        resources: of the cluster.
        num_actors: as configured.
        shards: to do.
        views: of the largest shard.
        nodes: what each has; one node with everything if empty.
    """
    nodes = nodes or [resources]
    gpus = resources.gpus
    wanted = num_actors or gpus or max(1, int(resources.cpus))
    actors = max(1, min(wanted, shards, gpus or shards))
    threads = max(1, int(resources.cpus / wanted))
    if gpus:
        full = [node for node in nodes if node.gpus] or [resources]
        actor_cpus = min(1.0, *(node.cpus / 2 / node.gpus for node in full))
        decode_cpus = min(1.0, *(node.cpus - node.gpus * actor_cpus for node in full))
        return Sizing(actors, actor_cpus, 1, decode_cpus, None, threads, _room(actors, int(resources.cpus)))
    # On no node fits one actor more than its part of them, and a full one leaves room to decode for every actor: with
    # one decode task at a time for two of them, small shards wait for Ray to start the next (58 images/s, not 80).
    each = max(1.0, actors / resources.cpus)
    most = max(node.cpus for node in nodes) * each
    actor_cpus = math.ceil(max(0.75, (most + 0.25) / (most + 1)) / each * 1e4) / 1e4  # the finest that Ray knows
    left = [node.cpus - int(node.cpus / actor_cpus) * actor_cpus for node in nodes]
    # Small shares must not start a hundred tasks on the CPUs of actors that are not there.
    decoders = max(1, round(resources.cpus * min(MOST_DECODERS, 1 + UNSEEN_VIEWS / max(1, views))))
    decode_cpus = min(0.5, (resources.cpus - actors * actor_cpus) / decoders, *left)
    decode_cpus = math.floor(decode_cpus * 1e4) / 1e4
    decode_cpus = decode_cpus / 2 if decode_cpus == actor_cpus else decode_cpus
    return Sizing(actors, actor_cpus, 0, decode_cpus, decoders, threads, _room(actors, decoders))


def _room(actors: int, decoders: int) -> int:
    # 335 images/s where shards are of 32; with half of it, 315; with a quarter, 280.
    return 4 * (max(1, decoders) + 2 * actors)
