"""The 30 links of the stock Unitree G1: where each joint sits in its parent, about which axis it turns, what it weighs.

Every limb is a chain: legs and waist hang on the pelvis, arms on the torso, each further link on the one above it.
Digits are those of the official MJCF (unitree_ros d6f13aad, g1_29dof_rev_1_0.xml, BSD-3-Clause). Row 0 is the pelvis;
row i + 1 is moved by joint i of the hardware order. Inertia tensors are left to the MJCF: kinematics needs masses only.
"""

from typing import Final, NamedTuple

Vec3 = tuple[float, float, float]
Vec4 = tuple[float, float, float, float]


class Link(NamedTuple):
    """One rigid body. Its joint turns it about `axis`, a unit axis of its own frame."""

    name: str
    axis: str  # "x", "y" or "z"; unused for the pelvis, which floats
    pos: Vec3  # m, frame origin in the parent's frame
    mass: float  # kg
    com: Vec3  # m, centre of mass in the link's own frame
    quat_wxyz: Vec4 = (1.0, 0.0, 0.0, 0.0)  # frame orientation in the parent at joint angle 0; six digits, normalise it


# Tilts of joint axes at angle 0: the hip's 10 degrees, which the knee takes back, and the shoulder's 16, likewise.
_HIP: Final = (0.996179, 0.0, -0.0873386, 0.0)
_KNEE: Final = (0.996179, 0.0, 0.0873386, 0.0)
_SHOULDER_L: Final = (0.990264, 0.139201, 1.38722e-5, -9.86868e-5)
_ARM_L: Final = (0.990268, -0.139172, 0.0, 0.0)
_SHOULDER_R: Final = (0.990264, -0.139201, 1.38722e-5, 9.86868e-5)
_ARM_R: Final = (0.990268, 0.139172, 0.0, 0.0)

LINKS: Final[tuple[Link, ...]] = (
    Link("pelvis", "z", (0.0, 0.0, 0.0), 3.813, (0.0, 0.0, -0.07605)),
    Link("left_hip_pitch", "y", (0.0, 0.064452, -0.1027), 1.35, (0.002741, 0.047791, -0.02606)),
    Link("left_hip_roll", "x", (0.0, 0.052, -0.030465), 1.52, (0.029812, -0.001045, -0.087934), _HIP),
    Link("left_hip_yaw", "z", (0.025001, 0.0, -0.12412), 1.702, (-0.057709, -0.010981, -0.15078)),
    Link("left_knee", "y", (-0.078273, 0.0021489, -0.17734), 1.932, (0.005457, 0.003964, -0.12074), _KNEE),
    Link("left_ankle_pitch", "y", (0.0, -9.4445e-5, -0.30001), 0.074, (-0.007269, 0.0, 0.011137)),
    Link("left_ankle_roll", "x", (0.0, 0.0, -0.017558), 0.608, (0.026505, 0.0, -0.016425)),
    Link("right_hip_pitch", "y", (0.0, -0.064452, -0.1027), 1.35, (0.002741, -0.047791, -0.02606)),
    Link("right_hip_roll", "x", (0.0, -0.052, -0.030465), 1.52, (0.029812, 0.001045, -0.087934), _HIP),
    Link("right_hip_yaw", "z", (0.025001, 0.0, -0.12412), 1.702, (-0.057709, 0.010981, -0.15078)),
    Link("right_knee", "y", (-0.078273, -0.0021489, -0.17734), 1.932, (0.005457, -0.003964, -0.12074), _KNEE),
    Link("right_ankle_pitch", "y", (0.0, 9.4445e-5, -0.30001), 0.074, (-0.007269, 0.0, 0.011137)),
    Link("right_ankle_roll", "x", (0.0, 0.0, -0.017558), 0.608, (0.026505, 0.0, -0.016425)),
    Link("waist_yaw", "z", (0.0, 0.0, 0.0), 0.214, (0.003494, 0.000233, 0.018034)),
    Link("waist_roll", "x", (-0.0039635, 0.0, 0.044), 0.086, (0.0, 2.3e-5, 0.0)),
    Link("torso", "y", (0.0, 0.0, 0.0), 7.818, (0.00203158, 0.000339683, 0.184568)),
    Link("left_shoulder_pitch", "y", (0.0039563, 0.10022, 0.24778), 0.718, (0.0, 0.035892, -0.011628), _SHOULDER_L),
    Link("left_shoulder_roll", "x", (0.0, 0.038, -0.013831), 0.643, (-0.000227, 0.00727, -0.063243), _ARM_L),
    Link("left_shoulder_yaw", "z", (0.0, 0.00624, -0.1032), 0.734, (0.010773, -0.002949, -0.072009)),
    Link("left_elbow", "y", (0.015783, 0.0, -0.080518), 0.6, (0.064956, 0.004454, -0.010062)),
    Link("left_wrist_roll", "x", (0.1, 0.00188791, -0.01), 0.085445, (0.0171394, 0.000537591, 4.8864e-7)),
    Link("left_wrist_pitch", "y", (0.038, 0.0, 0.0), 0.48405, (0.0229999, -0.00111685, -0.00111658)),
    Link("left_wrist_yaw", "z", (0.046, 0.0, 0.0), 0.254576, (0.0708244, 0.000191745, 0.00161742)),
    Link("right_shoulder_pitch", "y", (0.0039563, -0.10021, 0.24778), 0.718, (0.0, -0.035892, -0.011628), _SHOULDER_R),
    Link("right_shoulder_roll", "x", (0.0, -0.038, -0.013831), 0.643, (-0.000227, -0.00727, -0.063243), _ARM_R),
    Link("right_shoulder_yaw", "z", (0.0, -0.00624, -0.1032), 0.734, (0.010773, 0.002949, -0.072009)),
    Link("right_elbow", "y", (0.015783, 0.0, -0.080518), 0.6, (0.064956, -0.004454, -0.010062)),
    Link("right_wrist_roll", "x", (0.1, -0.00188791, -0.01), 0.085445, (0.0171394, -0.000537591, 4.8864e-7)),
    Link("right_wrist_pitch", "y", (0.038, 0.0, 0.0), 0.48405, (0.0229999, 0.00111685, -0.00111658)),
    Link("right_wrist_yaw", "z", (0.046, 0.0, 0.0), 0.254576, (0.0708244, -0.000191745, 0.00161742)),
)

PALM_OFFSET: Final[Vec3] = (0.08, 0.0, 0.0)  # m, palm site in the wrist_yaw link (Menagerie and the official URDF)
# m, in the ankle_roll link: under the middle of the four contact spheres (official MJCF), which span 0.17 by 0.055 m.
SOLE_CENTER: Final[Vec3] = (0.035, 0.0, -0.035)
