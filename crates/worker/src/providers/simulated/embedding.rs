//! Vectors made of nothing but the text: the same text has the same vector in every process.

use overshot_common::code::ErrorCode;
use overshot_common::task::embedding::Vectors;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::timeout;

use super::Simulated;
use crate::providers::{EmbedOutput, EmbedRequest, EmbedUsage, ProviderFailure};

/// How many numbers a vector has where the job does not say.
const DIMENSIONS: u32 = 384;

impl Simulated {
    /// Takes one `pace` per batch, and fails by the share of `error_rate`.
    pub(in crate::providers) async fn embed(&self, request: EmbedRequest<'_>) -> Result<EmbedOutput, ProviderFailure> {
        let limit = self.request_timeout;
        let mut rng = StdRng::seed_from_u64(request.seed ^ seed_of(request.texts[0]));
        timeout(limit, self.pause(&mut rng)).await.map_err(|_| ProviderFailure::timeout(limit))?;
        if rng.random_bool(self.settings.error_rate) {
            return Err(ProviderFailure::retry(ErrorCode::ProviderError, "the simulated provider failed, as set"));
        }
        let (mut vectors, mut tokens) = (Vectors::default(), 0);
        for text in request.texts {
            vectors
                .push(vector(text, request.dimensions.unwrap_or(DIMENSIONS)))
                .map_err(ProviderFailure::bad_response)?;
            tokens += text.len().div_ceil(4) as u64;
        }
        let usage = Some(EmbedUsage { prompt_tokens: tokens, total_tokens: tokens });
        Ok(EmbedOutput { vectors, model: None, usage })
    }
}

/// FNV-1a: the same in every process, unlike the standard library's hasher.
fn seed_of(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A point on the unit sphere.
fn vector(text: &str, dimensions: u32) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed_of(text));
    let numbers: Vec<f32> = (0..dimensions).map(|_| rng.random_range(-1.0..=1.0)).collect();
    let length = numbers.iter().map(|number| number * number).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    numbers.into_iter().map(|number| number / length).collect()
}
