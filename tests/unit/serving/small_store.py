"""A store of colour histograms of small pictures, and the application over it: no weights, no Ray."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrieval_core.config.config import Config, parse_config
from retrieval_core.encoding.arms import Arm, encoder_fingerprint, histogram_arm
from retrieval_core.encoding.views import views_of
from retrieval_core.images.rgb import read_image
from retrieval_core.store.embeddings import Vectors, write_manifest, write_shard

SIDE = 28
FABRICS = 9
NAMES = [f"{['b', 'ä', 'B', '花', '<script>', 'a'][index % 6]}{index}.png" for index in range(FABRICS)]
"""Names whose order is neither that of the numbers nor that of letters without regard to their size."""


def config(**sections: Any) -> Config:
    return parse_config({"model": {"pooling": "cls", "image_size": SIDE}, **sections})


def picture(*seed: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Coarse random colours, others for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


def as_file(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write_fabrics(folder: Path) -> list[str]:
    """Fabric i as a file; paths in the order of i."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(NAMES):
        (folder / name).write_bytes(as_file(picture(index)))
    return [str(folder / name) for name in NAMES]


def write_vectors(store: Path, vectors: Vectors, per_shard: int, fingerprint: str = "mark") -> str:
    """A finished store of any vectors, in shuffled order; ``order_F`` is not used."""
    fabrics, regions, dim = vectors.embeddings_FRD.shape
    order, paths, shards = np.random.default_rng(0).permutation(fabrics), vectors.paths.to_pylist(), []
    for start in range(0, fabrics, per_shard):
        rows, file = np.sort(order[start : start + per_shard]), f"00000-{start:06}.parquet"
        images = [(paths[row], f"f{row}") for row in rows]
        embeddings = vectors.embeddings_FRD[rows].reshape(-1, dim)
        write_shard(str(store / file), images, vectors.boxes_FR4[rows], embeddings, [])
        shards.append({"file": file, "images": len(rows), "rows": len(rows) * regions, "rejected": 0})
    write_manifest(str(store), fingerprint, shards, {"regions": regions})
    return str(store)


def embed(
    keys: Config,
    paths: list[str],
    store: Path,
    per_shard: int = 4,
    arm: Arm | None = None,
    fingerprint: str = "0123456789abcdef-and-more",
) -> Arm:
    """What `fabric-retrieval embed` leaves, made in a plain loop; shards in the order of the list."""
    arm = arm or histogram_arm(keys)
    views, encoder = views_of(keys, arm.model, "gallery"), arm.build(8, 0)
    shards = []
    for start in range(0, len(paths), per_shard):
        part = sorted(paths[start : start + per_shard], key=str.encode)
        loaded = [views.cut(read_image(path, keys.images), keys.images) for path in part]
        vectors_NVD, boxes = views.embed(encoder, loaded)
        vectors = vectors_NVD.reshape(-1, encoder.dim)
        file = f"00000-{start:06}.parquet"
        images = [(path, Path(path).stem) for path in part]
        write_shard(str(store / file), images, boxes, vectors, [], keys.embed.storage_dtype)
        shards.append({"file": file, "images": len(part), "rows": len(vectors), "rejected": 0})
    facts = {
        "image_size": views.image_size,
        "regions": views.rows,
        "weights": arm.weights,
        "encoder": encoder_fingerprint(arm, views, keys),
    }
    write_manifest(str(store), fingerprint, shards, facts)
    return arm
