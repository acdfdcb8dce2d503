"""What the Unitree G1 is: joints, limits, gains, action space, geometry and kinematics, in plain numpy."""
