//! Waking a provider that sleeps: one attempt does it for all, and is the first to be served.

use std::process::Stdio;
use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::config::{Wake, WakeConfig};
use overshot_common::job::Phase;
use overshot_common::queue::{CallReport, ITSELF, Trial};
use tokio::time::{Instant, sleep, timeout};

use super::{Pass, TRIAL_LASTS, Upstream};
use crate::outcome::Outcome;
use crate::tasks::Sink;

/// How often a provider that is being woken is asked whether it is there.
const LOOK: Duration = Duration::from_millis(500);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// After a wake that failed the next begins no sooner.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a connection to the URL may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Upstream {
    /// Wakes the provider where this pass is the one to do it.
    ///
    /// # Errors
    ///
    /// It could not be woken: `model_unavailable`, and it sleeps on.
    ///
    /// # Cancel safety
    ///
    /// A dropped wake leaves the provider as it is, and the next job wakes it; a command is killed.
    pub(crate) async fn wake_first(&self, pass: &mut Pass<'_>, sink: &mut impl Sink) -> Result<(), Outcome> {
        let (Some(trial), Some(wake)) = (pass.waker(), &self.config.wake) else { return Ok(()) };
        let holder = trial.holder.clone();
        tracing::info!(provider = self.name(), "waking");
        self.tell(CallReport::Waking { timeout: wake.timeout });
        sink.phase(Phase::Loading);
        let woken = timeout(wake.timeout, self.wake(wake, &holder, sink)).await;
        let failed = match woken {
            Ok(Ok(())) => {
                self.tell(CallReport::TrialAnswered { model: ITSELF.to_owned() });
                self.lock_view().answered(Instant::now());
                pass.woken();
                sink.phase(Phase::Working);
                return Ok(());
            }
            Ok(Err(problem)) => format!("the provider could not be woken: {problem}"),
            Err(_) => format!("the provider was not awake within its wake_timeout of {:?}", wake.timeout),
        };
        let code = ErrorCode::ModelUnavailable;
        tracing::warn!(provider = self.name(), "not woken");
        self.tell(CallReport::NotWoken { after: PAUSE, code: code.as_str() });
        pass.woken();
        Err(Outcome::retry(code, failed))
    }

    async fn wake(&self, wake: &WakeConfig, holder: &str, sink: &mut impl Sink) -> Result<(), &'static str> {
        let call = async {
            match &wake.by {
                Wake::Url(url) => post(url).await,
                Wake::Command(command) => run(command).await,
            }
        };
        let mut call = std::pin::pin!(call);
        let (mut called, mut kept) = (false, Instant::now());
        loop {
            // It may be there before the call has its answer, or only later.
            tokio::select! {
                answer = &mut call, if !called => {
                    answer?;
                    called = true;
                }
                () = sleep(LOOK) => {}
            }
            if called && matches!(timeout(LOOK_TIMEOUT, self.provider.check()).await, Ok(Ok(()))) {
                return Ok(());
            }
            // Each is a sign of life: a wake is no stall.
            sink.phase(Phase::Loading);
            if kept.elapsed() > TRIAL_LASTS / 3 {
                kept = Instant::now();
                let trial = Trial::Wake(wake.idle_after);
                // Lost, another one wakes it as well: waking twice harms less than not at all.
                let _ = self.common.queue.try_provider(self.name(), holder, ITSELF, TRIAL_LASTS, trial).await;
            }
        }
    }
}

async fn post(url: &str) -> Result<(), &'static str> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|_| "no HTTP client can be made for wake_url")?;
    let answer = client.post(url).send().await.map_err(|_| "wake_url cannot be reached")?;
    if answer.status().is_success() { Ok(()) } else { Err("wake_url answered with an error") }
}

async fn run(command: &[String]) -> Result<(), &'static str> {
    let (program, arguments) = command.split_first().ok_or("wake_command names no program")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let status = command.status().await.map_err(|_| "wake_command cannot be started")?;
    if status.success() { Ok(()) } else { Err("wake_command failed") }
}
