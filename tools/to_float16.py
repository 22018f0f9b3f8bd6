"""Write a model folder again with its tensors in float16: half the size, and read like any other.

.venv/bin/python tools/to_float16.py FROM TO
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file


def main(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    halves = {name: tensor.half() for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(halves, target / "model.safetensors", {"format": "pt"})
    shutil.copyfile(source / "config.json", target / "config.json")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
