//! The diagram of states in `docs/ARCHITECTURE.md` against the machine.

use std::collections::BTreeSet;

use overshot_common::job::Status;
use overshot_common::job::state::{Life, Move, Outcome};

use super::read;

type Arrows = BTreeSet<(String, String)>;

const NOW: u64 = 1_000;
const START: &str = "[*]";

fn drawn() -> Arrows {
    let page = read("docs/ARCHITECTURE.md");
    let diagram = page.split("stateDiagram-v2").nth(1).and_then(|rest| rest.split("```").next()).expect("a diagram");
    let lines = diagram.lines().filter_map(|line| line.split_once("-->"));
    lines.map(|(from, to)| (from.trim().to_owned(), to.split(':').next().unwrap().trim().to_owned())).collect()
}

/// Lives of a status that differ in all that a move may ask for.
fn lives(status: Status) -> Vec<Life> {
    let mut lives = Vec::new();
    for bits in 0..16_u32 {
        let bit = |place: u32| bits & (1 << place) != 0;
        lives.push(Life {
            status,
            attempts: 1,
            failures: if bit(0) { 2 } else { 0 },
            crashes: if bit(1) { 3 } else { 0 },
            max_attempts: 3,
            max_crashes: 3,
            queue_timeout: 100,
            run_at: NOW - 10,
            expires_at: if bit(2) { NOW - 1 } else { NOW + 100 },
            cancel_requested: status == Status::Running && bit(3),
        });
    }
    lives
}

fn moves() -> Vec<Move> {
    let mut moves = vec![Move::Unblock, Move::Claim, Move::HandBack, Move::Snooze(5)];
    moves.extend([Move::Cancel, Move::ForceCancel, Move::Expire]);
    let outcomes = [Outcome::Completed, Outcome::Failed, Outcome::Retry(5), Outcome::Cancelled];
    moves.extend(outcomes.map(Move::Settle));
    for flag in [false, true] {
        moves.extend([Move::Promote { key_held: flag }, Move::Retry { key_held: flag }]);
        moves.extend([None, Some(5)].map(|delay| Move::Reclaim { charged: flag, delay }));
    }
    moves
}

fn possible() -> Arrows {
    let mut arrows = Arrows::new();
    for status in Status::ALL {
        for life in lives(*status) {
            for attempted in moves() {
                if let Ok(after) = life.apply(attempted, NOW) {
                    arrows.insert((status.to_string(), after.status.to_string()));
                }
            }
        }
    }
    for (due, key_held) in [(NOW, false), (NOW, true), (NOW + 1, false), (NOW + 1, true)] {
        let life = Life::accept(NOW, due, 100, 3, 3, key_held);
        arrows.insert((START.to_owned(), life.status.to_string()));
    }
    arrows
}

#[test]
fn the_diagram_has_the_arrows_of_the_machine_and_no_others() {
    let (drawn, possible) = (drawn(), possible());
    let missing: Vec<_> = possible.difference(&drawn).collect();
    let invented: Vec<_> = drawn.difference(&possible).collect();
    assert!(missing.is_empty() && invented.is_empty(), "not drawn: {missing:?}; drawn, not possible: {invented:?}");
}
