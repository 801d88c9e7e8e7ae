//! Faults of Redis itself.

use std::time::Duration;

use rand::RngExt as _;
use redis::Value;
use tokio::time::sleep;

use super::Nemesis;
use crate::fleet::POOL;
use crate::log::Fault;

const LANES: [&str; 5] = ["high", "normal", "low", "front", "suspect"];

impl Nemesis<'_> {
    pub(super) async fn break_redis(&mut self, kind: Fault) -> anyhow::Result<()> {
        match kind {
            Fault::KillRedis => {
                let time = self.ms(0..4000);
                self.fleet.redis.kill();
                sleep(time).await;
                self.fleet.redis.restart().await;
            }
            Fault::FreezeRedis => {
                let time = self.ms(200..5000);
                self.fleet.redis.freeze();
                sleep(time).await;
                self.fleet.redis.thaw();
            }
            Fault::ScriptFlush => {
                for _ in 0..20 {
                    self.command(&["SCRIPT", "FLUSH"]).await?;
                    let time = self.ms(1..30);
                    sleep(time).await;
                }
            }
            Fault::ClientKill => {
                for kind in ["normal", "pubsub"] {
                    self.command(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).await?;
                }
            }
            Fault::ClockStep => {
                // What comes due by the wrong clock waits for the right one to get there: not for long, or no drain would end.
                let is_back = self.random.random_bool(0.5);
                let off = self.random.random_range(if is_back { -1_800_000..0 } else { 1..8000 });
                let time = self.ms(200..4000);
                self.fleet.redis.step_clock(off);
                sleep(time).await;
                self.fleet.redis.step_clock(0);
            }
            Fault::DeleteConsumer => self.delete_consumers().await?,
            Fault::Failover => self.fail_over().await,
            Fault::OutOfMemory => {
                let time = self.ms(200..2500);
                // Less than it uses already.
                self.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await?;
                sleep(time).await;
                self.command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// The primary dies, and who takes over has heard nothing for the last moment. The APIs are cut off for that long: what
    /// clients were told is then on both, as `durability = "replica"` has it, and only what workers did since is forgotten.
    async fn fail_over(&mut self) {
        // Time for what Redis has read to be written, and for its answers to be lost.
        const SETTLE: Duration = Duration::from_millis(100);
        let (lag, gap) = (self.ms(50..1500), self.ms(0..1000));
        for api in &self.fleet.apis {
            api.proxy.refuse();
        }
        sleep(SETTLE).await;
        self.fleet.redis.keep_copy();
        sleep(lag).await;
        self.fleet.redis.kill();
        sleep(gap).await;
        self.fleet.redis.restart_from_copy().await;
        for api in &self.fleet.apis {
            api.proxy.pass();
        }
    }

    /// Of every lane one consumer, with whatever is pending for it.
    async fn delete_consumers(&mut self) -> anyhow::Result<()> {
        for lane in LANES {
            let stream = format!("overshot:{{{POOL}.0}}:q:{lane}");
            // A lane that was never used has no group.
            let Ok(Value::Array(consumers)) =
                self.fleet.redis.command(&["XINFO", "CONSUMERS", &stream, "workers"]).await
            else {
                continue;
            };
            let names: Vec<String> = consumers.iter().filter_map(name_of).collect();
            if !names.is_empty() {
                let name = &names[self.random.random_range(0..names.len())];
                self.command(&["XGROUP", "DELCONSUMER", &stream, "workers", name]).await?;
            }
        }
        Ok(())
    }

    async fn command(&self, command: &[&str]) -> anyhow::Result<()> {
        self.fleet.redis.command(command).await?;
        Ok(())
    }
}

/// The name in a row of XINFO CONSUMERS, a list of fields and values.
fn name_of(row: &Value) -> Option<String> {
    let Value::Array(fields) = row else { return None };
    match fields.get(1)? {
        Value::BulkString(name) => String::from_utf8(name.clone()).ok(),
        _ => None,
    }
}
