//! Pools that drain by model: jobs wait until their model's turn comes.

use std::time::Duration;

use overshot_common::ids::JobId;
use overshot_common::job::{JobSpec, Priority, Status};
use overshot_common::queue::{Cancelled, Claim, NewJob, Settled, Waiting};

use super::shop::{LEASE, Shop, done, held, retry_after};

const SECOND: Duration = Duration::from_secs(1);

fn ids(claim: &Claim) -> Vec<JobId> {
    claim.jobs.iter().map(|job| job.id.clone()).collect()
}

/// For whose turn jobs wait, and how many seconds, by model.
async fn waiting(shop: &Shop) -> Vec<(String, String, u64)> {
    let turns = shop.queue.turns(&shop.shard).await.unwrap();
    let mut turns: Vec<_> =
        turns.into_iter().map(|Waiting { label, model, waited }| (label, model, waited.as_secs())).collect();
    turns.sort();
    turns
}

fn row(label: &str, model: &str, waited: u64) -> (String, String, u64) {
    (label.to_owned(), model.to_owned(), waited)
}

#[tokio::test]
async fn a_claim_takes_jobs_of_the_models_whose_turn_it_is_and_those_that_wait_for_none() {
    let mut shop = Shop::open().await;
    let (a, b) = (shop.add(shop.job_of("a")).await, shop.add(shop.job_of("b")).await);
    shop.pass(SECOND).await;
    let (c, plain) = (shop.add(shop.job_of("a")).await, shop.add(shop.job()).await);
    assert_eq!(waiting(&shop).await, [row("a", "a", 1), row("b", "b", 1)]);
    assert_eq!((shop.count(Status::Queued).await, shop.numbers().await.oldest_queued), (4, SECOND));
    assert_eq!(ids(&shop.claim_of("w", 10, &[]).await), [plain]);
    assert_eq!(ids(&shop.claim_of("w", 10, &["a"]).await), [a, c]);
    assert_eq!(ids(&shop.claim_of("w", 10, &["a"]).await), []);
    assert_eq!(waiting(&shop).await, [row("b", "b", 1)]);
    assert_eq!(ids(&shop.claim_of("w", 10, &["a", "b"]).await), [b]);
    assert_eq!(waiting(&shop).await, []);
    assert_eq!(shop.count(Status::Running).await, 4);
}

#[tokio::test]
async fn of_the_models_that_share_a_label_only_those_whose_turn_it_is_are_taken() {
    let mut shop = Shop::open().await;
    let of = |model: &str| {
        let job = shop.job_of("other");
        NewJob { spec: JobSpec { model: Some(model.into()), ..job.spec.clone() }, ..job }
    };
    let (x, y, z) = (of("x"), of("y"), of("x"));
    let x = shop.add(x).await;
    shop.pass(SECOND).await;
    let y = shop.add(y).await;
    shop.pass(SECOND).await;
    let z = shop.add(z).await;
    assert_eq!(waiting(&shop).await, [row("other", "x", 2), row("other", "y", 1)]);
    let claim = async |nonce: &str, model: &str| {
        let (worker, turns) = ("w".parse().unwrap(), [("other".to_owned(), model.to_owned())]);
        shop.queue.claim_of(&shop.shard, &worker, nonce, 10, LEASE, &turns).await.unwrap()
    };
    assert_eq!(ids(&claim("1", "x").await), [x, z]);
    assert_eq!(ids(&claim("2", "y").await), [y]);
}

#[tokio::test]
async fn priorities_are_strict_with_a_share_and_what_was_handed_back_goes_first() {
    let mut shop = Shop::open().await;
    let low = shop.add(NewJob { priority: Priority::Low, ..shop.job_of("a") }).await;
    shop.pass(SECOND).await;
    let first = shop.add(shop.job_of("a")).await;
    shop.pass(SECOND).await;
    let second = shop.add(shop.job_of("a")).await;
    shop.pass(SECOND).await;
    let high = shop.add(NewJob { priority: Priority::High, ..shop.job_of("a") }).await;
    let taken = shop.claim_of("w", 1, &["a"]).await;
    assert_eq!(ids(&taken), std::slice::from_ref(&high));
    let answers = shop.queue.hand_back(&shop.shard, &[held(&taken.jobs[0])]).await.unwrap();
    assert_eq!(answers, [Settled::Now(Status::Queued)]);
    assert_eq!(ids(&shop.claim_of("w", 10, &["b"]).await), [], "what was handed back waits for its turn, too");
    assert_eq!(ids(&shop.claim_of("w", 1, &["a"]).await), [high]);
    let place = shop.queue.place(&second).await.unwrap();
    assert_eq!((place.in_stream, place.awaits_turn, place.before), (false, true, 1));
    assert_eq!(ids(&shop.claim_of("w", 2, &["a"]).await), [first, second]);
    assert_eq!(ids(&shop.claim_of("w", 2, &["a"]).await), [low]);
}

