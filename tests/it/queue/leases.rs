//! Leases and grants: zombies, dead workers, outages, steps of the clock, poison jobs.

use std::time::Duration;

use overshot_common::ids::Grant;
use overshot_common::job::Status;
use overshot_common::queue::{ClaimedJob, Held, NewJob, Renewal, Settled};

use super::shop::{LEASE, Shop, done, held, retry_after, worker_id};

#[tokio::test]
async fn job_of_a_silent_worker_is_reclaimed_once_and_the_zombie_is_refused() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    let id = shop.add(shop.job()).await;
    let zombie = shop.claim_one("zombie").await;
    // It never beats, so that only its lease tells.
    let taken = shop.reap_for(LEASE + Duration::from_secs(1)).await;
    assert_eq!(taken, [(id.clone(), Status::Retrying)]);
    let job = shop.get(&id).await;
    assert_eq!((job.attempts, job.crashes, job.error.unwrap().code.as_str()), (1, 1, "stale_worker"));
    assert_eq!(shop.settle(&zombie, done()).await, Settled::Lost);
    assert_eq!(shop.renew("zombie", &[held(&zombie)]).await, [Renewal::Lost]);
    assert_eq!(shop.queue.hand_back(&shop.shard, &[held(&zombie)]).await.unwrap(), [Settled::Lost]);
    let second = shop.claim_one("w2").await;
    assert_eq!((&second.id, second.attempt), (&id, 2));
    assert_eq!(shop.settle(&zombie, done()).await, Settled::Lost, "also while the new owner runs");
    assert_eq!(shop.renew("zombie", &[held(&zombie)]).await, [Renewal::Lost], "the lease is not taken back");
    assert_eq!(shop.queue.hand_back(&shop.shard, &[held(&zombie)]).await.unwrap(), [Settled::Lost]);
    assert_eq!(shop.settle(&second, done()).await, Settled::Now(Status::Completed));
    assert_eq!(shop.settle(&zombie, retry_after(Duration::ZERO)).await, Settled::Lost);
    assert_eq!(shop.status(&id).await, Status::Completed);
}

#[tokio::test]
async fn a_dead_workers_jobs_are_reclaimed_long_before_their_lease_is_over() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    for _ in 0..5 {
        shop.add(shop.job()).await;
    }
    shop.renew("w", &[]).await;
    assert_eq!(shop.claim_as("w", 5).await.jobs.len(), 5);
    assert_eq!(shop.reap_for(Duration::from_secs(9)).await, []);
    assert_eq!(shop.reap_for(Duration::from_secs(2)).await.len(), 5);
    assert_eq!(shop.reap_for(Duration::from_secs(40)).await, [], "each once");
    assert_eq!(shop.numbers().await.live_workers, 0);
}

#[tokio::test]
async fn a_job_of_many_leases_length_stays_with_the_worker_that_renews() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    shop.add(NewJob { timeout: Duration::from_secs(36_000), ..shop.job() }).await;
    let job = shop.claim_one("w").await;
    for _ in 0..20 {
        assert_eq!(shop.renew("w", &[held(&job)]).await, [Renewal::Renewed]);
        assert_eq!(shop.reap_for(Duration::from_secs(9)).await, []);
    }
    assert_eq!(shop.settle(&job, done()).await, Settled::Now(Status::Completed));
    assert_eq!(shop.get(&job.id).await.attempts, 1);
}

/// How many seconds a worker `w` that renews each second keeps its job; less than `most`.
async fn seconds_renewed(shop: &mut Shop, job: &ClaimedJob, most: u32) -> u32 {
    let mut seconds = 0;
    while shop.renew("w", &[held(job)]).await == [Renewal::Renewed] {
        seconds += 1;
        assert!(seconds < most, "renewed for ever");
        shop.reap_for(Duration::from_secs(1)).await;
    }
    seconds
}

#[tokio::test]
async fn a_hung_executor_loses_its_job_one_lease_after_the_attempts_time() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    shop.add(NewJob { timeout: Duration::from_secs(60), ..shop.job() }).await;
    let job = shop.claim_one("w").await;
    let lost_after = seconds_renewed(&mut shop, &job, 200).await;
    assert!((90..=92).contains(&lost_after), "{lost_after}");
}

