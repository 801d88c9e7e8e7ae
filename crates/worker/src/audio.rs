//! Audio as the worker holds it, and what it hears in it by itself: how long it is, and how much of it is speech.
//!
//! A provider's word is not enough: it answers 500 to what is no audio, and writes text where nobody speaks.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::audio::AudioDecoder;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;

mod format;
#[cfg(test)]
pub(crate) mod tests;
mod voice;

use format::Format;
use voice::Voice;

/// Audio is listened to for no longer: a small file can hold any length of silence.
const SECONDS_MAX: f64 = 12.0 * 3600.0;

/// The audio of one job. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audio {
    bytes: Bytes,
    extension: &'static str,
}

/// What the worker itself makes of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// It was decoded.
    Sound(Sound),
    /// It is no audio, or so broken that nothing of it can be heard.
    Nothing,
    /// It may be audio, in a form that is not known here.
    Unknown,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sound {
    /// How long it is.
    pub seconds: f64,
    /// How much of each second is speech, in ms.
    pub speech_ms: Vec<u16>,
}

impl Sound {
    /// Seconds of speech from a time on, to the end.
    pub fn speech_after(&self, seconds: f64) -> f64 {
        let from = self.speech_ms.get(seconds.max(0.0) as usize..).unwrap_or_default();
        from.iter().map(|ms| f64::from(*ms)).sum::<f64>() / 1000.0
    }
}

impl Heard {
    /// The sound, where there is one.
    pub fn sound(&self) -> Option<&Sound> {
        if let Self::Sound(sound) = self { Some(sound) } else { None }
    }
}

impl Audio {
    /// The bytes of a file of that name, where it has one.
    pub fn new(bytes: Bytes, filename: Option<&str>) -> Self {
        let extension = Format::of(&bytes).map(Format::extension);
        let extension = extension.or_else(|| format::known_extension(filename?)).unwrap_or("wav");
        Self { bytes, extension }
    }

    /// The file.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A name for it by which a provider knows its format; the caller's own name stays here.
    pub fn name(&self) -> String {
        format!("audio.{}", self.extension)
    }

    /// Its media type.
    pub fn mime(&self) -> &'static str {
        format::mime(self.extension)
    }

    /// Listens to all of it, on a thread of its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the thread within a moment.
    pub async fn listen(&self) -> Heard {
        let stop = StopOnDrop(Arc::default());
        let (bytes, stopped) = (self.bytes.clone(), stop.0.clone());
        // A decoder that panics on what it was given has heard nothing that counts.
        tokio::task::spawn_blocking(move || hear(bytes, &stopped)).await.unwrap_or(Heard::Unknown)
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn hear(bytes: Bytes, stopped: &AtomicBool) -> Heard {
    let known = Format::of(&bytes);
    if known.is_some_and(|format| !format.is_decoded_here()) {
        return Heard::Unknown;
    }
    let source = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let probed = symphonia::default::get_probe().probe(&Hint::new(), source, Default::default(), Default::default());
    let Ok(mut reader) = probed else { return Heard::Nothing };
    let Some((track, mut decoder)) = decoder_of(&*reader) else { return Heard::Unknown };
    let mut listener = Listener::default();
    let (mut good, mut bad) = (0_u64, 0_u64);
    // An end that is cut off ends what can be heard.
    while let Ok(Some(packet)) = reader.next_packet() {
        if stopped.load(Ordering::Relaxed) || listener.seconds() > SECONDS_MAX {
            return Heard::Unknown;
        }
        if packet.track_id != track {
            continue;
        }
        match decoder.decode(&packet) {
            Ok(buffer) => {
                good += 1;
                listener.take(&buffer);
            }
            Err(Error::DecodeError(_) | Error::IoError(_)) => bad += 1,
            Err(_) => break,
        }
    }
    // Noise looks like a frame of MP3 now and then.
    if good == 0 || bad > good { Heard::Nothing } else { listener.heard() }
}

fn decoder_of(reader: &dyn FormatReader) -> Option<(u32, Box<dyn AudioDecoder>)> {
    let track = reader.default_track(TrackType::Audio)?;
    let parameters = track.codec_params.as_ref()?.audio()?;
    let decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &Default::default()).ok()?;
    Some((track.id, decoder))
}

/// Counts what it is given.
#[derive(Default)]
struct Listener {
    samples: Vec<f32>,
    frames: u64,
    rate: u32,
    voice: Option<Voice>,
}

impl Listener {
    fn take(&mut self, buffer: &GenericAudioBufferRef<'_>) {
        let spec = buffer.spec();
        let (rate, channels) = (spec.rate(), spec.channels().count());
        if rate == 0 || channels == 0 {
            return;
        }
        self.samples.resize(buffer.samples_interleaved(), 0.0);
        buffer.copy_to_slice_interleaved(&mut self.samples);
        self.rate = rate;
        self.frames += buffer.frames() as u64;
        let voice = self.voice.get_or_insert_with(|| Voice::new(rate));
        for frame in self.samples.chunks_exact(channels) {
            voice.take(frame.iter().sum::<f32>() / channels as f32);
        }
    }

    fn seconds(&self) -> f64 {
        self.frames as f64 / f64::from(self.rate.max(1))
    }

    fn heard(self) -> Heard {
        let seconds = self.seconds();
        Heard::Sound(Sound { seconds, speech_ms: self.voice.map(Voice::into_speech).unwrap_or_default() })
    }
}
