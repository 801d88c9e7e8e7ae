//! Many jobs, many callers: what holds for one holds for hundreds, and costs what it should.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use overshot_common::job::{Priority, Status};
use overshot_common::queue::{NewJob, Submitted};

use super::shop::{LEASE, Shop, worker_id};

async fn add_many(shop: &Shop, count: usize) {
    let jobs: Vec<NewJob> = (0..count).map(|_| shop.job()).collect();
    let answers = shop.queue.enqueue(&shop.shard, Shop::limits(), &jobs).await.unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Submitted::Accepted(_))));
}

/// A number in a section of INFO: what stands after `name`, up to a comma.
async fn info(shop: &mut Shop, section: &str, name: &str) -> u64 {
    let text: String = redis::cmd("INFO").arg(section).query_async(&mut shop.redis).await.unwrap();
    let rest = text.split_once(name).unwrap().1;
    rest.split([',', '\r']).next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn many_reapers_at_once_take_each_job_once() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    add_many(&shop, 500).await;
    for _ in 0..5 {
        assert_eq!(shop.claim_as("silent", 100).await.jobs.len(), 100);
    }
    assert_eq!(shop.reap_for(LEASE - Duration::from_secs(1)).await, []);
    shop.pass(Duration::from_secs(2)).await;
    let policy = Shop::policy();
    let reapers: Vec<_> = (0..8).map(|_| shop.queue.separate(Duration::from_secs(5)).unwrap()).collect();
    let taken = join_all(reapers.iter().map(|reaper| async {
        let mut taken = Vec::new();
        loop {
            let now = reaper.reclaim(&shop.shard, &policy).await.unwrap().jobs;
            if now.is_empty() {
                return taken;
            }
            taken.extend(now);
        }
    }));
    let taken = taken.await.concat();
    assert!(taken.iter().all(|(_, status)| *status == Status::Retrying));
    assert_eq!((taken.len(), taken.iter().map(|(id, _)| id.to_string()).collect::<BTreeSet<_>>().len()), (500, 500));
    assert_eq!(shop.claim_as("w", 600).await.jobs.len(), 500, "and each is in its stream once");
}

#[tokio::test]
async fn a_lease_that_is_over_is_found_behind_hundreds_that_are_not() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    add_many(&shop, 501).await;
    assert_eq!(shop.claim_as("busy", 500).await.jobs.len(), 500);
    let short = Duration::from_secs(3);
    let last = shop.queue.claim(&shop.shard, &worker_id("short"), "nonce", 1, short).await.unwrap().jobs;
    assert_eq!(shop.reap_for(short + Duration::from_secs(1)).await, [(last[0].id.clone(), Status::Retrying)]);
}

#[tokio::test]
async fn a_claim_takes_no_more_than_it_asks_for_over_all_priorities() {
    let mut shop = Shop::open().await;
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        for _ in 0..3 {
            shop.add(NewJob { priority, ..shop.job() }).await;
        }
    }
    for _ in 0..4 {
        assert_eq!(shop.claim_as("w", 2).await.jobs.len(), 2);
    }
    assert_eq!(shop.count(Status::Running).await, 8);
}

// A script blocks everybody for as long as it runs.
#[tokio::test]
async fn a_large_batch_goes_in_calls_of_a_hundred() {
    let mut shop = Shop::open().await;
    add_many(&shop, 1).await;
    let before = info(&mut shop, "commandstats", "cmdstat_evalsha:calls=").await;
    add_many(&shop, 1000).await;
    assert_eq!(info(&mut shop, "commandstats", "cmdstat_evalsha:calls=").await - before, 10);
}

#[tokio::test]
async fn a_waiting_job_takes_less_than_a_kibibyte() {
    let mut shop = Shop::open().await;
    add_many(&shop, 1).await;
    let before = info(&mut shop, "memory", "used_memory:").await;
    add_many(&shop, 5000).await;
    let each = (info(&mut shop, "memory", "used_memory:").await - before) / 5000;
    assert!((100..1024).contains(&each), "{each} bytes");
}
