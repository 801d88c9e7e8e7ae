//! Real speech: a synthesizer's, and a real speech model's server to write it down.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long the server may take to load its model.
const START: Duration = Duration::from_secs(60);

/// Whisper behind OpenAI's API, as a process; dropped, it ends.
#[derive(Debug)]
pub struct SpeechServer {
    address: String,
    _process: Child,
    _cache: TempDir,
}

impl SpeechServer {
    /// Starts it, where `scripts/speech-server/install` could install it; `None`, and a loud line, where not.
    pub async fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above");
        let python = root.join(".tools/speech/bin/python");
        if !python.exists() {
            skipped("there is no speech server: run scripts/speech-server/install");
            return None;
        }
        let cache = tempfile::tempdir().expect("a temporary folder");
        let mut process = Command::new(python)
            .arg(root.join("scripts/speech-server/serve.py"))
            .arg(cache.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the speech server starts");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await.expect("the speech server is ready in time");
        let address = line.ok().flatten().expect("the speech server says where it listens");
        Some(Self { address, _process: process, _cache: cache })
    }

    /// The section `[providers.speech]` for a configuration.
    pub fn provider(&self) -> String {
        Self::provider_at(self.port(), &["openai/whisper-tiny.en"])
    }

    /// The same over what stands in front of it on `port`, with these models.
    pub fn provider_at(port: u16, models: &[&str]) -> String {
        let url = format!("http://127.0.0.1:{port}/v1");
        format!("[providers.speech]\nkind = \"openai\"\nbase_url = \"{url}\"\nmodels = {models:?}\n")
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        let port = self.address.rsplit(':').next().and_then(|port| port.parse().ok());
        port.expect("its address ends with its port")
    }
}

/// Sounds made by real tools, in a folder of their own.
#[derive(Debug)]
pub struct Sounds {
    dir: TempDir,
}

impl Sounds {
    /// Where the synthesizer `flite` and the converter `sox` are installed; `None`, and a loud line, where not.
    pub fn new() -> Option<Self> {
        let there = |tool: &str, argument: &str| {
            let command =
                std::process::Command::new(tool).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
            command.is_ok()
        };
        if !there("flite", "--version") || !there("sox", "--version") {
            skipped("there is no speech to write down: install Debian's flite, sox and libsox-fmt-mp3");
            return None;
        }
        Some(Self { dir: tempfile::tempdir().expect("a temporary folder") })
    }

    /// A WAV file that says `text`.
    pub fn say(&self, text: &str) -> Vec<u8> {
        let path = self.dir.path().join("speech.wav");
        self.run("flite", &["-voice", "slt", "-t", text, "-o", &path.to_string_lossy()], &path)
    }

    /// A file that `sox` makes of a WAV file, in the form of that extension.
    pub fn convert(&self, wav: &[u8], extension: &str) -> Vec<u8> {
        let (from, to) = (self.dir.path().join("from.wav"), self.dir.path().join(format!("to.{extension}")));
        std::fs::write(&from, wav).expect("the folder is ours");
        self.run("sox", &[&from.to_string_lossy(), &to.to_string_lossy()], &to)
    }

    /// A WAV file that `sox` makes by itself, by these words of its own.
    pub fn synthesize(&self, words: &[&str]) -> Vec<u8> {
        let path: PathBuf = self.dir.path().join("made.wav");
        let name = path.to_string_lossy().into_owned();
        // -R: the same noise every time, since a model hears something else in each.
        let arguments: Vec<&str> =
            ["-R", "-n", "-r", "16000", "-b", "16", &name].into_iter().chain(words.iter().copied()).collect();
        self.run("sox", &arguments, &path)
    }

    fn run(&self, tool: &str, arguments: &[&str], made: &Path) -> Vec<u8> {
        let done = std::process::Command::new(tool).args(arguments).output().expect("the tool is there");
        assert!(done.status.success(), "{tool}: {}", String::from_utf8_lossy(&done.stderr));
        std::fs::read(made).expect("the tool made a file")
    }
}

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
fn skipped(why: &str) {
    eprintln!("\n*** SKIPPED: {why}\n");
}
