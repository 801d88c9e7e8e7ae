//! Claims: lost replies, stale entries, waiting at the doorbell.

use std::time::Duration;

use overshot_common::job::{Phase, Status};
use overshot_common::queue::{Doorbell, Output, Published, Settled, Settlement};
use redis::AsyncCommands as _;

use super::shop::{LEASE, Shop, done, held, worker_id};

#[tokio::test]
async fn a_claim_whose_reply_was_lost_brings_the_same_jobs_again() {
    let mut shop = Shop::open().await;
    for _ in 0..3 {
        shop.add(shop.job()).await;
    }
    let worker = worker_id("w");
    let first = shop.queue.claim(&shop.shard, &worker, "same", 2, LEASE).await.unwrap();
    let second = shop.queue.claim(&shop.shard, &worker, "same", 2, LEASE).await.unwrap();
    let names = |claim: &overshot_common::queue::Claim| claim.jobs.iter().map(held).collect::<Vec<_>>();
    assert_eq!(names(&first), names(&second));
    assert_eq!(second.jobs[0].attempt, 1, "the repeat is no second attempt");
    assert_eq!(shop.claim_as("w", 5).await.jobs.len(), 1);
}

#[tokio::test]
async fn an_entry_that_is_not_the_jobs_ticket_is_dropped() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let stream = shop.key("q:normal");
    for job in [id.local.as_str(), "00000000000000000000000000"] {
        let _: String = shop.redis.xadd(&stream, "*", &[("j", job)]).await.unwrap();
    }
    let claim = shop.claim_as("w", 10).await;
    assert_eq!(claim.jobs.len(), 1);
    let entries: u64 = shop.redis.xlen(&stream).await.unwrap();
    assert_eq!(entries, 1, "only the running job's ticket is left");
}

#[tokio::test]
async fn a_stray_entry_runs_no_job_before_its_time() {
    let mut shop = Shop::open().await;
    let job = overshot_common::queue::NewJob { delay: Duration::from_secs(60), ..shop.job() };
    let id = shop.add(job).await;
    let _: String = shop.redis.xadd(shop.key("q:normal"), "*", &[("j", id.local.as_str())]).await.unwrap();
    assert_eq!(shop.claim_as("w", 10).await.jobs.len(), 0);
    assert_eq!(shop.status(&id).await, Status::Scheduled);
}

