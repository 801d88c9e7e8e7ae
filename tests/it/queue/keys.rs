//! Concurrency keys: at most one active job per key, whatever becomes of the holder.

use std::time::Duration;

use overshot_common::job::{OnConflict, Status};
use overshot_common::queue::{NewJob, Retried, Submitted};

use super::shop::{Shop, done, held, retry_after};

#[tokio::test]
async fn reject_names_the_holder_until_it_ends() {
    let mut shop = Shop::open().await;
    let holder = shop.add(shop.keyed("k", OnConflict::Reject)).await;
    let refused = shop.submit(&shop.keyed("k", OnConflict::Reject)).await;
    assert!(matches!(refused, Submitted::KeyHeld(id) if id == holder));
    let job = shop.claim_one("w").await;
    assert!(matches!(shop.submit(&shop.keyed("k", OnConflict::Reject)).await, Submitted::KeyHeld(_)));
    shop.settle(&job, retry_after(Duration::from_secs(5))).await;
    assert!(
        matches!(shop.submit(&shop.keyed("k", OnConflict::Reject)).await, Submitted::KeyHeld(_)),
        "kept through retry"
    );
    shop.queue.cancel(&shop.shard, &[holder.local]).await.unwrap();
    shop.add(shop.keyed("k", OnConflict::Reject)).await;
}

#[tokio::test]
async fn waiters_run_one_after_the_other_in_order() {
    let mut shop = Shop::open().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(shop.add(shop.keyed("k", OnConflict::Queue)).await);
        shop.pass(Duration::from_millis(1)).await;
    }
    let view = shop.queue.key(&shop.shard, "k").await.unwrap();
    assert_eq!(view.active.unwrap().id, ids[0]);
    assert_eq!(view.waiting.into_iter().map(|job| job.id).collect::<Vec<_>>(), ids[1..]);
    assert_eq!(view.latest.unwrap().id, ids[2]);
    assert_eq!(shop.numbers().await.demand(), 1, "those that wait for a key need no worker");
    for id in &ids {
        let claim = shop.claim_as("w", 10).await;
        assert_eq!(claim.jobs.len(), 1);
        assert_eq!(claim.jobs[0].id, *id);
        shop.settle(&claim.jobs[0], done()).await;
    }
    assert!(shop.queue.key(&shop.shard, "k").await.unwrap().active.is_none());
}

#[tokio::test]
async fn a_waiter_that_was_cancelled_is_skipped() {
    let mut shop = Shop::open().await;
    let ids = [
        shop.add(shop.keyed("k", OnConflict::Queue)).await,
        shop.add(shop.keyed("k", OnConflict::Queue)).await,
        shop.add(shop.keyed("k", OnConflict::Queue)).await,
    ];
    shop.queue.cancel(&shop.shard, &[ids[1].local]).await.unwrap();
    let first = shop.claim_one("w").await;
    shop.settle(&first, done()).await;
    assert_eq!(shop.claim_one("w").await.id, ids[2]);
}

#[tokio::test]
async fn replace_cancels_the_holder_and_all_that_wait() {
    let mut shop = Shop::open().await;
    let holder = shop.add(shop.keyed("k", OnConflict::Queue)).await;
    let waiter = shop.add(shop.keyed("k", OnConflict::Queue)).await;
    let newest = shop.add(shop.keyed("k", OnConflict::Replace)).await;
    assert_eq!(shop.status(&holder).await, Status::Cancelled);
    assert_eq!(shop.status(&waiter).await, Status::Cancelled);
    assert_eq!(shop.status(&newest).await, Status::Queued);
    let running = shop.claim_one("w").await;
    let next = shop.add(shop.keyed("k", OnConflict::Replace)).await;
    assert_eq!(shop.status(&next).await, Status::Blocked, "until the running one has stopped");
    assert!(shop.get(&newest).await.cancel_requested_at.is_some());
    shop.queue.hand_back(&shop.shard, &[held(&running)]).await.unwrap();
    assert_eq!(shop.status(&newest).await, Status::Cancelled);
    assert_eq!(shop.claim_one("w").await.id, next);
}

#[tokio::test]
async fn of_jobs_that_replace_each_other_in_one_call_only_the_last_is_open() {
    let mut shop = Shop::open().await;
    shop.add(shop.keyed("k", OnConflict::Queue)).await;
    let jobs: Vec<NewJob> = (0..3).map(|_| shop.keyed("k", OnConflict::Replace)).collect();
    shop.queue.enqueue(&shop.shard, Shop::limits(), &jobs).await.unwrap();
    assert_eq!(shop.queue.audit(&shop.shard, super::shop::LEASE, true).await.unwrap(), [""; 0]);
    assert_eq!(shop.claim_one("w").await.id, jobs[2].id);
}

#[tokio::test]
async fn a_delayed_job_takes_its_key_when_it_is_due() {
    let mut shop = Shop::open().await;
    let later = shop.add(NewJob { delay: Duration::from_secs(10), ..shop.keyed("k", OnConflict::Reject) }).await;
    let now = shop.add(shop.keyed("k", OnConflict::Reject)).await;
    shop.pass(Duration::from_secs(10)).await;
    shop.promote().await;
    assert_eq!(shop.status(&later).await, Status::Blocked);
    let job = shop.claim_one("w").await;
    assert_eq!(job.id, now);
    shop.settle(&job, done()).await;
    assert_eq!(shop.claim_one("w").await.id, later);
}

#[tokio::test]
async fn a_snoozed_holder_keeps_its_key_and_a_retry_by_hand_respects_it() {
    let mut shop = Shop::open().await;
    let first = shop.add(shop.keyed("k", OnConflict::Reject)).await;
    let job = shop.claim_one("w").await;
    shop.settle(&job, done()).await;
    shop.add(shop.keyed("k", OnConflict::Reject)).await;
    let second = shop.claim_one("w").await;
    shop.queue.snooze(&held(&second), Duration::from_secs(5), None).await.unwrap();
    assert_eq!(shop.status(&second.id).await, Status::Scheduled);
    let refused = shop.queue.retry(&shop.shard, Shop::limits(), None, &[first.local]).await.unwrap();
    assert_eq!(refused, [Retried::KeyHeld(second.id.clone())]);
    shop.pass(Duration::from_secs(5)).await;
    shop.promote().await;
    let again = shop.claim_one("w").await;
    assert_eq!((again.id, again.attempt), (second.id, 1), "a snooze takes its attempt back");
}

#[tokio::test]
async fn replace_makes_room_however_many_wait() {
    let mut shop = Shop::open().await;
    let waiters: Vec<NewJob> = (0..5000).map(|_| shop.keyed("k", OnConflict::Queue)).collect();
    shop.queue.enqueue(&shop.shard, Shop::limits(), &waiters).await.unwrap();
    assert_eq!(shop.count(Status::Blocked).await, 4999);
    let newest = shop.add(shop.keyed("k", OnConflict::Replace)).await;
    let numbers = shop.numbers().await;
    assert_eq!(numbers.by_status, [1, 0, 0, 0, 0, 0, 0, 5000, 0]);
    assert_eq!(shop.claim_one("w").await.id, newest);
}
