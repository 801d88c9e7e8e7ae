//! What a job pays for that it asks for, and what it does not pay for otherwise.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use overshot_common::job::Owner;
use overshot_common::queue::{NewJob, keys};

use super::commands::{Counted, Counts, above, none};
use super::table;

/// Makes a plain job ask for something; gets the job's number.
type Ask = fn(&mut NewJob, usize);

/// The commands of a hundred such jobs from the enqueue to the end.
async fn whole(ask: Ask) -> Counts {
    let mut counted = Counted::start().await;
    let mut jobs = counted.jobs(100);
    jobs.iter_mut().enumerate().for_each(|(number, job)| ask(job, number));
    let mut sum = Counts::new();
    for (command, calls) in counted.lifecycle(jobs).await.into_iter().flatten() {
        *sum.entry(command).or_default() += calls;
    }
    sum
}

fn owner(reference: String) -> Option<Owner> {
    Some(Owner { service: "s".into(), reference, agent: None })
}

#[tokio::test]
async fn what_a_job_asks_for_calls_no_more_commands_than_it_did() {
    let plain = whole(|_, _| {}).await;
    let features: [(&str, Ask, table::Table); 4] = [
        ("an owner shared by 100", |job, _| job.spec.owner = owner("r".into()), table::BEYOND_PLAIN_OWNER_SHARED),
        ("an owner for each of 100", |job, n| job.spec.owner = owner(n.to_string()), table::BEYOND_PLAIN_OWNER_EACH),
        ("a key for each of 100", |job, n| job.concurrency_key = Some(n.to_string()), table::BEYOND_PLAIN_KEY_EACH),
        ("own deadlines of 100", |job, _| job.own_deadline = true, table::BEYOND_PLAIN_DEADLINE),
    ];
    let mut findings = Vec::new();
    for (what, ask, allowed) in features {
        let mut beyond = whole(ask).await;
        for (command, calls) in &mut beyond {
            *calls = calls.saturating_sub(plain.get(command).copied().unwrap_or(0));
        }
        beyond.retain(|_, calls| *calls > 0);
        assert!(!beyond.is_empty(), "{what}: costs nothing, so that it was not asked for");
        findings.push(above(what, &beyond, allowed));
    }
    none(findings);
}

#[tokio::test]
async fn a_plain_job_stands_in_no_index_that_it_did_not_ask_for() {
    let mut counted = Counted::start().await;
    counted.lifecycle(counted.jobs(100)).await;
    let mut connection = counted.redis.connection().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let kinds = keys.iter().map(|key| key.strip_prefix("overshot:{chat.0}:").unwrap_or(key));
    let kinds: BTreeSet<&str> = kinds
        .map(|part| ["j:", "keep:", "h:"].into_iter().find(|kind| part.starts_with(kind)).unwrap_or(part))
        .collect();
    let unknown: Vec<_> = kinds.iter().filter(|kind| !table::KEYS_OF_PLAIN_JOBS.contains(kind)).collect();
    assert!(unknown.is_empty(), "plain jobs left {unknown:?}");
}

#[tokio::test]
async fn only_a_job_that_somebody_watches_is_announced() {
    let mut counted = Counted::start().await;
    let jobs = counted.jobs(2);
    counted.put(&jobs).await;
    let client = redis::Client::open(counted.redis.url()).unwrap();
    let (mut subscriptions, mut events) = client.get_async_pubsub().await.unwrap().split();
    subscriptions.subscribe(keys::events_channel(&jobs[1].id)).await.unwrap();
    let claimed = counted.claim(3).await;
    events.next().await.unwrap();
    counted.commands().await;
    counted.complete(&claimed).await;
    events.next().await.unwrap();
    none([above("settle of three, one watched", &counted.commands().await, table::SETTLE_3_WATCHED_1)]);
}
