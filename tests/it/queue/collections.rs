//! Passes over one collection that overlap in every order: what completes is whole.

use std::collections::BTreeMap;
use std::time::Duration;

use overshot_common::queue::{Completed, Pass, Put, Queue, Shelved};
use overshot_common::task::embedding::Key;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use support::RedisServer;

const NAME: &str = "docs";
/// Ids that jobs have.
const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A job on the collection: what it wants, and how far its pass is.
struct Actor {
    wants: BTreeMap<&'static str, u8>,
    space: Key,
    pass: Option<Pass>,
    /// Ids still to be named, by the pass that is open.
    todo: Vec<&'static str>,
}

/// The key of a text; its vector says the same, so that a reader's page tells what it was made of.
fn key(text: u8, space: &Key) -> Key {
    let mut key = *space;
    key[0] = text;
    key
}

fn vector(key: &Key) -> Vec<u8> {
    [f32::from(key[0]), f32::from(key[15])].into_iter().flat_map(f32::to_le_bytes).collect()
}

impl Actor {
    /// One step: begin, name one id (as a job does: confirm, else put), or complete. `true`: it has completed.
    async fn step(&mut self, queue: &Queue) -> bool {
        let Some(pass) = &self.pass else {
            self.pass = Some(queue.begin_pass(NAME, &self.space, None).await.unwrap());
            self.todo = self.wants.keys().copied().collect();
            return false;
        };
        let over = match self.todo.pop() {
            Some(id) => {
                let key = key(self.wants[id], &self.space);
                let put = |vector| Put { id, key: &key, vector };
                match queue.put(NAME, pass, &[put(None)]).await.unwrap() {
                    Shelved::Done(missing) if missing.is_empty() => false,
                    Shelved::Done(_) => {
                        let vector = vector(&key);
                        queue.put(NAME, pass, &[put(Some(&vector))]).await.unwrap() == Shelved::Over
                    }
                    Shelved::Over => true,
                    Shelved::OtherLength => panic!("all have one length"),
                }
            }
            None => match queue.complete_pass(NAME, pass, self.wants.len(), None).await.unwrap() {
                Completed::Removed(_) => return true,
                Completed::Over => true,
                Completed::Overwritten => {
                    self.todo = self.wants.keys().copied().collect();
                    false
                }
            },
        };
        if over {
            self.pass = None;
        }
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_completes_leaves_the_collection_as_it_wants_it_and_nothing_else() {
    let server = RedisServer::start().await;
    let queue = Queue::open(&server.url(), Duration::from_secs(5)).unwrap();
    let wants = || proptest::collection::btree_map(proptest::sample::select(&IDS[..]), 1..4_u8, 1..6);
    let actors = proptest::collection::vec((wants(), 0..2_u8), 2..4);
    let case = (actors, proptest::collection::vec(any::<u8>(), 0..60));
    let runtime = tokio::runtime::Handle::current();
    let run = move || {
        let mut runner = TestRunner::new(ProptestConfig::with_cases(60));
        runner.run(&case, |(actors, order)| runtime.block_on(check(&queue, actors, &order)))
    };
    tokio::task::spawn_blocking(run).await.unwrap().unwrap();
}

async fn check(
    queue: &Queue,
    actors: Vec<(BTreeMap<&'static str, u8>, u8)>,
    order: &[u8],
) -> Result<(), TestCaseError> {
    queue.drop_collection(NAME).await.unwrap();
    let actor = |(wants, space): (BTreeMap<&'static str, u8>, u8)| Actor {
        wants,
        space: [space; 16],
        pass: None,
        todo: Vec::new(),
    };
    let mut actors: Vec<Actor> = actors.into_iter().map(actor).collect();
    // In the order drawn, then each to its end.
    let mut order = order.iter().map(|number| usize::from(*number)).chain(std::iter::repeat(0));
    while !actors.is_empty() {
        let turn = order.next().unwrap_or_default() % actors.len();
        if actors[turn].step(queue).await {
            let done = actors.remove(turn);
            let wanted: Vec<(String, Vec<u8>)> =
                done.wants.iter().map(|(id, text)| ((*id).to_owned(), vector(&key(*text, &done.space)))).collect();
            let page = queue.collection(NAME, "", 100).await.unwrap().unwrap();
            prop_assert_eq!(page.vectors, wanted);
        }
    }
    Ok(())
}
