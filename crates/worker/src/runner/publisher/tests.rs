//! What is sent in one call, and in which order.

use super::super::station::tests::{Inboxes, held, unconnected};
use super::*;

fn outlet(station: &Station) -> Arc<Outlet> {
    Outlet::new(Arc::new(Attempt::new(held(station))))
}

/// The call that carries what the next outlet in line has to send.
fn next_call(inboxes: &mut Inboxes, station: &Station) -> Call {
    let mut call = Call::default();
    call.add(inboxes.outlets.try_recv().unwrap(), station);
    call
}

async fn fill(outlet: &Arc<Outlet>, station: &Station, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        outlet.chunk(station, number, format!("chunk {number}"), None).await;
    }
}

#[tokio::test]
async fn chunks_keep_their_numbers_over_the_calls_that_carry_them() {
    let (station, mut inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    fill(&outlet, &station, 1..=5).await;
    let (first, more) = outlet.take(3, usize::MAX);
    assert_eq!((first.first, first.chunks.len(), more), (1, 3, true));
    fill(&outlet, &station, 6..=6).await;
    let (second, more) = outlet.take(100, usize::MAX);
    assert_eq!((second.first, more), (4, false));
    assert_eq!(second.chunks, ["chunk 4", "chunk 5", "chunk 6"]);
    assert!(inboxes.outlets.try_recv().is_ok(), "the publisher was told of the first chunk");
    assert!(inboxes.outlets.try_recv().is_err(), "and not again before it had sent all");
}

#[tokio::test]
async fn a_chunk_larger_than_a_call_goes_alone() {
    let (station, _inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    fill(&outlet, &station, 1..=2).await;
    let (output, more) = outlet.take(100, 3);
    assert_eq!((output.chunks.len(), more), (1, true));
}

#[tokio::test]
async fn a_call_is_full_with_its_most_chunks_and_leaves_the_rest_for_the_next() {
    let (station, mut inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    fill(&outlet, &station, 1..=CHUNKS_PER_CALL as u64 + 1).await;
    let call = next_call(&mut inboxes, &station);
    assert!(!call.has_room());
    assert_eq!(call.outputs[0].chunks.len(), CHUNKS_PER_CALL);
    assert!(inboxes.outlets.try_recv().is_ok(), "the outlet is in line again");
}

#[tokio::test(start_paused = true)]
async fn a_task_far_ahead_of_the_publisher_waits() {
    let (station, _inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    fill(&outlet, &station, 1..=u64::from(ROOM)).await;
    let one_more = fill(&outlet, &station, u64::from(ROOM) + 1..=u64::from(ROOM) + 1);
    tokio::pin!(one_more);
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), &mut one_more).await.is_err());
    outlet.make_room(1);
    one_more.await;
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_with_the_last_acknowledged_chunk() {
    let (station, mut inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    outlet.flushed().await;
    fill(&outlet, &station, 1..=2).await;
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), outlet.flushed()).await.is_err());
    let call = next_call(&mut inboxes, &station);
    call.acknowledged(&station, &[Published::Kept]);
    outlet.flushed().await;
}

