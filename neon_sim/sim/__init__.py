"""The simulated robot: everything here speaks MuJoCo (qpos, qvel, ctrl); outside it joints are in hardware order."""
