//! One run: the fleet, the workload and the nemesis together, then the drain and the verdict.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::checker::{self, Allowance, Verdict};
use crate::drain;
use crate::fleet::{Fleet, LEASE, LIVENESS};
use crate::forget::{self, Holding};
use crate::log::{Fault, History, Log, What};
use crate::nemesis::Nemesis;
use crate::workload::Workload;

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is broken, and what is submitted, follows from it; when the processes do what does not.
    pub seed: u64,
    /// How long jobs are submitted and things broken.
    pub time: Duration,
    /// How many API processes.
    pub apis: usize,
    /// How many worker processes.
    pub workers: usize,
    /// How many clients.
    pub clients: u64,
    /// What may break.
    pub faults: Vec<Fault>,
    /// How long the fleet may take to work off what it has, once all is whole.
    pub drain: Duration,
    /// The guard that the programs are to lack, by its name in the feature `sabotage`: the run should not hold then.
    pub without: Option<&'static str>,
    /// Whether to wait until the retention of all jobs is over, some time after the drain, and to look what is left.
    pub forget: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            time: Duration::from_secs(60),
            apis: 2,
            workers: 3,
            clients: 4,
            faults: Fault::MADE.to_vec(),
            drain: Duration::from_secs(60),
            without: None,
            forget: false,
        }
    }
}

/// How long the look at all jobs after the drain may take.
const LOOK: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// All that happened.
    pub history: History,
    /// What the checker says.
    pub verdict: Verdict,
}

/// What the checker lets pass. A worker's beat may be a third of the liveness old when it falls silent, the reaper looks
/// every tenth of it, and after an outage it holds its judgement for one lease.
pub fn allowance() -> Allowance {
    let grace = LIVENESS * 2 + LEASE * 2;
    Allowance { grace: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX), slack: 300 }
}

/// Runs once.
///
/// # Errors
/// When the fleet does not start, or does not answer after all faults are over.
pub async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let log = Arc::new(Log::default());
    let mut fleet = Fleet::start(Arc::clone(&log), options.apis, options.workers, options.without).await?;
    let stalls = tokio::spawn(note_stalls(Arc::clone(&log)));
    let end = Instant::now() + options.time;
    let before = Holding::look(&fleet).await?;
    // The drain is over by then, and all ends are looked at.
    let retention_ends = end + options.drain + LOOK;
    let mut workload = Workload::new(Arc::clone(&log), fleet.endpoints.clone(), options.seed);
    if options.forget {
        workload.keep_until(retention_ends);
    }
    let clients = tokio::spawn(workload.run(options.clients, end, end + options.drain));
    Nemesis::new(&mut fleet, &log, options.seed).run(&options.faults, end).await?;
    drain::heal(&fleet).await?;
    clients.await?;
    drain::wait_until_idle(&fleet, Instant::now() + options.drain).await;
    drain::sweep(&fleet, &log).await?;
    if options.forget {
        forget::wait_and_compare(&fleet, &log, before, retention_ends).await?;
    }
    stalls.abort();
    drop(fleet);
    let history = log.history();
    let verdict = checker::check(&history, allowance());
    Ok(Outcome { history, verdict })
}

/// On a busy machine the processes stand still without anybody's doing, and so does this one.
async fn note_stalls(log: Arc<Log>) {
    const TICK: Duration = Duration::from_millis(50);
    const STALL: Duration = Duration::from_millis(700);
    loop {
        let begun = Instant::now();
        sleep(TICK).await;
        if begun.elapsed() > STALL {
            let fault = log.number("fault");
            let target = format!("for {:?}", begun.elapsed());
            log.record(What::FaultBegan { fault, kind: Fault::MachineStall, target });
            log.record(What::FaultEnded { fault });
        }
    }
}
