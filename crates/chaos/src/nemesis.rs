//! What breaks the fleet: one fault after the other, from a shuffled deck, so that each has its turn.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use support::Program;
use tokio::time::{Instant, sleep};

use crate::fleet::{DRAIN, Fleet};
use crate::log::{Fault, Log, What};
use crate::provider::Health;

mod on_redis;

/// Pauses between two faults, in ms: short ones let a fault meet the aftermath of the one before.
const PAUSE: std::ops::Range<u64> = 200..1500;

/// Breaks things until the time is up; ends with everything whole, but for what the last fault left in motion.
#[derive(Debug)]
pub struct Nemesis<'a> {
    fleet: &'a mut Fleet,
    log: &'a Log,
    random: StdRng,
}

impl<'a> Nemesis<'a> {
    /// The same seed breaks the same things in the same order.
    pub fn new(fleet: &'a mut Fleet, log: &'a Log, seed: u64) -> Self {
        Self { fleet, log, random: StdRng::seed_from_u64(seed) }
    }

    /// Breaks what `kinds` names until `end`.
    ///
    /// # Errors
    /// When Redis refuses what it should not.
    pub async fn run(mut self, kinds: &[Fault], end: Instant) -> anyhow::Result<()> {
        let mut deck = Vec::new();
        loop {
            sleep(self.ms(PAUSE)).await;
            if Instant::now() >= end {
                return Ok(());
            }
            if deck.is_empty() {
                deck = kinds.to_vec();
                deck.shuffle(&mut self.random);
            }
            if let Some(kind) = deck.pop() {
                self.make(kind).await?;
            }
        }
    }

    async fn make(&mut self, kind: Fault) -> anyhow::Result<()> {
        let fault = self.log.number("fault");
        let worker = self.random.random_range(0..self.fleet.workers.len());
        let api = self.random.random_range(0..self.fleet.apis.len());
        let target = match kind {
            Fault::KillWorker | Fault::StopWorker => format!("worker {worker}"),
            Fault::KillApi | Fault::StopApi => format!("API {api}"),
            _ => String::new(),
        };
        self.log.record(What::FaultBegan { fault, kind, target });
        match kind {
            Fault::KillWorker => self.kill(Program::Worker, worker).await,
            Fault::KillApi => self.kill(Program::Api, api).await,
            Fault::StopWorker => {
                // Sometimes past its death, sometimes not.
                let time = self.ms(300..6000);
                self.fleet.workers[worker].process.stop();
                sleep(time).await;
                self.fleet.workers[worker].process.cont();
            }
            Fault::StopApi => {
                let time = self.ms(300..3000);
                self.fleet.apis[api].process.stop();
                sleep(time).await;
                self.fleet.apis[api].process.cont();
            }
            Fault::Cut | Fault::Refuse | Fault::BlackHole | Fault::OneWay | Fault::LoseAnswer | Fault::Latency => {
                self.break_connections(kind).await;
            }
            Fault::SlowProvider => self.provider(Health::Slow).await,
            Fault::ProviderDown => self.provider(Health::Down).await,
            Fault::RollingDrain => self.rolling_drain().await,
            Fault::KillRedis
            | Fault::FreezeRedis
            | Fault::ScriptFlush
            | Fault::ClientKill
            | Fault::DeleteConsumer
            | Fault::ClockStep
            | Fault::Failover
            | Fault::OutOfMemory => self.break_redis(kind).await?,
            Fault::MachineStall => {}
        }
        self.log.record(What::FaultEnded { fault });
        Ok(())
    }

    async fn kill(&mut self, program: Program, place: usize) {
        let time = self.ms(0..1500);
        match program {
            Program::Api => self.fleet.apis[place].process.kill(),
            Program::Worker => self.fleet.workers[place].process.kill(),
        }
        sleep(time).await;
        self.fleet.start_again(program, place).await;
    }

    /// Of one process, or of all.
    async fn break_connections(&mut self, kind: Fault) {
        let mut proxies = self.fleet.proxies();
        if self.random.random_bool(0.6) {
            let place = self.random.random_range(0..proxies.len());
            proxies = vec![proxies.swap_remove(place)];
        }
        for proxy in &proxies {
            match kind {
                Fault::Cut => proxy.cut(),
                Fault::Refuse => proxy.refuse(),
                Fault::BlackHole => proxy.black_hole(),
                Fault::OneWay => proxy.one_way(),
                Fault::LoseAnswer => proxy.lose_answer_to(b"EVALSHA"),
                _ => proxy.delay(self.ms(20..400)),
            }
        }
        let time = match kind {
            Fault::Cut => Duration::ZERO,
            Fault::LoseAnswer => self.ms(100..500),
            // The processes must find out by themselves that these are dead.
            Fault::BlackHole | Fault::OneWay => self.ms(2500..4000),
            _ => self.ms(200..4000),
        };
        sleep(time).await;
        for proxy in &proxies {
            proxy.pass();
        }
    }

    async fn provider(&mut self, health: Health) {
        let time = self.ms(500..4000);
        self.fleet.provider.set(health);
        sleep(time).await;
        self.fleet.provider.set(Health::Well);
    }

    /// Asks one worker after the other to end, and starts the next one in its place.
    async fn rolling_drain(&mut self) {
        for place in 0..self.fleet.workers.len() {
            let process = &mut self.fleet.workers[place].process;
            process.term();
            let begun = Instant::now();
            while process.is_running() && begun.elapsed() < DRAIN + Duration::from_secs(10) {
                sleep(Duration::from_millis(20)).await;
            }
            if process.is_running() {
                let line = format!("worker {place} did not end within {:?} of SIGTERM", begun.elapsed());
                self.log.record(What::Panicked { line });
            }
            self.fleet.start_again(Program::Worker, place).await;
        }
    }

    fn ms(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }
}
