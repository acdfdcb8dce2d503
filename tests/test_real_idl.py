"""The types are described to other DDS processes exactly as CycloneDDS 0.10.2 describes them: else it crashes."""

import ast
import hashlib
import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from bridge_process import DOMAINS
from cyclonedds.idl import IdlStruct

from neon_sim.real import sdk_peer
from neon_sim.real.codec import layout
from neon_sim.real.idl import ros, unitree_api, unitree_go, unitree_hg
from neon_sim.real.low_cmd import LowCmdWriter
from neon_sim.real.transport import Link, LinkConfig, wait_for

REAL = Path(inspect.getfile(sdk_peer)).parent
MODULES = (unitree_hg, unitree_go, unitree_api, ros)
# md5 of the type information and of the type map that CycloneDDS 0.10.2 (Debian 12's 0.10.2-2, cyclonedds-python
# 0.10.2) makes of these types with `uint8`, as Unitree's SDK declares them. Made on 2026-11-25.
OF_0_10_2 = {
    "unitree_hg.msg.dds_.LowCmd_": ("c2717957e94136d41e8c3926b3fe3c71", "8cc5c5b69bc998e85203003c8f45ae1c"),
    "unitree_hg.msg.dds_.LowState_": ("7b19e65f98539386ba336a72a7f667f3", "f02e596f4b722f64bc5797b6e51a592b"),
    "unitree_hg.msg.dds_.IMUState_": ("9c4773e61c84f0bdaf66de276eb61a93", "a3d62349725c01f252aa2f264fc62331"),
    "unitree_hg.msg.dds_.BmsState_": ("2a04ebd23069a2aa761a2ddced3c3f08", "5e01edea6de2cfe95d5367ab23b3e9f1"),
    "unitree_hg.msg.dds_.SportModeState_": ("a83c138c2c6cc57c4d90986b3558ea0d", "54c2883cf2aaae5d5f3a99c3ad1d6098"),
    "unitree_go.msg.dds_.SportModeState_": ("b187e405a217bfa12569dcaa2891ab95", "74ed9a2d738cd23e5c21f55c93c8b680"),
    "unitree_go.msg.dds_.WirelessController_": ("46805991a7df5f3165f86ea4d45aaec1", "1aec08c5c5b940ac96d36ee4f4ae5db7"),
    "unitree_go.msg.dds_.MotorCmds_": ("5ad4be228fa7a7f6e72c7ccdd2b14eba", "08cf9d8f7ee658ecd2ca0b234e7a9901"),
    "unitree_api.msg.dds_.Request_": ("37b71922a7f7971211038b5369e6edf6", "0bc23fa01c14160c3835ab3c46eeda27"),
    "unitree_api.msg.dds_.Response_": ("e7e2d492aecc75c553bc90a868c858b3", "2622be598ba169d05b22b076c87a5df0"),
    "std_msgs.msg.dds_.String_": ("c14cb4b9eab762952a2680bb2171e4aa", "b18db8248acf41d086fbf9f728f50a5c"),
    "sensor_msgs.msg.dds_.PointCloud2_": ("ad6fe68b4576a0de3eaeede8679162a7", "e6739d0377c0f2f62d0df3912c4701d7"),
    "sensor_msgs.msg.dds_.Imu_": ("1b065b46fc719638a2435161aa843b44", "10c2da4dd27bbefd4cdd385da8846017"),
    "nav_msgs.msg.dds_.Odometry_": ("74faf9c271403438053bcfed6f23f000", "4c3c41d5bb892efe91321fa7e21ac6ac"),
}
MESSAGES = {
    value.__idl_typename__: value
    for module in MODULES
    for value in vars(module).values()
    if inspect.isclass(value) and issubclass(value, IdlStruct) and value.__module__ == module.__name__
}


def description(data_type: type[IdlStruct]) -> tuple[str, str]:
    """What CycloneDDS tells other processes of a type: md5 of the type information and of the type map."""
    info, mapping = data_type.__idl__.get_type_info(), data_type.__idl__.get_type_mapping()
    return tuple(hashlib.md5(part.serialize(use_version_2=True)[4:]).hexdigest() for part in (info, mapping))


@pytest.mark.parametrize("name", OF_0_10_2)
def test_a_type_is_described_as_0_10_2_describes_it(name):
    assert description(MESSAGES[name]) == OF_0_10_2[name]


def test_every_message_is_pinned_or_part_of_one_that_is():
    """A new topic type needs its line above: the hash is all that stands between it and a crashing peer."""
    used = {
        node.id if isinstance(node, ast.Name) else ""
        for module in MODULES
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Name)
    }
    alone = {name for name, message in MESSAGES.items() if message.__name__ not in used}
    assert alone <= set(OF_0_10_2)


