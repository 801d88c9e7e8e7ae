//! What a job leaves beside its record: written under the grant, found by later attempts, gone with the record.

use std::time::Duration;

use overshot_common::job::Progress;
use overshot_common::queue::NewJob;

use super::shop::{LEASE, Shop, done, held, retry_after};

#[tokio::test]
async fn what_an_attempt_stashed_outlives_it_and_a_lost_grant_adds_nothing() {
    let mut shop = Shop::open().await;
    shop.warm_reaper().await;
    let id = shop.add(shop.job()).await;
    let zombie = shop.claim_one("zombie").await;
    let progress = Progress { done: 1, total: Some(2), unit: "texts".to_owned() };
    let values: [(&[u8], &[u8]); 2] = [(b"a", b"one"), (b"\0\xff", b"two")];
    assert!(shop.queue.stash(&held(&zombie), Some(&progress), &values).await.unwrap());
    assert_eq!(shop.get(&id).await.progress, Some(progress.clone()));
    shop.reap_for(LEASE + Duration::from_secs(1)).await;
    let late: [(&[u8], &[u8]); 1] = [(b"a", b"of a zombie")];
    assert!(!shop.queue.stash(&held(&zombie), None, &late).await.unwrap());
    let second = shop.claim_one("w2").await;
    assert!(!shop.queue.stash(&held(&zombie), None, &late).await.unwrap(), "nor while another runs");
    let found = shop.queue.stashed(&id, &[b"\0\xff", b"a", b"none"]).await.unwrap();
    assert_eq!(found, [Some(b"two".to_vec()), Some(b"one".to_vec()), None]);
    shop.settle(&second, retry_after(Duration::ZERO)).await;
    shop.promote().await;
    let third = shop.claim_one("w2").await;
    assert!(shop.queue.stash(&held(&third), None, &[(b"a", b"")]).await.unwrap());
    assert_eq!(shop.queue.stashed_names(&id).await.unwrap(), [b"\0\xff".to_vec()], "an empty value drops");
    shop.settle(&third, done()).await;
    assert!(!shop.queue.stash(&held(&third), None, &late).await.unwrap(), "an ended job takes nothing");
}

#[tokio::test]
async fn the_stash_goes_with_the_record() {
    let mut shop = Shop::open().await;
    let id = shop.add(NewJob { result_ttl: Duration::from_secs(5), ..shop.job() }).await;
    let job = shop.claim_one("w").await;
    let large = vec![7; 3 << 20];
    shop.queue.stash(&held(&job), None, &[(b"a", &large), (b"b", &large)]).await.unwrap();
    assert_eq!(shop.queue.stashed(&id, &[b"b"]).await.unwrap(), [Some(large)], "more than one call takes");
    shop.settle(&job, done()).await;
    shop.pass(Duration::from_secs(4)).await;
    shop.queue.prune(&shop.shard).await.unwrap();
    assert_eq!(shop.queue.stashed_names(&id).await.unwrap().len(), 2);
    shop.pass(Duration::from_secs(3)).await;
    shop.queue.prune(&shop.shard).await.unwrap();
    assert!(shop.queue.stashed_names(&id).await.unwrap().is_empty());
}