#[tokio::test]
async fn an_ended_job_leaves_nothing_in_streams_leases_or_pending_lists() {
    let mut shop = Shop::open().await;
    shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    assert_eq!(shop.settle(&job, done()).await, Settled::Now(Status::Completed));
    let stream = shop.key("q:normal");
    assert_eq!(shop.redis.xlen::<_, u64>(&stream).await.unwrap(), 0);
    assert_eq!(shop.redis.zcard::<_, u64>(shop.key("leases")).await.unwrap(), 0);
    let pending: redis::Value = shop.redis.xpending(&stream, "workers").await.unwrap();
    assert!(format!("{pending:?}").contains("int(0)"), "{pending:?}");
    let read = shop.get(&job.id).await;
    assert_eq!(read.usage.unwrap().get(), r#"{"total_tokens":3}"#);
    let ttl: i64 = shop.redis.pttl(shop.key(&format!("j:{}", job.id.local))).await.unwrap();
    assert!(ttl > 86_400_000, "kept for its retention, and a day as backstop: {ttl}");
}

#[tokio::test]
async fn the_doorbell_rings_for_a_waiter_and_not_after_everything_was_taken() {
    let mut shop = Shop::open().await;
    let mut bell = Doorbell::new(&shop.queue);
    let shards = [shop.shard.clone()];
    let (rung, id) = tokio::join!(bell.wait(&shards, Duration::from_secs(10)), async { shop.add(shop.job()).await });
    assert_eq!(rung.unwrap(), Some(shop.shard.clone()));
    assert_eq!(shop.claim_one("w").await.id, id);
    shop.add(shop.job()).await;
    shop.add(shop.job()).await;
    assert_eq!(shop.claim_as("w", 10).await.jobs.len(), 2);
    let silence = bell.wait(&shards, Duration::from_millis(50)).await.unwrap();
    assert_eq!(silence, None, "an emptied shard has an empty bell");
}

#[tokio::test]
async fn an_abandoned_wait_swallows_no_job() {
    let mut shop = Shop::open().await;
    let mut bell = Doorbell::new(&shop.queue);
    let shards = [shop.shard.clone()];
    let gave_up = tokio::time::timeout(Duration::from_millis(50), bell.wait(&shards, Duration::from_secs(60)));
    assert!(gave_up.await.is_err());
    let id = shop.add(shop.job()).await;
    assert_eq!(shop.claim_one("other").await.id, id);
}

#[tokio::test]
async fn a_large_input_is_not_copied_by_the_claim() {
    let mut shop = Shop::open().await;
    let mut job = shop.job();
    job.input = super::shop::raw(&format!(r#"{{"user":"{}"}}"#, "x".repeat(70_000)));
    shop.add(job.clone()).await;
    let claimed = shop.claim_one("w").await;
    assert!(claimed.input.is_none());
    assert_eq!(shop.queue.input(&claimed.id).await.unwrap().unwrap().get(), job.input.get());
}

#[tokio::test]
async fn who_runs_a_job_is_told_and_taken_back_with_the_attempt() {
    let mut shop = Shop::open().await;
    shop.add(shop.job()).await;
    for put_off in [true, false] {
        let job = shop.claim_one("w").await;
        for (phase, provider, chunks) in [(Some(Phase::Working), "a", vec![]), (None, "b", vec!["{}".to_owned()])] {
            let output = Output {
                held: held(&job),
                phase,
                provider: Some(provider.into()),
                progress: None,
                acknowledged: 0,
                first: 1,
                chunks,
            };
            assert_eq!(shop.queue.publish(&shop.shard, 10, &[output]).await.unwrap(), [Published::Kept]);
            let (now, phase) = (shop.get(&job.id).await, phase.unwrap_or(Phase::Streaming));
            assert_eq!((now.provider.as_deref(), now.phase), (Some(provider), Some(phase)));
        }
        if put_off {
            shop.queue.snooze(&held(&job), Duration::ZERO, None).await.unwrap();
            shop.promote().await;
        } else {
            shop.queue.hand_back(&shop.shard, &[held(&job)]).await.unwrap();
        }
        let waiting = shop.get(&job.id).await;
        assert_eq!((waiting.status, waiting.attempts, waiting.provider), (Status::Queued, 0, None));
    }
}

#[tokio::test]
async fn an_attempt_that_is_taken_back_unheard_leaves_the_name_of_who_ran_the_last() {
    let mut shop = Shop::open().await;
    shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    let mut failed = Settlement::new(held(&job), super::shop::retry_after(Duration::ZERO));
    failed.provider = Some("a".into());
    shop.queue.settle(&shop.shard, &[failed]).await.unwrap();
    shop.promote().await;
    let job = shop.claim_one("w").await;
    shop.queue.snooze(&held(&job), Duration::ZERO, None).await.unwrap();
    shop.promote().await;
    let job = shop.claim_one("w").await;
    shop.queue.hand_back(&shop.shard, &[held(&job)]).await.unwrap();
    let waiting = shop.get(&job.id).await;
    assert_eq!((waiting.attempts, waiting.provider.as_deref()), (1, Some("a")));
}

#[tokio::test]
async fn a_call_sent_again_that_tells_of_work_and_its_first_chunk_leaves_the_job_streaming() {
    let mut shop = Shop::open().await;
    shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    let output = Output {
        held: held(&job),
        phase: Some(Phase::Working),
        provider: None,
        progress: None,
        acknowledged: 0,
        first: 1,
        chunks: vec!["{}".to_owned()],
    };
    for _ in 0..2 {
        shop.queue.publish(&shop.shard, 10, std::slice::from_ref(&output)).await.unwrap();
        assert_eq!(shop.get(&job.id).await.phase, Some(Phase::Streaming));
    }
}

#[tokio::test]
async fn chunks_are_kept_once_in_order_and_marked_when_an_attempt_starts_anew() {
    let mut shop = Shop::open().await;
    shop.add(shop.job()).await;
    let first = shop.claim_one("w").await;
    let output = |job: &overshot_common::queue::ClaimedJob, place: u64, texts: &[&str]| Output {
        held: held(job),
        phase: None,
        provider: None,
        progress: None,
        acknowledged: place - 1,
        first: place,
        chunks: texts.iter().map(|text| format!(r#"{{"text":"{text}"}}"#)).collect(),
    };
    for _ in 0..2 {
        let sent = shop.queue.publish(&shop.shard, 1000, &[output(&first, 1, &["a", "b"])]).await.unwrap();
        assert_eq!(sent, [Published::Kept], "sent again after a lost reply");
    }
    assert!(shop.get(&first.id).await.first_chunk_at.is_some());
    shop.settle(&first, super::shop::retry_after(Duration::ZERO)).await;
    shop.promote().await;
    let second = shop.claim_one("w").await;
    let outputs = [output(&first, 3, &["zombie"]), output(&second, 1, &["c"])];
    let sent = shop.queue.publish(&shop.shard, 1000, &outputs).await.unwrap();
    assert_eq!(sent, [Published::Lost, Published::Kept], "the old grant publishes nothing");
    let chunks = shop.queue.chunks(&first.id, None).await.unwrap();
    let seen: Vec<(bool, &str)> = chunks.iter().map(|chunk| (chunk.starts_attempt, chunk.data.as_str())).collect();
    assert_eq!(
        seen,
        [
            (false, r#"{"text":"a"}"#),
            (false, r#"{"text":"b"}"#),
            (true, r#"{"attempt":2}"#),
            (false, r#"{"text":"c"}"#)
        ]
    );
    assert!(chunks.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(shop.queue.chunks(&first.id, Some(chunks[1].id)).await.unwrap().len(), 2);
}
