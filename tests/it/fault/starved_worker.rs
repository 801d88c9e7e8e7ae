//! A worker whose own work leaves its runtime no time.

use std::sync::Arc;
use std::time::Duration;

use overshot_common::config::Config;
use support::{FleetOptions, OpenAiStub, PATIENCE, Reply};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::settings::{chat, stubbed};

/// Runs a worker on one thread, which stands still for `time` at the signal and then answers.
fn worker_that_stands_still(
    config: Config,
    time: Duration,
    signal: oneshot::Receiver<oneshot::Sender<()>>,
    stop: CancellationToken,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            tokio::spawn(async move {
                if let Ok(done) = signal.await {
                    // Not tokio's: nothing else of this runtime may run meanwhile.
                    std::thread::sleep(time);
                    let _ = done.send(());
                }
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            overshot_worker::run(config, stop, CancellationToken::new(), listener).await.unwrap();
        });
    })
}

#[tokio::test]
async fn a_worker_that_finds_no_time_for_two_leases_keeps_its_job() {
    let stub = OpenAiStub::start().await;
    let gate = Arc::new(Semaphore::new(0));
    stub.push(Reply::echo_gated(1, &gate));
    let settings = stubbed(&stub, "");
    let mut fleet = FleetOptions::new(settings.clone()).workers(0).start().await;
    let env = [("OVERSHOT_REDIS_URL".to_owned(), fleet.redis.url())];
    let config = Config::load(Some((std::path::Path::new("overshot.toml"), &settings)), env).unwrap();
    let ((signal, signalled), stop) = (oneshot::channel(), CancellationToken::new());
    // The lease and `liveness` are 3 s.
    let worker = worker_that_stands_still(config, Duration::from_secs(7), signalled, stop.clone());
    let id = fleet.client.submit(&chat("one two three")).await;
    let mut events = fleet.client.events(&id, None).await;
    assert_eq!(events.next_chunk().await.text(), "one ");
    // Whoever is given the job would answer at once.
    fleet.add_worker();
    let (done, is_over) = oneshot::channel();
    signal.send(done).unwrap();
    tokio::time::timeout(PATIENCE, is_over).await.unwrap().unwrap();
    gate.add_permits(1);
    let job = fleet.client.wait_status(&id, "completed").await;
    assert_eq!((&job["attempts"], &job["crashes"]), (&1.into(), &0.into()), "{job}");
    assert_eq!(stub.requests(), 1);
    stop.cancel();
    worker.join().unwrap();
}
