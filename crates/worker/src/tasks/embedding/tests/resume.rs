//! An attempt goes on where the one before it ended, whatever of the input has changed since.

use std::collections::HashSet;

use overshot_common::queue::{Form, StoredResult};
use overshot_common::task::embedding::Manifest;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// One attempt at these texts, on what earlier ones left.
async fn attempt(texts: &[String], size: usize, recorder: &mut Recorder) -> Outcome {
    recorder.progress.clear();
    let input = json!({ "input": texts, "batch_size": size, "dimensions": 2 });
    super::attempt(&input, 0.0, recorder).await
}

fn data(outcome: Outcome) -> Value {
    let Outcome::Done(result) = outcome else { panic!("{outcome:?}") };
    serde_json::from_str::<Value>(result.get()).unwrap()["data"].take()
}

fn distinct(texts: &[String]) -> HashSet<&String> {
    texts.iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_batch_that_was_kept_is_asked_for_again(
        first in proptest::collection::vec("[a-f]{1,2}", 1..40),
        second in proptest::collection::vec("[a-f]{1,2}", 1..40),
        size in 1..8_usize,
        writes in 0..8_usize,
        changed in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut recorder = Recorder { inline_max: 1 << 20, writes_left: Some(writes), ..Recorder::default() };
            let outcome = attempt(&first, size, &mut recorder).await;
            let broke_off = matches!(outcome, Outcome::Retry { .. });
            prop_assert_eq!(broke_off, distinct(&first).len() > size && distinct(&first).len().div_ceil(size) > writes);
            let kept = recorder.stash.len() - usize::from(recorder.stash.contains_key(b"usage".as_slice()));
            prop_assert!(!broke_off || kept == writes * size);
            let texts = if changed { &second } else { &first };
            let known = if changed { distinct(&first) } else { HashSet::new() };
            recorder.writes_left = None;
            let before: HashSet<Vec<u8>> = recorder.stash.keys().cloned().collect();
            let resumed = data(attempt(texts, size, &mut recorder).await);
            let mut fresh = Recorder { inline_max: 1 << 20, ..Recorder::default() };
            prop_assert_eq!(resumed, data(attempt(texts, size, &mut fresh).await));
            if distinct(texts).len() > size {
                let reused = fresh.stash.keys().filter(|name| name.len() == 16 && before.contains(*name)).count();
                prop_assert!(changed || reused == kept);
                prop_assert!(!changed || reused <= known.len());
                let asked = (distinct(texts).len() - reused).div_ceil(size);
                prop_assert_eq!(recorder.progress.len(), asked, "each batch is written once");
                let (mut left, mut wanted) = (recorder.stash, fresh.stash);
                left.remove(b"usage".as_slice());
                wanted.remove(b"usage".as_slice());
                prop_assert_eq!(left, wanted, "nothing stale is kept");
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn what_the_batches_cost_is_added_up_over_attempts() {
    let texts: Vec<String> = ["aaaa", "bbbb", "cccc"].map(str::to_owned).to_vec();
    let mut recorder = Recorder { inline_max: 1 << 20, writes_left: Some(2), ..Recorder::default() };
    attempt(&texts, 1, &mut recorder).await;
    recorder.writes_left = None;
    let Outcome::Done(result) = attempt(&texts, 1, &mut recorder).await else { panic!("it completes") };
    let result: Value = serde_json::from_str(result.get()).unwrap();
    assert_eq!(result["usage"], json!({ "prompt_tokens": 3, "total_tokens": 3 }));
}

#[tokio::test]
async fn a_large_result_is_left_where_its_vectors_are() {
    let texts: Vec<String> = (0..100).map(|number| format!("text {number}")).collect();
    for size in [7, 100] {
        let mut recorder = Recorder { inline_max: 1000, ..Recorder::default() };
        let Outcome::Done(result) = attempt(&texts, size, &mut recorder).await else { panic!("it completes") };
        let stored: StoredResult = serde_json::from_str(result.get()).unwrap();
        assert_eq!(stored.form(), Form::Vectors);
        // The vectors, one page and the manifest.
        assert!(result.get().contains(r#""values":102"#), "{result}");
        let manifest: Manifest = serde_json::from_slice(&recorder.stash[b"manifest".as_slice()]).unwrap();
        assert_eq!((manifest.count, manifest.dimensions), (100, 2));
        assert_eq!(recorder.stash.keys().filter(|name| name.len() == 16).count(), 100);
        assert!(recorder.stash.contains_key(b"page0".as_slice()));
    }
}
