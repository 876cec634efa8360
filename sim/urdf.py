"""Robot descriptions in which what does not move is one link: what a task holds still costs no physics.

PyBullet's own URDF_MERGE_FIXED_LINKS puts the centres of mass of merged links in wrong places.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pinocchio
from pinocchio import SE3, Inertia

from irl_ros.contract import ContractError

TENSOR = {"ixx": (0, 0), "ixy": (0, 1), "ixz": (0, 2), "iyy": (1, 1), "iyz": (1, 2), "izz": (2, 2)}


def rigid(urdf: Path, held: Mapping[str, float]) -> str:
    """The text of a URDF without fixed joints; those named in `held` are fixed at these positions, [rad] or [m].

    Meshes are named by absolute path, so that the text can be read from anywhere.
    """
    root = ElementTree.parse(urdf).getroot()
    joints = {joint.get("name"): joint for joint in root.findall("joint")}
    if missing := [name for name in held if name not in joints]:
        raise ContractError(f"{urdf}: it should hold {', '.join(missing)}, but it has no joint of that name")
    for name, value in held.items():
        _hold(joints[name], value)
    for joint in joints.values():
        if joint.get("type") == "fixed":
            _merge(root, joint)
    for mesh in root.iter("mesh"):
        mesh.set("filename", _absolute(mesh.get("filename"), urdf.parent))
    return ElementTree.tostring(root, encoding="unicode")


def _hold(joint: Element, value: float) -> None:
    """Fix a joint where its motion along or about its axis takes it."""
    motion = SE3.Identity()
    direction = np.array([1.0, 0.0, 0.0]) if joint.find("axis") is None else _numbers(joint.find("axis"), "xyz")
    if joint.get("type") == "prismatic":
        motion.translation = value * direction
    else:
        motion.rotation = pinocchio.exp3(value * direction)
    _place(joint, _origin(joint) * motion)
    joint.set("type", "fixed")


def _merge(root: Element, joint: Element) -> None:
    """Make a fixed joint's child a part of its parent."""
    links = {link.get("name"): link for link in root.findall("link")}
    name, at = joint.find("parent").get("link"), _origin(joint)
    child, parent = links[joint.find("child").get("link")], links[name]
    for part in (*child.findall("visual"), *child.findall("collision")):
        _place(part, at * _origin(part))
        parent.append(part)
    _set_inertia(parent, _inertia(parent) + at.act(_inertia(child)))
    for other in root.findall("joint"):
        if other.find("parent").get("link") == child.get("name"):
            _place(other, at * _origin(other))
            other.find("parent").set("link", name)
    root.remove(child)
    root.remove(joint)


def _inertia(link: Element) -> Inertia:
    """In the link's frame; without mass none, as PyBullet has it."""
    inertial = link.find("inertial")
    if inertial is None or float(inertial.find("mass").get("value")) == 0.0:
        return Inertia.Zero()
    tensor = np.empty((3, 3))
    for name, (i, j) in TENSOR.items():
        tensor[i, j] = tensor[j, i] = float(inertial.find("inertia").get(name))
    return _origin(inertial).act(Inertia(float(inertial.find("mass").get("value")), np.zeros(3), tensor))


def _set_inertia(link: Element, inertia: Inertia) -> None:
    if inertia.mass == 0.0:
        return
    if (inertial := link.find("inertial")) is not None:
        link.remove(inertial)
    inertial = ElementTree.SubElement(link, "inertial")
    _place(inertial, SE3(np.eye(3), inertia.lever))
    ElementTree.SubElement(inertial, "mass", value=repr(inertia.mass))
    ElementTree.SubElement(inertial, "inertia", {n: repr(float(inertia.inertia[ij])) for n, ij in TENSOR.items()})


def _origin(element: Element) -> SE3:
    origin = element.find("origin")
    if origin is None:
        return SE3.Identity()
    return SE3(pinocchio.rpy.rpyToMatrix(_numbers(origin, "rpy")), _numbers(origin, "xyz"))


def _place(element: Element, at: SE3) -> None:
    origin = element.find("origin")
    if origin is None:
        origin = ElementTree.SubElement(element, "origin")
    origin.set("xyz", " ".join(map(repr, at.translation.tolist())))
    origin.set("rpy", " ".join(map(repr, pinocchio.rpy.matrixToRpy(at.rotation).tolist())))


def _numbers(element: Element, name: str) -> np.ndarray:
    return np.array([float(x) for x in element.get(name, "0 0 0").split()])


def _absolute(mesh: str, folder: Path) -> str:
    """Where PyBullet would find a mesh: beside the URDF or above it, `package://` or not."""
    path = mesh.removeprefix("package://").removeprefix("file://")
    return next((str(place / path) for place in (folder, *folder.parents) if (place / path).is_file()), mesh)
