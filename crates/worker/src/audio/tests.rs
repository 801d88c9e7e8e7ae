//! What is heard in sounds made here.

use super::*;

/// A WAV file of 16-bit samples at 16 kHz.
pub(crate) fn wav(samples: impl Iterator<Item = f32>) -> Bytes {
    let sample_format = hound::SampleFormat::Int;
    let spec = hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format };
    let mut file = std::io::Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    samples.for_each(|sample| writer.write_sample((sample * 32_000.0) as i16).unwrap());
    writer.finalize().unwrap();
    file.into_inner().into()
}

pub(crate) fn silence(seconds: usize) -> Bytes {
    wav(std::iter::repeat_n(0.0, seconds * 16_000))
}

/// Bytes that look like nothing in particular, the same every time.
fn noise(seed: u32) -> impl Iterator<Item = u8> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
}

#[tokio::test]
async fn silence_and_noise_have_a_length_and_no_speech() {
    let hiss = wav(noise(1).take(48_000).map(|byte| f32::from(byte) / 512.0 - 0.25));
    for (file, length) in [(silence(2), 2.0), (hiss, 3.0)] {
        let heard = Audio::new(file, None).listen().await;
        let sound = heard.sound().unwrap();
        assert!((sound.seconds - length).abs() < 0.01, "{heard:?}");
        assert!(sound.speech_after(0.0) < 0.2, "{heard:?}");
    }
}

#[tokio::test]
async fn nothing_is_heard_in_what_is_no_audio() {
    let text = Bytes::from_static(b"<html><body>Not Found</body></html>");
    let json = Bytes::from_static(b"{\"error\":1}");
    for file in [Bytes::new(), text, json] {
        assert_eq!(Audio::new(file, Some("a.mp3")).listen().await, Heard::Nothing);
    }
    for seed in 0..20 {
        let file: Bytes = noise(seed).take(30_000).collect();
        assert_eq!(Audio::new(file, Some("a.wav")).listen().await, Heard::Nothing, "seed {seed}");
    }
}

#[tokio::test]
async fn a_broken_head_is_nothing_and_a_missing_tail_is_less() {
    let whole = silence(2);
    let cut = Audio::new(whole.slice(..whole.len() / 2), None).listen().await;
    assert!((cut.sound().unwrap().seconds - 1.0).abs() < 0.1, "{cut:?}");
    let mut broken = whole.to_vec();
    broken[12..24].fill(0xff);
    assert_eq!(Audio::new(broken.into(), None).listen().await, Heard::Nothing);
}

#[tokio::test]
async fn of_a_form_without_a_decoder_here_nothing_is_known() {
    for head in [&b"#!AMR\n"[..], &[0x30, 0x26, 0xb2, 0x75]] {
        let file: Bytes = head.iter().copied().chain(noise(1).take(1000)).collect();
        assert_eq!(Audio::new(file, None).listen().await, Heard::Unknown);
    }
}

#[test]
fn a_provider_is_told_the_form_and_not_the_callers_name() {
    let named = |bytes: &'static [u8], name| Audio::new(Bytes::from_static(bytes), name).name();
    assert_eq!(named(b"RIFF\0\0\0\0WAVE", Some("secret call with Mr X.mp3")), "audio.wav");
    assert_eq!(named(b"ID3\x04", None), "audio.mp3");
    assert_eq!(named(b"????", Some("x.M4A")), "audio.m4a");
    assert_eq!(named(b"????", Some("x.exe")), "audio.wav");
    assert_eq!(named(b"????", None), "audio.wav");
}
