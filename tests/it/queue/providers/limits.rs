//! Limits: jobs in flight, requests and tokens per minute, over all workers.

use rand::{RngExt as _, SeedableRng as _};

use super::*;

/// One worker's side of a limited provider.
struct Drawer {
    worker: WorkerId,
    number: u64,
    held: u64,
}

const LEASE: Duration = Duration::from_secs(10);

impl Drawer {
    fn new(name: &str) -> Self {
        Self { worker: worker_id(name), number: 0, held: 0 }
    }

    async fn draw(&mut self, provider: &Provider, limits: &LimitsConfig, wanted: u64, each: u64) -> Drawn {
        self.draw_with(provider, limits, (wanted, each), (0, 0), &[]).await
    }

    async fn draw_with(
        &mut self,
        provider: &Provider,
        limits: &LimitsConfig,
        wanted: (u64, u64),
        extra: (u64, u64),
        refunds: &[Refund],
    ) -> Drawn {
        self.number += 1;
        let drawn = self.send(provider, limits, wanted, extra, refunds).await;
        self.held += drawn.granted;
        drawn
    }

    async fn send(
        &self,
        provider: &Provider,
        limits: &LimitsConfig,
        (wanted, tokens_each): (u64, u64),
        (extra_requests, extra_tokens): (u64, u64),
        refunds: &[Refund],
    ) -> Drawn {
        let (worker, lease, number, held) = (&self.worker, LEASE, self.number, self.held);
        let draw = Draw { worker, number, lease, held, wanted, tokens_each, extra_requests, extra_tokens, refunds };
        provider.queue.draw_on_provider("p", limits, &draw).await.unwrap()
    }
}

fn in_flight(most: u32) -> LimitsConfig {
    LimitsConfig { max_in_flight: Some(most), ..LimitsConfig::default() }
}

#[tokio::test]
async fn jobs_in_flight_are_limited_over_all_workers() {
    let provider = Provider::open().await;
    let (mut a, mut b, limits) = (Drawer::new("a"), Drawer::new("b"), in_flight(5));
    assert_eq!(a.draw(&provider, &limits, 3, 0).await.granted, 3);
    let drawn = b.draw(&provider, &limits, 3, 0).await;
    assert_eq!((drawn.granted, drawn.wait.is_some()), (2, true));
    a.held -= 1;
    assert_eq!(a.draw(&provider, &limits, 0, 0).await.granted, 0);
    assert_eq!(b.draw(&provider, &limits, 3, 0).await.granted, 1);
    assert_eq!(provider.queue.provider_status("p").await.unwrap().in_flight, 5);
}

#[tokio::test]
async fn a_call_that_is_sent_again_takes_nothing_again() {
    let provider = Provider::open().await;
    let limits = LimitsConfig { requests_per_minute: Some(10), ..in_flight(10) };
    let mut a = Drawer::new("a");
    a.number = 1;
    for _ in 0..5 {
        assert_eq!(a.send(&provider, &limits, (4, 0), (0, 0), &[]).await.granted, 4);
    }
    let status = provider.queue.provider_status("p").await.unwrap();
    assert_eq!((status.in_flight, status.requests), (4, 4));
}

#[tokio::test]
async fn the_permits_of_a_worker_that_died_return_when_their_lease_is_over() {
    let mut provider = Provider::open().await;
    let (mut a, mut b, limits) = (Drawer::new("a"), Drawer::new("b"), in_flight(2));
    assert_eq!(a.draw(&provider, &limits, 2, 0).await.granted, 2);
    assert_eq!(b.draw(&provider, &limits, 2, 0).await.wait, Some(LEASE));
    provider.pass(9_999).await;
    assert_eq!(b.draw(&provider, &limits, 2, 0).await.granted, 0);
    provider.pass(1).await;
    assert_eq!(b.draw(&provider, &limits, 2, 0).await.granted, 2);
}

#[tokio::test]
async fn unused_requests_and_tokens_are_given_back_where_they_were_taken() {
    let mut provider = Provider::open().await;
    let limits =
        LimitsConfig { requests_per_minute: Some(4), tokens_per_minute: Some(1000), ..LimitsConfig::default() };
    let mut a = Drawer::new("a");
    let drawn = a.draw(&provider, &limits, 4, 250).await;
    assert_eq!(drawn.granted, 4);
    assert_eq!(a.draw(&provider, &limits, 1, 1).await.granted, 0);
    provider.pass(1000).await;
    let refund = Refund { quarter: drawn.quarter, requests: 1, tokens: 600 };
    let now = a.draw_with(&provider, &limits, (9, 100), (0, 0), &[refund]).await;
    assert_eq!((now.granted, now.wait), (1, Some(Duration::from_millis(59_250))), "requests are short");
    let status = provider.queue.provider_status("p").await.unwrap();
    assert_eq!((status.requests, status.tokens), (4, 500));
    // What was taken a minute ago has left the window, with whatever is given back of it.
    provider.pass(59_250).await;
    let late = Refund { quarter: drawn.quarter, requests: 9, tokens: 9 };
    a.draw_with(&provider, &limits, (0, 0), (0, 0), &[late]).await;
    let status = provider.queue.provider_status("p").await.unwrap();
    assert_eq!((status.requests, status.tokens), (1, 100));
}

