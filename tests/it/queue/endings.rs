//! How jobs end: retries and their budget, cancel, retry by hand, retention.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::job::{OnConflict, Status};
use overshot_common::queue::{Annotated, Cancelled, Filter, NewJob, Renewal, Retried, Settled, Verdict};
use redis::AsyncCommands as _;

use super::shop::{Shop, done, error, held, raw, retry_after};

#[tokio::test]
async fn a_failed_attempt_is_tried_again_after_its_delay_until_the_budget_is_used_up() {
    let mut shop = Shop::open().await;
    let id = shop.add(NewJob { max_attempts: 2, ..shop.job() }).await;
    let job = shop.claim_one("w").await;
    assert_eq!(shop.settle(&job, retry_after(Duration::from_secs(30))).await, Settled::Now(Status::Retrying));
    shop.promote().await;
    assert_eq!(shop.claim_as("w", 1).await.jobs.len(), 0);
    shop.pass(Duration::from_secs(30)).await;
    shop.promote().await;
    let waiting = shop.get(&id).await;
    assert_eq!((waiting.status, waiting.attempts), (Status::Retrying, 1), "retrying until its next claim");
    let job = shop.claim_one("w").await;
    assert_eq!(shop.get(&id).await.error.unwrap().code, ErrorCode::ProviderError, "the last error stays visible");
    assert_eq!(shop.settle(&job, retry_after(Duration::from_secs(30))).await, Settled::Now(Status::Failed));
    assert_eq!(shop.get(&id).await.attempts, 2);
}

// In a rolling deploy.
#[tokio::test]
async fn a_code_that_a_newer_version_wrote_is_read_as_unknown() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    shop.settle(&job, retry_after(Duration::from_secs(30))).await;
    let key = shop.key(&format!("j:{}", id.local));
    let (): () = shop.redis.hset(key, "e", r#"{"code":"sun_flare","message":"the sun"}"#).await.unwrap();
    let error = shop.get(&id).await.error.unwrap();
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::Unknown, "the sun"));
}

#[tokio::test]
async fn what_an_attempt_put_out_stays_through_retry_and_cancel() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    let settlement = overshot_common::queue::Settlement {
        held: held(&job),
        verdict: retry_after(Duration::from_secs(30)),
        provider: Some("sim".into()),
        partial: Some(raw(r#"{"content":"half","partial":true}"#)),
        chunks: 0,
    };
    shop.queue.settle(&shop.shard, &[settlement]).await.unwrap();
    shop.queue.cancel(&shop.shard, &[id.local]).await.unwrap();
    let ended = shop.get(&id).await;
    assert_eq!((ended.status, ended.provider.as_deref()), (Status::Cancelled, Some("sim")));
    assert_eq!(ended.result.unwrap().get(), r#"{"content":"half","partial":true}"#);
}

#[tokio::test]
async fn cancel_ends_whatever_waits_at_once() {
    let mut shop = Shop::open().await;
    let queued = shop.add(shop.job()).await;
    let scheduled = shop.add(NewJob { delay: Duration::from_secs(9), ..shop.job() }).await;
    shop.add(shop.keyed("k", OnConflict::Queue)).await;
    let blocked = shop.add(shop.keyed("k", OnConflict::Queue)).await;
    let ids = [queued.local, scheduled.local, blocked.local];
    assert_eq!(shop.queue.cancel(&shop.shard, &ids).await.unwrap(), [Cancelled::Now; 3]);
    assert_eq!(shop.queue.cancel(&shop.shard, &ids).await.unwrap(), [Cancelled::Before; 3]);
    shop.pass(Duration::from_secs(10)).await;
    shop.promote().await;
    assert_eq!(shop.claim_as("w", 10).await.jobs.len(), 1, "only the key's holder is left");
    assert_eq!(shop.count(Status::Cancelled).await, 3);
}

#[tokio::test]
async fn a_running_job_is_asked_to_stop_and_its_holder_confirms() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    assert_eq!(shop.queue.cancel(&shop.shard, &[id.local]).await.unwrap(), [Cancelled::Requested]);
    assert!(shop.get(&id).await.cancel_requested_at.is_some());
    assert_eq!(shop.renew("w", &[held(&job)]).await, [Renewal::CancelRequested]);
    assert_eq!(shop.settle(&job, retry_after(Duration::ZERO)).await, Settled::Now(Status::Cancelled));
    assert_eq!(shop.queue.cancel(&shop.shard, &[id.local]).await.unwrap(), [Cancelled::Before]);
}

#[tokio::test]
async fn a_finish_that_overtakes_a_cancel_wins() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    shop.queue.cancel(&shop.shard, &[id.local]).await.unwrap();
    assert_eq!(shop.settle(&job, done()).await, Settled::Now(Status::Completed));
    assert_eq!(shop.queue.cancel(&shop.shard, &[id.local]).await.unwrap(), [Cancelled::Ended]);
    assert_eq!(shop.status(&id).await, Status::Completed);
}

