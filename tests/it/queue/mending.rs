//! What no move can have left behind, and what Redis itself can lose: scripts, streams, groups, consumers, memory.

use std::time::Duration;

use overshot_common::job::Status;
use overshot_common::queue::{Error, Renewal, Settled, Submitted};
use redis::AsyncCommands as _;

use super::shop::{LEASE, Shop, done, held};

#[tokio::test]
async fn jobs_of_a_deleted_stream_come_back_from_their_records() {
    let mut shop = Shop::open().await;
    for _ in 0..5 {
        shop.add(shop.job()).await;
    }
    let () = shop.redis.del(shop.key("q:normal")).await.unwrap();
    assert_eq!(shop.claim_as("w", 10).await.jobs.len(), 0);
    assert_eq!(shop.queue.audit(&shop.shard, LEASE, true).await.unwrap().len(), 5);
    assert_eq!(shop.claim_as("w", 10).await.jobs.len(), 5);
    assert_eq!(shop.queue.audit(&shop.shard, LEASE, true).await.unwrap().len(), 0);
}

#[tokio::test]
async fn entries_read_by_a_stranger_are_queued_anew() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    assert_eq!(shop.claim_as("w", 0).await.jobs.len(), 0);
    let stream = shop.key("q:normal");
    let _: redis::Value = redis::cmd("XGROUP")
        .arg(&["CREATE", &stream, "workers", "0", "MKSTREAM"])
        .query_async(&mut shop.redis)
        .await
        .unwrap_or(redis::Value::Nil);
    let stolen: redis::Value = redis::cmd("XREADGROUP")
        .arg(&["GROUP", "workers", "stranger", "COUNT", "1", "STREAMS", &stream, ">"])
        .query_async(&mut shop.redis)
        .await
        .unwrap();
    assert_ne!(stolen, redis::Value::Nil);
    assert_eq!(shop.claim_as("w", 10).await.jobs.len(), 0);
    assert_eq!(shop.queue.audit(&shop.shard, Duration::ZERO, true).await.unwrap().len(), 1);
    assert_eq!(shop.claim_one("w").await.id, id);
}

// A scan for idle entries that began anew each time would never get past the first page.
#[tokio::test]
async fn a_pending_entry_without_a_lease_is_found_behind_a_page_of_others() {
    let mut shop = Shop::open().await;
    let jobs: Vec<_> = (0..150).map(|_| shop.job()).collect();
    shop.queue.enqueue(&shop.shard, Shop::limits(), &jobs).await.unwrap();
    let claimed = shop.claim_as("w", 150).await.jobs;
    let last = &claimed[149].id;
    let leases = shop.key("leases");
    let () = shop.redis.zrem(&leases, last.local.as_str()).await.unwrap();
    // The walk over all open jobs, which comes to it too, leaves it a lease of its own.
    let (lease, began) = (Duration::from_millis(1), shop.now());
    for _ in 0..2 {
        tokio::time::sleep(2 * lease).await;
        shop.queue.audit(&shop.shard, lease, true).await.unwrap();
    }
    let end: Option<u64> = shop.redis.zscore(&leases, last.local.as_str()).await.unwrap();
    assert_eq!(end, Some(began), "its lease is over at once");
}

#[tokio::test]
async fn a_removed_consumer_takes_no_job_with_it() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    let id = shop.add(shop.job()).await;
    shop.claim_one("w").await;
    let _: i64 = redis::cmd("XGROUP")
        .arg(&["DELCONSUMER", &shop.key("q:normal"), "workers", "w"])
        .query_async(&mut shop.redis)
        .await
        .unwrap();
    assert_eq!(shop.reap_for(LEASE + Duration::from_secs(1)).await, [(id, Status::Retrying)]);
    assert_eq!(shop.claim_as("w2", 1).await.jobs.len(), 1);
}

#[tokio::test]
async fn flushed_scripts_are_loaded_again_without_the_caller_noticing() {
    let mut shop = Shop::open().await;
    for _ in 0..20 {
        let _: String = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut shop.redis).await.unwrap();
        shop.add(shop.job()).await;
        let job = shop.claim_one("w").await;
        assert_eq!(shop.settle(&job, done()).await, Settled::Now(Status::Completed));
    }
}

#[tokio::test]
async fn out_of_memory_refuses_submits_and_lets_running_jobs_finish() {
    let mut shop = Shop::open().await;
    shop.add(shop.job()).await;
    shop.add(shop.job()).await;
    let running = shop.claim_one("w").await;
    let _: String = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).query_async(&mut shop.redis).await.unwrap();
    let new = shop.job();
    let refused = shop.queue.enqueue(&shop.shard, Shop::limits(), std::slice::from_ref(&new)).await;
    assert!(matches!(refused, Err(Error::OutOfMemory)), "{refused:?}");
    assert_eq!(shop.settle(&running, done()).await, Settled::Now(Status::Completed));
    assert_eq!(shop.claim_as("w", 1).await.jobs.len(), 1, "the backlog drains");
    let _: String = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "0"]).query_async(&mut shop.redis).await.unwrap();
    assert!(matches!(shop.submit(&new).await, Submitted::Accepted(_)));
}

