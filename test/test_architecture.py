"""Who may import whom: every module's imports are read and held against the floors of the house."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FLOORS = (
    ("irl_ros.contract_lookup",),
    ("irl_ros.contract_checks",),
    ("irl_ros.contract_grid",),
    ("irl_ros.contract_terms",),
    ("irl_ros.contract_fit",),
    ("irl_ros.contract_yaml",),
    ("irl_ros.contract_recording",),
    ("irl_ros.contract", "irl_ros.lifetime", "irl_ros.ros_domain"),
    ("irl_ros.motion",),
    ("irl_ros.messages", "irl_ros.kinematics"),
    ("irl_ros.data", "irl_ros_sim"),
    ("irl_ros.models",),
    ("irl_ros.checkpoint",),
    ("irl_ros.learning", "irl_ros.control"),
    ("irl_ros.nodes", "irl_ros.graph", "irl_ros.options", "irl_ros.bringup", "irl_ros.launching", "irl_ros.starter")
    + ("irl_ros.summary", "irl_ros.report", "irl_ros.command", "irl_ros.cli", "irl_ros.cli_data", "irl_ros.cli_results")
    + ("irl_ros.cli_sweep", "irl_ros.cli_exchange", "irl_ros.exchange", "irl_ros.exchange_forms"),
)
NODE_IN_THE_SIMULATION = "irl_ros_sim.arm_node"
"""Stands on the top floor with the other nodes."""

ROS = {"rclpy", "launch", "launch_ros", "rosidl_runtime_py", "ament_index_python"}
SIMULATION = {"pybullet", "pybullet_data", "pybullet_utils"}
FORBIDDEN = {  # room → what none of its modules may import, directly
    "irl_ros.contract": ROS | SIMULATION | {"torch", "gymnasium", "pinocchio"},
    "irl_ros.messages": ROS | SIMULATION | {"torch", "gymnasium"},
    "irl_ros.kinematics": ROS | SIMULATION | {"torch", "gymnasium"},
    "irl_ros.data": ROS | SIMULATION | {"torch", "gymnasium"},
    "irl_ros_sim": ROS | {"torch"},
    "irl_ros.models": ROS | SIMULATION | {"gymnasium"},
    "irl_ros.models.inference": {"torch"},
    "irl_ros.models.features": {"torch"},
    "irl_ros.checkpoint": ROS | SIMULATION | {"torch"},
    "irl_ros.learning": ROS | SIMULATION,
    "irl_ros.control": ROS | SIMULATION | {"torch", "gymnasium"},
    "irl_ros.nodes": SIMULATION,
}
METHODS = ("bc", "max_margin", "max_margin_sampled", "maxent", "maxent_sampled", "gcl", "gan_gcl", "airl", "gail")
EVERYWHERE_FORBIDDEN = {"pickle", "cPickle", "dill"}


def modules() -> dict[str, Path]:
    """Import name → file, of everything that is installed."""
    found = {}
    for package, directory in (("irl_ros", ROOT / "irl_ros"), ("irl_ros_sim", ROOT / "sim")):
        for path in sorted(directory.rglob("*.py")):
            parts = path.relative_to(directory).with_suffix("").parts
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """Absolute names that a module imports anywhere in its code; type-checking blocks do not count."""
    tree = ast.parse(MODULES[name].read_text())
    names = set()
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import; write the whole name"
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {member if member in MODULES else node.module for member in members}
    return names


def _executed(node):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _executed(child)


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def floor(name: str) -> int:
    """0 at the bottom; -1 for the packages' own __init__."""
    if name in ("irl_ros", "irl_ros_sim"):
        return -1
    if name == NODE_IN_THE_SIMULATION:
        return len(FLOORS) - 1
    return next(i for i, rooms in enumerate(FLOORS) if any(within(name, room) for room in rooms))


def room(name: str) -> str:
    return next((r for rooms in FLOORS for r in rooms if within(name, r)), name)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_stands_on_a_floor(name):
    floor(name)


@pytest.mark.parametrize("name", MODULES)
def test_imports_come_from_floors_below(name):
    for imported in imports(name):
        if imported not in MODULES or imported in ("irl_ros", "irl_ros_sim"):
            continue
        assert imported != NODE_IN_THE_SIMULATION, f"{name} imports a node"
        if name in ("irl_ros", "irl_ros_sim"):
            assert within(imported, name), f"{name} imports {imported}"
        elif floor(name) == len(FLOORS) - 1:
            assert floor(imported) <= floor(name), f"{name} imports {imported}"
        else:
            same_room = room(name) == room(imported)
            assert same_room or floor(imported) < floor(name), f"{name} imports {imported}, which is not below it"


@pytest.mark.parametrize("name", MODULES)
def test_rooms_keep_their_libraries(name):
    forbidden = set().union(EVERYWHERE_FORBIDDEN, *(libs for r, libs in FORBIDDEN.items() if within(name, r)))
    if name == NODE_IN_THE_SIMULATION:
        forbidden = EVERYWHERE_FORBIDDEN
    used = {imported.partition(".")[0] for imported in imports(name)}
    assert not used & forbidden, f"{name} imports {', '.join(sorted(used & forbidden))}"


@pytest.mark.parametrize("method", [m for m in METHODS if f"irl_ros.learning.{m}" in MODULES])
def test_methods_do_not_import_one_another(method):
    others = {f"irl_ros.learning.{m}" for m in METHODS if m != method}
    assert not imports(f"irl_ros.learning.{method}") & others


def test_launch_is_imported_by_launching_alone():
    users = {name for name in MODULES if {"launch", "launch_ros"} & {i.partition(".")[0] for i in imports(name)}}
    assert users == {"irl_ros.launching"}