#[tokio::test]
async fn after_an_outage_or_a_step_of_the_clock_nobody_is_judged_for_a_lease() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    shop.add(NewJob { timeout: Duration::from_secs(36_000), ..shop.job() }).await;
    let job = shop.claim_one("w").await;
    shop.renew("w", &[held(&job)]).await;
    for step in [3 * LEASE, Duration::from_secs(3600)] {
        shop.pass(step).await;
        let first = shop.queue.reclaim(&shop.shard, &Shop::policy()).await.unwrap();
        assert!(first.held && first.jobs.is_empty());
        assert_eq!(shop.renew("w", &[held(&job)]).await, [Renewal::Renewed], "still its own after {step:?}");
        assert_eq!(shop.reap_for(Duration::from_secs(8)).await, []);
        shop.renew("w", &[held(&job)]).await;
    }
    shop.step_back(Duration::from_secs(7200)).await;
    shop.reap_for(Duration::from_secs(2)).await;
    assert_eq!(shop.renew("w", &[held(&job)]).await, [Renewal::Renewed]);
    // The lease now counts from the new time, so that a later death is seen.
    assert_eq!(shop.reap_for(Duration::from_secs(42)).await.len(), 1);
}

#[tokio::test]
async fn a_step_of_the_clock_beyond_an_attempts_time_takes_no_job_from_who_renews() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    shop.add(NewJob { timeout: Duration::from_secs(600), ..shop.job() }).await;
    let job = shop.claim_one("w").await;
    shop.pass(Duration::from_secs(3600)).await;
    let lost_after = seconds_renewed(&mut shop, &job, 1000).await;
    // Its time begins anew at the step: a hung executor is still found.
    assert!((600..=662).contains(&lost_after), "{lost_after}");
}

#[tokio::test]
async fn who_died_before_the_clock_stepped_back_is_found_dead_all_the_same() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    let lost = shop.add(shop.job()).await;
    shop.claim_one("dies").await;
    shop.renew("dies", &[]).await;
    let ignored = shop.add(shop.job()).await;
    let stuck = shop.claim_one("hangs").await;
    shop.queue.cancel(&shop.shard, std::slice::from_ref(&ignored.local)).await.unwrap();
    shop.step_back(Duration::from_secs(7200)).await;
    let mut reclaimed = Vec::new();
    for _ in 0..50 {
        // It renews, and does not stop.
        shop.renew("hangs", &[held(&stuck)]).await;
        reclaimed.extend(shop.reap_for(Duration::from_secs(1)).await);
    }
    assert_eq!(reclaimed, [(ignored, Status::Cancelled), (lost, Status::Retrying)]);
}

#[tokio::test]
async fn a_grant_counted_again_by_a_failover_does_not_match() {
    let mut shop = Shop::open().await;
    shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    let forged: Grant = format!("{}.other", job.grant.number()).parse().unwrap();
    let zombie = Held { id: job.id.clone(), grant: forged };
    assert_eq!(shop.settle_held(zombie, done()).await, Settled::Lost);
    assert_eq!(shop.settle(&job, done()).await, Settled::Now(Status::Completed));
    assert_eq!(shop.settle(&job, done()).await, Settled::Before(Status::Completed), "the lost reply's repeat");
}

#[tokio::test]
async fn a_poison_job_ends_and_its_neighbours_do_not_pay() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    let poison = shop.add(NewJob { max_crashes: 2, ..shop.job() }).await;
    let neighbour = shop.add(NewJob { max_crashes: 2, ..shop.job() }).await;
    let mut round = 0;
    while shop.status(&poison).await != Status::Failed {
        round += 1;
        assert!(round < 10, "the poison job never ends");
        let worker = format!("w{round}");
        shop.promote().await;
        shop.renew(&worker, &[]).await;
        shop.claim_as(&worker, 10).await;
        // The worker dies of the poison job whenever it holds it.
        shop.reap_for(Duration::from_secs(12)).await;
        shop.reap_for(Duration::from_secs(31)).await;
    }
    let failed = shop.get(&poison).await;
    assert_eq!((failed.crashes, failed.error.unwrap().code.as_str()), (3, "stale_worker"));
    let crashes = shop.get(&neighbour).await.crashes;
    assert!(crashes <= 2, "the neighbour paid {crashes} times");
    assert!(!shop.status(&neighbour).await.is_terminal());
}

