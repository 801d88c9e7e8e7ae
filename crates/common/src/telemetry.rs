//! Logs and spans: how they are set up, and the names of their fields.
//!
//! Messages are lower case and constant; what varies stands in fields. Never prompts, completions, audio or keys.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::config::LogFormat;

/// Names of spans.
pub mod span {
    /// The life of one attempt of a job in a worker.
    pub const JOB: &str = "job";
    /// One HTTP request.
    pub const REQUEST: &str = "request";
}

/// Names of fields. A macro takes one as `info!({ field::JOB_ID } = %id, "job settled")`.
pub mod field {
    /// The job's id.
    pub const JOB_ID: &str = "job.id";
    /// The pool's name.
    pub const POOL: &str = "pool";
    /// The task's name.
    pub const TASK: &str = "task";
    /// Which run of the job, from 1.
    pub const ATTEMPT: &str = "attempt";
    /// The worker's id.
    pub const WORKER_ID: &str = "worker.id";
    /// The provider's name in the configuration.
    pub const PROVIDER: &str = "provider";
    /// How long it took, in milliseconds.
    pub const DURATION_MS: &str = "duration_ms";
    /// The error code.
    pub const CODE: &str = "code";
}

/// What is not heard unless the filter asks for it: a decoder that calls every broken file of a caller's an error, and may
/// quote what is written in it.
const QUIET: &str = "symphonia=off";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("the log filter does not parse")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A subscriber is already there; logs go on as it was set up.
    #[error("logging is already set up")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends logs to stderr, for the whole process.
///
/// # Errors
/// A filter that does not parse, or a second call; neither changes what is there.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))?;
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(ansi)).try_init()?;
        }
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_span_list(false);
            registry.with(layer.with_writer(std::io::stderr)).try_init()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_set_up_is_an_error_and_no_panic() {
        // Another test of this process may have been the first.
        let _ = init("info", LogFormat::Json);
        assert!(matches!(init("info", LogFormat::Text), Err(TelemetryError::AlreadySet(_))));
    }

    #[test]
    fn a_filter_that_does_not_parse_is_an_error() {
        assert!(matches!(init("overshot=loud", LogFormat::Text), Err(TelemetryError::Filter(_))));
    }
}
