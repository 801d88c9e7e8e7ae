//! Accepting jobs: order, priorities, limits, idempotency, schedules.

use std::collections::BTreeMap;
use std::time::Duration;

use overshot_common::job::{OnConflict, Owner, Priority, Status};
use overshot_common::queue::{Limits, NewJob, Reservation, Submitted};

use redis::AsyncCommands as _;

use super::shop::{LIVENESS, Shop, done, worker_id};

#[tokio::test]
async fn an_accepted_job_is_the_job_that_is_read_back() {
    let shop = Shop::open().await;
    let job = shop.job();
    let Submitted::Accepted(accepted) = shop.submit(&job).await else { panic!("not accepted") };
    let read = shop.get(&job.id).await;
    assert_eq!(serde_json::to_value(&*accepted).unwrap(), serde_json::to_value(&read).unwrap());
    assert_eq!((read.status, read.attempts, read.max_attempts), (Status::Queued, 0, 5));
    assert_eq!(read.created_at.as_millisecond(), i64::try_from(shop.now()).unwrap());
    assert_eq!(read.expires_at.unwrap().as_millisecond(), i64::try_from(shop.now()).unwrap() + 3_600_000);
}

#[tokio::test]
async fn the_same_submit_sent_again_makes_no_second_job() {
    let mut shop = Shop::open().await;
    let job = shop.job();
    assert!(matches!(shop.submit(&job).await, Submitted::Accepted(_)));
    assert!(matches!(shop.submit(&job).await, Submitted::Exists));
    assert_eq!(shop.claim_as("w", 10).await.jobs.len(), 1);
    assert!(matches!(shop.submit(&job).await, Submitted::Exists));
    assert_eq!(shop.claim_as("w", 10).await.jobs.len(), 0);
}

#[tokio::test]
async fn within_a_priority_the_first_in_is_the_first_out() {
    let mut shop = Shop::open().await;
    let jobs: Vec<NewJob> = (0..250).map(|_| shop.job()).collect();
    let answers = shop.queue.enqueue(&shop.shard, Shop::limits(), &jobs).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Submitted::Accepted(_))));
    let mut claimed = Vec::new();
    while claimed.len() < 250 {
        claimed.extend(shop.claim_as("w", 7).await.jobs.into_iter().map(|job| job.id));
    }
    assert_eq!(claimed, jobs.into_iter().map(|job| job.id).collect::<Vec<_>>());
}

#[tokio::test]
async fn priorities_are_strict_but_starve_nobody() {
    let mut shop = Shop::open().await;
    for priority in [Priority::Low, Priority::Normal, Priority::High] {
        for _ in 0..100 {
            shop.add(NewJob { priority, ..shop.job() }).await;
        }
    }
    let mut first = Vec::new();
    for most in [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 10] {
        for job in shop.claim_as("w", most).await.jobs {
            first.push(shop.get(&job.id).await.priority);
        }
    }
    let count = |wanted| first.iter().filter(|priority| **priority == wanted).count();
    assert_eq!((count(Priority::High), count(Priority::Normal), count(Priority::Low)), (14, 4, 2), "{first:?}");
}

#[tokio::test]
async fn a_full_shard_refuses_and_accepts_again_once_there_is_room() {
    let mut shop = Shop::open().await;
    let limits = Limits { max_queued: 2, ..Shop::limits() };
    let jobs: Vec<NewJob> = (0..3).map(|_| shop.job()).collect();
    let answers = shop.queue.enqueue(&shop.shard, limits, &jobs).await.unwrap();
    assert!(matches!(answers[..], [Submitted::Accepted(_), Submitted::Accepted(_), Submitted::QueueFull]));
    assert!(shop.queue.get(&jobs[2].id, false).await.unwrap().is_none(), "a refused job leaves nothing");
    shop.claim_one("w").await;
    let again = shop.queue.enqueue(&shop.shard, limits, &jobs[2..]).await.unwrap();
    assert!(matches!(again[..], [Submitted::Accepted(_)]));
    let bytes = Limits { max_queued_bytes: 40, ..Shop::limits() };
    let refused = shop.queue.enqueue(&shop.shard, bytes, &[shop.job()]).await.unwrap();
    assert!(matches!(refused[..], [Submitted::QueueFull]), "two inputs of 16 bytes wait already");
    let later = NewJob { delay: Duration::from_secs(60), ..shop.job() };
    let refused = shop.queue.enqueue(&shop.shard, bytes, &[later]).await.unwrap();
    assert!(matches!(refused[..], [Submitted::QueueFull]), "a delayed job takes room as well");
}

