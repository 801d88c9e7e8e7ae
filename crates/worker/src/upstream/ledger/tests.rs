//! What is taken and given back, without Redis.

use super::*;

fn drawn(granted: u64, quarter: u64) -> Drawn {
    Drawn { granted, has_extra: true, quarter, wait: None }
}

fn refund(quarter: u64, requests: u64, tokens: i64) -> Refund {
    Refund { quarter, requests, tokens }
}

#[tokio::test]
async fn what_no_job_came_for_is_given_back_whole() {
    let mut ledger = Ledger::default();
    ledger.bank(&drawn(3, 7), 100);
    let lot = ledger.take().unwrap();
    assert_eq!(ledger.held(), 3);
    assert!(ledger.unbank(9));
    ledger.end(lot, None, false);
    assert_eq!((ledger.held(), ledger.refunds.as_slice()), (0, &[refund(7, 3, 300)][..]));
}

#[tokio::test]
async fn a_call_gives_back_the_tokens_that_it_did_not_use_and_pays_for_those_beyond() {
    for (used, rest) in [(Some(30), 70), (Some(130), -30), (None, 0)] {
        let mut ledger = Ledger::default();
        ledger.bank(&drawn(1, 7), 100);
        let lot = ledger.take().unwrap();
        ledger.end(lot, used, true);
        let expected: Vec<Refund> = (rest != 0).then(|| refund(7, 0, rest)).into_iter().collect();
        assert_eq!(ledger.refunds, expected);
        assert!(ledger.owes() && ledger.is_empty());
    }
}

#[tokio::test]
async fn tokens_taken_later_are_given_back_first() {
    let mut ledger = Ledger::default();
    ledger.bank(&drawn(1, 7), 100);
    let lot = Lot { more: Some((9, 50)), ..ledger.take().unwrap() };
    ledger.end(lot, Some(80), true);
    assert_eq!(ledger.refunds, [refund(9, 0, 50), refund(7, 0, 20)]);
}

#[tokio::test(start_paused = true)]
async fn a_permit_waits_for_its_job_only_so_long() {
    let mut ledger = Ledger::default();
    ledger.bank(&drawn(2, 7), 0);
    ledger.unbank_old(Instant::now());
    assert_eq!(ledger.held(), 2);
    tokio::time::advance(WAITS).await;
    ledger.unbank_old(Instant::now());
    assert_eq!(ledger.held(), 0);
}
