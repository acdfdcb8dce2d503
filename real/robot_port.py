"""The network side of a robot's control: its states in, commands out, who else writes, and what its services say."""

from neon_sim.real.command_paths import HighLevel, LowLevel, Outgoing
from neon_sim.real.control_core import ControlCore
from neon_sim.real.control_records import Order
from neon_sim.real.errors import NotArmedError
from neon_sim.real.idl.unitree_hg import LowCmd, LowState
from neon_sim.real.preflight import Facts, Finding, objections, preflight
from neon_sim.real.robot_config import RobotConfig
from neon_sim.real.robot_services import RobotServices
from neon_sim.real.transport import Link

_STATES = 8  # states that may wait; a control process that was late reads them all


class RobotPort:
    """One robot's topics and services, opened once.

    Raises:
        LinkError: no such interface, not loopback without `allow_network`, or the domain is open here already.
    """

    def __init__(self, config: RobotConfig) -> None:
        self.config = config
        self.link = Link(config.link)
        path = config.control.path
        topic = HighLevel.topic if path == "high_level" else LowLevel.topic
        self._states = self.link.reader("rt/lowstate", LowState, _STATES, reliable=config.clock == "lock_step")
        self._commands = self.link.writer(topic, LowCmd)
        self._ears = self.link.reader(topic, LowCmd)  # counts writers; what it hears is never taken
        self.services = RobotServices(self.link, path, config.velocity_s)
        self.services.start()

    def take_states(self, core: ControlCore, now_s: float) -> bool:
        """Hand every state that has come to the core; True if one was new."""
        return any([core.take(sample, now_s) for sample in self._states.take()])

    def wait(self, timeout_s: float) -> bool:
        """Sleep until a state is there or the time is over."""
        return self._states.wait(timeout_s)

    def writers(self) -> int:
        """How many write to our topic, this port among them."""
        return max(1, self._ears.writers())

    def send(self, outgoing: Outgoing) -> None:
        """Put one tick's message on the wire."""
        if outgoing.low_cmd is not None:
            self._commands.write(outgoing.low_cmd)
        self.services.wish(outgoing.velocity, outgoing.damp)

    def preflight(self, core: ControlCore, now_s: float, gantry: bool) -> tuple[Finding, ...]:
        """Look at everything that must be true before arming."""
        services = self.services
        facts = Facts(
            path=self.config.control.path,
            record=core.monitor.record,
            faults=core.monitor.visible(now_s),
            writers=self.writers(),
            mode=services.mode,
            mode_error=services.mode_error,
            fsm=services.fsm,
            charge=services.charge,
            gantry=gantry,
            loopback=self.config.link.on_loopback,
        )
        return preflight(facts)

    def carry_out(self, order: Order, core: ControlCore, now_s: float, gantry: bool) -> bool:
        """Do what a person asks for; False if it was refused. The findings and reasons are the core's then."""
        if order in (Order.CHECK, Order.ARM):
            findings = self.preflight(core, now_s, gantry)
            core.findings = [finding.as_dict() for finding in findings]
            if order is Order.CHECK:
                return True
            try:
                core.arm(now_s, objections(findings))
            except NotArmedError:
                return False
        elif order is Order.RELEASE_MODE:
            self.services.release_mode()
        elif order is Order.HALT:
            core.halt(now_s)
        elif order in (Order.DISARM, Order.QUIT):
            core.disarm(now_s)
        return True

    def close(self) -> None:
        """Leave the network. Safe to call twice."""
        self.services.close()
        self.link.close()
