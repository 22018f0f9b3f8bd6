"""How many embedding actors there are, and how they share CPUs with decoding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ray_jobs.cluster.connect import Resources

LEAST_ACTOR_SHARE = 0.75  # of its CPU that an actor takes
OVERFILL = 0.25  # share of a CPU that one more actor lacks on a full node; the rest of that CPU is for decoding
MOST_DECODE_CPUS = 0.5
CPU_PARTS = 10_000  # that Ray tells apart; shares are rounded to them
QUEUED_VIEWS = 16  # to decode on a core, 0.1 s or more, until Ray Data notices that a task ended and starts the next
MOST_DECODERS_PER_CPU = 2


class Sizing(NamedTuple):
    """Shape of the actor pool in Ray's logical resources."""

    actors: int
    actor_cpus: float
    actor_gpus: int
    decode_cpus: float
    decoders: int | None  # decode tasks at a time; None: as many as there is room for
    threads: int  # of Torch in an actor
    room: int  # shards whose pixels may be held, decoded or not yet; decoding gets at least half of it


def pool_sizing(
    resources: Resources, num_actors: int | None, shards: int, views: int, nodes: Sequence[Resources] = ()
) -> Sizing:
    """One actor per GPU, or per CPU without GPUs; never more than ``shards``, the largest of which has ``views``.

    An actor per CPU has one thread: two would wait for each other whenever decoding takes a core from either.
    Decoding keeps CPUs on each of ``nodes`` (one with all resources if empty): actors of a lost node start again on the
    others, and would wait for images forever if they took all CPUs there.
    """
    nodes = nodes or [resources]
    wanted = num_actors or resources.gpus or max(1, int(resources.cpus))
    actors = max(1, min(wanted, shards, resources.gpus or shards))
    threads = max(1, int(resources.cpus / wanted))
    if resources.gpus:
        actor_cpus, decode_cpus = _shares_beside_gpus([node for node in nodes if node.gpus] or [resources])
        return Sizing(actors, actor_cpus, 1, decode_cpus, None, threads, _room(actors, int(resources.cpus)))
    # More tasks take the cores from the actors: with four on two, shards of 64 take a quarter longer.
    per_cpu = min(MOST_DECODERS_PER_CPU, 1 + QUEUED_VIEWS / max(1, views))
    # Bounded, or small shares would start a hundred tasks on the CPUs of actors that are not there yet.
    decoders = max(1, round(resources.cpus * per_cpu))
    actor_cpus, decode_cpus = _shares_of_cpus(resources.cpus, nodes, actors, decoders)
    return Sizing(actors, actor_cpus, 0, decode_cpus, decoders, threads, _room(actors, decoders))


def _shares_beside_gpus(nodes: Sequence[Resources]) -> tuple[float, float]:
    """CPUs of an actor and of a decode task, where every GPU of these nodes has an actor."""
    actor_cpus = min(1.0, *(node.cpus / 2 / node.gpus for node in nodes))
    return actor_cpus, min(1.0, *(node.cpus - node.gpus * actor_cpus for node in nodes))


def _shares_of_cpus(cpus: float, nodes: Sequence[Resources], actors: int, decoders: int) -> tuple[float, float]:
    """CPUs of an actor and, fewer, of a decode task. They differ: Ray Data would fuse equal ones into one process."""
    actors_per_cpu = max(1.0, actors / cpus)
    # A full node decodes for each of its actors: with a task for two, small shards wait (58 images/s, not 80).
    full = max(node.cpus for node in nodes) * actors_per_cpu  # actors on the largest node; full + 1 do not fit
    share = max(LEAST_ACTOR_SHARE, (full + OVERFILL) / (full + 1))
    actor_cpus = math.ceil(share / actors_per_cpu * CPU_PARTS) / CPU_PARTS
    left_on_nodes = [node.cpus - int(node.cpus / actor_cpus) * actor_cpus for node in nodes]
    decode_cpus = min(MOST_DECODE_CPUS, (cpus - actors * actor_cpus) / decoders, *left_on_nodes)
    return actor_cpus, math.floor(decode_cpus * CPU_PARTS) / CPU_PARTS


def _room(actors: int, decoders: int) -> int:
    # Without a bound cores would decode thousands of images while actors load their model, which then takes longer.
    # 335 images/s where shards are of 32; with half of it, 315; with a quarter, 280.
    return 4 * (max(1, decoders) + 2 * actors)