#[tokio::test]
async fn a_scheduled_job_counts_against_the_limit_and_runs_when_due() {
    let mut shop = Shop::open().await;
    let id = shop.add(NewJob { delay: Duration::from_secs(60), ..shop.job() }).await;
    assert_eq!(shop.status(&id).await, Status::Scheduled);
    assert_eq!(shop.numbers().await.demand(), 0, "not due yet");
    let limits = Limits { max_queued: 1, ..Shop::limits() };
    let refused = shop.queue.enqueue(&shop.shard, limits, &[shop.job()]).await.unwrap();
    assert!(matches!(refused[..], [Submitted::QueueFull]));
    shop.pass(Duration::from_millis(59_999)).await;
    shop.promote().await;
    assert_eq!(shop.claim_as("w", 1).await.jobs.len(), 0);
    shop.pass(Duration::from_millis(1)).await;
    assert_eq!(shop.numbers().await.demand(), 1, "due, though nobody promoted it yet");
    let promoted = shop.queue.promote(&shop.shard).await.unwrap();
    assert_eq!((promoted.count, promoted.next_due), (1, None));
    assert_eq!(shop.claim_one("w").await.id, id);
}

#[tokio::test]
async fn eight_promoters_queue_each_due_job_once() {
    let mut shop = Shop::open().await;
    let jobs: Vec<NewJob> = (0..500).map(|_| NewJob { delay: Duration::from_secs(1), ..shop.job() }).collect();
    shop.queue.enqueue(&shop.shard, Shop::limits(), &jobs).await.unwrap();
    shop.pass(Duration::from_secs(1)).await;
    futures_util::future::join_all(
        (0..8).map(|_| async { while shop.queue.promote(&shop.shard).await.unwrap().count > 0 {} }),
    )
    .await;
    let mut claimed = std::collections::HashSet::new();
    loop {
        let claim = shop.claim_as("w", 100).await;
        if claim.jobs.is_empty() {
            break;
        }
        assert!(claim.jobs.into_iter().all(|job| claimed.insert(job.id)));
    }
    assert_eq!(claimed.len(), 500);
}

#[tokio::test]
async fn an_idempotency_key_stands_for_its_first_job_until_that_submit_is_refused() {
    let shop = Shop::open().await;
    let (first, second) = (shop.job(), shop.job());
    let of = |job: &NewJob, body_hash: [u8; 16]| Reservation { id: job.id.clone(), body_hash };
    // Any bytes, those of a line's end and of a space, too.
    let (one, other) = (*b"\0\r\n \xff5678901234 ", [b' '; 16]);
    let day = Duration::from_secs(86_400);
    assert_eq!(shop.queue.reserve("k", &of(&first, one), day).await.unwrap(), of(&first, one));
    assert_eq!(shop.queue.reserve("k", &of(&second, other), day).await.unwrap(), of(&first, one));
    shop.queue.unreserve("k", &second.id).await.unwrap();
    assert_eq!(shop.queue.reserve("k", &of(&second, other), day).await.unwrap(), of(&first, one), "not its owner");
    shop.queue.unreserve("k", &first.id).await.unwrap();
    assert_eq!(shop.queue.reserve("k", &of(&second, other), day).await.unwrap(), of(&second, other));
}

#[tokio::test]
async fn an_id_whose_idempotency_key_still_lives_is_not_accepted_a_second_time_after_retention() {
    let mut shop = Shop::open().await;
    let job = NewJob { idempotent_for: Duration::from_secs(86_400), result_ttl: Duration::from_secs(60), ..shop.job() };
    shop.add(job.clone()).await;
    let claimed = shop.claim_one("w").await;
    shop.settle(&claimed, done()).await;
    shop.pass(Duration::from_secs(61)).await;
    assert_eq!(shop.queue.prune(&shop.shard).await.unwrap(), 1);
    assert!(shop.queue.get(&job.id, false).await.unwrap().is_none());
    assert!(matches!(shop.submit(&job).await, Submitted::Gone));
}

