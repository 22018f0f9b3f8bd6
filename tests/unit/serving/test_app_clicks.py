"""The API where a model sees patches: a click picks a motif, and a part is searched with its surroundings."""

from __future__ import annotations

import pytest

from retrieval_core.encoding.arms import FROZEN, model_arm
from retrieval_core.images.rgb import decode_rgb
from retrieval_core.model.weights import save_model
from retrieval_core.store.embeddings import Box
from tests.unit.serving.served import Served
from tests.unit.serving.small_store import as_file, picture
from tests.unit.tiny_split import make_model


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("patches")
    save_model(make_model(pooling="patches"), str(folder / "weights"))
    model, keys = {"weights": str(folder / "weights"), "image_size": 28}, {"fabric_size": 56, "vectors": 3}
    return Served(folder, lambda found: model_arm(FROZEN, found.model, 0), model=model, embed=keys)


def expected(served: Served, box: Box) -> list[tuple[str, float]]:
    whole = decode_rgb(as_file(picture(3)), served.keys.images)
    hits = served.index.rank(served.index.encode_part(whole, box), served.keys.serve.top)
    return [(hit.path, hit.similarity) for hit in hits]


def test_the_motif_at_a_place_is_searched_for(served: Served) -> None:
    assert served.client.get("/api/info").json()["sees_patches"]
    answer = served.search(as_file(picture(3)), at="40, 20").json()
    box = served.index.part_at(decode_rgb(as_file(picture(3)), served.keys.images), (40, 20))
    assert answer["query"] == {"width": 64, "height": 48, "crop": list(box)}
    assert [(hit["path"], hit["similarity"]) for hit in answer["results"]] == expected(served, box)


def test_a_part_is_searched_with_its_surroundings(served: Served) -> None:
    answer = served.search(as_file(picture(3)), crop="8,4,40,30").json()
    assert [(hit["path"], hit["similarity"]) for hit in answer["results"]] == expected(served, (8, 4, 40, 30))


@pytest.mark.parametrize("at", ["3", "1,2,3", "-1,2", "a,b", "64,0", "0,48", "1,99999999999999999999"])
def test_places_that_make_no_sense(served: Served, at: str) -> None:
    assert served.complaint(served.search(as_file(picture(1)), at=at), 400)[0] == "bad_point"


def test_no_place_is_the_whole_picture(served: Served) -> None:
    content = as_file(picture(1))
    assert served.search(content, at=" ").json()["results"] == served.search(content).json()["results"]
