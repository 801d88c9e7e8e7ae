//! Queue deadlines: everything that waits too long expires, wherever it waits.

use std::time::Duration;

use overshot_common::job::{OnConflict, Status};
use overshot_common::queue::NewJob;

use super::shop::{LEASE, Shop, held};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_head_of_the_stream_expires_and_the_error_names_the_limit() {
    let mut shop = Shop::open().await;
    let old = shop.add(shop.job()).await;
    shop.pass(HOUR / 2).await;
    let young = shop.add(shop.job()).await;
    shop.pass(HOUR / 2).await;
    assert_eq!(shop.queue.expire(&shop.shard).await.unwrap(), 1);
    let job = shop.get(&old).await;
    assert_eq!(job.status, Status::Expired);
    let error = job.error.unwrap();
    assert_eq!(error.code.as_str(), "queue_timeout");
    assert!(error.message.contains("3600000 ms"), "{}", error.message);
    assert_eq!(shop.status(&young).await, Status::Queued);
}

#[tokio::test]
async fn jobs_behind_running_ones_expire_too() {
    let mut shop = Shop::open().await;
    shop.add(NewJob { timeout: 10 * HOUR, ..shop.job() }).await;
    let waiting = shop.add(shop.job()).await;
    let running = shop.claim_one("w").await;
    shop.pass(HOUR).await;
    assert_eq!(shop.queue.expire(&shop.shard).await.unwrap(), 1);
    assert_eq!(shop.status(&waiting).await, Status::Expired);
    assert_eq!(shop.status(&running.id).await, Status::Running);
}

#[tokio::test]
async fn a_deadline_of_its_own_is_kept_before_and_behind_others() {
    let mut shop = Shop::open().await;
    let patient = shop.add(NewJob { queue_timeout: 5 * HOUR, own_deadline: true, ..shop.job() }).await;
    let common = shop.add(shop.job()).await;
    let hasty = shop.add(NewJob { queue_timeout: HOUR / 60, own_deadline: true, ..shop.job() }).await;
    shop.pass(HOUR / 60).await;
    assert_eq!(shop.queue.expire(&shop.shard).await.unwrap(), 1);
    assert_eq!(shop.status(&hasty).await, Status::Expired);
    shop.pass(HOUR).await;
    assert_eq!(shop.queue.expire(&shop.shard).await.unwrap(), 1);
    assert_eq!(shop.status(&common).await, Status::Expired);
    assert_eq!(shop.status(&patient).await, Status::Queued);
}

#[tokio::test]
async fn a_crowd_of_deadlines_of_their_own_hides_nobody() {
    let mut shop = Shop::open().await;
    let patient = NewJob { queue_timeout: 9 * HOUR, own_deadline: true, ..shop.job() };
    let crowd: Vec<NewJob> = (0..350)
        .map(|_| NewJob { id: overshot_common::ids::JobId::new(shop.shard.clone()), ..patient.clone() })
        .collect();
    shop.queue.enqueue(&shop.shard, Shop::limits(), &crowd).await.unwrap();
    let common = shop.add(shop.job()).await;
    shop.pass(HOUR).await;
    for _ in 0..4 {
        shop.queue.expire(&shop.shard).await.unwrap();
    }
    assert_eq!(shop.status(&common).await, Status::Expired);
    let late = shop.add(shop.job()).await;
    shop.pass(HOUR).await;
    assert_eq!(shop.queue.expire(&shop.shard).await.unwrap(), 1);
    assert_eq!(shop.status(&late).await, Status::Expired);
    assert_eq!(shop.count(Status::Queued).await, 350);
}

#[tokio::test]
async fn blocked_snoozed_and_handed_back_jobs_expire() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    let snoozed = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    shop.queue.snooze(&held(&job), 2 * HOUR, None).await.unwrap();
    let returned = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    shop.queue.hand_back(&shop.shard, &[held(&job)]).await.unwrap();
    let holder =
        shop.add(NewJob { queue_timeout: 9 * HOUR, own_deadline: true, ..shop.keyed("k", OnConflict::Queue) }).await;
    let blocked = shop.add(shop.keyed("k", OnConflict::Queue)).await;
    let numbers = shop.numbers().await;
    assert_eq!(numbers.by_status[..5], [2, 1, 1, 0, 0]);
    shop.pass(HOUR).await;
    assert_eq!(shop.queue.expire(&shop.shard).await.unwrap(), 3);
    for id in [&snoozed, &returned, &blocked] {
        assert_eq!(shop.status(id).await, Status::Expired);
    }
    assert_eq!(shop.status(&holder).await, Status::Queued);
    assert_eq!(shop.numbers().await.by_status[..5], [1, 0, 0, 0, 0]);
}

#[tokio::test]
async fn an_expired_job_is_never_handed_out() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    shop.pass(HOUR).await;
    assert_eq!(shop.claim_as("w", 10).await.jobs.len(), 0);
    assert_eq!(shop.status(&id).await, Status::Expired);
    assert!(LEASE < HOUR);
}
