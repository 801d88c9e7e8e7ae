//! Formats of audio by their first bytes.

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Wav,
    Aiff,
    Flac,
    Mp3,
    Ogg,
    Mp4,
    WebM,
    Aac,
    Amr,
    Wma,
}

/// Names that providers know formats by.
const EXTENSIONS: &[&str] = &[
    "wav", "mp3", "flac", "ogg", "oga", "opus", "m4a", "mp4", "mpeg", "mpga", "webm", "aac", "aiff", "amr", "wma",
    "mkv", "3gp",
];

impl Format {
    /// The format whose mark the file begins with; none where there is no mark, or none that is known.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let at = |offset: usize, mark: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(mark));
        let frame = |mask: u8, mark: u8| at(0, &[0xff]) && bytes.get(1).is_some_and(|byte| byte & mask == mark);
        Some(match () {
            () if (at(0, b"RIFF") || at(0, b"RF64")) && at(8, b"WAVE") => Self::Wav,
            () if at(0, b"FORM") && at(8, b"AIF") => Self::Aiff,
            () if at(0, b"fLaC") => Self::Flac,
            () if at(0, b"OggS") => Self::Ogg,
            () if at(4, b"ftyp") => Self::Mp4,
            () if at(0, &[0x1a, 0x45, 0xdf, 0xa3]) => Self::WebM,
            () if at(0, b"#!AMR") => Self::Amr,
            () if at(0, &[0x30, 0x26, 0xb2, 0x75]) => Self::Wma,
            () if at(0, b"ID3") => Self::Mp3,
            // Layer 0 of the MPEG frame header is AAC's.
            () if frame(0xf6, 0xf0) => Self::Aac,
            () if frame(0xe0, 0xe0) => Self::Mp3,
            () => return None,
        })
    }

    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Aiff => "aiff",
            Self::Flac => "flac",
            Self::Mp3 => "mp3",
            Self::Ogg => "ogg",
            Self::Mp4 => "m4a",
            Self::WebM => "webm",
            Self::Aac => "aac",
            Self::Amr => "amr",
            Self::Wma => "wma",
        }
    }

    /// Whether there is a decoder here for what it usually holds.
    pub(super) fn is_decoded_here(self) -> bool {
        !matches!(self, Self::Amr | Self::Wma)
    }
}

/// The media type that goes with an extension.
pub(super) fn mime(extension: &str) -> &'static str {
    match extension {
        "mp3" | "mpeg" | "mpga" => "audio/mpeg",
        "flac" => "audio/flac",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "m4a" | "mp4" => "audio/mp4",
        "webm" | "mkv" => "audio/webm",
        "aac" => "audio/aac",
        "wav" => "audio/wav",
        _ => "application/octet-stream",
    }
}

/// The extension of a file's name, where it is one that providers know.
pub(super) fn known_extension(filename: &str) -> Option<&'static str> {
    let (_, extension) = filename.rsplit_once('.')?;
    EXTENSIONS.iter().find(|known| known.eq_ignore_ascii_case(extension)).copied()
}
