//! The real programs as processes, with their logs kept.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::PATIENCE;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `overshot-api`.
    Api,
    /// `overshot-worker`.
    Worker,
}

impl Program {
    /// Its file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "overshot-api",
            Self::Worker => "overshot-worker",
        }
    }

    /// Its file.
    pub fn path(self) -> PathBuf {
        built(self.name())
    }
}

/// The file of a program of ours, beside this one's own in the target folder.
pub fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    // target/<profile>/deps/it-<hash>, or target/<profile>/overshot-chaos
    let folder = own.parent().expect("a program lies in a folder");
    let profile = if folder.ends_with("deps") { folder.parent().expect("deps lies in one") } else { folder };
    let path = profile.join(name);
    assert!(path.exists(), "{} is not built; type: make test (or cargo build --workspace --bins)", path.display());
    path
}

/// A running program. Dropped, it is killed; an ERROR in its log that the test did not allow fails the test.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    allowed: Vec<String>,
}

/// What `make shake` has all programs know.
fn shaken() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    let is_shaken = std::env::var_os("OVERSHOT_SHAKE").is_some();
    let names = ["OVERSHOT_SHAKE", "LD_PRELOAD"].into_iter().filter(move |_| is_shaken);
    names.filter_map(|name| Some((name, std::env::var_os(name)?)))
}

impl Process {
    /// Starts `program` with these arguments and these variables only.
    pub fn start(program: Program, args: &[&str], env: &[(String, String)]) -> Self {
        Self::start_as(program, &program.path(), args, env)
    }

    /// Starts what stands in for `program`.
    pub fn start_as(program: Program, file: &Path, args: &[&str], env: &[(String, String)]) -> Self {
        let mut command = Command::new(file);
        command.args(args).env_clear().envs(shaken()).envs(env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.name()));
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let readers = vec![keep_lines(stderr, Arc::clone(&log)), keep_lines(stdout, Arc::clone(&log))];
        Self { name: program.name(), child, log, readers, allowed: Vec::new() }
    }

    /// Allows ERROR lines that hold `text`.
    pub fn allow_error(&mut self, text: &str) {
        self.allowed.push(text.to_owned());
    }

    /// The lines written so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no holder of this lock can panic").clone()
    }

    /// Whether a line holds `text`.
    pub fn has_logged(&self, text: &str) -> bool {
        self.log.lock().expect("no holder of this lock can panic").iter().any(|line| line.contains(text))
    }

    /// Waits for a line that holds `text`, and gives it.
    pub async fn wait_for_line(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(line) = self.log().into_iter().find(|line| line.contains(text)) {
                return line;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended with {status} before it wrote {text:?}:\n{}", self.name, self.log().join("\n"));
            }
            assert!(start.elapsed() < PATIENCE, "{} never wrote {text:?}:\n{}", self.name, self.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The address in its line `<name> listening addr=…`.
    pub async fn address(&mut self) -> String {
        let line = self.wait_for_line(&format!("{} listening", self.name)).await;
        let address = line.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
        let address = address.map(|part| part.trim_matches(':')).find(|part| part.starts_with("127.0.0.1:"));
        address.unwrap_or_else(|| panic!("no address in {line:?}")).to_owned()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        // Fails only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, with SIGTERM.
    pub fn term(&self) {
        self.signal("-TERM");
    }

    /// Stops all of its threads, with SIGSTOP.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on, with SIGCONT.
    pub fn cont(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill is on every machine");
        assert!(status.success(), "kill {signal} {pid} ({})", self.name);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, within: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                self.read_to_end();
                return status;
            }
            assert!(start.elapsed() < within, "{} does not end:\n{}", self.name, self.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Reads the last lines of a program that has ended.
    fn read_to_end(&mut self) {
        for reader in self.readers.drain(..) {
            // A reader ends with its pipe, and has nothing that could panic.
            let _ = reader.join();
        }
    }

    fn unexpected_errors(&self) -> Vec<String> {
        let is_error = |line: &String| line.contains(" ERROR ") || line.contains(r#""level":"ERROR""#);
        let is_panic = |line: &String| line.contains("panicked at");
        let is_allowed = |line: &String| self.allowed.iter().any(|text| line.contains(text));
        let log = self.log();
        log.into_iter().filter(|line| (is_error(line) || is_panic(line)) && !is_allowed(line)).collect()
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "the log of a failed test is what one looks at first")]
    fn drop(&mut self) {
        self.kill();
        self.read_to_end();
        if std::thread::panicking() {
            eprintln!("--- {} {}\n{}\n---", self.name, self.child.id(), self.log().join("\n"));
            return;
        }
        let errors = self.unexpected_errors();
        assert!(errors.is_empty(), "{} logged errors that the test does not allow:\n{}", self.name, errors.join("\n"));
    }
}

fn keep_lines(pipe: impl std::io::Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            log.lock().expect("no holder of this lock can panic").push(line);
        }
    })
}
