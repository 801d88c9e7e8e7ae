//! What is settled in one call.

use serde_json::value::RawValue;

use super::super::station::tests::{held, unconnected};
use super::batch::{Batch, Gathered};
use super::*;

fn ended(station: &Station, make: impl FnOnce(Held) -> Ending) -> Ended {
    let held = held(station);
    let attempt = station.registry.enter(held.clone());
    let slot = station.pool.slots.clone().try_acquire_owned().unwrap();
    Ended { attempt, ending: make(held), task: "chat".to_owned(), age: Duration::ZERO, outlet: None, slot }
}

fn completed(size: usize) -> impl FnOnce(Held) -> Ending {
    move |held| {
        let result = RawValue::from_string(format!("\"{}\"", "x".repeat(size))).unwrap();
        Ending::Settle(Settlement::new(held, Verdict::Completed(result)))
    }
}

fn snoozed(_: Held) -> Ending {
    let error = JobError { code: ErrorCode::ModelUnavailable, message: String::new() };
    Ending::Snooze(Duration::from_secs(1), error)
}

const MANY: &str = "concurrency = 500";

#[tokio::test]
async fn a_call_carries_at_most_a_hundred_outcomes() {
    let (station, _inboxes) = unconnected(MANY, "");
    let mut gathered = Gathered::default();
    (0..150).for_each(|_| gathered.push(ended(&station, completed(1))));
    assert!(gathered.is_full());
    assert_eq!(gathered.take().len(), 100);
    assert!(!gathered.is_full());
    assert_eq!(gathered.take().len(), 50);
    assert!(gathered.is_empty());
}

#[tokio::test]
async fn a_call_carries_at_most_a_mebibyte_unless_one_outcome_is_larger() {
    let (station, _inboxes) = unconnected(MANY, "");
    let mut gathered = Gathered::default();
    for size in [600_000, 600_000, 2_000_000] {
        gathered.push(ended(&station, completed(size)));
    }
    let sizes: Vec<usize> = std::iter::from_fn(|| (!gathered.is_empty()).then(|| gathered.take().len())).collect();
    assert_eq!(sizes, [1, 1, 1]);
}

#[tokio::test]
async fn outcomes_of_one_kind_go_together_and_in_order() {
    let (station, _inboxes) = unconnected(MANY, "");
    let mut gathered = Gathered::default();
    gathered.push(ended(&station, completed(1)));
    gathered.push(ended(&station, completed(1)));
    gathered.push(ended(&station, snoozed));
    gathered.push(ended(&station, |_| Ending::HandBack));
    gathered.push(ended(&station, completed(1)));
    assert!(matches!(gathered.take(), Batch::Settle(settlements, _) if settlements.len() == 2));
    assert!(matches!(gathered.take(), Batch::Snooze(..)));
    assert!(matches!(gathered.take(), Batch::HandBack(held, _) if held.len() == 1));
    assert!(matches!(gathered.take(), Batch::Settle(settlements, _) if settlements.len() == 1));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_written_is_given_up_when_the_lease_is_over_and_frees_its_slot() {
    let (station, _inboxes) = unconnected("concurrency = 1\nlease = \"10s\"", "");
    let mut gathered = Gathered::default();
    gathered.push(ended(&station, completed(1)));
    let begun = Instant::now();
    settle(&station, gathered.take()).await;
    assert!(begun.elapsed() >= Duration::from_secs(10) && begun.elapsed() < Duration::from_secs(13));
    assert_eq!((station.pool.slots.available_permits(), station.registry.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_count_against_the_lease_of_an_outcome() {
    let (station, _inboxes) = unconnected("lease = \"10s\"", "");
    station.in_touch.send_replace(None);
    let mut gathered = Gathered::default();
    gathered.push(ended(&station, completed(1)));
    let settling = settle(&station, gathered.take());
    tokio::pin!(settling);
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut settling).await.is_err());
    station.in_touch.send_replace(Some(Instant::now()));
    let back = Instant::now();
    settling.await;
    assert!(back.elapsed() >= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn what_redis_forgot_is_sent_again_however_long_it_is_away_meanwhile() {
    let (station, mut inboxes) = unconnected("lease = \"10s\"", "");
    station.in_touch.send_replace(None);
    let mut ended = ended(&station, completed(1));
    let outlet = Outlet::of_acknowledged(&ended.attempt, &["chunk 1", "chunk 2"]);
    ended.outlet = Some(outlet);
    let sending = resend(&station, ended, 1);
    tokio::pin!(sending);
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut sending).await.is_err());
    assert!(!inboxes.outlets.try_recv().unwrap().is_cut());
    station.in_touch.send_replace(Some(Instant::now()));
    let Ending::Settle(settlement) = sending.await.ending else { panic!("it is settled still") };
    assert_eq!(settlement.chunks, 1, "no more than what is there");
}
