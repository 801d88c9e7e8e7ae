//! What all workers must agree on about a provider: its circuits, who may try or wake it, its limits, what is known of it.
//!
//! Its keys begin with `overshot:{provider:<name>}`, a slot of its own; the parts are listed in `scripts/lib/provider.lua`.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue as _, Value};

use super::error::Error;
use super::{Queue, ms, parts};
use crate::config::{BreakerConfig, LimitsConfig};
use crate::ids::WorkerId;

/// The circuit of the provider itself, beside those of its models.
pub const ITSELF: &str = "*";

/// What calls of one worker came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallReport {
    /// So many were answered.
    Answered {
        /// Whose circuit it concerns.
        model: String,
        /// How many.
        calls: u64,
    },
    /// One failed by the provider's own fault.
    Failed {
        /// Whose circuit it concerns.
        model: String,
        /// The error's code.
        code: &'static str,
    },
    /// A trial, a check or a wake was answered: the circuit closes.
    TrialAnswered {
        /// Whose circuit it concerns.
        model: String,
    },
    /// A trial or a check failed: the circuit stays open, and longer.
    TrialFailed {
        /// Whose circuit it concerns.
        model: String,
        /// The error's code.
        code: &'static str,
    },
    /// A trial came to nothing: another may have it.
    TrialDropped {
        /// Whose circuit it concerns.
        model: String,
        /// Who had it.
        holder: String,
    },
    /// It asked to be left alone.
    Paused {
        /// Whose circuit it concerns.
        model: String,
        /// For how long.
        after: Duration,
        /// The error's code.
        code: &'static str,
    },
    /// A wake has begun.
    Waking {
        /// How long it may take.
        timeout: Duration,
    },
    /// A wake failed.
    NotWoken {
        /// When the next may begin.
        after: Duration,
        /// The error's code.
        code: &'static str,
    },
}

/// A worker's report.
#[derive(Debug)]
pub struct ProviderReport<'a> {
    /// Who reports.
    pub worker: &'a WorkerId,
    /// Grows with each of its reports on this provider; the same number counts once.
    pub number: u64,
    /// When circuits open.
    pub breaker: Option<BreakerConfig>,
    /// Stretches the time open, by a quarter at 1, so that not all circuits are tried at once.
    pub spread: f64,
    /// How long the last answer took.
    pub latency: Option<Duration>,
    /// What it has loaded, as JSON.
    pub loaded: Option<&'a str>,
    /// What its calls came to.
    pub calls: &'a [CallReport],
}

/// A circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circuit {
    /// Failures in a row.
    pub consecutive: u64,
    /// Times it has opened since it was closed last; 0: it is closed.
    pub opened: u64,
    /// Until when it is open, Unix time in ms of Redis; later it is half-open.
    pub until: u64,
    /// Until when the provider wants to be left alone.
    pub paused: u64,
    /// Until when somebody tries it.
    pub trial: u64,
}

/// How a provider is, as all workers see it.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Redis' time, Unix time in ms, by which the others are to be read.
    pub now: u64,
    /// When it last answered; 0: never.
    pub answered: u64,
    /// Until when somebody wakes it; 0: nobody does.
    pub waking: u64,
    /// The circuits that are not at rest.
    pub circuits: HashMap<String, Circuit>,
}

/// What a worker wants to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// One call through a half-open circuit.
    Call,
    /// Whether the provider is there.
    Check,
    /// To wake it, where it has not answered for so long.
    Wake(Duration),
}

/// Whether a worker may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayTry {
    /// It, and nobody else for so long.
    Yes(Duration),
    /// There is no need any more: everybody may call.
    NoNeed,
    /// No, or not before that time is over.
    In(Duration),
}

