//! What can break.

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names in `name` say what each does")]
pub enum Fault {
    KillWorker,
    StopWorker,
    KillApi,
    StopApi,
    KillRedis,
    FreezeRedis,
    Cut,
    Refuse,
    BlackHole,
    OneWay,
    LoseAnswer,
    Latency,
    ScriptFlush,
    ClientKill,
    DeleteConsumer,
    OutOfMemory,
    SlowProvider,
    ProviderDown,
    RollingDrain,
    ClockStep,
    Failover,
    MachineStall,
}

impl Fault {
    /// What the nemesis does, in the order of the report. A stall of this machine is noted, not made.
    pub const MADE: &[Self] = &[
        Self::KillWorker,
        Self::StopWorker,
        Self::KillApi,
        Self::StopApi,
        Self::KillRedis,
        Self::FreezeRedis,
        Self::Cut,
        Self::Refuse,
        Self::BlackHole,
        Self::OneWay,
        Self::LoseAnswer,
        Self::Latency,
        Self::ScriptFlush,
        Self::ClientKill,
        Self::DeleteConsumer,
        Self::OutOfMemory,
        Self::SlowProvider,
        Self::ProviderDown,
        Self::RollingDrain,
        Self::ClockStep,
        Self::Failover,
    ];

    /// For the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillWorker => "worker: SIGKILL",
            Self::StopWorker => "worker: SIGSTOP, SIGCONT",
            Self::KillApi => "API: SIGKILL",
            Self::StopApi => "API: SIGSTOP, SIGCONT",
            Self::KillRedis => "Redis: SIGKILL, restart",
            Self::FreezeRedis => "Redis: SIGSTOP, SIGCONT",
            Self::Cut => "connections cut",
            Self::Refuse => "connections refused",
            Self::BlackHole => "connections black-holed",
            Self::OneWay => "answers swallowed",
            Self::LoseAnswer => "one answer lost",
            Self::Latency => "answers late",
            Self::ScriptFlush => "SCRIPT FLUSH",
            Self::ClientKill => "CLIENT KILL",
            Self::DeleteConsumer => "XGROUP DELCONSUMER",
            Self::OutOfMemory => "maxmemory reached",
            Self::SlowProvider => "provider slow",
            Self::ProviderDown => "provider down",
            Self::RollingDrain => "rolling drain",
            Self::ClockStep => "Redis' clock steps, and back",
            Self::Failover => "failover to a copy that lags",
            Self::MachineStall => "this machine stood still",
        }
    }

    /// Whether a worker may seem dead under it: only then may a job be taken from its holder, and two runs of one
    /// job overlap. That Redis is away is no such reason: then nobody is judged. A failover may forget a claim.
    pub fn silences_worker(self) -> bool {
        matches!(
            self,
            Self::KillWorker
                | Self::StopWorker
                | Self::Cut
                | Self::Refuse
                | Self::BlackHole
                | Self::OneWay
                | Self::Latency
                | Self::Failover
                | Self::MachineStall
        )
    }
}
