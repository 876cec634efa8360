"""Simulation tasks: scene, observation, success; one file each."""
