//! What a failover forgets though it was acknowledged: whoever goes on from there notices, and nothing goes on over the gap.

use overshot_common::job::Status;
use overshot_common::queue::{ClaimedJob, Output, Published, Settled, Settlement, Verdict};
use redis::AsyncCommands as _;

use super::shop::{Shop, done, held, raw};

/// Chunks of these numbers, after those up to `acknowledged`.
fn output(job: &ClaimedJob, acknowledged: u64, numbers: std::ops::RangeInclusive<u64>) -> Output {
    Output {
        held: held(job),
        phase: None,
        provider: None,
        progress: None,
        acknowledged,
        first: *numbers.start(),
        chunks: numbers.map(|number| format!(r#"{{"seq":{number}}}"#)).collect(),
    }
}

async fn publish(shop: &Shop, output: Output) -> Published {
    let answers = shop.queue.publish(&shop.shard, 1000, &[output]).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers[0]
}

async fn complete(shop: &Shop, job: &ClaimedJob, verdict: Verdict, chunks: u64) -> Settled {
    let settlement = Settlement { chunks, ..Settlement::new(held(job), verdict) };
    shop.queue.settle(&shop.shard, &[settlement]).await.unwrap().0[0]
}

/// Sets a key aside, and brings it back as it was.
struct Copy(String);

impl Copy {
    async fn of(shop: &mut Shop, key: &str) -> Self {
        let (key, copy) = (shop.key(key), shop.key("copy"));
        let copied: bool = shop.redis.copy(&key, copy, redis::CopyOptions::default()).await.unwrap();
        assert!(copied, "{key} is there");
        Self(key)
    }

    async fn bring_back(self, shop: &mut Shop) {
        let copy = shop.key("copy");
        let (): () = shop.redis.rename(copy, self.0).await.unwrap();
    }
}

#[tokio::test]
async fn after_a_failover_no_chunk_follows_those_that_were_forgotten_before_they_are_there_again() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    assert_eq!(publish(&shop, output(&job, 0, 1..=2)).await, Published::Kept);
    let copy = Copy::of(&mut shop, &format!("c:{}", id.local)).await;
    assert_eq!(publish(&shop, output(&job, 2, 3..=5)).await, Published::Kept);
    copy.bring_back(&mut shop).await;
    assert_eq!(publish(&shop, output(&job, 5, 6..=6)).await, Published::Behind(2));
    assert_eq!(complete(&shop, &job, done(), 5).await, Settled::Behind(2));
    assert_eq!(shop.status(&id).await, Status::Running);
    assert_eq!(publish(&shop, output(&job, 2, 3..=6)).await, Published::Kept);
    assert_eq!(complete(&shop, &job, done(), 6).await, Settled::Now(Status::Completed));
    let chunks = shop.queue.chunks(&id, None).await.unwrap();
    let expected: Vec<String> = (1..=6).map(|number| format!(r#"{{"seq":{number}}}"#)).collect();
    assert_eq!(chunks.iter().map(|chunk| chunk.data.clone()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_log_that_a_failover_forgot_whole_begins_anew_with_its_first_chunk() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    assert_eq!(publish(&shop, output(&job, 0, 1..=2)).await, Published::Kept);
    let key = shop.key(&format!("c:{}", id.local));
    let (): () = shop.redis.del(key).await.unwrap();
    assert_eq!(publish(&shop, output(&job, 2, 3..=3)).await, Published::Behind(0));
    assert_eq!(complete(&shop, &job, done(), 2).await, Settled::Behind(0));
    assert_eq!(publish(&shop, output(&job, 0, 1..=3)).await, Published::Kept);
    assert_eq!(complete(&shop, &job, done(), 3).await, Settled::Now(Status::Completed));
}

#[tokio::test]
async fn chunks_that_were_deleted_by_hand_are_not_waited_for() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    assert_eq!(publish(&shop, output(&job, 0, 1..=2)).await, Published::Kept);
    let key = shop.key(&format!("c:{}", id.local));
    let trimmed: usize = shop.redis.xtrim(&key, redis::streams::StreamMaxlen::Equals(0)).await.unwrap();
    assert_eq!(trimmed, 2);
    // Redis takes no chunk with their numbers a second time.
    assert_eq!(publish(&shop, output(&job, 2, 3..=3)).await, Published::Kept);
    let (): () = shop.redis.xtrim(&key, redis::streams::StreamMaxlen::Equals(0)).await.unwrap();
    assert_eq!(complete(&shop, &job, done(), 3).await, Settled::Now(Status::Completed));
}

#[tokio::test]
async fn chunks_of_an_earlier_run_are_not_taken_for_those_of_this_one() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let first = shop.claim_one("w").await;
    assert_eq!(publish(&shop, output(&first, 0, 1..=9)).await, Published::Kept);
    let copy = Copy::of(&mut shop, &format!("c:{}", id.local)).await;
    shop.queue.hand_back(&shop.shard, &[held(&first)]).await.unwrap();
    let second = shop.claim_one("w").await;
    assert_eq!(publish(&shop, output(&second, 0, 1..=2)).await, Published::Kept);
    copy.bring_back(&mut shop).await;
    assert_eq!(publish(&shop, output(&second, 2, 3..=3)).await, Published::Behind(0));
}

#[tokio::test]
async fn a_job_does_not_complete_over_a_result_whose_parts_a_failover_forgot() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let job = shop.claim_one("w").await;
    let whole = || Verdict::Completed(raw(r#"{"stored":{"json":2},"values":2}"#));
    shop.queue.stash(&held(&job), None, &[(b"part0", b"{"), (b"part1", b"}")]).await.unwrap();
    let key = shop.key(&format!("v:{}", id.local));
    let (): () = shop.redis.hdel(key, "part1").await.unwrap();
    assert_eq!(complete(&shop, &job, whole(), 0).await, Settled::Now(Status::Retrying));
    let waiting = shop.get(&id).await;
    assert_eq!(waiting.error.unwrap().code, overshot_common::code::ErrorCode::StorageError);
    shop.promote().await;
    let again = shop.claim_one("w").await;
    shop.queue.stash(&held(&again), None, &[(b"part0", b"{"), (b"part1", b"}")]).await.unwrap();
    assert_eq!(complete(&shop, &again, whole(), 0).await, Settled::Now(Status::Completed));
    assert!(shop.get(&id).await.error.is_none());
}

#[tokio::test]
async fn a_job_does_not_complete_over_parts_that_an_earlier_run_left() {
    let mut shop = Shop::open().await;
    let id = shop.add(shop.job()).await;
    let parts = |text: &'static str| [(b"part0".as_slice(), text.as_bytes()), (b"part1".as_slice(), text.as_bytes())];
    let first = shop.claim_one("w").await;
    shop.queue.stash(&held(&first), None, &parts("old")).await.unwrap();
    shop.settle(&first, super::shop::retry_after(std::time::Duration::ZERO)).await;
    shop.promote().await;
    let second = shop.claim_one("w").await;
    let copy = Copy::of(&mut shop, &format!("v:{}", id.local)).await;
    shop.queue.stash(&held(&second), None, &parts("new")).await.unwrap();
    copy.bring_back(&mut shop).await;
    let whole = || Verdict::Completed(raw(r#"{"stored":{"json":2},"values":2}"#));
    assert_eq!(complete(&shop, &second, whole(), 0).await, Settled::Now(Status::Retrying));
    assert_eq!(shop.queue.stashed_names(&id).await.unwrap(), [b"part0", b"part1"]);
}
