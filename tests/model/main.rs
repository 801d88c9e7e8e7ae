//! Lease, grant, reclaim, cancel, concurrency key and failover, in every order: a model, checked state by state.
//!
//! The statuses move by the table that the scripts are held against (`tests/it/queue/histories.rs`), so that the three agree.

mod fleet;
mod server;

use fleet::{CAN_END, CANCEL_WINS, FENCED, Fleet, ONE_END, ONE_HOLDER};
use server::Guards;
use stateright::{Checker, HasDiscoveries, Model as _};

/// One job, and a failover that forgets up to three moves.
const LONELY: Fleet = Fleet { guards: Guards::ALL, jobs: 1, claims: 5, forgets: 3, cancels: 1, retries: 1 };
/// Two jobs with one concurrency key, and a failover that forgets up to two moves.
const KEYED: Fleet = Fleet { guards: Guards::ALL, jobs: 2, claims: 3, forgets: 2, cancels: 1, retries: 0 };

fn holds(fleet: Fleet) {
    let checker = fleet.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    let states = checker.unique_state_count();
    assert!(states > 10_000, "{states} states are too few to have met the moves in every order");
}

/// Looks for what breaks without a guard.
fn breaks(fleet: Fleet, guards: Guards, property: &'static str) {
    let fleet = Fleet { guards, ..fleet };
    let search = fleet.checker().finish_when(HasDiscoveries::AnyOf([property].into()));
    let path = search.spawn_bfs().join().assert_any_discovery(property);
    assert!(path.into_actions().len() > 2, "found at once: the model is broken, not the guard");
}

#[test]
fn one_job_keeps_its_promises_in_every_order_of_moves_and_after_a_failover() {
    holds(LONELY);
}

#[test]
fn two_jobs_with_one_key_keep_their_promises_in_every_order_of_moves_and_after_a_failover() {
    holds(KEYED);
}

#[test]
fn grants_that_only_count_let_a_zombie_settle_after_a_failover() {
    breaks(LONELY, Guards { nonce: false, ..Guards::ALL }, FENCED);
}

#[test]
fn grants_that_only_count_are_safe_as_long_as_nothing_is_forgotten() {
    let fleet = Fleet { guards: Guards { nonce: false, ..Guards::ALL }, forgets: 0, ..LONELY };
    fleet.checker().spawn_bfs().join().assert_no_discovery(FENCED);
}

#[test]
fn a_settle_that_compares_no_grant_lets_a_zombie_settle() {
    breaks(LONELY, Guards { fence: false, ..Guards::ALL }, FENCED);
}

#[test]
fn a_settle_that_is_applied_at_every_send_ends_a_job_twice() {
    breaks(LONELY, Guards { once: false, ..Guards::ALL }, ONE_END);
}

#[test]
fn a_job_that_does_not_look_for_the_holder_of_its_key_runs_beside_it() {
    breaks(KEYED, Guards { key: false, ..Guards::ALL }, ONE_HOLDER);
}

#[test]
fn an_end_that_keeps_its_key_leaves_its_waiters_stuck() {
    breaks(KEYED, Guards { release: false, ..Guards::ALL }, CAN_END);
}

#[test]
fn a_retry_that_forgets_the_cancel_gives_a_job_another_run() {
    breaks(LONELY, Guards { cancel: false, ..Guards::ALL }, CANCEL_WINS);
}