#[tokio::test]
async fn jobs_of_models_and_those_that_wait_for_none_share_a_priority_by_halves() {
    let mut shop = Shop::open().await;
    for _ in 0..10 {
        shop.add(shop.job_of("a")).await;
        shop.add(shop.job()).await;
    }
    let mut of_models = 0;
    for _ in 0..10 {
        let taken = shop.claim_of("w", 1, &["a"]).await;
        of_models += taken.jobs.iter().filter(|job| job.spec.turn.is_some()).count();
    }
    assert_eq!(of_models, 5);
    let taken = shop.claim_of("w", 10, &["a"]).await;
    assert_eq!((taken.jobs.len(), taken.jobs.iter().filter(|job| job.spec.turn.is_some()).count()), (10, 5));
}

#[tokio::test]
async fn a_job_that_waits_for_its_turn_can_be_cancelled_and_expires() {
    let mut shop = Shop::open().await;
    let (a, b) = (shop.add(shop.job_of("a")).await, shop.add(shop.job_of("a")).await);
    assert_eq!(shop.queue.cancel(&shop.shard, &[a.local]).await.unwrap(), [Cancelled::Now]);
    assert_eq!(waiting(&shop).await, [row("a", "a", 0)]);
    shop.pass(Duration::from_secs(30 * 24 * 3600)).await;
    assert_eq!(shop.queue.expire(&shop.shard).await.unwrap(), 1);
    assert_eq!(shop.status(&b).await, Status::Expired);
    let numbers = shop.numbers().await;
    assert_eq!((numbers.by_priority, numbers.queued_bytes, numbers.oldest_queued), ([0, 0, 0], 0, Duration::ZERO));
    assert_eq!(waiting(&shop).await, []);
}

#[tokio::test]
async fn retries_snoozes_and_jobs_of_a_dead_worker_wait_for_their_turn_again() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    for _ in 0..3 {
        shop.add(shop.job_of("a")).await;
    }
    let taken = shop.claim_of("w", 3, &["a"]).await.jobs;
    shop.settle(&taken[0], retry_after(SECOND)).await;
    shop.queue.snooze(&held(&taken[1]), SECOND, None).await.unwrap();
    shop.reap_for(LEASE + SECOND).await;
    shop.promote().await;
    assert_eq!(ids(&shop.claim_of("w", 10, &["b"]).await), []);
    assert_eq!(shop.numbers().await.demand(), 3);
    let again = shop.claim_of("w", 10, &["a"]).await.jobs;
    assert_eq!(again.len(), 3);
    for job in &again {
        assert_eq!(shop.settle(job, done()).await, Settled::Now(Status::Completed));
    }
    assert_eq!(shop.numbers().await.demand(), 0);
}

#[tokio::test]
async fn a_worker_takes_one_suspect_at_a_time_among_those_that_have_the_turn() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    for _ in 0..3 {
        shop.add(shop.job_of("a")).await;
    }
    for _ in 0..2 {
        assert_eq!(shop.claim_of("w", 3, &["a"]).await.jobs.len(), 3);
        assert_eq!(shop.reap_for(LEASE + SECOND).await.len(), 3);
    }
    shop.pass(LEASE).await;
    shop.promote().await;
    assert_eq!(shop.claim_of("w", 3, &["b"]).await.jobs.len(), 0);
    let suspects = [shop.claim_of("w", 3, &["a"]).await, shop.claim_of("v", 3, &["a"]).await];
    assert_eq!(suspects.each_ref().map(|claim| claim.jobs.len()), [1, 1]);
    assert_eq!(shop.claim_of("w", 3, &["a"]).await.jobs.len(), 0, "it has one");
    shop.settle(&suspects[0].jobs[0], done()).await;
    assert_eq!(shop.claim_of("w", 3, &["a"]).await.jobs.len(), 1);
}

#[tokio::test]
async fn where_the_pool_does_not_drain_by_model_any_more_the_audit_gives_jobs_their_entries() {
    let mut shop = Shop::open().await;
    let (a, b) = (shop.add(shop.job_of("a")).await, shop.add(shop.job_of("b")).await);
    assert_eq!(shop.queue.audit(&shop.shard, LEASE, true).await.unwrap().len(), 0);
    assert_eq!(shop.queue.audit(&shop.shard, LEASE, false).await.unwrap().len(), 2);
    let mut taken = ids(&shop.claim_of("w", 10, &[]).await);
    taken.sort();
    assert!(taken.contains(&a) && taken.contains(&b));
    assert_eq!(waiting(&shop).await, []);
}

#[tokio::test]
async fn a_job_that_is_missing_where_it_waits_is_put_there_again() {
    let mut shop = Shop::open().await;
    let a = shop.add(shop.job_of("a")).await;
    let key = shop.key("m:a");
    let (): () = redis::AsyncCommands::del(&mut shop.redis, key).await.unwrap();
    assert_eq!(shop.queue.audit(&shop.shard, LEASE, true).await.unwrap().len(), 1);
    assert_eq!(ids(&shop.claim_of("w", 10, &["a"]).await), [a]);
}
