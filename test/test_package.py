"""The package: its manifest, its entry points, what is in a wheel, what the runtime side can do without."""

import ast
import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def setup_arguments() -> dict[str, object]:
    """The literal keyword arguments of setup() in setup.py."""
    (call,) = [
        node
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    ]
    literal = {}
    for keyword in call.keywords:
        try:
            literal[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            continue
    return literal


SETUP = setup_arguments()
ENTRY_POINTS = [e.replace(" ", "").split("=")[1] for e in SETUP["entry_points"]["console_scripts"]]


def test_manifest_is_valid_and_agrees_with_setup():
    """colcon builds without an ament hook, and says nothing, where the manifest does not validate."""
    parse_package = pytest.importorskip("catkin_pkg.package").parse_package
    warnings = []
    package = parse_package(str(ROOT / "package.xml"), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    assert package.package_format == 3
    assert package.get_build_type() == "ament_python"
    assert (package.name, package.version) == ("irl_ros", SETUP["version"])
    assert [str(license) for license in package.licenses] == [SETUP["license"]] == ["Apache-2.0"]
    assert package.maintainers[0].email == SETUP["maintainer_email"]
    assert package.description == SETUP["description"]


def test_every_imported_ros_package_is_in_the_manifest():
    package = pytest.importorskip("catkin_pkg.package").parse_package(str(ROOT / "package.xml"))
    named = {dependency.name for dependency in package.exec_depends}
    is_ros = re.compile(r"(rclpy|launch|launch_ros|ament_index_python|\w+_msgs|std_srvs|\w+_interfaces)$")
    for path in [*(ROOT / "irl_ros").rglob("*.py"), *(ROOT / "sim").rglob("*.py"), *(ROOT / "launch").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None)]
            for module in filter(None, modules):
                top = str(module).partition(".")[0]
                assert not is_ros.match(top) or top in named, f"{path.name} imports {top}: package.xml lacks it"


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_entry_points_lead_to_a_function(entry_point):
    pytest.importorskip("rclpy")
    module, function = entry_point.split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_setup_lists_every_package():
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "irl_ros").rglob("__init__.py")}
    found |= {"irl_ros_" + ".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "sim").rglob("__init__.py")}
    assert set(SETUP["packages"]) == found


def test_constraints_pin_everything_that_setup_asks_for():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pin = re.compile(r"([\w.-]+)==[\w.+]+(; python_version [<>]=? \"3\.\d+\")?$")
    pins = [pin.match(line) for line in lines if line[:1].isalpha()]
    assert all(pins)
    names = {pin[1].lower().replace("_", "-") for pin in pins}
    wanted = [*SETUP["install_requires"], *SETUP["extras_require"]["test"], *SETUP["extras_require"]["docs"]]
    plain = [re.match(r"[\w.-]+", name)[0] for name in wanted]
    assert {name.lower().replace("_", "-") for name in plain} <= names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> set[str]:
    """Names of the files in a wheel built from a copy of what git would take."""
    pytest.importorskip("setuptools")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    parts = ("irl_ros", "sim", "config", "launch", "resource", "setup.py", "setup.cfg", "pyproject.toml", "package.xml")
    subprocess.run(["cp", "-r", *(str(ROOT / p) for p in (*parts, "LICENSE")), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(out), str(source)], check=True, timeout=120)
    (path,) = out.glob("*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_wheel_holds_every_module(wheel):
    for path in (ROOT / "irl_ros").rglob("*.py"):
        assert str(path.relative_to(ROOT)) in wheel
    for path in (ROOT / "sim").rglob("*.py"):
        assert f"irl_ros_sim/{path.relative_to(ROOT / 'sim')}" in wheel


def test_wheel_holds_the_robots_of_its_own(wheel):
    own = [path.name for path in (ROOT / "sim" / "assets").iterdir()]
    assert "panda_peg.urdf" in own and all(f"irl_ros_sim/assets/{name}" in wheel for name in own)


def test_wheel_holds_config_launch_files_and_marker(wheel):
    share = "irl_ros-{}.data/data/share/".format(SETUP["version"])
    for pattern in ("config/*.yaml", "config/*.rviz", "config/*.json", "config/*/*.yaml", "launch/*.launch.py", "package.xml"):
        for path in ROOT.glob(pattern):
            assert f"{share}irl_ros/{path.relative_to(ROOT)}" in wheel
    assert f"{share}ament_index/resource_index/packages/irl_ros" in wheel
    assert len([name for name in wheel if name.endswith(".launch.py")]) == 5


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("irl_ros.nodes.recorder irl_ros.nodes.policy_runner irl_ros.nodes.teleop", "pybullet torch gymnasium"),
        ("irl_ros.learning.*", "rclpy pybullet"),
        ("irl_ros.control.*", "torch rclpy pybullet"),
        ("irl_ros.data.*", "torch rclpy pybullet"),
        ("irl_ros.bringup irl_ros.starter", "torch rclpy pybullet launch"),
    ],
)
def test_rooms_import_where_a_library_is_missing(modules, absent):
    if "nodes" in modules:
        pytest.importorskip("rclpy")
    names = []
    for name in modules.split():
        parts = name.split(".")[:2]
        files = sorted((ROOT / Path(*parts)).glob("[a-z]*.py")) if name.endswith(".*") else []
        names += [".".join((*parts, path.stem)) for path in files] or [name]
    block = "".join(f"sys.modules[{library!r}] = None\n" for library in absent.split())
    code = f"import sys\n{block}" + "".join(f"import {name}\n" for name in names)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
