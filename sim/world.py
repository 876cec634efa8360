"""A PyBullet world: bodies to touch, things to look at, pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def _silence() -> Iterator[None]:
    """PyBullet's C code prints its build time and start arguments; they would break machine-read output."""
    saved = [os.dup(1), os.dup(2)]
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        yield
    finally:
        for k, descriptor in enumerate(saved, start=1):
            os.dup2(descriptor, k)
            os.close(descriptor)
        os.close(sink)


with _silence():
    import pybullet
    import pybullet_data
    from pybullet_utils import bullet_client

TIME_STEP = 1.0 / 240.0


class World:
    """A world of its own, gravity on. Positions are in its frame [m], orientations quaternions (x, y, z, w)."""

    camera = (1.2, -0.85, 0.8), (0.28, 0.0, 0.36)
    """Where pictures are taken from and what they look at [m]."""

    def __init__(self, gui: bool, solver_iterations: int):
        with _silence():
            self._bullet = bullet_client.BulletClient(pybullet.GUI if gui else pybullet.DIRECT)
        self.client = self._bullet._client
        self._bullet.setAdditionalSearchPath(pybullet_data.getDataPath())
        self._bullet.setPhysicsEngineParameter(
            numSolverIterations=solver_iterations, fixedTimeStep=TIME_STEP, deterministicOverlappingPairs=1
        )
        self._bullet.setGravity(0, 0, -9.81)
        self._clean: int | None = None
        self._floor: int | None = None

    def set_solver_iterations(self, iterations: int) -> None:
        """Of Bullet's constraint solver in each step."""
        self._bullet.setPhysicsEngineParameter(numSolverIterations=iterations)

    def add_marker(self, position: np.ndarray, radius: float = 0.03) -> int:
        """A green sphere without mass or contact at `position` [m]; returns its body for :meth:`move_marker`."""
        return self._add_scenery(position, pybullet.GEOM_SPHERE, radius=radius, rgbaColor=[0.1, 0.7, 0.3, 0.9])

    def add_box(self, lower: np.ndarray, upper: np.ndarray, colour: Sequence[float]) -> int:
        """A box without mass or contact between two corners [m]; `colour` is RGBA."""
        half = list((upper - lower) / 2)
        return self._add_scenery((lower + upper) / 2, pybullet.GEOM_BOX, halfExtents=half, rgbaColor=list(colour))

    def add_cylinder(self, centre: np.ndarray, radius: float, height: float, colour: Sequence[float]) -> int:
        """An upright cylinder without mass or contact that stands on the floor, at `centre` [m], shape (2,)."""
        place = np.array([*centre, height / 2])
        return self._add_scenery(place, pybullet.GEOM_CYLINDER, radius=radius, length=height, rgbaColor=list(colour))

    def add_body(
        self,
        half_extents: Sequence[float],
        position: Sequence[float],
        mass: float,
        colour: Sequence[float] = (0.8, 0.5, 0.2, 1.0),
        friction: float = 0.5,
    ) -> int:
        """A box that the arm and other bodies touch, of half these sides [m], at `position` [m]; mass 0 [kg]: immovable.

        Returns its body. Call :meth:`remember` once all bodies are there.
        """
        extents = list(half_extents)
        body = self._bullet.createMultiBody(
            baseMass=mass,
            baseCollisionShapeIndex=self._bullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=extents),
            baseVisualShapeIndex=self._bullet.createVisualShape(
                pybullet.GEOM_BOX, halfExtents=extents, rgbaColor=list(colour)
            ),
            basePosition=list(position),
        )
        self.set_friction(body, friction)
        return body

    def compensate_weight(self) -> None:
        """No gravity, for scenes where nothing can fall: most arms carry their own weight, whatever force is left."""
        self._bullet.setGravity(0, 0, 0)

    def remember(self) -> None:
        """Make the world as it is now, with all its bodies, what :meth:`restore` goes back to."""
        if self._clean is not None:
            self._bullet.removeState(self._clean)
        self._clean = self._bullet.saveState()

    def restore(self) -> None:
        """Go back to what was remembered."""
        self._bullet.restoreState(self._clean)

    def place_body(
        self, body: int, position: Sequence[float], orientation: Sequence[float] = (0.0, 0.0, 0.0, 1.0)
    ) -> None:
        """Put a body at rest at `position` [m] with `orientation` (x, y, z, w)."""
        self._bullet.resetBasePositionAndOrientation(body, list(position), list(orientation))
        self._bullet.resetBaseVelocity(body, [0, 0, 0], [0, 0, 0])

    def forget_contacts(self) -> None:
        """Drop what Bullet remembers of contacts that are no more; call while bodies touch nothing, before placing them.

        Else the next contact of the same two bodies starts from the last episode's, and differs by some micrometres.
        """
        self._bullet.performCollisionDetection()

    def body_pose(self, body: int) -> tuple[np.ndarray, np.ndarray]:
        """Position [m], shape (3,), and orientation (x, y, z, w), w ≥ 0, shape (4,), of a body in the base frame."""
        position, orientation = self._bullet.getBasePositionAndOrientation(body)
        q = np.array(orientation)
        return np.array(position), -q if q[3] < 0 else q

    def body_speed(self, body: int) -> float:
        """Speed of a body's centre [m/s]."""
        return float(np.linalg.norm(self._bullet.getBaseVelocity(body)[0]))

    def body_mass_friction(self, body: int) -> np.ndarray:
        """Mass [kg] and lateral friction of a body, shape (2,)."""
        return np.array(self._bullet.getDynamicsInfo(body, -1)[:2])

    def set_friction(self, body: int, friction: float) -> None:
        """Lateral friction coefficient of a body; Bullet multiplies the two bodies' that touch."""
        self._bullet.changeDynamics(body, -1, lateralFriction=friction)

    def set_mass(self, body: int, mass: float, link: int = -1) -> None:
        """Mass [kg] of a body, or of one of its links."""
        self._bullet.changeDynamics(body, link, mass=mass)

    def move_marker(self, marker: int, position: np.ndarray) -> None:
        self._bullet.resetBasePositionAndOrientation(marker, list(position), [0, 0, 0, 1])

    def render(self, width: int = 480, height: int = 360) -> np.ndarray:
        """A picture of the scene, uint8, shape (height, width, 3); software rendering, no screen needed."""
        self._lay_floor()
        view = self._bullet.computeViewMatrix(*self.camera, [0, 0, 1])
        projection = self._bullet.computeProjectionMatrixFOV(42, width / height, 0.05, 8.0)
        image = self._bullet.getCameraImage(
            width, height, view, projection, shadow=1, lightDirection=[1, -2, 4], renderer=pybullet.ER_TINY_RENDERER
        )
        return np.asarray(image[2], dtype=np.uint8).reshape(height, width, 4)[..., :3]

    def _lay_floor(self) -> None:
        """Under the first picture: without shadows on a floor nobody sees how far away things are."""
        if self._floor is None:
            size, colour = [1.0, 1.0, 0.005], [0.84, 0.87, 0.9, 1]
            self._floor = self._add_scenery([0.2, 0, -0.006], pybullet.GEOM_BOX, halfExtents=size, rgbaColor=colour)

    def _add_scenery(self, position: Sequence[float], kind: int, **shape: Any) -> int:
        """A body to be looked at alone. No multibody: with one more of these nothing could be restored."""
        visual = self._bullet.createVisualShape(kind, **shape)
        return self._bullet.createMultiBody(
            baseVisualShapeIndex=visual, basePosition=list(position), useMaximalCoordinates=1
        )

    def close(self) -> None:
        if self._bullet.isConnected():
            self._bullet.disconnect()
