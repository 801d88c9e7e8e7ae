//! What a provider makes of audio.

use opentelemetry::trace::FutureExt as _;
use overshot_common::code::ErrorCode;
use overshot_common::task::transcription::Transcription;

use super::{Backend, Call, Meter, Provider, ProviderFailure, Then};
use crate::audio::Audio;

/// What a provider is asked to write down.
#[derive(Debug)]
pub struct TranscriptionRequest<'a> {
    /// The audio.
    pub audio: &'a Audio,
    /// How long it is, where that is known.
    pub seconds: Option<f64>,
    /// The model asked for.
    pub model: Option<&'a str>,
    /// Language, prompt and what else the caller says.
    pub input: &'a Transcription,
    /// See [`crate::tasks::Attempt::seed`].
    pub seed: u64,
    /// Asked where it takes more than one request.
    pub meter: &'a dyn Meter,
}

/// What a provider wrote down.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transcript {
    /// All of it.
    pub text: String,
    /// Its parts, where the provider tells them; as it wrote them, not judged yet.
    pub segments: Vec<Spoken>,
    /// The language, in the provider's words.
    pub language: Option<String>,
    /// How long the audio is, as far as the provider says.
    pub seconds: Option<f64>,
}

/// A part of a transcript.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spoken {
    /// Where it begins, in seconds.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
    /// What was said.
    pub text: String,
    /// Who said it, where the provider tells speakers apart.
    pub speaker: Option<String>,
    /// How likely nobody spoke, by the provider's own account, 0 to 1.
    pub no_speech: Option<f64>,
}

impl Provider {
    /// Whether its answers are made up.
    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self.backend, Backend::Simulated(_))
    }

    /// Whether it has a call for transcriptions at all: Ollama has none.
    pub(crate) fn transcribes(&self) -> bool {
        !matches!(self.backend, Backend::Ollama(_))
    }

    /// Writes down what is said in audio.
    ///
    /// # Errors
    ///
    /// What went wrong, and what the job should do.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection of this request.
    pub async fn transcribe(&self, request: &TranscriptionRequest<'_>) -> Result<Transcript, ProviderFailure> {
        let Some(call) = Call::transcribe(self, request.model) else { return self.listen(request).await };
        let answered = Box::pin(self.listen(request).with_context(call.context())).await;
        call.transcribed(&answered);
        answered
    }

    async fn listen(&self, request: &TranscriptionRequest<'_>) -> Result<Transcript, ProviderFailure> {
        match &self.backend {
            Backend::OpenAi(client) => client.transcribe(request).await,
            Backend::Ollama(_) => {
                let message = "the provider serves no transcriptions";
                Err(ProviderFailure::new(ErrorCode::BadInput, Then::Fail, message))
            }
            Backend::Simulated(simulated) => simulated.transcribe(request).await,
        }
    }
}
