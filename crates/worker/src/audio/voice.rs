//! How much of a sound is speech, by a small neural network: loud is not spoken.

use earshot::Detector;

/// What the detector takes: frames of 16 ms at 16 kHz.
const RATE: f64 = 16_000.0;
const FRAME: usize = 256;
const FRAME_MS: u16 = 16;
/// Above this score a frame is speech. The network's own default is lower; here a false find costs more than a missed one.
const SPEECH: f32 = 0.6;

/// Takes samples of one channel, one after another.
pub(super) struct Voice {
    detector: Box<Detector>,
    /// Samples of the source per sample of the detector.
    step: f64,
    /// How far the next sample of the detector is away, in samples of the source.
    next: f64,
    /// Sum and number of the source's samples since then.
    sum: f32,
    count: u32,
    frame: Vec<f32>,
    frames: u64,
    /// Speech in each second so far, in ms.
    speech_ms: Vec<u16>,
}

impl Voice {
    pub(super) fn new(rate: u32) -> Self {
        Self {
            detector: Box::new(Detector::default()),
            step: f64::from(rate) / RATE,
            next: 0.0,
            sum: 0.0,
            count: 0,
            frame: Vec::with_capacity(FRAME),
            frames: 0,
            speech_ms: Vec::new(),
        }
    }

    /// The mean of the samples in between is filter enough for what is only counted.
    pub(super) fn take(&mut self, sample: f32) {
        self.sum += sample;
        self.count += 1;
        self.next -= 1.0;
        if self.next > 0.0 {
            return;
        }
        let mean = (self.sum / self.count as f32).clamp(-1.0, 1.0);
        (self.sum, self.count) = (0.0, 0);
        while self.next <= 0.0 {
            self.next += self.step;
            self.push(mean);
        }
    }

    fn push(&mut self, sample: f32) {
        self.frame.push(sample);
        if self.frame.len() == FRAME {
            let spoken = self.detector.predict_f32(&self.frame) >= SPEECH;
            let second = (self.frames * u64::from(FRAME_MS) / 1000) as usize;
            self.speech_ms.resize(second + 1, 0);
            self.speech_ms[second] += if spoken { FRAME_MS } else { 0 };
            self.frames += 1;
            self.frame.clear();
        }
    }

    /// Speech in each second, in ms.
    pub(super) fn into_speech(self) -> Vec<u16> {
        self.speech_ms
    }
}