#[tokio::test]
async fn tokens_for_a_job_in_flight_are_granted_as_a_whole_or_not_at_all() {
    let provider = Provider::open().await;
    let limits = LimitsConfig { tokens_per_minute: Some(1000), ..LimitsConfig::default() };
    let mut a = Drawer::new("a");
    assert_eq!(a.draw(&provider, &limits, 1, 400).await.granted, 1);
    let refused = a.draw_with(&provider, &limits, (0, 0), (0, 601), &[]).await;
    assert_eq!((refused.has_extra, refused.wait), (false, Some(Duration::from_millis(60_250))));
    assert!(a.draw_with(&provider, &limits, (0, 0), (0, 600), &[]).await.has_extra);
}

#[tokio::test]
async fn each_further_request_of_a_job_in_flight_counts_and_takes_no_place_in_flight() {
    let mut provider = Provider::open().await;
    let limits = LimitsConfig { requests_per_minute: Some(4), tokens_per_minute: Some(1000), ..in_flight(2) };
    let (mut a, mut b) = (Drawer::new("a"), Drawer::new("b"));
    assert_eq!(a.draw(&provider, &limits, 1, 100).await.granted, 1);
    for _ in 0..2 {
        assert!(a.draw_with(&provider, &limits, (0, 0), (1, 100), &[]).await.has_extra);
    }
    let status = provider.queue.provider_status("p").await.unwrap();
    assert_eq!((status.in_flight, status.requests, status.tokens), (1, 3, 300));
    // The tokens are short, so the request is not taken either.
    assert!(!a.draw_with(&provider, &limits, (0, 0), (1, 701), &[]).await.has_extra);
    assert_eq!(b.draw(&provider, &limits, 2, 0).await.granted, 1, "of four requests the last");
    let refused = a.draw_with(&provider, &limits, (0, 0), (1, 1), &[]).await;
    assert_eq!((refused.has_extra, refused.wait), (false, Some(Duration::from_millis(60_250))));
    provider.pass(60_250).await;
    assert!(a.draw_with(&provider, &limits, (0, 0), (1, 1), &[]).await.has_extra);
}

#[tokio::test]
async fn a_clock_that_steps_leaves_the_limits_working() {
    let mut provider = Provider::open().await;
    let limits = LimitsConfig { requests_per_minute: Some(2), ..LimitsConfig::default() };
    let mut a = Drawer::new("a");
    assert_eq!(a.draw(&provider, &limits, 9, 0).await.granted, 2);
    provider.now -= 3_600_000;
    provider.pass(0).await;
    assert_eq!(a.draw(&provider, &limits, 9, 0).await.granted, 2);
    provider.pass(36_000_000).await;
    assert_eq!(a.draw(&provider, &limits, 9, 0).await.granted, 2);

    let mut provider = Provider::open().await;
    let (mut dies, mut b, limits) = (Drawer::new("dies"), Drawer::new("b"), in_flight(2));
    assert_eq!(dies.draw(&provider, &limits, 2, 0).await.granted, 2);
    provider.now -= 3_600_000;
    provider.pass(0).await;
    assert_eq!(b.draw(&provider, &limits, 2, 0).await.wait, Some(LEASE), "and not until the clock is where it was");
    provider.pass(10_000).await;
    assert_eq!(b.draw(&provider, &limits, 2, 0).await.granted, 2);
}

/// Ten minutes of eight workers that take all they can get, and give back what they did not use.
#[tokio::test]
async fn ten_minutes_of_eight_workers_keep_both_limits_within_two_percent() {
    let mut provider = Provider::open().await;
    let limits =
        LimitsConfig { requests_per_minute: Some(300), tokens_per_minute: Some(60_000), ..LimitsConfig::default() };
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    let mut workers: Vec<Drawer> = (0..8).map(|n| Drawer::new(&format!("w{n}"))).collect();
    let (mut used, mut refunds) = (Vec::new(), vec![Vec::new(); 8]);
    for tick in 0..6_000_u64 {
        let now = tick * 100;
        for (worker, refunds) in workers.iter_mut().zip(&mut refunds) {
            if rng.random_bool(0.7) {
                continue;
            }
            worker.held = 0;
            let back: Vec<Refund> = std::mem::take(refunds);
            let drawn = worker.draw_with(&provider, &limits, (rng.random_range(1..5), 300), (0, 0), &back).await;
            for _ in 0..drawn.granted {
                let tokens = rng.random_range(100..300_u64);
                used.push((now, tokens));
                refunds.push(Refund {
                    quarter: drawn.quarter,
                    requests: 0,
                    tokens: 300 - i64::try_from(tokens).unwrap(),
                });
            }
        }
        provider.pass(100).await;
    }
    let tokens: u64 = used.iter().map(|(_, tokens)| tokens).sum();
    let (requests, share) = (used.len() as f64 / 3_000.0, tokens as f64 / 600_000.0);
    assert!(requests <= 1.02 && share <= 1.02, "{requests} of the requests, {share} of the tokens");
    assert!(requests.max(share) >= 0.98, "{requests} of the requests, {share} of the tokens");
    for (end, _) in &used {
        let minute: Vec<_> = used.iter().filter(|(at, _)| *at <= *end && *at + 60_000 > *end).collect();
        let tokens: u64 = minute.iter().map(|(_, tokens)| tokens).sum();
        assert!(minute.len() <= 300 && tokens <= 60_000, "{} requests, {tokens} tokens in a minute", minute.len());
    }
}
