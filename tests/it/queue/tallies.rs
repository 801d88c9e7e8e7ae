//! What is counted of jobs without walking them: stages, services, outcomes, hours.

use std::time::Duration;

use overshot_common::code::ErrorCode;
use overshot_common::job::{JobSpec, OnConflict, Owner};
use overshot_common::queue::{NewJob, Stage, Tallies, Verdict};

use super::shop::{Shop, error, raw};

const HOUR: Duration = Duration::from_secs(3600);

async fn read(shop: &Shop) -> Tallies {
    shop.queue.tallies(&shop.shard).await.unwrap()
}

/// The counters of the model.
async fn stage(shop: &Shop, model: &str) -> Stage {
    read(shop).await.stages.remove(&("chat".to_owned(), Some(model.to_owned()))).unwrap_or_default()
}

fn with_model(shop: &Shop, model: &str) -> NewJob {
    let job = shop.job();
    NewJob { spec: JobSpec { model: Some(model.to_owned()), ..job.spec.clone() }, ..job }
}

fn with_service(shop: &Shop, service: &str) -> NewJob {
    let job = shop.job();
    let owner = Some(Owner { service: service.to_owned(), reference: "r".to_owned(), agent: None });
    NewJob { spec: JobSpec { owner, ..job.spec.clone() }, ..job }
}

#[tokio::test]
async fn every_end_is_counted_once_in_the_stage_of_its_job() {
    let mut shop = Shop::open().await;
    shop.add(with_model(&shop, "a")).await;
    let job = shop.claim_one("w").await;
    shop.settle(&job, Verdict::Completed(raw("{}"))).await;
    shop.settle(&job, Verdict::Completed(raw("{}"))).await;
    shop.add(with_model(&shop, "a")).await;
    let job = shop.claim_one("w").await;
    shop.settle(&job, Verdict::Retry(error(ErrorCode::ProviderError), Duration::ZERO)).await;
    shop.queue.promote(&shop.shard).await.unwrap();
    let job = shop.claim_one("w").await;
    shop.settle(&job, Verdict::Failed(error(ErrorCode::BadInput))).await;
    let waiting = shop.add(with_model(&shop, "b")).await;
    shop.queue.cancel(&shop.shard, &[waiting.local]).await.unwrap();
    shop.add(with_model(&shop, "b")).await;
    shop.pass(2 * HOUR).await;
    shop.queue.expire(&shop.shard).await.unwrap();
    shop.add(with_model(&shop, "b")).await;
    let a = stage(&shop, "a").await;
    assert_eq!((a.accepted, a.open(), a.total.completed), (2, 0, 1));
    assert_eq!((a.total.failed["bad_input"], a.total.retried["provider_error"]), (1, 1));
    assert_eq!(a.last_day, a.total);
    let b = stage(&shop, "b").await;
    assert_eq!((b.accepted, b.open(), b.total.cancelled, b.total.expired), (3, 1, 1, 1));
}

#[tokio::test]
async fn a_job_run_again_by_hand_is_open_again() {
    let mut shop = Shop::open().await;
    let id = shop.add(with_model(&shop, "a")).await;
    let job = shop.claim_one("w").await;
    shop.settle(&job, Verdict::Failed(error(ErrorCode::BadInput))).await;
    assert_eq!(stage(&shop, "a").await.open(), 0);
    shop.queue.retry(&shop.shard, Shop::limits(), None, &[id.local]).await.unwrap();
    assert_eq!(stage(&shop, "a").await.open(), 1);
    let job = shop.claim_one("w").await;
    shop.settle(&job, Verdict::Completed(raw("{}"))).await;
    let a = stage(&shop, "a").await;
    assert_eq!((a.accepted, a.open(), a.total.completed, a.total.all_failed()), (1, 0, 1, 1));
}

#[tokio::test]
async fn a_refused_job_is_not_counted_and_a_replaced_one_is_cancelled() {
    let shop = Shop::open().await;
    let reject = NewJob { concurrency_key: Some("k".into()), ..with_model(&shop, "a") };
    shop.add(NewJob { on_conflict: OnConflict::Reject, ..reject.clone() }).await;
    let other = NewJob { id: shop.job().id, ..reject.clone() };
    shop.submit(&NewJob { on_conflict: OnConflict::Reject, ..other.clone() }).await;
    assert_eq!(stage(&shop, "a").await.accepted, 1);
    shop.add(NewJob { on_conflict: OnConflict::Replace, ..other }).await;
    let a = stage(&shop, "a").await;
    assert_eq!((a.accepted, a.open(), a.total.cancelled), (2, 1, 1));
}

#[tokio::test]
async fn what_ended_a_day_ago_counts_in_the_total_alone_also_after_it_was_folded() {
    let mut shop = Shop::open().await;
    shop.queue.fold(&shop.shard).await.unwrap();
    shop.add(with_model(&shop, "a")).await;
    let job = shop.claim_one("w").await;
    shop.settle(&job, Verdict::Completed(raw("{}"))).await;
    shop.pass(23 * HOUR).await;
    assert_eq!(stage(&shop, "a").await.last_day.completed, 1);
    shop.pass(3 * HOUR).await;
    for fold in [false, true, true] {
        if fold {
            assert_eq!(shop.queue.fold(&shop.shard).await.unwrap(), 0);
        }
        let a = stage(&shop, "a").await;
        assert_eq!((a.total.completed, a.last_day.completed, a.open()), (1, 0, 0), "folded: {fold}");
    }
    let left: Vec<String> = redis::cmd("KEYS").arg("*:h:*").query_async(&mut shop.redis).await.unwrap();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn stages_and_services_beyond_the_first_are_counted_together() {
    let mut shop = Shop::open().await;
    let models: Vec<String> = (0..70).map(|n| format!("m{n}")).collect();
    let jobs: Vec<NewJob> = models.iter().map(|model| with_model(&shop, model)).collect();
    for job in jobs {
        shop.add(job).await;
    }
    for n in 0..40 {
        shop.add(with_service(&shop, &format!("s{n}"))).await;
        shop.add(with_service(&shop, "s0")).await;
    }
    let tallies = read(&shop).await;
    // The jobs with a service have a model that came too late.
    let other = tallies.stages[&("other".to_owned(), Some("other".to_owned()))].clone();
    assert_eq!((tallies.stages.len(), other.accepted), (65, 6 + 80));
    assert_eq!((tallies.services.len(), tallies.services["s0"], tallies.services["other"]), (33, 41, 8));
    let claim = shop.claim_as("w", 100).await;
    for job in &claim.jobs {
        shop.settle(job, Verdict::Completed(raw("{}"))).await;
    }
    let tallies = read(&shop).await;
    let ended: u64 = tallies.stages.values().map(|stage| stage.total.completed).sum();
    assert_eq!(ended, 100);
    assert_eq!(tallies.stages[&("other".to_owned(), Some("other".to_owned()))].total.completed, 36);
}