def test_no_type_says_uint8():
    for module in MODULES:
        assert "types.uint8" not in inspect.getsource(module), f"{module.__name__}: use types.byte"


UINT8 = """
    from dataclasses import dataclass
    from cyclonedds.idl import IdlStruct, annotations, types
    import hashlib
    {before}
    @dataclass
    @annotations.final
    @annotations.autoid("sequential")
    class Gamepad(IdlStruct, typename="unitree_hg.msg.dds_.MotorCmd_"):
        mode: types.uint8
        q: types.float32
        dq: types.float32
        tau: types.float32
        kp: types.float32
        kd: types.float32
        reserve: types.uint32
    print(hashlib.md5(Gamepad.__idl__.get_type_info().serialize(use_version_2=True)[4:]).hexdigest())
"""


def test_the_sdks_own_types_are_made_harmless():
    """In processes of their own: the change is for the whole process, and it is the point that it is needed."""
    fix = "from neon_sim.real import sdk_peer; sdk_peer.describe_bytes_as_0_10_does()"
    wanted = description(unitree_hg.MotorCmd)[0]
    described = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(UINT8.format(before=before))],
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout.strip()
        for before in ("", fix)
    ]  # fmt: skip
    assert described[0] != wanted
    assert described[1] == wanted


def test_the_sdk_is_imported_in_one_file_only():
    naming = [path.name for path in REAL.rglob("*.py") if "unitree_sdk2py." in path.read_text(encoding="utf-8")]
    assert naming == ["sdk_peer.py"]


@pytest.mark.skipif(sdk_peer.have_sdk(), reason="unitree_sdk2py is installed")
def test_without_the_sdk_the_error_says_where_it_is():
    with pytest.raises(ImportError, match="pip install --no-deps -e"):
        sdk_peer.open_sdk(LinkConfig())
    with pytest.raises(ValueError, match="Did you mean 'sport'"):
        sdk_peer.sdk_client("sprot")


PEER = """
    import sys, time
    sys.path.insert(0, sys.argv[1])
    import unitree_hg as hg
    from cyclonedds.core import InstanceState
    from cyclonedds.domain import Domain, DomainParticipant
    from cyclonedds.pub import DataWriter
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic
    here = int(sys.argv[2])
    lo = '<General><Interfaces><NetworkInterface name="lo" multicast="default"/></Interfaces></General>'
    domain = Domain(here, f'<CycloneDDS><Domain Id="any">{lo}</Domain></CycloneDDS>')
    participant = DomainParticipant(here)
    writer = DataWriter(participant, Topic(participant, "rt/lowstate", hg.LowState))
    reader = DataReader(participant, Topic(participant, "rt/lowcmd", hg.LowCmd))
    state, heard, end = hg.LowState.deserialize(bytes([0, 1, 0, 0]) + bytes(2088)), 0, time.monotonic() + 20
    while heard < 50 and time.monotonic() < end:
        state.tick += 1
        state.motor_state[3].q = 0.25
        writer.write(state)
        heard += sum(getattr(c, "mode_machine", 0) == 5 and c.motor_cmd[7].kp == 40.0 for c in reader.take(N=10))
        time.sleep(0.002)
    print(heard)
    time.sleep(0.5)
"""


@pytest.mark.skipif("NEON_DDS_0_10_PYTHON" not in os.environ, reason="names no Python that has cyclonedds 0.10.2")
def test_a_real_0_10_2_process_talks_with_this_one_and_lives(tmp_path):
    """The peer runs the SDK's settings on the SDK's version; before `types.byte` it died of a segmentation fault."""
    for path in (REAL / "idl").glob("*.py"):  # 0.10.2 has no `byte`, and needs none
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8").replace("types.byte", "types.uint8"))
    domain = next(DOMAINS)
    with Link(LinkConfig(domain=domain)) as link:
        states, commands = link.reader("rt/lowstate", unitree_hg.LowState, 8), LowCmdWriter(5)
        writer = link.writer("rt/lowcmd", unitree_hg.LowCmd)
        commands.kp[:] = 40.0
        peer = subprocess.Popen(
            [os.environ["NEON_DDS_0_10_PYTHON"], "-c", textwrap.dedent(PEER), str(tmp_path), str(domain)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        heard = []
        assert wait_for(lambda: states.writers() and writer.readers(), 15.0)
        while peer.poll() is None:
            writer.write(commands.encode())
            states.wait(0.01)
            heard += [layout(unitree_hg.LowState).decode(sample) for sample in states.take()]
        assert int(peer.communicate(timeout=10)[0]) >= 50
        assert peer.returncode == 0
    assert len(heard) >= 20
    assert all(state["motor_state"]["q"][3] == 0.25 for state in heard)
