//! The porter: the one who listens to the doorbells, for all shards whose claimers wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use overshot_common::ids::Shard;
use overshot_common::queue::{Doorbell, Queue};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, jittered};
use super::station::Station;

/// How long one wait takes when nobody rings.
const WAIT: Duration = Duration::from_secs(5);
/// The same when some shard is left out, which may join any moment: a wait under way cannot take it in.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// Listens until `shutdown`. `parked` tells that a claimer began to wait.
pub(crate) async fn run(queue: Queue, stations: Vec<Arc<Station>>, parked: Arc<Notify>, shutdown: CancellationToken) {
    let mut doorbell = Doorbell::new(&queue);
    let listen = async {
        let mut backoff = Backoff::new();
        loop {
            let shards: Vec<Shard> = waiting(&stations);
            if shards.is_empty() {
                parked.notified().await;
                continue;
            }
            let wait = if shards.len() == stations.len() { jittered(WAIT) } else { SHORT_WAIT };
            match doorbell.wait(&shards, wait).await {
                Ok(rung) => {
                    backoff = Backoff::new();
                    stations.iter().filter(|station| rung.as_ref() == Some(&station.shard)).for_each(|station| {
                        // Its claimer says when it wants to hear the next ring.
                        station.parked.store(false, Ordering::Release);
                        station.bell.notify_one();
                    });
                }
                // The keeper tells of an outage.
                Err(_) => backoff.wait().await,
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = listen => {}
    }
}

fn waiting(stations: &[Arc<Station>]) -> Vec<Shard> {
    let parked = stations.iter().filter(|station| station.parked.load(Ordering::Acquire));
    parked.map(|station| station.shard.clone()).collect()
}
