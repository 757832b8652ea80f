import shutil
import subprocess

import numpy as np
import pytest

from retriever import Collection, Document


def document(identifier, vector=(1.0, 0.0, 0.0), text="kivo", **members):
    """A document that brings its vector; its language is given, so that nothing is identified."""
    members.setdefault("language", "en")
    return Document(id=identifier, text=text, vector=np.array(vector, dtype=np.float32), **members)


@pytest.fixture
def collection(tmp_path):
    """An empty collection without encoder: every vector is computable by hand."""
    with Collection.create(tmp_path / "c", encoder=None) as made:
        yield made


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 16 MB, 8 MB of it taken by a file `ballast`."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False) if shutil.which("mount") else None
    if made is None or made.returncode:
        pytest.skip(f"no small disk can be mounted: {made.stderr.strip() if made else 'there is no mount'}")
    (path / "ballast").write_bytes(bytes(8 << 20))
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)
