//! A primary that dies, and the Sentinels that name another.

use std::time::{Duration, Instant};

use support::{FleetOptions, OpenAiStub, Sentinels};
use tokio_util::sync::CancellationToken;

use super::load::{RECOVERY, submit_surely};
use crate::settings::{chat, stubbed};

/// When the replica has become the primary.
async fn promoted(sentinels: &Sentinels) -> Instant {
    support::assert_eventually!(
        sentinels.replica.command(&["INFO", "replication"]).await.is_ok_and(|info| {
            redis::from_redis_value::<String>(info).is_ok_and(|info| info.contains("role:master"))
        })
    );
    Instant::now()
}

#[tokio::test]
async fn a_fleet_is_back_within_five_seconds_after_the_new_primary_stands() {
    let mut sentinels = Sentinels::start().await;
    let stub = OpenAiStub::start().await;
    let config = stubbed(&stub, "max_crashes = 100");
    let mut fleet = FleetOptions::new(config).workers(2).start_at(&sentinels.url()).await;
    fleet.allow_error("");
    let client = fleet.client.clone();
    let stop = CancellationToken::new();
    let submitting = {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut jobs = Vec::new();
            while !stop.is_cancelled() {
                let key = format!("job {}", jobs.len());
                jobs.push((key.clone(), submit_surely(&client, &key).await));
                // No more than slow workers can do: what is measured below is no backlog.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            jobs
        })
    };
    stub.wait_for(30).await;
    sentinels.primary.kill();
    let stands = promoted(&sentinels).await;
    // Accepted and run, by a worker that found the new primary too.
    let id = submit_surely(&client, "after").await;
    client.wait_until(&id, RECOVERY, |job| job["status"] == "completed").await;
    let took = stands.elapsed();
    println!("back after {took:?}");
    assert!(took < Duration::from_secs(5), "back only after {took:?}");
    stop.cancel();
    let mut lost = 0;
    for (key, id) in submitting.await.unwrap() {
        if client.get(&format!("/api/v1/jobs/{id}")).await.status == 404 {
            lost += 1;
            continue;
        }
        let job = client.wait_until(&id, RECOVERY, |job| job["completed_at"].is_string()).await;
        assert_eq!((&job["status"], &job["result"]["content"]), (&"completed".into(), &key.as_str().into()), "{job}");
    }
    assert!(lost <= 1, "{lost} lost: more than were under way");
}

#[tokio::test]
async fn a_primary_that_lives_on_after_its_failover_is_left_before_it_loses_more() {
    let sentinels = Sentinels::start().await;
    let stub = OpenAiStub::start().await;
    let mut fleet = FleetOptions::new(stubbed(&stub, "")).start_at(&sentinels.url()).await;
    fleet.allow_error("");
    let before = fleet.client.submit(&chat("before")).await;
    fleet.client.wait_status(&before, "completed").await;
    // The old primary takes writes for some ten seconds more, and loses them when it becomes a replica.
    sentinels.fail_over().await;
    let stands = promoted(&sentinels).await;
    let mut n = 0;
    let kept = loop {
        n += 1;
        let id = submit_surely(&fleet.client, &format!("after {n}")).await;
        let record = format!("overshot:{{chat.0}}:j:{}", id.rsplit('-').next().unwrap());
        if sentinels.replica.cli(&["EXISTS", &record]).await == redis::Value::Int(1)
            && sentinels.primary.cli(&["EXISTS", &record]).await == redis::Value::Int(0)
        {
            break id;
        }
        assert!(stands.elapsed() < Duration::from_secs(5), "still at the old primary");
    };
    fleet.client.wait_status(&kept, "completed").await;
    assert!(stands.elapsed() < Duration::from_secs(5), "back only after {:?}", stands.elapsed());
    assert_eq!(fleet.client.job(&before).await["status"], "completed");
}
