"""The shape of the package: what an import costs, what each layer may see, what the wheel carries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import napari_deqmd

ROOT = Path(__file__).parents[1]

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in {blocked!r}:
    sys.modules[name] = None  # an import of it raises ImportError
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = run_python("import sys, napari_deqmd; print(*sys.modules)").split()
    assert not {"torch", "numpy", "scipy", "skimage", "tifffile", "qtpy", "napari", "magicgui"} & set(loaded)


def test_threads_that_wait_leave_the_cores_to_others() -> None:
    """Unless the user says otherwise."""
    code = "import os, napari_deqmd; print(os.environ['OMP_WAIT_POLICY'])"
    others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for before, after in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        found = subprocess.run(
            [sys.executable, "-c", code], env=others | before, capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == after


def test_command_line_starts_without_torch_and_qt() -> None:
    loaded = run_python("import sys, napari_deqmd.cli; print(*sys.modules)").split()
    assert not {"torch", "qtpy", "napari", "magicgui"} & set(loaded)


@pytest.mark.parametrize(
    ("package", "blocked"),
    [
        (
            "napari_deqmd.core",
            ["napari", "qtpy", "magicgui", "pyqtgraph", "tifffile", "safetensors", "skimage"],
        ),
        ("napari_deqmd.training", ["napari", "qtpy", "magicgui", "pyqtgraph", "pydantic"]),
        ("napari_deqmd.psf", ["napari", "qtpy", "magicgui", "pyqtgraph"]),
        ("napari_deqmd.io", ["napari", "qtpy", "magicgui", "pyqtgraph"]),
    ],
)
def test_layer_imports_without(package: str, blocked: list[str]) -> None:
    run_python(IMPORT_ALL.format(package=package, blocked=blocked))


def test_every_public_name_resolves() -> None:
    for name in napari_deqmd.__all__:
        assert getattr(napari_deqmd, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = napari_deqmd.nonsense


def test_manifest_at_the_top_is_the_packaged_one() -> None:
    packaged = ROOT / "src" / "napari_deqmd" / "napari.yaml"
    assert (ROOT / "napari.yaml").read_text("utf-8") == packaged.read_text("utf-8")


def test_one_version_everywhere() -> None:
    version = napari_deqmd.__version__
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert pyproject["project"]["dynamic"] == ["version"]
    assert pyproject["tool"]["hatch"]["version"]["path"] == "src/napari_deqmd/__init__.py"
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)


def test_continuous_integration_runs_the_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    commands = re.findall(r"^\./quickstart \w+$", readme, re.MULTILINE)
    assert commands == ["./quickstart demo", "./quickstart test"]
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    assert all(command in ci for command in commands)


def test_wheel_carries_manifest_models_and_samples(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"napari_deqmd/napari.yaml", "napari_deqmd/py.typed"} <= names
    samples = {f"napari_deqmd/sample_data/{path.name}" for path in (ROOT / "sample_data").glob("*.tif")}
    assert samples
    assert samples == {name for name in names if "/sample_data/" in name}
    models = {f"napari_deqmd/models/{path.name}" for path in (ROOT / "src/napari_deqmd/models").iterdir()}
    assert any(name.endswith(".safetensors") for name in models)
    assert models <= names
    assert all(name.startswith(("napari_deqmd/", "napari_deqmd-")) for name in names)