#[tokio::test]
async fn a_publish_that_finds_the_grant_lost_stops_the_attempt() {
    let (station, mut inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    fill(&outlet, &station, 1..=1).await;
    let call = next_call(&mut inboxes, &station);
    call.acknowledged(&station, &[Published::Lost]);
    assert_eq!(outlet.attempt.asked_to_stop(), Some(Stop::Lost));
    outlet.flushed().await;
}

#[tokio::test]
async fn an_outage_drops_what_unfinished_attempts_put_out_and_keeps_what_finished_ones_did() {
    let (station, mut inboxes) = unconnected("", "");
    let (unfinished, finished, lost) = (outlet(&station), outlet(&station), outlet(&station));
    let mut call = Call::default();
    for outlet in [&unfinished, &finished, &lost] {
        fill(outlet, &station, 1..=1).await;
        call.add(inboxes.outlets.try_recv().unwrap(), &station);
    }
    finished.finish();
    lost.finish();
    lost.attempt.stop(Stop::Lost);
    unfinished.attempt.stop(Stop::HandBack);
    finished.attempt.stop(Stop::HandBack);
    call.keep_only_running();
    assert_eq!(call.outlets.len(), 1);
    assert!(Arc::ptr_eq(&call.outlets[0], &finished));
}

/// The chunks of one call, by number.
fn taken(outlet: &Outlet) -> (u64, u64, Vec<String>) {
    let (output, _) = outlet.take(100, usize::MAX);
    (output.acknowledged, output.first, output.chunks)
}

fn texts(numbers: std::ops::RangeInclusive<u64>) -> Vec<String> {
    numbers.map(|number| format!("chunk {number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn what_redis_forgot_is_sent_again_before_what_follows_and_a_flush_waits_for_it() {
    let (station, mut inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    fill(&outlet, &station, 1..=4).await;
    let call = next_call(&mut inboxes, &station);
    call.acknowledged(&station, &[Published::Kept]);
    fill(&outlet, &station, 5..=5).await;
    let call = next_call(&mut inboxes, &station);
    fill(&outlet, &station, 6..=6).await;
    call.acknowledged(&station, &[Published::Behind(1)]);
    let call = next_call(&mut inboxes, &station);
    let output = &call.outputs[0];
    assert_eq!((output.acknowledged, output.first, &output.chunks), (1, 2, &texts(2..=6)));
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), outlet.flushed()).await.is_err());
    call.acknowledged(&station, &[Published::Kept]);
    outlet.flushed().await;
    assert_eq!(outlet.room.available_permits(), ROOM as usize, "what was sent twice makes room once");
    assert_eq!(outlet.last_acknowledged(), 6);
}

#[tokio::test]
async fn what_redis_forgot_comes_back_in_order_where_one_call_carried_an_attempt_twice() {
    let (station, mut inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    outlet.lock().sent.hold(1, texts(1..=4));
    let mut call = Call::default();
    for number in 5..=6 {
        fill(&outlet, &station, number..=number).await;
        call.add(inboxes.outlets.try_recv().unwrap(), &station);
    }
    fill(&outlet, &station, 7..=7).await;
    call.acknowledged(&station, &[Published::Behind(2), Published::Behind(2)]);
    assert_eq!(taken(&outlet), (2, 3, texts(3..=7)));
    outlet.make_room(5);
    assert_eq!(outlet.room.available_permits(), ROOM as usize);
}

#[tokio::test]
async fn chunks_after_some_that_were_dropped_keep_their_numbers_when_redis_forgot_more() {
    let (station, mut inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    outlet.lock().sent.hold(1, texts(1..=4));
    fill(&outlet, &station, 5..=6).await;
    let call = next_call(&mut inboxes, &station);
    call.dropped(&station);
    fill(&outlet, &station, 7..=7).await;
    let call = next_call(&mut inboxes, &station);
    fill(&outlet, &station, 8..=8).await;
    call.acknowledged(&station, &[Published::Behind(2)]);
    assert_eq!(taken(&outlet), (2, 7, texts(7..=8)));
    outlet.make_room(2);
    assert_eq!(outlet.room.available_permits(), ROOM as usize);
}

#[tokio::test(start_paused = true)]
async fn what_redis_forgot_of_an_attempt_that_is_over_is_sent_again() {
    let (station, mut inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    outlet.lock().sent.hold(1, texts(1..=9));
    outlet.close();
    let again = outlet.resend(&station, 7);
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), again.flushed()).await.is_err());
    let call = next_call(&mut inboxes, &station);
    let output = &call.outputs[0];
    assert_eq!((output.acknowledged, output.first, &output.chunks), (7, 8, &texts(8..=9)));
    call.acknowledged(&station, &[Published::Kept]);
    again.flushed().await;
    assert_eq!(again.last_acknowledged(), 9);
}

#[tokio::test]
async fn nothing_follows_what_an_outage_dropped() {
    let (station, mut inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    fill(&outlet, &station, 1..=1).await;
    let mut call = next_call(&mut inboxes, &station);
    outlet.attempt.stop(Stop::HandBack);
    call.keep_only_running();
    fill(&outlet, &station, 2..=2).await;
    assert_eq!(taken(&outlet).2, [""; 0]);
    assert!(outlet.is_cut());
}

#[tokio::test]
async fn an_outlet_that_was_closed_takes_nothing_back() {
    let (station, mut inboxes) = unconnected("", "");
    let outlet = outlet(&station);
    fill(&outlet, &station, 1..=2).await;
    let call = next_call(&mut inboxes, &station);
    outlet.close();
    call.acknowledged(&station, &[Published::Behind(0)]);
    assert_eq!(taken(&outlet), (0, 3, Vec::new()));
}