/// What a worker has, gives back and wants of a limited provider.
#[derive(Debug)]
pub struct Draw<'a> {
    /// Who asks.
    pub worker: &'a WorkerId,
    /// Grows with each of its calls on this provider; the same number gets the same answer.
    pub number: u64,
    /// How long its permits last without another call.
    pub lease: Duration,
    /// Its jobs in flight.
    pub held: u64,
    /// How many more it wants to begin.
    pub wanted: u64,
    /// Tokens that each of those may use.
    pub tokens_each: u64,
    /// Requests of jobs in flight beyond the first of each; all of them or none, and the same of the tokens.
    pub extra_requests: u64,
    /// Tokens of those requests, or beyond what was taken for a job in flight.
    pub extra_tokens: u64,
    /// What is not used of what was taken.
    pub refunds: &'a [Refund],
}

/// What is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refund {
    /// The [`Drawn::quarter`] of the call that took it.
    pub quarter: u64,
    /// Requests that were not made.
    pub requests: u64,
    /// Tokens that were not used; negative: that were used beyond.
    pub tokens: i64,
}

/// What the limits allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drawn {
    /// How many more may begin.
    pub granted: u64,
    /// Whether the extra requests and tokens are granted.
    pub has_extra: bool,
    /// Names the time, for a refund.
    pub quarter: u64,
    /// When more may be free, where less was granted than wanted.
    pub wait: Option<Duration>,
}

/// All that is known of a provider.
#[derive(Debug, Clone, Default)]
pub struct ProviderStatus {
    /// Redis' time, Unix time in ms.
    pub now: u64,
    /// Facts by name; times are Unix ms.
    pub facts: HashMap<String, String>,
    /// Its circuits.
    pub circuits: HashMap<String, Circuit>,
    /// Jobs in flight, where they are limited.
    pub in_flight: u64,
    /// Requests of the last minute.
    pub requests: u64,
    /// Tokens of the last minute.
    pub tokens: u64,
    /// The last turn, where it runs one model at a time.
    pub turn: Option<TurnStatus>,
}

/// Whose turn it is on a provider that runs one model at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnStatus {
    /// The model.
    pub model: String,
    /// How many workers have jobs of it in flight.
    pub workers: u64,
    /// The model that has the next turn, because it has waited too long.
    pub next: Option<String>,
}

impl Queue {
    /// Reports what calls came to, possibly nothing, and tells how the provider is.
    pub async fn report_provider(&self, name: &str, report: &ProviderReport<'_>) -> Result<Standing, Error> {
        let breaker = report.breaker.unwrap_or_default();
        let threshold = if report.breaker.is_some() { breaker.failures } else { 0 };
        let reply = self.run_at(&self.inner.scripts.provider_report, name, |command| {
            command.arg(report.worker.as_str()).arg(report.number).arg(threshold);
            command.arg(ms(breaker.window)).arg(ms(breaker.open_for)).arg(report.spread);
            match report.latency {
                Some(latency) => command.arg(ms(latency)),
                None => command.arg(""),
            };
            command.arg(report.loaded.unwrap_or_default());
            for call in report.calls {
                let (what, model, number, word) = call.parts();
                command.arg(what).arg(model).arg(number).arg(word);
            }
        });
        let mut fields = Vec::<String>::from_redis_value(reply.await?)?.into_iter();
        let mut time =
            || fields.next().and_then(|field| field.parse().ok()).ok_or_else(|| Error::corrupt("no standing"));
        let (now, answered, waking) = (time()?, time()?, time()?);
        Ok(Standing { now, answered, waking, circuits: circuits(fields)? })
    }

    /// Asks for the right to try, which lasts that long, for a call less at first. The same `holder` may ask again to keep it.
    pub async fn try_provider(
        &self,
        name: &str,
        holder: &str,
        model: &str,
        lasts: Duration,
        trial: Trial,
    ) -> Result<MayTry, Error> {
        let (what, idle_after) = match trial {
            Trial::Call => ("call", 0),
            Trial::Check => ("check", 0),
            Trial::Wake(idle_after) => ("wake", ms(idle_after)),
        };
        let reply = self.run_at(&self.inner.scripts.provider_try, name, |command| {
            command.arg(holder).arg(model).arg(ms(lasts)).arg(what).arg(idle_after);
        });
        match <(u8, u64)>::from_redis_value(reply.await?)? {
            (1, lasts) => Ok(MayTry::Yes(Duration::from_millis(lasts))),
            (2, _) => Ok(MayTry::NoNeed),
            (_, wait) => Ok(MayTry::In(Duration::from_millis(wait))),
        }
    }