#[tokio::test]
async fn a_holder_that_does_not_confirm_a_cancel_loses_its_grant_after_five_seconds() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    let id = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    shop.renew("w", &[held(&job)]).await;
    shop.queue.cancel(&shop.shard, &[id.local]).await.unwrap();
    assert_eq!(shop.reap_for(Duration::from_secs(4)).await, []);
    assert_eq!(shop.reap_for(Duration::from_secs(2)).await, [(id.clone(), Status::Cancelled)]);
    assert_eq!(shop.settle(&job, done()).await, Settled::Lost);
}

#[tokio::test]
async fn an_ended_job_runs_again_by_hand_with_a_new_budget_and_input() {
    let mut shop = Shop::open().await;
    let id = shop.add(NewJob { max_attempts: 1, ..shop.job() }).await;
    let first = shop.claim_one("w").await;
    shop.settle(&first, retry_after(Duration::ZERO)).await;
    let input = raw(r#"{"user":"again"}"#);
    let retry = shop.queue.retry(&shop.shard, Shop::limits(), Some(&input), &[id.local]).await.unwrap();
    assert_eq!(retry, [Retried::Now(Status::Queued)]);
    let job = shop.get(&id).await;
    assert_eq!((job.attempts, job.error, job.completed_at), (0, None, None));
    let ttl: i64 = shop.redis.pttl(shop.key(&format!("j:{}", id.local))).await.unwrap();
    assert_eq!(ttl, -1, "an open job has no end of retention");
    assert_eq!(shop.queue.retry(&shop.shard, Shop::limits(), None, &[id.local]).await.unwrap(), [Retried::NotEnded]);
    let second = shop.claim_one("w").await;
    assert_eq!(second.input.as_ref().unwrap().get(), input.get());
    assert!(second.grant.number() > first.grant.number(), "chunk ids go on growing");
    assert_eq!(shop.settle(&first, done()).await, Settled::Lost);
}

#[tokio::test]
async fn retention_takes_the_job_its_chunks_and_its_place_in_every_listing() {
    let mut shop = Shop::open().await;
    let id = shop.add(NewJob { result_ttl: Duration::from_secs(60), ..shop.keyed("k", OnConflict::Reject) }).await;
    let job = shop.claim_one("w").await;
    shop.settle(&job, Verdict::Failed(error(ErrorCode::BadInput))).await;
    let shards = [shop.shard.clone()];
    let by_key = Filter { concurrency_key: Some("k".into()), ..Filter::default() };
    assert_eq!(shop.queue.list(&shards, &by_key, None, 10).await.unwrap().jobs.len(), 1);
    shop.pass(Duration::from_secs(59)).await;
    assert_eq!(shop.queue.prune(&shop.shard).await.unwrap(), 0);
    // The lists of what ends are kept by the second.
    shop.pass(Duration::from_secs(2)).await;
    assert_eq!(shop.queue.prune(&shop.shard).await.unwrap(), 1);
    assert!(shop.queue.get(&id, false).await.unwrap().is_none());
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut shop.redis).await.unwrap();
    let left: Vec<&String> = keys.iter().filter(|key| !is_bookkeeping(key)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Keys that stay for as long as the shard does.
fn is_bookkeeping(key: &str) -> bool {
    [":n", ":ctl", ":claims", ":test-clock", ":bell", ":q:high", ":q:normal", ":q:low", ":q:front", ":q:suspect"]
        .iter()
        .any(|name| key.ends_with(name) || key.contains(":h:"))
}

#[tokio::test]
async fn listings_page_through_everything_newest_first() {
    let mut shop = Shop::open().await;
    let mut expected = Vec::new();
    for number in 0..450 {
        let job = shop.job();
        expected.push(job.id.clone());
        shop.add(job).await;
        if number % 3 == 0 {
            let job = shop.claim_one("w").await;
            shop.settle(&job, done()).await;
        }
    }
    expected.reverse();
    let shards = [shop.shard.clone()];
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = shop.queue.list(&shards, &Filter::default(), after, 37).await.unwrap();
        seen.extend(page.jobs.into_iter().map(|job| job.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
    let ended = Filter { statuses: vec![Status::Completed], ..Filter::default() };
    assert_eq!(shop.queue.list(&shards, &ended, None, 200).await.unwrap().jobs.len(), 150);
}

#[tokio::test]
async fn metadata_is_merged_in_any_status_up_to_its_limit() {
    let shop = Shop::open().await;
    let id = shop.add(NewJob { metadata: [("a".into(), "1".into())].into(), ..shop.job() }).await;
    let set = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    let changes = [set("b", Some("2 \"quoted\" ü")), set("a", None)];
    assert_eq!(shop.queue.annotate(&id, &changes, 16).await.unwrap(), Annotated::Now);
    assert_eq!(shop.get(&id).await.metadata, [("b".to_owned(), "2 \"quoted\" ü".to_owned())].into());
    assert_eq!(shop.queue.annotate(&id, &[set("c", Some(""))], 1).await.unwrap(), Annotated::TooMany);
    shop.queue.annotate(&id, &[set("b", None)], 16).await.unwrap();
    assert!(shop.get(&id).await.metadata.is_empty());
}

/// The jobs whose entries stand in the stream of the normal priority, in its order.
async fn in_stream(shop: &mut Shop) -> Vec<String> {
    let entries: Vec<(String, Vec<(String, String)>)> = shop
        .redis
        .xrange_all::<_, redis::Value>(shop.key("q:normal"))
        .await
        .map(redis::from_redis_value)
        .unwrap()
        .unwrap();
    entries.into_iter().map(|(_, mut fields)| fields.remove(0).1).collect()
}

#[tokio::test]
async fn of_many_that_end_at_once_only_their_own_entries_go() {
    let mut shop = Shop::open().await;
    let jobs: Vec<_> = (0..130).map(|_| shop.job()).collect();
    shop.queue.enqueue(&shop.shard, Shop::limits(), &jobs).await.unwrap();
    let mut held_jobs = Vec::new();
    for worker in ["a", "b", "c"] {
        held_jobs.extend(shop.claim_as(worker, 40).await.jobs);
    }
    // Ten wait; of those that run, what ends together is, one after the other: some behind others that still run, all but one at
    // the front, and the rest, last ones first.
    let rounds: [fn(usize) -> bool; 3] =
        [|place| place >= 40 && place % 3 != 0, |place| place < 40 && place != 7, |place| place == 7 || place % 3 == 0];
    let mut left: Vec<usize> = (0..held_jobs.len()).collect();
    for ends in rounds {
        let (ended, running): (Vec<usize>, Vec<usize>) = left.iter().partition(|place| ends(**place));
        let answers = shop.complete(ended.iter().rev().map(|place| &held_jobs[*place])).await;
        assert!(answers.iter().all(|answer| *answer == Settled::Now(Status::Completed)), "{answers:?}");
        let mut expected: Vec<&str> = running.iter().map(|place| held_jobs[*place].id.local.as_str()).collect();
        expected.extend(jobs[120..].iter().map(|job| job.id.local.as_str()));
        assert_eq!(in_stream(&mut shop).await, expected);
        left = running;
    }
    assert_eq!(left.len(), 0);
    assert_eq!(shop.claim_as("a", 100).await.jobs.len(), 10, "what waited is still there");
}