#[tokio::test]
async fn fail_fast_refuses_when_no_live_worker_serves_the_shard() {
    let mut shop = Shop::open().await;
    let eager = || NewJob { fail_fast: true, ..shop.job() };
    assert!(matches!(shop.submit(&eager()).await, Submitted::NoLiveWorker));
    shop.renew("w", &[]).await;
    assert!(matches!(shop.submit(&eager()).await, Submitted::Accepted(_)));
    let late = eager();
    shop.pass(LIVENESS + Duration::from_millis(1)).await;
    assert!(matches!(shop.submit(&late).await, Submitted::NoLiveWorker));
}

#[tokio::test]
async fn a_paused_shard_keeps_its_jobs_and_gives_them_out_on_resume() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    shop.queue.pause(&shop.shard, true).await.unwrap();
    let claim = shop.claim_as("w", 1).await;
    assert!(claim.paused && claim.jobs.is_empty());
    assert_eq!(shop.numbers().await.demand(), 0, "a paused pool counts only what runs");
    shop.queue.pause(&shop.shard, false).await.unwrap();
    assert_eq!(shop.claim_one("w").await.id, id);
}

#[tokio::test]
async fn a_worker_that_says_goodbye_is_off_the_list() {
    let shop = Shop::open().await;
    shop.renew("w", &[]).await;
    assert_eq!(shop.numbers().await.live_workers, 1);
    assert!(shop.queue.leave(&shop.shard, &worker_id("w")).await.unwrap());
    assert_eq!(shop.numbers().await.live_workers, 0);
}

#[tokio::test]
async fn an_id_that_comes_twice_in_one_call_is_one_job() {
    for with_others in [None, Some(OnConflict::Reject)] {
        let mut shop = Shop::open().await;
        let (job, other) = (shop.job(), shop.job());
        let mut jobs = vec![job.clone(), job, other];
        jobs.extend(with_others.map(|on_conflict| shop.keyed("k", on_conflict)));
        let answers = shop.queue.enqueue(&shop.shard, Shop::limits(), &jobs).await.unwrap();
        assert!(
            matches!(answers[..3], [Submitted::Accepted(_), Submitted::Exists, Submitted::Accepted(_)]),
            "{answers:?}"
        );
        assert_eq!(shop.claim_as("w", 10).await.jobs.len(), jobs.len() - 1);
    }
}

/// Everything in Redis, by key; of a job's state, what stands before the ticket.
async fn everything(shop: &mut Shop) -> BTreeMap<String, String> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut shop.redis).await.unwrap();
    let mut all = BTreeMap::new();
    for key in keys.into_iter().filter(|key| !key.contains(":q:")) {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut shop.redis).await.unwrap();
        let content = match kind.as_str() {
            "hash" => {
                let mut fields: BTreeMap<String, Vec<u8>> = shop.redis.hgetall(&key).await.unwrap();
                fields.entry("s".to_owned()).and_modify(|state| state.truncate(80));
                format!("{fields:?}")
            }
            "zset" => {
                format!("{:?}", shop.redis.zrange_withscores::<_, Vec<(String, f64)>>(&key, 0, -1).await.unwrap())
            }
            "list" => format!("{:?}", shop.redis.lrange::<_, Vec<String>>(&key, 0, -1).await.unwrap()),
            _ => kind,
        };
        all.insert(key, content);
    }
    all
}

#[tokio::test]
async fn a_plain_job_is_stored_the_same_whichever_script_takes_it() {
    let (mut alone, mut beside) = (Shop::open().await, Shop::open().await);
    let owner = Owner { service: "s".into(), reference: "r".into(), agent: Some("a".into()) };
    let large = format!(r#"{{"user":"{}"}}"#, "x".repeat(70_000));
    let mut jobs: Vec<NewJob> = [Priority::High, Priority::Normal, Priority::Normal, Priority::Low]
        .map(|priority| NewJob { priority, queue_timeout: Duration::from_secs(77), ..alone.job() })
        .into();
    jobs[0].spec.owner = Some(owner);
    jobs[1].metadata.insert("a".into(), "b".into());
    jobs[2].input = serde_json::value::RawValue::from_string(large).unwrap();
    alone.queue.enqueue(&alone.shard, Shop::limits(), &jobs).await.unwrap();
    // One that is refused makes the whole call one of any jobs.
    jobs.push(NewJob { fail_fast: true, ..alone.job() });
    let answers = beside.queue.enqueue(&beside.shard, Shop::limits(), &jobs).await.unwrap();
    assert!(matches!(answers[4], Submitted::NoLiveWorker), "{answers:?}");
    assert_eq!(everything(&mut alone).await, everything(&mut beside).await);
}