#[tokio::test]
async fn an_entry_deleted_under_a_running_job_costs_it_nothing() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    shop.add(shop.job()).await;
    let id = shop.add(shop.job()).await;
    let one = shop.claim_one("w").await;
    let _two = shop.claim_one("w").await;
    let trim = [&shop.key("q:normal"), "MAXLEN", "0"];
    let deleted: i64 = redis::cmd("XTRIM").arg(&trim).query_async(&mut shop.redis).await.unwrap();
    assert_eq!(deleted, 2);
    assert_eq!(shop.settle(&one, done()).await, Settled::Now(Status::Completed));
    assert_eq!(shop.reap_for(LEASE + Duration::from_secs(1)).await, [(id.clone(), Status::Retrying)]);
    assert_eq!(shop.claim_one("w2").await.id, id);
}

#[tokio::test]
async fn a_redis_that_was_emptied_refuses_old_holders_and_takes_new_jobs() {
    let mut shop = Shop::open().await;
    shop.add(shop.job()).await;
    let old = shop.claim_one("w").await;
    let _: String = redis::cmd("FLUSHALL").query_async(&mut shop.redis).await.unwrap();
    shop.pass(Duration::from_secs(1)).await;
    assert_eq!(shop.claim_as("w", 1).await.jobs.len(), 0);
    assert_eq!(shop.renew("w", &[held(&old)]).await, [Renewal::Lost]);
    assert_eq!(shop.settle(&old, done()).await, Settled::Lost);
    let id = shop.add(shop.job()).await;
    assert_eq!(shop.claim_one("w").await.id, id);
}

#[tokio::test]
async fn the_consumer_of_a_dead_worker_goes_once_it_holds_nothing() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    shop.add(shop.job()).await;
    shop.renew("w", &[]).await;
    shop.claim_one("w").await;
    let mut consumers = redis::cmd("XINFO");
    consumers.arg(&["CONSUMERS", &shop.key("q:normal"), "workers"]);
    let count =
        async |shop: &mut Shop| consumers.query_async::<Vec<redis::Value>>(&mut shop.redis).await.unwrap().len();
    assert_eq!(count(&mut shop).await, 1);
    assert_eq!(shop.reap_for(Duration::from_secs(12)).await.len(), 1);
    shop.reap_for(Duration::from_secs(2)).await;
    assert_eq!(count(&mut shop).await, 0);
}

// A script is not rolled back: what it wrote before it failed stays.
#[tokio::test]
async fn a_submit_that_failed_half_way_is_not_lost_and_not_doubled() {
    let mut shop = Shop::open().await;
    let () = shop.redis.set(shop.key("q:normal"), "no stream").await.unwrap();
    let job = shop.job();
    let failed = shop.queue.enqueue(&shop.shard, Shop::limits(), std::slice::from_ref(&job)).await;
    assert!(matches!(failed, Err(Error::Refused(_))), "{failed:?}");
    let () = shop.redis.del(shop.key("q:normal")).await.unwrap();
    // Sent again it is taken, or it was there and the audit brings it back.
    shop.submit(&job).await;
    shop.queue.audit(&shop.shard, Duration::ZERO, true).await.unwrap();
    assert_eq!(shop.claim_one("w").await.id, job.id);
    assert_eq!(shop.claim_as("w", 10).await.jobs.len(), 0);
}

#[tokio::test]
async fn many_that_end_after_their_stream_was_deleted_end_all_the_same() {
    for deleted in ["DEL", "XGROUP"] {
        let mut shop = Shop::open().await;
        let ids: Vec<_> = (0..20).map(|_| shop.job()).collect();
        shop.queue.enqueue(&shop.shard, Shop::limits(), &ids).await.unwrap();
        let jobs = shop.claim_as("w", 20).await.jobs;
        let mut delete = redis::cmd(deleted);
        match deleted {
            "DEL" => delete.arg(shop.key("q:normal")),
            _ => delete.arg("DESTROY").arg(shop.key("q:normal")).arg("workers"),
        };
        let (): () = delete.query_async(&mut shop.redis).await.unwrap();
        let answers = shop.complete(&jobs).await;
        assert_eq!(answers, vec![Settled::Now(Status::Completed); 20], "{deleted}");
        assert_eq!(shop.redis.xlen::<_, u64>(shop.key("q:normal")).await.unwrap(), 0, "{deleted}");
    }
}