#[tokio::test]
async fn only_the_suspect_pays_for_the_death_of_its_worker() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    let suspect = shop.add(NewJob { max_crashes: 1, ..shop.job() }).await;
    shop.renew("w1", &[]).await;
    shop.claim_one("w1").await;
    shop.reap_for(Duration::from_secs(12)).await;
    assert_eq!(shop.get(&suspect).await.crashes, 1);
    let neighbour = shop.add(shop.job()).await;
    shop.renew("w2", &[]).await;
    assert_eq!(shop.claim_as("w2", 5).await.jobs.len(), 2);
    assert_eq!(shop.reap_for(Duration::from_secs(12)).await.len(), 2);
    let ended = shop.get(&suspect).await;
    assert_eq!((ended.crashes, ended.status), (2, Status::Failed), "the next crash of a job that may have one ends it");
    let spared = shop.get(&neighbour).await;
    assert_eq!((spared.crashes, spared.attempts, spared.status), (0, 1, Status::Retrying));
    assert_eq!(shop.claim_one("w3").await.id, neighbour, "at once");
}

#[tokio::test]
async fn after_one_crash_jobs_run_on_together_after_two_a_worker_holds_one_at_a_time() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    for _ in 0..3 {
        shop.add(shop.job()).await;
    }
    for dead in ["dead-1", "dead-2"] {
        shop.renew(dead, &[]).await;
        assert_eq!(shop.claim_as(dead, 3).await.jobs.len(), 3, "beside each other");
        assert_eq!(shop.reap_for(Duration::from_secs(12)).await.len(), 3);
    }
    shop.pass(Duration::from_secs(31)).await;
    shop.promote().await;
    shop.renew("w", &[]).await;
    let first = shop.claim_as("w", 3).await.jobs;
    assert_eq!(first.len(), 1);
    assert_eq!(shop.claim_as("w", 3).await.jobs.len(), 0);
    shop.settle(&first[0], done()).await;
    assert_eq!(shop.claim_as("w", 3).await.jobs.len(), 1, "the next one, once the first is off its hands");
}

#[tokio::test]
async fn a_worker_that_was_thought_dead_takes_suspects_again() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    let id = shop.add(shop.job()).await;
    for dead in ["dead-1", "dead-2"] {
        shop.renew(dead, &[]).await;
        shop.claim_one(dead).await;
        shop.reap_for(Duration::from_secs(12)).await;
    }
    shop.pass(Duration::from_secs(31)).await;
    shop.promote().await;
    shop.renew("frozen", &[]).await;
    shop.claim_one("frozen").await;
    let mut taken = Vec::new();
    while taken.is_empty() {
        taken = shop.reap_for(Duration::from_secs(1)).await;
    }
    // It beats again before the reaper has struck it off.
    shop.renew("frozen", &[]).await;
    shop.pass(Duration::from_secs(31)).await;
    shop.promote().await;
    assert_eq!(shop.claim_one("frozen").await.id, id);
}

#[tokio::test]
async fn a_handed_back_job_goes_before_all_that_were_never_claimed_and_keeps_its_attempts() {
    let mut shop = Shop::open().await;
    let ids = [shop.add(shop.job()).await, shop.add(shop.job()).await];
    let first = shop.claim_one("w").await;
    assert_eq!(shop.queue.hand_back(&shop.shard, &[held(&first)]).await.unwrap(), [Settled::Now(Status::Queued)]);
    assert_eq!(shop.get(&ids[0]).await.attempts, 0);
    assert_eq!(shop.queue.hand_back(&shop.shard, &[held(&first)]).await.unwrap(), [Settled::Before(Status::Queued)]);
    let again = shop.claim_one("w2").await;
    assert_eq!((&again.id, again.attempt), (&ids[0], 1));
}

#[tokio::test]
async fn a_renewal_names_the_jobs_that_its_worker_did_not_list() {
    let mut shop = Shop::open().await;
    shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    let answer = shop.queue.renew(&shop.shard, &worker_id("w"), LEASE, "{}", &[], true).await.unwrap();
    assert_eq!(answer.1, [held(&job)]);
}
