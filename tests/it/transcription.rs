//! Audio in, transcript out: uploads, URLs, what is stored meanwhile, and what providers make of it.

use serde_json::{Value, json};
use support::{Fleet, OpenAiStub, Reply};

use crate::settings::stubbed;

mod failures;
mod real;
mod storage;
mod submits;

/// A WAV file of silence: 16-bit samples at 16 kHz. `mark` makes it another file.
pub(crate) fn silence(seconds: u32, mark: u8) -> Vec<u8> {
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format };
    let mut file = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    let samples = std::iter::once(i16::from(mark)).chain(std::iter::repeat(0));
    samples.take(seconds as usize * 16_000).for_each(|sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    file.into_inner()
}

/// A provider's answer of these segments: begin, end, text.
fn verbose(segments: &[(f64, f64, &str)]) -> Reply {
    let text: String = segments.iter().map(|(_, _, text)| *text).collect();
    let parts = segments.iter().map(|(start, end, text)| json!({"id": 0, "start": start, "end": end, "text": text}));
    let answer = json!({"task": "transcribe", "language": "english", "duration": 4.0, "text": text,
        "segments": parts.collect::<Vec<_>>()});
    Reply::status(200, &[], &answer.to_string())
}

/// A fleet on the stub, whose pool has these settings and whose configuration begins with `top`.
async fn fleet_with(stub: &OpenAiStub, top: &str, pool: &str) -> Fleet {
    Fleet::start(format!("{top}\n{}", stubbed(stub, pool))).await
}

async fn fleet(stub: &OpenAiStub) -> Fleet {
    fleet_with(stub, "", "").await
}

/// The keys that hold audio.
async fn stored(fleet: &Fleet) -> Vec<String> {
    let keys: Vec<String> = redis::from_redis_value(fleet.redis.cli(&["KEYS", "*:a:*"]).await).unwrap();
    keys
}

/// The job, which must have completed.
async fn completed(fleet: &Fleet, id: &str) -> Value {
    let job = fleet.client.wait_end(id).await;
    assert_eq!(job["status"], "completed", "{job}");
    job
}