    /// Draws on a provider's limits. One call at a time per worker and provider: only the last can be repeated.
    pub async fn draw_on_provider(&self, name: &str, limits: &LimitsConfig, draw: &Draw<'_>) -> Result<Drawn, Error> {
        let reply = self.run_at(&self.inner.scripts.provider_take, name, |command| {
            command.arg(draw.worker.as_str()).arg(draw.number).arg(ms(draw.lease));
            command.arg(draw.held).arg(draw.wanted).arg(draw.tokens_each);
            command.arg(draw.extra_requests).arg(draw.extra_tokens);
            command.arg(limits.max_in_flight.unwrap_or(0)).arg(limits.requests_per_minute.unwrap_or(0));
            command.arg(limits.tokens_per_minute.unwrap_or(0));
            for refund in draw.refunds {
                command.arg(refund.quarter).arg(refund.requests).arg(refund.tokens);
            }
        });
        let (granted, extra, quarter, wait) = <(u64, u8, u64, u64)>::from_redis_value(reply.await?)?;
        let wait = (wait > 0).then(|| Duration::from_millis(wait));
        Ok(Drawn { granted, has_extra: extra == 1, quarter, wait })
    }

    /// Reads all that is known of a provider.
    pub async fn provider_status(&self, name: &str) -> Result<ProviderStatus, Error> {
        let reply = self.run_at(&self.inner.scripts.provider_status, name, |_| {});
        let [now, facts, stored, in_flight, requests, tokens, turn] = parts(reply.await?)?;
        let (model, workers, next) = <(String, u64, String)>::from_redis_value(turn)?;
        let number = |value: Value| -> Result<u64, Error> {
            String::from_redis_value(value)?.parse().map_err(|_| Error::corrupt("no number in a provider's status"))
        };
        Ok(ProviderStatus {
            now: number(now)?,
            facts: HashMap::from_redis_value(facts)?,
            circuits: circuits(Vec::<String>::from_redis_value(stored)?.into_iter())?,
            in_flight: u64::from_redis_value(in_flight)?,
            requests: u64::from_redis_value(requests)?,
            tokens: number(tokens)?,
            turn: (!model.is_empty()).then(|| TurnStatus {
                model,
                workers,
                next: Some(next).filter(|next| !next.is_empty()),
            }),
        })
    }
}

impl ProviderStatus {
    /// A number or a time among the facts; 0 where it is not known.
    pub fn fact(&self, name: &str) -> u64 {
        self.facts.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

impl CallReport {
    fn parts(&self) -> (&'static str, &str, u64, &str) {
        match self {
            Self::Answered { model, calls } => ("ok", model, *calls, ""),
            Self::Failed { model, code } => ("bad", model, 1, code),
            Self::TrialAnswered { model } => ("trial_ok", model, 1, ""),
            Self::TrialFailed { model, code } => ("trial_bad", model, 1, code),
            Self::TrialDropped { model, holder } => ("drop", model, 0, holder),
            Self::Paused { model, after, code } => ("pause", model, ms(*after), code),
            Self::Waking { timeout } => ("waking", ITSELF, ms(*timeout), ""),
            Self::NotWoken { after, code } => ("unwoken", ITSELF, ms(*after), code),
        }
    }
}

/// Reads circuits as `provider.lua` writes them: model, fields, model, fields, …
fn circuits(mut fields: impl Iterator<Item = String>) -> Result<HashMap<String, Circuit>, Error> {
    let mut circuits = HashMap::new();
    while let (Some(model), Some(stored)) = (fields.next(), fields.next()) {
        let numbers: Option<Vec<u64>> = stored.split(' ').take(8).map(|word| word.parse().ok()).collect();
        let Some(&[consecutive, _, _, _, opened, until, paused, trial]) = numbers.as_deref() else {
            return Err(Error::corrupt("a circuit of another form"));
        };
        circuits.insert(model, Circuit { consecutive, opened, until, paused, trial });
    }
    Ok(circuits)
}
