"""PyBullet arms as gymnasium envs and as simulated ROS robots. Importing this registers the env ids."""

import gymnasium

gymnasium.register(id="irl_ros/Reach-v0", entry_point="irl_ros_sim.tasks.reach:ReachEnv")
gymnasium.register(id="irl_ros/PlanarReach-v0", entry_point="irl_ros_sim.tasks.planar_reach:PlanarReachEnv")
gymnasium.register(id="irl_ros/Navigate2D-v0", entry_point="irl_ros_sim.tasks.navigate2d:Navigate2DEnv")
gymnasium.register(id="irl_ros/Detour-v0", entry_point="irl_ros_sim.tasks.detour:DetourEnv")
gymnasium.register(id="irl_ros/ReachGrid-v0", entry_point="irl_ros_sim.tasks.reach_grid:ReachGridEnv")
gymnasium.register(id="irl_ros/Push-v0", entry_point="irl_ros_sim.tasks.push:PushEnv")
gymnasium.register(id="irl_ros/PegInsertion-v0", entry_point="irl_ros_sim.tasks.peg_insertion:PegInsertionEnv")
gymnasium.register(id="irl_ros/PickPlace-v0", entry_point="irl_ros_sim.tasks.pick_place:PickPlaceEnv")
